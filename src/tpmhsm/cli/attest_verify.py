"""`tpmhsm attest verify`: nine questions answered from a file, without a chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.options import packed
from tpmhsm.cli.words import lines

if TYPE_CHECKING:
    from tpmhsm.attest.device_findings import Bond
    from tpmhsm.attest.format import Evidence
    from tpmhsm.attest.verdicts import Judgement, Verdict

_KINDS = ("hardware", "discrete", "firmware", "virtual", "emulator")
_QUESTIONS = ("chip", "maker", "kind", "born", "leave", "agree", "roster", "log", "fresh")
_WIDTH = 78
_MARKS = {"proven": ("PROVEN", "green"), "refuted": ("REFUTED", "red")}
_NOT_PROVEN = ("NOT PROVEN", "yellow")


@dataclass(frozen=True)
class Means:
    """What a verifier brings on the line: a nonce in hexadecimal, files of responses, of CAs that
    certify attestation keys, a time; and evidence of other chips that have the same keys.
    """

    nonce: str | None = None
    responses: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    at: str | None = None
    others: tuple[str, ...] = ()


means_options = packed(
    "means",
    Means,
    click.option(
        "--nonce", metavar="HEX", help="The one that you chose, and the chip had to answer."
    ),
    click.option(
        "--response",
        "responses",
        multiple=True,
        metavar="R",
        help="The host's answer to a challenge of this home; one for each chip.",
    ),
    click.option(
        "--trust",
        multiple=True,
        metavar="F",
        help="CAs whose word on attestation keys you take (attest certify).",
    ),
    click.option("--at", metavar="TIME", help="Judge certificates at this time, RFC 3339."),
    click.option(
        "--original",
        "--copy",
        "others",
        multiple=True,
        metavar="EVIDENCE",
        help="Of another chip: the one that made a key, or one that has a copy.",
    ),
)
"""Add them to a command, as its argument `means`."""


@click.command(
    epilog="Example: tpmhsm attest verify ca.evidence --require hardware --nonce 5c0f…e1"
)
@click.argument("file", metavar="EVIDENCE")
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="WHAT",
    type=click.Choice((*_KINDS, *_QUESTIONS)),
    help=f"Refuse unless this is proven: a kind of chip ({', '.join(_KINDS)}), or the answer to a "
    f"question ({', '.join(_QUESTIONS)}).",
)
@click.option("--certificate", "certificates", multiple=True, metavar="FILE",
              help="A certificate that you rely on: its key must be in the evidence.")  # fmt: skip
@means_options
@pass_app
def verify(
    app: App,
    file: str,
    required: tuple[str, ...],
    certificates: tuple[str, ...],
    means: Means,
) -> int:
    """Judge evidence: which chip, whose, born there, who must agree, is it in force, how fresh.

    Needs no chip and believes neither the file nor its host. Whose chips are believed, and as what,
    say the vendor roots pinned here (tpmhsm attest roots). Exit code 1: something is refuted, or
    what was required is not proven.
    """
    from tpmhsm.cli.attest_challenge import read_evidence

    evidence = read_evidence(app, file)
    judged = judge(app, evidence, means)
    missing = unmet(judged, required)
    refusal = _refusal(judged, missing) or _strangers(app, evidence, certificates)
    found = {"ok": not refusal, **judged.encode(), "required": list(required), "missing": missing}
    found["attestation_key"] = ak = _known_key(evidence, judged)
    text = partial(_words, judged, refusal, file, ak)
    app.emit(found | ({"error": refusal} if refusal else {}), text)
    return 1 if refusal else 0


def judge(app: App, evidence: Evidence, means: Means) -> Judgement:
    """Judge evidence by what is pinned in this home. Raises UsageError, ParseError, and
    VerificationError for a response, or a certificate of the attestation key, that does not hold.
    """
    from tpmhsm.attest.copies import Elsewhere
    from tpmhsm.attest.device_findings import Trusted
    from tpmhsm.attest.verify import verify_evidence
    from tpmhsm.cli.attest_challenge import read_bond, read_evidence
    from tpmhsm.cli.attest_collect import parse_nonce
    from tpmhsm.cli.times import parse_time
    from tpmhsm.cli.vendor_roots import pins_of
    from tpmhsm.policy.moments import now

    pins, at = pins_of(app), parse_time(means.at) if means.at else now()
    nonce = parse_nonce(means.nonce) if means.nonce else None
    bonds = [read_bond(app, file) for file in means.responses]
    files = {path: read_evidence(app, path) for path in means.others}
    others = [_bond_of(one, bonds) for one in files.values()]
    left = [one for one in bonds if one not in others]

    def trusted(of: Evidence, bond: Bond | None) -> Trusted:
        return Trusted(pins.roots, pins.intermediates, at, bond or _certified(app, of, means, at))

    elsewhere = tuple(
        Elsewhere(
            path,
            one,
            verify_evidence(one, trusted(one, bond), nonce if nonce == one.nonce else None),
        )
        for (path, one), bond in zip(files.items(), others, strict=True)
    )
    own = _bond_of(evidence, bonds) or next(iter(left), None)
    return verify_evidence(evidence, trusted(evidence, own), nonce, elsewhere)


def _bond_of(evidence: Evidence, bonds: Sequence[Bond]) -> Bond | None:
    """The answer to a challenge that is of the attestation key of this file."""
    from tpmhsm.errors import ParseError
    from tpmhsm.wire.names import name_of_public

    try:
        name = name_of_public(evidence.aks[0].public)
    except ParseError:
        return None
    return next((one for one in bonds if one.ak == name), None)


def _certified(app: App, evidence: Evidence, means: Means, at: datetime) -> Bond | None:
    """What binds the attestation key to a chip without an answered challenge: somebody's word."""
    if means.trust:
        from tpmhsm.attest.bonds import bond_of_certificate
        from tpmhsm.pki.load import certificate_ders

        roots = [der for file in means.trust for der in certificate_ders(app.read(file), file)]
        return bond_of_certificate(evidence, roots, at)
    return None


def _known_key(evidence: Evidence, judged: Judgement) -> str | None:
    """The Name of the attestation key if it is proven which chip it is in: by it one believes CSRs
    (`csr verify --ak`, `evidence_keys`).
    """
    from tpmhsm.wire.names import name_of_public

    if judged.verdict("chip").answer != "proven":
        return None
    return name_of_public(evidence.aks[0].public).hex()


def unmet(judged: Judgement, required: Sequence[str]) -> list[str]:
    """What was required and is not proven."""
    return [one for one in dict.fromkeys(required) if not _is_met(judged, one)]


def _is_met(judged: Judgement, wanted: str) -> bool:
    if wanted == "hardware":
        return judged.is_hardware
    if wanted in _KINDS:
        return judged.device_class == wanted and judged.verdict("kind").answer == "proven"
    found = next(one for one in judged.verdicts if one.question == wanted)
    return found.answer == "proven"


def _refusal(judged: Judgement, missing: Sequence[str]) -> dict[str, str]:
    """Why the exit code is 1; empty if it is 0."""
    if refuted := judged.answered("refuted"):
        first = refuted[0]
        return {
            "code": first.code,
            "message": f"refuted: {first.words}",
            "hint": _FRESH if first.code == "stale-nonce" else _DISTRUST,
        }
    if not missing:
        return {}
    what = missing[0]
    verdict = judged.verdict("kind" if what in _KINDS else what)  # type: ignore[arg-type]
    told = f"{what} is required: {verdict.words}"
    code = judged.verdict("chip").code if verdict.code == "rests-on-chip" else verdict.code
    return {"code": f"not-proven-{what}", "message": told, "hint": _NEXT.get(code, _ROOTS)}


def _strangers(app: App, evidence: Evidence, certificates: Sequence[str]) -> dict[str, str]:
    """The refusal of a certificate whose key the evidence says nothing of; empty if there is none.

    Labels in evidence are its host's: only the key itself says that it is the one of a certificate.
    """
    from tpmhsm.attest.public_keys import spki_of_public
    from tpmhsm.pki.load import certificate_ders
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely

    known = {spki_of_public(key.public) for key in evidence.keys} if certificates else set()
    for file in certificates:
        der = certificate_ders(app.read(file), file)[0]
        if read_path_certificate_loosely(der).spki not in known:
            return {
                "code": "other-key",
                "message": f"the evidence says nothing of the key of {file}",
                "hint": "on the host: tpmhsm attest collect --key LABEL, with that key's label",
            }
    return {}


_DISTRUST = "do not rely on this file; ask for another one, over a nonce of your own"
_FRESH = "openssl rand -hex 32; on the host: tpmhsm attest collect --nonce HEX --out F"
_ROOTS = "tpmhsm attest roots list says whose chips are believed here"
_NEXT = {
    "not-activated": "tpmhsm attest challenge F --out C; on the host: tpmhsm attest respond C "
    "--out R; then --response R",
    "no-pinned-root": "tpmhsm attest roots add FILE --as KIND, of whose chips you believe; the "
    "CAs between as well",
    "no-nonce": _FRESH,
    "could-be-imported": "--original OTHER, the evidence of the chip that made the key",
    "copy-not-approved": "--original OTHER, new evidence of the chip from which it was copied",
    "copy-not-shown": "--copy OTHER, evidence of each chip that has a copy, same nonce",
    "copy-not-fresh": "--copy OTHER, evidence of each chip that has a copy, same nonce",
    "founded-elsewhere": "--original OTHER, evidence of the chip that founded the group",
    "no-log-proof": "on the host: tpmhsm audit start, then tpmhsm attest collect",
}
"""What proves more, by the code of the answer that is not proven."""


def _steps(judged: Judgement, file: str) -> list[str]:
    """What the reader can do about what is not proven, in the order of the questions."""
    open_ = dict.fromkeys(_NEXT.get(one.code, "") for one in judged.answered("not-proven"))
    return [f"next: {step.replace(' F ', f' {file} ', 1)}" for step in open_ if step]


# ── for people ───────────────────────────────────────────────────────────────


def _words(judged: Judgement, refusal: dict[str, str], file: str, ak: str | None) -> str:
    shown = [*_wrapped(judged.sentence), ""]
    for verdict in judged.verdicts:
        shown += _verdict(verdict)
    for people in judged.people:
        if people.fingerprint:
            shown += _wrapped(f'Fingerprint of "{people.group}": {people.fingerprint}')
    if ak:
        shown += ["Name of its attestation key (csr verify --ak):", f"  {ak}"]
    shown += [line for hint in judged.hints for line in _wrapped(f"(hint) {hint}")]
    if refusal:
        told = refusal["message"].removeprefix("refuted: ")
        shown += ["", *_wrapped(f"refused: {told}"), *_wrapped(f"next: {refusal['hint']}")]
    elif steps := _steps(judged, file):
        shown += ["", *(line for step in steps for line in _wrapped(step))]
    return "\n".join(shown)


def _verdict(verdict: Verdict) -> list[str]:
    mark, colour = _MARKS.get(verdict.answer, _NOT_PROVEN)
    first = f"{click.style(mark.ljust(11), fg=colour, bold=True)} {verdict.asked}"
    return [first, *(f"{'':12}{line}" for line in _wrapped(verdict.words, _WIDTH - 12))]


def _wrapped(text: str, width: int = _WIDTH) -> list[str]:
    from textwrap import wrap

    return wrap(lines(text), width) or [""]
