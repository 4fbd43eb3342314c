"""The sentence that comes first: what kind of chip, what is refuted, proven, and not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tpmhsm.attest.device_findings import SOFTWARE_WORDS, DeviceView
from tpmhsm.attest.verdicts import CLASS_WORDS, Answer, KeyFacts, Question, Verdict

_CLAIMS: dict[Question, str] = {
    "chip": "which chip it is",
    "maker": "who made it",
    "kind": "that it is hardware",
    "born": "that the chip made the key",
    "leave": "that the key cannot leave the chip",
    "agree": "who must agree before it signs",
    "roster": "that the list of people is the one in force",
    "log": "that the log of signatures is complete",
    "fresh": "when the chip said so",
}
"""What each question asks, as a claim."""


def sentence_of(device: DeviceView, verdicts: Sequence[Verdict], keys: Sequence[KeyFacts]) -> str:
    """One to three sentences: the kind of chip first, then what is refuted, proven, not proven."""
    found = {one.question: one.answer for one in verdicts}
    refuted = [one for one in verdicts if one.answer == "refuted"]
    told = [_kind(device, found["kind"])]
    if any(finding.code == "seal-broken" for one in verdicts for finding in one.findings):
        changed = "The file was changed after the chip signed it: nothing in it is proven."
        return " ".join([changed, *told])
    if refuted:
        told.append(f"Refuted: {_listed(_CLAIMS[one.question] for one in refuted)}.")
        told.append(refuted[0].words.split(". ")[0].rstrip(".") + ".")
    told += _proven(found, keys)
    missing = [one for one in verdicts if one.answer == "not-proven"]
    if len(missing) == len(verdicts):
        told.append(f"Nothing is proven: {device.why or 'there is nothing in the file.'}")
    elif missing:
        told.append(f"Not proven: {_listed(_missing(one, device) for one in missing)}.")
    return " ".join(told)


def _kind(device: DeviceView, answer: Answer) -> str:
    named = device.device_class
    if answer == "refuted":
        return "What kind of chip it is contradicts itself."
    if named == "emulator":
        return f"Emulator, not hardware: a {SOFTWARE_WORDS}."
    if named == "software":
        return f"Software TPM, not proven to be hardware: a {SOFTWARE_WORDS}."
    if named == "unproven":
        return "Not proven to be hardware."
    return f"Proven by the pinned root of {device.maker or 'its maker'}: {CLASS_WORDS[named]}."


def _missing(verdict: Verdict, device: DeviceView) -> str:
    if verdict.question == "kind" and device.device_class == "emulator":
        return "that it is the emulator of the pinned root"
    return _CLAIMS[verdict.question]


def _proven(found: dict[Question, Answer], keys: Sequence[KeyFacts]) -> list[str]:
    labels = _listed(f'"{key.label}"' for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    many = len(keys) > 1
    parts = []
    if found["born"] == "proven":
        parts.append(_born(keys, many=many))
    if found["leave"] == "proven":
        parts.append("cannot leave it")
    if found["agree"] == "proven":
        parts.append("obey their policies" if many else f"obeys its policy, {keys[0].policy}")
    if not parts or not keys:
        return []
    return [f"The key{'s' if many else ''} {labels}{more} {_listed(parts)}."]


def _born(keys: Sequence[KeyFacts], *, many: bool) -> str:
    if not any(key.origin == "copy" for key in keys):
        return f"{'were' if many else 'was'} made in it"
    if many:
        return "were made in it or are copies of keys that another chip made"
    return "is a copy of the one that another chip made"


def _listed(items: Iterable[str]) -> str:
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last
