"""What happened between two checkpoints that do not fit, in words.

The chip's digest says that something is wrong, and not what. So it is tried which single change of
the records would explain it: one too many, two in another order, auditing switched off and on, a
digest that began anew. What nothing explains is a signature that this log does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from tpmhsm.attest.audit_documents import Documents, is_signature
from tpmhsm.attest.audit_records import (
    COMMAND_DIGESTS,
    SIGNING,
    ZEROS,
    Audited,
    audit_command,
    replay,
)
from tpmhsm.attest.verdicts import Answer
from tpmhsm.wire.constants import ALG, CC

if TYPE_CHECKING:
    from tpmhsm.attest.audit_proof import LoggedKey
    from tpmhsm.wire.attest import CommandAuditInfo

_MOST = 2048
"""So many records are tried; the work grows with their square (some seconds)."""


@dataclass(frozen=True)
class LogFinding:
    """One thing that speaks against a complete log. `code` is a stable word, `where` a place in the
    proof (`records[7]`, `entries[3]`), or empty.
    """

    answer: Answer
    code: str
    words: str
    where: str = ""


@dataclass(frozen=True)
class Interval:
    """What is between checkpoint `number` - 1 and `number`.

    `first` is the place of the first of `records` in the proof, `seq` the last entry that the
    checkpoint before knew, `resets` how often the chip began anew without its state, `restarts` how
    often with it since, `safe` whether its clock went on all the same (TPMS_CLOCK_INFO): not where
    nobody told it of the stop.
    """

    number: int
    begins: str
    ends: str
    first: int
    seq: int
    records: tuple[Audited, ...]
    before: CommandAuditInfo
    after: CommandAuditInfo
    resets: int
    restarts: int
    safe: bool

    @property
    def orderly(self) -> bool:
        """No reset, or the chip was told before."""
        return self.resets <= 0 or self.safe

    @cached_property
    def hashes(self) -> list[bytes]:
        """What each record extends the digest with."""
        return [record.hashes for record in self.records]

    @property
    def words(self) -> str:
        """When it was."""
        return f"between {self.begins} and {self.ends} (checkpoint {self.number})"

    @property
    def holds(self) -> bool:
        """One digest began, no other, and it is that of these records, with auditing on."""
        return (
            self.after.audit_counter == self.before.audit_counter + 1
            and self.after.digest_alg == self.before.digest_alg == ALG.SHA256
            and self.after.command_digest == self.before.command_digest
            and self.after.command_digest in COMMAND_DIGESTS
            and self.after.audit_digest == replay(self.hashes)
        )


def moment(at: int) -> str:
    """Unix time as RFC 3339."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def explain(
    interval: Interval, keys: Sequence[LoggedKey], documents: Documents
) -> LogFinding | None:
    """What is wrong in an interval; None when nothing is."""
    if interval.holds:
        if interval.restarts:
            return _put_back(interval)
        return None if interval.orderly else _cut_off(interval)
    began = interval.after.audit_counter - interval.before.audit_counter
    if began == 0:
        words = f"checkpoint {interval.number} ({interval.ends}) was asked for a second time"
        return LogFinding("refuted", "checkpoint-forged", f"{words}: no new audit had begun")
    if began < 0:
        return _backwards(interval)
    found = next(_changed(interval, keys), None)
    if found is None and began == 1:
        found = _within_one_digest(interval, documents)
    return found or _began_anew(interval, began)


def _cut_off(interval: Interval) -> LogFinding:
    """The count fits; but a chip that loses its power may lose what it had not written yet, and the
    state file of a software TPM surely does with its machine's memory.
    """
    return LogFinding(
        "not-proven",
        "chip-reset",
        f"the chip was reset without notice {interval.words}: its count fits, and what it had not "
        "written yet when its power failed nobody knows",
    )


def _put_back(interval: Interval) -> LogFinding:
    """TPM2_Shutdown(STATE) saves the digest, and TPM2_Sign after it does not spoil what was saved:
    when the power is cut then, the chip goes on with the digest of before (tried on swtpm).
    """
    return LogFinding(
        "not-proven",
        "chip-restarted",
        f"the chip was stopped with its state saved, and started again, {interval.words}: what it "
        "signed after it had saved that state it would have forgotten",
    )


def _backwards(interval: Interval) -> LogFinding:
    return LogFinding(
        "not-proven",
        "chip-cleared",
        f"the chip's count of audits went back {interval.words}: the chip was cleared, or these "
        "checkpoints are in another order",
    )


def _changed(interval: Interval, keys: Sequence[LoggedKey]) -> Iterator[LogFinding]:
    """A record that cannot be: its signature is not over its digest."""
    publics = {key.name: key.public for key in keys}
    labels = {key.name: key.label for key in keys}
    for place, record in enumerate(interval.records):
        public = publics.get(record.names)
        if record.code != CC.Sign or not public:
            continue
        if not is_signature(public, record.digest, record.answered):
            words = (
                f"record {interval.first + place + 1} was changed: no signature by key "
                f"{labels[record.names]!r} over its digest ({moment(record.at)})"
            )
            where = f"records[{interval.first + place}]"
            yield LogFinding("refuted", "signature-changed", words, where)


def _within_one_digest(interval: Interval, documents: Documents) -> LogFinding:
    hashes, wanted = interval.hashes, interval.after.audit_digest
    if interval.after.command_digest not in COMMAND_DIGESTS:
        return LogFinding(
            "not-proven",
            "audit-off",
            f"the chip did not audit signatures alone, or not at all, {interval.words}",
        )
    unsigned = next(documents.unsigned(interval.seq), None)
    if unsigned is not None:
        return LogFinding(
            "refuted",
            "signature-removed",
            f"a signature was removed {interval.words}: entry {unsigned.seq} says what it was over "
            f"({unsigned.act}, {unsigned.at}), and no record is",
            f"entries[{unsigned.seq - 1}]",
        )
    if len(hashes) <= _MOST and len(wanted) == len(ZEROS):
        if (at := _too_many(hashes, wanted)) is not None:
            words = f"record {interval.first + at + 1} was added: the chip never did that"
            return LogFinding("refuted", "record-added", words, f"records[{interval.first + at}]")
        if (at := _swapped(hashes, wanted)) is not None:
            one = interval.first + at + 1
            words = f"records {one} and {one + 1} were exchanged"
            return LogFinding("refuted", "record-moved", words, f"records[{one - 1}]")
        if found := _off_and_on(hashes, wanted):
            return LogFinding(
                "not-proven",
                "audit-off",
                f"auditing was switched off {_after(interval, found - 1)} and on again: what was "
                "signed meanwhile is not known",
                f"records[{interval.first + found - 1}]",
            )
    return LogFinding(
        "not-proven",
        "unknown-signature",
        f"something that this log does not know signed {interval.words}: a signature was left out, "
        "its record was lost in a crash, or another program used the chip",
    )


def _began_anew(interval: Interval, began: int) -> LogFinding:
    """The digest began more than once: what the earlier ones held is not known."""
    at = _begin(interval.hashes, interval.after.audit_digest)
    since = "" if at is None else f"; the records from {interval.first + at + 1} on fit again"
    where = "" if at is None else f"records[{interval.first + at}]"
    lost = began - 1
    if lost <= interval.resets:
        return LogFinding(
            "not-proven",
            "chip-reset",
            f"the chip was reset {interval.words} after it had signed: nothing proves what it had "
            f"signed since the checkpoint before{since}",
            where,
        )
    lost -= max(interval.resets, 0)
    what = "a checkpoint is" if lost == 1 else f"{lost} checkpoints are"
    return LogFinding(
        "refuted",
        "checkpoint-removed",
        f"{what} missing {interval.words}: the log was cut or its database restored from a backup, "
        f"or somebody else took the chip's audit{since}",
        where,
    )


def _after(interval: Interval, place: int) -> str:
    if place <= 0:
        return f"right after {interval.begins}"
    return f"after record {interval.first + place} ({moment(interval.records[place - 1].at)})"


def _states(hashes: Sequence[bytes]) -> list[bytes]:
    """The digest before each record, and after the last."""
    states = [ZEROS]
    for one in hashes:
        states.append(replay((one,), states[-1]))
    return states


_OFF = [audit_command((), SIGNING[:n]).hashes for n in (1, 2)]
_ON = {_OFF[0]: [audit_command(SIGNING[:n], ()).hashes for n in (1, 2)]}
_ON[_OFF[1]] = _ON[_OFF[0]][1:]


def _off_and_on(hashes: Sequence[bytes], wanted: bytes) -> int | None:
    """The place (from 1) before which auditing went off and on; the on may be a checkpoint's own,
    and then the records between were signed while it was off.
    """
    for place, state in enumerate(_states(hashes), 1):
        for off in _OFF:
            if hashes and replay((off, hashes[-1]), state) == wanted:
                return place
            for on in _ON[off]:
                if replay((off, on, *hashes[place - 1 :]), state) == wanted:
                    return place
    return None


def _too_many(hashes: Sequence[bytes], wanted: bytes) -> int | None:
    for place, state in enumerate(_states(hashes)[:-1]):
        if replay(hashes[place + 1 :], state) == wanted:
            return place
    return None


def _swapped(hashes: Sequence[bytes], wanted: bytes) -> int | None:
    for place, state in enumerate(_states(hashes)[:-2]):
        one, two, *rest = hashes[place:]
        if replay((two, one, *rest), state) == wanted:
            return place
    return None


def _begin(hashes: Sequence[bytes], wanted: bytes) -> int | None:
    """From which record on the digest is one that began there."""
    if len(hashes) > _MOST or len(wanted) != len(ZEROS):
        return None
    return next((i for i in range(len(hashes)) if replay(hashes[i:]) == wanted), None)
