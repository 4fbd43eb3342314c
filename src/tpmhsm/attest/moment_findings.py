"""How fresh a file is: the nonce, the chip's clock, the seal; and the machine's state then.

A chip knows no date. What it signs is fresh when it answers a nonce that the verifier chose;
without one, the date in the file is the host's word. Clock, resets, restarts and firmware stand in
each statement: those of one file were made between two starts of the chip, the last over the seal.
"""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import Evidence, QuoteEvidence, Statement
from tpmhsm.attest.verdicts import Proof
from tpmhsm.attest.witness import Heard, Witness
from tpmhsm.errors import ParseError, TpmHsmError, VerificationError
from tpmhsm.policy.moments import stamp
from tpmhsm.policy.pcrs import ALGORITHMS, Measured
from tpmhsm.wire.attest import QuoteInfo
from tpmhsm.wire.structures import PcrSelection

_BANKS = {int(number): bank for bank, number in ALGORITHMS.items()}
_FIRMWARE_PCRS = range(8)
"""What the firmware's log must account for; the others are extended by what starts later."""


def judge_moment(
    evidence: Evidence, witness: Witness, nonce: bytes | None, findings: Findings
) -> bool:
    """Find on `fresh`; return whether the file is as the chip sealed it (or has no seal)."""
    _nonce(evidence, witness, nonce, findings)
    _quote(evidence, witness, findings)
    whole = _seal(evidence, witness, findings)
    _clock(witness, findings)
    return whole


def _nonce(evidence: Evidence, witness: Witness, nonce: bytes | None, findings: Findings) -> None:
    said = f"the host's clock said {stamp(evidence.made)}"
    proof = [Proof.of("nonce", evidence.nonce, "the nonce that the chip signed")]
    if evidence.time is not None:
        proof += witness.proofs(
            "time", evidence.time, "the chip's clock, over the seal of the file"
        )
    if nonce is None:
        words = f"When the chip signed this is not proven; {said}. A nonce of your own proves it."
        findings.add("fresh", "not-proven", "no-nonce", words, proof=proof)
    elif nonce != evidence.nonce:
        words = "This file does not answer your nonce: it is an old one, or somebody else's."
        findings.add("fresh", "refuted", "stale-nonce", words, proof=proof)
    else:
        words = f"The chip signed this after you chose your nonce; {said}."
        findings.add("fresh", "proven", "nonce-answered", words, proof=proof)


# ── the seal and the clock ───────────────────────────────────────────────────


def _seal(evidence: Evidence, witness: Witness, findings: Findings) -> bool:
    if evidence.time is None:
        words = "The chip's clock and the seal over the whole file are missing."
        findings.add("fresh", "not-proven", "no-seal", words)
        return True
    proof = witness.proofs("time", evidence.time, "the chip's clock, over the seal of the file")
    try:
        _check_time(evidence, evidence.time, witness)
    except TpmHsmError as error:
        words = f"The file is not as the chip sealed it: {error.message}."
        findings.add("fresh", "refuted", _seal_code(error), words, proof=proof)
        return False
    return True


def _check_time(evidence: Evidence, time: Statement, witness: Witness) -> None:
    witness.hear("time", time, "time", evidence.seal)


def _seal_code(error: TpmHsmError) -> str:
    return "seal-broken" if error.code == "other-qualifying" else error.code


def _clock(witness: Witness, findings: Findings) -> None:
    """Statements of one boot, and none after the last."""
    heard = witness.heard
    if not heard:
        return
    told = "The statements of the file are not of one boot of the chip, one after the other"
    with findings.refuting("fresh", told):
        first = heard[0]
        for one in heard[1:]:
            _check_same_boot(first, one)
        last = next((one for one in heard if one.path == "time"), None)
        late = [one for one in heard if last and _clock_of(one) > _clock_of(last)]
        if late:
            raise VerificationError(f"{late[0].path} was made after the seal", code="clock")


def _check_same_boot(first: Heard, other: Heard) -> None:
    a, b = first.body, other.body
    for what, one, two in (
        ("resets", a.clock_info.reset_count, b.clock_info.reset_count),
        ("restarts", a.clock_info.restart_count, b.clock_info.restart_count),
        ("firmware", a.firmware_version, b.firmware_version),
    ):
        if one != two:
            raise VerificationError(
                f"{first.path} and {other.path} differ in {what}", code="other-boot"
            )


def _clock_of(heard: Heard) -> int:
    return heard.body.clock_info.clock


# ── the machine's state ──────────────────────────────────────────────────────


def _quote(evidence: Evidence, witness: Witness, findings: Findings) -> None:
    quote = evidence.quote
    if quote is None:
        if evidence.event_log is not None:
            words = "There is an event log, and nothing that the chip says of it."
            findings.add("fresh", "not-proven", "log-without-quote", words)
        return
    proof = witness.proofs("quote", quote.statement, "what the chip says of the PCRs")
    with findings.refuting("fresh", "The state of the machine does not hold", proof):
        _check_quote(quote, witness)
        if evidence.event_log is not None:
            _check_event_log(evidence.event_log, quote)


def _check_quote(quote: QuoteEvidence, witness: Witness) -> None:
    info = witness.hear("quote", quote.statement, "quote")
    if not isinstance(info, QuoteInfo):
        raise ParseError("not a quote")
    check_quoted(info, quote.pcrs)


def check_quoted(info: QuoteInfo, pcrs: Measured) -> None:
    """VerificationError (`pcrs-differ`) unless the chip quoted exactly these PCRs and values."""
    selected = _selected(info.pcr_select)
    given = {(bank, number) for bank, held in pcrs.items() for number in held}
    if given != set(selected):
        raise VerificationError("the PCRs are others than the chip quoted", code="pcrs-differ")
    values = b"".join(pcrs[bank][number] for bank, number in selected)
    if sha256(values).digest() != info.pcr_digest:
        raise VerificationError(
            "the values of the PCRs are not those that the chip quoted", code="pcrs-differ"
        )


def _selected(selections: tuple[PcrSelection, ...]) -> list[tuple[str, int]]:
    found = []
    for one in selections:
        bank = _BANKS.get(one.hash_alg, f"0x{one.hash_alg:04x}")
        bits = int.from_bytes(one.select, "little")
        found += [(bank, n) for n in range(8 * len(one.select)) if bits >> n & 1]
    return found


def _check_event_log(log: bytes, quote: QuoteEvidence) -> None:
    from tpmhsm.attest.event_log import parse_event_log

    for bank, held in parse_event_log(log).replay().items():
        quoted = quote.pcrs.get(bank, {})
        for number in _FIRMWARE_PCRS:
            if number in held and number in quoted and held[number] != quoted[number]:
                raise VerificationError(
                    f"the event log does not lead to PCR {number} ({bank}) as the chip quoted it",
                    code="event-log-differs",
                )
