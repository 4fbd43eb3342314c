"""Evidence is judged: nine questions answered from one file, without a chip and without its host.

    trusted = Trusted(roots, intermediates, at, bond)
    judgement = verify_evidence(parse_evidence(data), trusted, nonce)

Nothing in the file is believed because it stands there. The order: endorsement keys and the bond of
the attestation key to one of them; every statement by that key; groups, then keys, from their
documents; clock and seal; the log. What rests on something that is not proven is not proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from tpmhsm.attest.copies import (
    MAX_COPIES,
    Elsewhere,
    judge_copies,
    judge_everywhere,
    judge_parent,
)
from tpmhsm.attest.device_findings import DeviceView, Trusted, judge_device
from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import Evidence, format_evidence
from tpmhsm.attest.further_aks import judge_further_aks
from tpmhsm.attest.group_findings import GroupView, ek_bytes, judge_groups, people_of
from tpmhsm.attest.key_findings import Around, KeyView, judge_keys
from tpmhsm.attest.moment_findings import judge_moment
from tpmhsm.attest.sentences import sentence_of
from tpmhsm.attest.verdicts import Judgement, Origin, People, Proof, verdicts_of
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import ParseError, TpmHsmError

WHICH_CHIP = "It rests on which chip speaks here, and that is not proven."
"""Said of each answer that only a known chip could prove; why stands with the first question."""

OLD_FILE = "Whether it still is cannot be told from a file that may be old: a nonce proves it."
"""Said of people who were in force when the chip said so, whenever that was."""

LIMITS = {"eks": 16, "aks": 16, "keys": 512, "groups": 64, "budgets": 1024}
"""How many of each a verifier looks at: so hostile files are judged in bounded time."""

MAX_CERTIFICATES = 1024
MAX_CARDS = 1024


def verify_evidence(
    evidence: Evidence,
    trusted: Trusted,
    nonce: bytes | None = None,
    elsewhere: tuple[Elsewhere, ...] = (),
) -> Judgement:
    """Judge a file of evidence.

    `trusted`: pinned roots, time, the bond of an activation; `nonce`: the verifier's own, None when
    there was none; `elsewhere`: files of other chips, judged before. ParseError for a file with
    more in it than anybody's (`LIMITS`); all else that is wrong is in the verdicts.
    """
    _check_limits(evidence)
    findings, witness = Findings(), Witness(evidence)
    device = judge_device(evidence, witness, trusted, findings)
    receives = judge_parent(evidence, witness, findings)
    groups = judge_groups(evidence, witness, findings, elsewhere)
    copies = judge_copies(evidence, groups, findings)
    ak = len(device.links) - 1
    around = Around(groups, ak, receives, device.device_class, copies, elsewhere)
    keys = judge_keys(evidence, witness, findings, around)
    judge_everywhere(groups, copies, (witness.name, receives), elsewhere, findings)
    _check_budgets(evidence, findings)
    judge_further_aks(evidence, witness, findings)
    _judge_audit(evidence, witness, nonce, findings)
    whole = judge_moment(evidence, witness, nonce, findings)
    if nonce is None and any(one.code == "in-force" for one in findings.items):
        findings.add("roster", "not-proven", "no-nonce", OLD_FILE)
    if not whole:
        findings.rest_on(
            "seal-broken", "Not proven: the file was changed after the chip sealed it."
        )
    elif not device.stands:
        findings.rest_on("rests-on-chip", WHICH_CHIP, spared=("chip", "maker", "kind"))
    believed = whole and device.stands
    people = _people(evidence, groups, believed=believed)
    facts = tuple(view.facts for view in keys)
    if not believed:
        facts = tuple(replace(one, origin=_doubted(one.origin)) for one in facts)
    found = _judgement(evidence, trusted, nonce, findings, (device, people, keys))
    return replace(found, keys=facts, copies=copies, receives=receives.hex() if believed else "")


def _doubted(origin: Origin) -> Origin:
    return "imported" if origin == "imported" else "unproven"


def _judgement(
    evidence: Evidence,
    trusted: Trusted,
    nonce: bytes | None,
    findings: Findings,
    views: tuple[DeviceView, tuple[People, ...], tuple[KeyView, ...]],
) -> Judgement:
    device, people, keys = views
    verdicts = verdicts_of(findings.items)
    facts = tuple(view.facts for view in keys)
    answers = {one.question: one.answer for one in verdicts}
    return Judgement(
        sentence=sentence_of(device, verdicts, facts),
        device_class=device.device_class,
        verdicts=verdicts,
        evidence=sha256(format_evidence(evidence)).hexdigest(),
        made=evidence.made,
        at=trusted.at,
        nonce=nonce is not None and answers["fresh"] == "proven",
        links=(*device.links, *(link for view in keys for link in view.links)),
        people=people,
        keys=facts,
        hints=_hints(evidence),
    )


def _people(
    evidence: Evidence, groups: Mapping[str, GroupView], *, believed: bool
) -> tuple[People, ...]:
    """Who stands behind the groups; a list that the chip holds is in force if it is that chip."""
    eks = ek_bytes(evidence)
    found = (people_of(view, eks) for view in groups.values())
    return tuple(
        one if believed or one.current != "proven" else replace(one, current="not-proven")
        for one in found
    )


def _check_limits(evidence: Evidence) -> None:
    for name, most in LIMITS.items():
        if len(getattr(evidence, name)) > most:
            raise ParseError(f"evidence: more than {most} {name}: nobody's file has so many")
    if len(evidence.copies) > MAX_COPIES:
        raise ParseError(f"evidence: more than {MAX_COPIES} copies: nobody's file has so many")
    certificates = sum(len(key.certificates) for key in evidence.keys)
    certificates += sum(len(ek.chain) for ek in evidence.eks)
    cards = sum(len(group.cards) for group in evidence.groups)
    if certificates > MAX_CERTIFICATES or cards > MAX_CARDS:
        raise ParseError(f"evidence: more than {MAX_CERTIFICATES} certificates or cards")


def _check_budgets(evidence: Evidence, findings: Findings) -> None:
    """A budget of a key that is not in the file says nothing of it."""
    labels = {key.label for key in evidence.keys}
    for place, part in enumerate(evidence.budgets):
        if part.key not in labels:
            proof = (Proof.of(f"budgets[{place}].index", part.index, "a budget's NV index"),)
            words = f'There is a budget for a key "{part.key}", which is not in the file.'
            findings.add("agree", "not-proven", "budget-without-key", words, proof=proof)


def _judge_audit(
    evidence: Evidence, witness: Witness, nonce: bytes | None, findings: Findings
) -> None:
    if evidence.audit is None:
        words = "There is no proof of the log in the file: whether it is complete is not known."
        findings.add("log", "not-proven", "no-log-proof", words)
        return
    from tpmhsm.attest.audit_chain import judge_log
    from tpmhsm.policy.documents import encode_json

    proof = (Proof.of("audit", encode_json(dict(evidence.audit)), "the proof of the log"),)
    with findings.refuting("log", "The proof of the log does not hold", proof):
        names = {name for key in evidence.keys if (name := _name(key.public))}
        judged = judge_log(evidence.audit, witness.public, names, nonce)
        for one in judged.findings:
            words = f"{one.words[:1].upper()}{one.words[1:]}."
            findings.add("log", one.answer, one.code, words, proof=proof)
        if judged.answer == "proven":
            findings.add("log", "proven", "complete", _ended(judged.words), proof=proof)
        elif not judged.findings:
            findings.add("log", judged.answer, "log", _ended(judged.words), proof=proof)


def _name(public: bytes) -> bytes:
    from tpmhsm.wire.names import name_of_public

    try:
        return name_of_public(public)
    except TpmHsmError:
        return b""


def _ended(words: str) -> str:
    return words if words.endswith(".") else f"{words[:1].upper()}{words[1:]}."


def _hints(evidence: Evidence) -> tuple[str, ...]:
    claims = evidence.device
    said = [part for part in (claims.manufacturer, claims.vendor, claims.firmware) if part]
    return (
        f"The device calls itself {claims.kind}"
        + (f" ({', '.join(said)[:200]})" if said else "")
        + "; anybody can write that.",
    )
