"""Is the log complete? A proof of the log, judged without a chip and without its host.

    judgement = judge_log(read_proof(data), ak_public, key_names, nonce)

What the chip says (an attestation key signs it): at each checkpoint how often its audit digest had
begun, the digest, and over which head of the log it was asked. So between two checkpoints there was
one digest and no other, it replays from our records, and the log up to that head is what it was.
`tpmhsm.attest.audit_faults` puts into words what does not hold.

Complete is said of the time from a key's birth to the last checkpoint: the key was made with the
mark of a checkpoint in it, so it is younger. TPM2_Clear sets the chip's counter back, but takes
the storage hierarchy with it: that the keys' parent is there before and after shows that there was
none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from tpmhsm.attest.audit_documents import Documents
from tpmhsm.attest.audit_faults import Interval, LogFinding, explain, moment
from tpmhsm.attest.audit_proof import GENESIS, LoggedKey, LogProof, Statement, proof_of
from tpmhsm.attest.audit_records import (
    Audited,
    Checkpoint,
    anchor,
    still_there,
)
from tpmhsm.attest.audit_restores import Restore, explained, restores
from tpmhsm.attest.statements import check_attest
from tpmhsm.attest.verdicts import Answer
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.wire.attest import Attest, CertifyInfo, CommandAuditInfo, CreationInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import CC, RH, ST, ObjectAttributes
from tpmhsm.wire.names import handle_name, name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import CreationData


@dataclass(frozen=True)
class LogJudgement:
    """The answer to "is the log complete?".

    `answer` is `proven` (complete), `not-proven`, or `refuted`; `words` one sentence, `findings`
    what speaks against it, `notes` what is worth knowing. `signatures` and `checkpoints` are
    counts; `since` and `until` the times of the first and last checkpoint that count, by the
    host's clock.
    """

    answer: Answer
    words: str
    findings: tuple[LogFinding, ...] = ()
    notes: tuple[str, ...] = ()
    signatures: int = 0
    checkpoints: int = 0
    since: str = ""
    until: str = ""


def judge_log(
    proof: LogProof | Mapping[str, Any],
    ak_public: bytes,
    key_names: Collection[bytes] = (),
    nonce: bytes | None = None,
) -> LogJudgement:
    """Judge a proof by an attestation key (TPMT_PUBLIC) that is known from elsewhere.

    `key_names`: the keys whose signatures are asked for; all of the proof's if there are none.
    `nonce`: the verifier's, None if there was none. Raises ParseError for what is no proof.
    """
    document = proof if isinstance(proof, LogProof) else proof_of(proof)
    return _Judge(document, ak_public, nonce).judge(frozenset(key_names))


class _Judge:
    def __init__(self, proof: LogProof, ak: bytes, nonce: bytes | None) -> None:
        self._proof = proof
        self._ak = ak
        self._nonce = nonce
        self._documents = Documents(proof)
        self._places = [i for i, one in enumerate(proof.records) if isinstance(one, Checkpoint)]
        self._notes: list[str] = []

    @cached_property
    def _checkpoints(self) -> list[Checkpoint]:
        return [one for one in self._proof.records if isinstance(one, Checkpoint)]

    @cached_property
    def _restores(self) -> list[Restore]:
        return restores(self._proof.entries, self._checkpoints)

    def judge(self, names: frozenset[bytes]) -> LogJudgement:
        found = [*self._entries()]
        if not self._checkpoints:
            found.append(
                LogFinding("not-proven", "no-checkpoint", "the chip has certified nothing of it")
            )
            return self._judgement(found, 0)
        forged = [*self._forged()]
        if forged:
            return self._judgement([*found, *forged], 0)
        births = self._births(names)
        begin = min((place for place, _ in births.values()), default=0)
        found += self._heads(begin)
        found += [one for _, why in births.values() for one in why]
        found += [*self._numbers(), *self._unread_digests()]
        for place in range(1, len(self._places)):
            why = self._interval(place)
            if why is None:
                continue
            if place > begin:
                found.append(why)
            else:
                self._notes.append(f"before these keys were made: {why.words}")
        found += [*self._cleared(begin, names), *self._stale()]
        return self._judgement(found, begin)

    # ── the log ──────────────────────────────────────────────────────────────

    def _entries(self) -> Iterator[LogFinding]:
        """Each entry hashes what it says and all before it."""
        expected = 1
        for place, entry in enumerate(self._proof.entries):
            where = f"entries[{place}]"
            if entry.seq > expected:
                lost = str(expected) if entry.seq == expected + 1 else f"{expected}-{entry.seq - 1}"
                words = f"entry {lost} of the log was removed"
                yield LogFinding("refuted", "entry-removed", words, where)
            elif entry.seq < expected:
                words = f"entry {entry.seq} of the log stands in another place"
                yield LogFinding("refuted", "entry-moved", words, where)
            elif entry.computed != entry.hash:
                words = f"entry {entry.seq} of the log ({entry.act}, {entry.at}) was changed"
                yield LogFinding("refuted", "entry-changed", words, where)
            expected = entry.seq + 1

    def _forged(self) -> Iterator[LogFinding]:
        """Each checkpoint is the chip's word."""
        for one, where, when in self._told():
            try:
                asked = anchor(one.seq, one.head, one.nonce)
                self._check(one.attest, one.signature, ST.ATTEST_COMMAND_AUDIT, asked)
            except (VerificationError, ParseError) as error:
                words = f"{when} is not the chip's word: {error.message}"
                yield LogFinding("refuted", "checkpoint-forged", words, where)

    def _told(self) -> Iterator[tuple[Checkpoint, str, str]]:
        """Each checkpoint, where it stands, and what it is called."""
        for number, (place, one) in enumerate(zip(self._places, self._checkpoints, strict=True)):
            yield one, f"records[{place}]", f"checkpoint {number} ({moment(one.at)})"

    def _heads(self, begin: int) -> Iterator[LogFinding]:
        """Each checkpoint is over a head that is in the log, or from `begin` on at least, where the
        database was put back before.
        """
        hashes = {entry.seq: entry.hash for entry in self._proof.entries} | {0: GENESIS}
        last = max(hashes)
        for number, (one, where, when) in enumerate(self._told()):
            if one.seq > last:
                words = (
                    f"the log was cut after entry {last}, or its database restored from an older "
                    f"backup: the chip knew entry {one.seq} at {when}"
                )
                found = LogFinding("refuted", "log-cut", words, where)
            elif hashes.get(one.seq) != one.head.hex():
                words = (
                    f"the log was written anew up to entry {one.seq}, or its database restored and "
                    f"gone on with: the chip knew another one at {when}"
                )
                found = LogFinding("refuted", "log-rewritten", words, where)
            else:
                continue
            found = explained(found, self._restores, number)
            if found.answer == "refuted" or number > begin:
                yield found
            else:
                self._notes.append(f"before these keys were made: {found.words}")

    def _numbers(self) -> Iterator[LogFinding]:
        """The log numbers its records, so that a careless removal shows where."""
        for place, (one, two) in enumerate(
            zip(self._proof.numbers, self._proof.numbers[1:], strict=False), 1
        ):
            if two != one + 1:
                lost = f"{one + 1}" if two == one + 2 else f"{one + 1}-{two - 1}"
                words = f"record {lost} of what the chip did was removed"
                code = "record-removed" if two > one else "record-moved"
                yield LogFinding("refuted", code, words, f"records[{place}]")

    # ── the chip ─────────────────────────────────────────────────────────────

    def _check(self, attest: bytes, signature: bytes, kind: int, qualifying: bytes) -> Any:
        return check_attest(self._ak, attest, signature, kind, qualifying)

    def _interval(self, place: int) -> LogFinding | None:
        """What the chip did between two checkpoints, against the records."""
        one, two = self._places[place - 1], self._places[place]
        between = [r for r in self._proof.records[one + 1 : two] if isinstance(r, Audited)]
        first, last = (decode(Attest, self._checkpoints[i].attest) for i in (place - 1, place))
        a, b = first.clock_info, last.clock_info
        resets = b.reset_count - a.reset_count
        interval = Interval(
            number=place,
            begins=moment(self._checkpoints[place - 1].at),
            ends=moment(self._checkpoints[place].at),
            first=one + 1,
            seq=self._checkpoints[place - 1].seq,
            records=tuple(between),
            before=_audit_of(first),
            after=_audit_of(last),
            resets=resets,
            restarts=b.restart_count - (0 if resets else a.restart_count),
            safe=b.safe,
        )
        found = explain(interval, self._proof.keys, self._documents)
        return found and explained(found, self._restores, place)

    def _unread_digests(self) -> Iterator[LogFinding]:
        """Where a digest went to the chip encrypted, the signature says what was signed."""
        publics = {key.name: key.public for key in self._proof.keys}
        for place, record in enumerate(self._proof.records):
            if not isinstance(record, Audited) or record.code != CC.Sign:
                continue
            if record.digest and record.is_plain:
                continue
            if not self._documents.holds(record, publics.get(record.names, b"")):
                words = (
                    f"a signature ({moment(record.at)}) is not over the digest that the log says"
                )
                yield LogFinding("refuted", "signature-changed", words, f"records[{place}]")

    def _cleared(self, begin: int, names: frozenset[bytes]) -> Iterator[LogFinding]:
        """The keys' parent was there before the first checkpoint, and after the last."""
        words = "that the chip was not cleared meanwhile (which sets its counter back) is not shown"
        failed = LogFinding("not-proven", "chip-cleared", words, "parent")
        last = self._checkpoints[-1]
        try:
            asked = still_there(last.nonce, last.attest)
            after = self._certified(self._proof.parent, asked)
        except (VerificationError, ParseError):
            yield failed
            return
        if after not in self._parents(self._checkpoints[begin].seq):
            yield failed
            return
        for key in self._proof.keys:
            if key.data and _creation(key).parent_name != after:
                if key.name in (names or {key.name}):
                    words = f"key {key.label!r} was made under another parent than the one shown"
                    yield LogFinding("not-proven", "chip-cleared", words, "parent")
                else:
                    self._notes.append(f"key {key.label!r} was made under a parent that is gone")

    def _parents(self, until: int) -> set[bytes]:
        """The parents that the chip certified before this entry of the log."""
        found = set()
        for entry in self._proof.entries:
            if entry.act != "audit-on" or entry.seq > until:
                continue
            facts = entry.read_facts()
            try:
                attest, signature = (bytes.fromhex(facts[k]) for k in ("attest", "signature"))
                found.add(self._certified(Statement(attest, signature), still_there(b"", b"")))
            except (KeyError, TypeError, ValueError, VerificationError, ParseError):
                continue
        return found

    def _certified(self, one: Statement, qualifying: bytes) -> bytes:
        """The Name of a primary key of the owner's hierarchy; those of others outlive a clear."""
        info = self._check(one.attest, one.signature, ST.ATTEST_CERTIFY, qualifying)
        if not isinstance(info, CertifyInfo):
            return b""
        primary = sha256(handle_name(RH.OWNER) + info.name).digest()
        if info.qualified_name != info.name[:2] + primary:
            raise VerificationError("the keys' parent is no primary key of the owner's hierarchy")
        return info.name

    def _stale(self) -> Iterator[LogFinding]:
        if self._nonce is None:
            self._notes.append("no nonce was asked for: it may have gone on after this proof")
        elif self._checkpoints[-1].nonce != self._nonce:
            words = "the last checkpoint was made for another nonce: it may be an old proof"
            yield LogFinding("not-proven", "stale", words, f"records[{self._places[-1]}]")

    # ── the keys ─────────────────────────────────────────────────────────────

    def _births(self, names: frozenset[bytes]) -> dict[bytes, tuple[int, list[LogFinding]]]:
        """For each key the checkpoint after which it was made, or why that is not known (0)."""
        known = {key.name: key for key in self._proof.keys}
        places = {key.name: place for place, key in enumerate(self._proof.keys)}
        marks = {one.mark: place for place, one in enumerate(self._checkpoints)}
        found: dict[bytes, tuple[int, list[LogFinding]]] = {}
        signing = {name for name, key in known.items() if _signs(key)}
        for name in (names - known.keys()) | (names & signing) if names else signing:
            key = known.get(name)
            if key is None:
                words = f"the log knows no key of the Name {name.hex()}"
                found[name] = 0, [LogFinding("not-proven", "key-unknown", words, "keys")]
                continue
            why, place = self._birth(key, marks)
            where = f"keys[{places[name]}]"
            faults = [LogFinding("not-proven", why[0], why[1], where)] if why else []
            found[name] = place, faults
        return found

    def _birth(
        self, key: LoggedKey, marks: Mapping[bytes, int]
    ) -> tuple[tuple[str, str] | None, int]:
        who = f"key {key.label!r}"
        if name_of_public(key.public) != key.name:
            return ("key-forged", f"{who}: its public area has another Name"), 0
        if not key.data:
            return ("key-imported", f"{who} was not made in the chip: others may sign with it"), 0
        if not decode(Public, key.public).attributes & ObjectAttributes.FIXED_TPM:
            return (
                "key-elsewhere",
                f"{who} may be in other chips, which have logs of their own",
            ), 0
        try:
            mark = _made_with(self._ak, key)
        except (VerificationError, ParseError) as error:
            return ("key-forged", f"{who}: {error.message}"), 0
        if mark not in marks:
            words = f"{who} was made before the log: what it signed until then is not in it"
            return ("key-before-log", words), 0
        return None, marks[mark]

    # ── the answer ───────────────────────────────────────────────────────────

    def _judgement(self, found: list[LogFinding], begin: int) -> LogJudgement:
        answers = {one.answer for one in found}
        answer: Answer = "refuted" if "refuted" in answers else "not-proven"
        answer = answer if answers else "proven"
        counted = self._checkpoints[begin:]
        since, until = (
            (moment(one.at) for one in (counted[0], counted[-1])) if counted else ("", "")
        )
        after = self._places[begin] if counted else 0
        records = self._proof.records[after:]
        signed = sum(1 for r in records if isinstance(r, Audited) and r.is_signature)
        if answer == "proven":
            words = f"complete: {_complete(signed, f'from {since} to {until}')}"
        else:
            said = "; ".join(dict.fromkeys(one.words for one in found if one.answer == answer))
            words = f"{'refuted' if answer == 'refuted' else 'not proven'}: {said}"
        self._notes += [*self._documents.words(), _COUNTED]
        return LogJudgement(
            answer,
            words,
            tuple(sorted(found, key=lambda one: one.answer != "refuted")),
            tuple(self._notes),
            signed,
            len(self._checkpoints),
            since,
            until,
        )


_COUNTED = (
    "signatures are those of TPM2_Sign and TPM2_CertifyX509; what else a chip signs (quotes, "
    "certifications) it composed itself, and is no certificate or CRL"
)


def _complete(signed: int, when: str) -> str:
    if not signed:
        return f"the chip signed nothing {when}, and the log has nothing"
    many = "the one signature" if signed == 1 else f"each of the {signed:,} signatures"
    return f"{many} that the chip made {when} is in the log, and no other"


def _audit_of(attest: Attest) -> CommandAuditInfo:
    info = attest.attested
    assert isinstance(info, CommandAuditInfo)  # noqa: S101 - its type was checked
    return info


def _made_with(ak: bytes, key: LoggedKey) -> bytes:
    """The outsideInfo that the chip certifies a key was made with."""
    info = check_attest(ak, key.creation.attest, key.creation.signature, ST.ATTEST_CREATION)
    if not isinstance(info, CreationInfo) or info.object_name != key.name:
        raise VerificationError("the chip certified the creation of another key")
    if sha256(key.data).digest() != info.creation_hash:
        raise VerificationError("the chip certified another creation")
    return _creation(key).outside_info


def _signs(key: LoggedKey) -> bool:
    """Not so only for a public area that is the key's own: the proof could show another one."""
    if name_of_public(key.public) != key.name:
        return True
    return bool(decode(Public, key.public).attributes & ObjectAttributes.SIGN)


def _creation(key: LoggedKey) -> CreationData:
    return decode(CreationData, key.data)
