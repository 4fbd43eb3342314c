"""The log and the chip's own audit of signatures, brought together.

    auditing.start()                 the chip audits from now on; checkpoint 0
    auditing.checkpoint(nonce)       the chip certifies what it signed, and the log's head
    auditing.prove(nonce)            one document for `tpmhsm.attest.audit_chain.judge_log`

Each signature costs the chip nothing more and no command more; it is written into the journal by
whoever holds the chip (`tpmhsm.tpm.journal`), and from there into the database at each checkpoint.
A checkpoint is two commands. Power may fail between any two steps: what is in the journal is taken
over the next time, and what the chip was asked meanwhile is in the journal.
"""

from __future__ import annotations

import time
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.attest.audit_proof import Entry, LoggedKey, LogProof, Statement
from tpmhsm.attest.audit_records import (
    Checkpoint,
    Record,
    anchor,
    read_record,
    read_records,
    still_there,
)
from tpmhsm.errors import DeviceError, NotFoundError, ParseError, VerificationError
from tpmhsm.keys.host import HostDevice, load_host
from tpmhsm.store.proof import Check
from tpmhsm.tpm.journal import Journal, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.chip_records import ChipRecordRow
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device

SETTING = "audit"
"""What was taken over of which journal, and the mark for keys that are made now."""

OLDEST = 3600.0
"""Seconds after which a checkpoint is due when something was signed."""

_LAST = 100
"""Records among which the newest checkpoint is looked for: it is nearly always the very last."""

_TOLD = "checkpoint"
_CHANGED = "somebody changed the database: restore a backup; tpmhsm audit verify says what it hides"

_LARGE = 1 << 22
"""Bytes of a journal after which a new one is begun."""


def mark_for_keys(tx: Transaction) -> bytes:
    """What a new key is made with, so that the chip can certify it younger than a checkpoint."""
    return bytes.fromhex((tx.settings.get(SETTING) or {}).get("mark", ""))


def certified_at(tx: Transaction) -> str | None:
    """When the chip last certified the log, RFC 3339; None where it does not audit."""
    from tpmhsm.attest.audit_faults import moment

    at = (tx.settings.get(SETTING) or {}).get("at")
    return None if at is None else moment(at)


def last_checkpoint(tx: Transaction) -> Checkpoint | None:
    """The newest checkpoint in the database, among its last records."""
    for row in tx.chip_records.latest(_LAST):
        with suppress(ParseError):
            if isinstance(found := read_record(row.record), Checkpoint):
                return found
    return None


def check_records(tx: Transaction) -> Check:
    """What the chip audited is numbered without a gap, each row is its record, and the checkpoints
    are those that the log names. Whether signatures are missing, `tpmhsm audit verify` says.
    """
    found = Check("chip records")
    logged = {one.facts.get("record"): one.facts.get("sha256") for one in tx.audit.each(_TOLD)}
    for row in tx.chip_records.each():
        found.seen += 1
        for fault in _faults(row, found.seen, logged):
            found.found(f"record {row.n} of what the chip signed: {fault}", _CHANGED)
    for number in sorted(logged.keys(), key=str):
        found.found(f"the checkpoint that the log has as record {number} is gone", _CHANGED)
    return found


def _faults(row: ChipRecordRow, number: int, logged: dict[Any, Any]) -> Iterator[str]:
    """What is wrong with a row; a checkpoint is taken out of `logged`."""
    if row.n != number:
        yield f"it is the {number}. that is there"
    try:
        record = read_record(row.record)
    except ParseError:
        yield "its bytes are no record"
        return
    if (row.key_name, row.digest) != _words_of(record):
        yield "its bytes say otherwise of key or digest"
    if isinstance(record, Checkpoint):
        if logged.get(row.n) != sha256(record.attest).hexdigest():
            yield "the log knows of no such checkpoint"
        logged.pop(row.n, None)


class Auditing:
    """The audit of one home's chip."""

    def __init__(self, store: Store, device: Device) -> None:
        self._store = store
        self._device = device

    # ── on ───────────────────────────────────────────────────────────────────

    def is_on(self) -> bool:
        """Whether `start` was done here."""
        with self._store.reading() as tx:
            return bool((tx.settings.get(SETTING) or {}).get("mark"))

    def start(self) -> bool:
        """Have the chip audit signatures; False if it does so already. Safe to run again.

        Raises DeviceError for a chip that cannot, ChipRefusedError without the owner's password.
        """
        if self.is_on():
            return False
        self._begin()
        self.checkpoint()
        return True

    def _begin(self) -> None:
        """The chip audits, and certifies the keys' parent: TPM2_Clear would take that away."""
        from tpmhsm.tpm import audit
        from tpmhsm.tpm.objects import attestation_key, storage_parent

        host = load_host(self._store)
        with self._device.transaction() as chip:
            journal = _journal_of(chip)
            if not journal.path.exists():
                journal.begin()
            audit.switch_on(chip)
            ak = attestation_key(chip, host.ak_name)
            parent = storage_parent(chip, host.parent_name)
            said = audit.certify(chip, ak, parent, still_there(b"", b""))
        with self._store.transaction() as tx:
            facts = {"attest": said.attest.hex(), "signature": said.signature.hex()}
            tx.audit.append("audit-on", {"parent": host.parent_name.hex(), **facts})

    # ── checkpoints ──────────────────────────────────────────────────────────

    def checkpoint(self, nonce: bytes = b"") -> Checkpoint:
        """Have the chip certify all signatures since the last time, and the log's head."""
        from tpmhsm.tpm import audit
        from tpmhsm.tpm.objects import attestation_key

        host = load_host(self._store)
        with self._device.transaction() as chip:
            journal = _journal_of(chip)
            if not journal.path.exists() or self._is_done_with(journal.path):
                journal.begin()
            audit.mark(chip)
            ak = attestation_key(chip, host.ak_name)
            with self._store.reading() as tx:
                head = tx.audit.head()
            last = bytes.fromhex(head.hash)
            said = audit.take(chip, ak, anchor(head.seq, last, nonce))
            at = int(time.time())
            made = Checkpoint(at, head.seq, last, nonce, said.attest, said.signature)
            journal.add(made)
            journal.flush()
        self.collect()
        return made

    def _is_done_with(self, path: Path) -> bool:
        """Whether a journal is long, and all of it in the database."""
        size = path.stat().st_size
        if size < _LARGE:
            return False
        with self._store.reading() as tx:
            known = tx.settings.get(SETTING) or {}
        name, start, rest = read_journal(path, known.get("journal", ""), known.get("offset", 0))
        return bool(not rest and (name, start) == (known["journal"], known["offset"]))

    def is_due(self) -> bool:
        """Whether something was signed since a checkpoint that is an hour old."""
        path = self._device.journal
        with self._store.reading() as tx:
            known = tx.settings.get(SETTING) or {}
        with suppress(OSError):
            if known.get("mark") and path is not None and time.time() - known["at"] > OLDEST:
                return bool(path.stat().st_mtime > known["at"] + 1)
        return False

    def collect(self) -> None:
        """Take over into the database what is new in the journal. Raises StoreError."""
        from tpmhsm.store.chip_records import ChipRecordRow

        if self._device.journal is None:
            return
        with self._store.transaction() as tx:
            known: dict[str, Any] = tx.settings.get(SETTING) or {}
            offset = known.get("offset", 0)
            name, start, data = read_journal(self._device.journal, known.get("journal", ""), offset)
            records, end = read_records(data)
            if not records:
                return
            rows = [ChipRecordRow(*_words_of(one), one.encode()) for one in records]
            first = tx.chip_records.append(rows)
            known |= {"journal": name, "offset": start + end}
            for n, one in enumerate(records, first):
                if isinstance(one, Checkpoint):
                    known |= {"mark": one.mark.hex(), "at": one.at}
                    told = sha256(one.attest).hexdigest()
                    tx.audit.append(_TOLD, {"record": n, "entry": one.seq, "sha256": told})
            tx.settings.set(SETTING, known)

    # ── proof ────────────────────────────────────────────────────────────────

    def prove(self, nonce: bytes = b"", *, documents: bool = True) -> LogProof:
        """A checkpoint over a verifier's nonce, and all that is needed to replay it.

        `documents`: with the certificates and CRLs that were signed. Raises NotFoundError when
        auditing was never switched on.
        """
        from tpmhsm.store.schema import now
        from tpmhsm.tpm import audit
        from tpmhsm.tpm.objects import attestation_key, storage_parent

        if not self.is_on():
            raise NotFoundError(
                "the chip does not audit for this home: its log is proven by nothing",
                code="audit-off",
                hint="tpmhsm audit start; keys made before it stay unproven",
            )
        host = load_host(self._store)
        last = self.checkpoint(nonce)
        with self._device.transaction() as chip:
            ak = attestation_key(chip, host.ak_name)
            parent = storage_parent(chip, host.parent_name)
            said = audit.certify(chip, ak, parent, still_there(nonce, last.attest))
        with self._store.reading() as tx:
            return _document(
                tx, host, last, Statement(said.attest, said.signature), now(), documents
            )


def _journal_of(chip: Chip) -> Journal:
    if chip.journal is None:
        raise DeviceError("there is no home here to keep a journal of the chip in")
    return chip.journal


def _words_of(record: Record) -> tuple[str, str]:
    if isinstance(record, Checkpoint) or not record.digest:
        return "", ""
    return record.names.hex(), record.digest.hex()


def _document(  # noqa: PLR0917 (put together in one place)
    tx: Transaction,
    host: HostDevice,
    last: Checkpoint,
    parent: Statement,
    made: str,
    documents: bool,
) -> LogProof:
    records, numbers = [], []
    for row in tx.chip_records.each():
        records.append(_record_of(row))
        numbers.append(row.n)
        if records[-1] == last:
            break
    entries = [
        Entry(one.seq, one.at, one.actor, one.act, one.facts, one.prev, one.hash)
        for one in tx.audit.written(until=last.seq)
    ]
    return LogProof(
        made=made,
        nonce=last.nonce,
        ak=host.ak_public,
        parent=parent,
        keys=tuple(map(_logged, tx.keys.all(deleted=True))),
        entries=tuple(entries),
        records=tuple(records),
        numbers=tuple(numbers),
        documents=tuple(_signed_documents(tx)) if documents else (),
    )


def _record_of(row: ChipRecordRow) -> Record:
    try:
        return read_record(row.record)
    except ParseError as error:
        raise VerificationError(
            f"record {row.n} of what the chip did was changed in the database: it is none any more",
            code="record-changed",
            details={"record": row.n},
        ) from error


def _logged(row: KeyRow) -> LoggedKey:
    born = Statement(row.creation_attest, row.creation_signature)
    return LoggedKey(bytes.fromhex(row.name), row.label, row.public, row.creation_data, born)


def _signed_documents(tx: Transaction) -> list[bytes]:
    issued = [one.der for one in tx.certificates.each() if one.authority]
    return issued + [tx.crls.der(one) for one in tx.crls.all(state="issued")]
