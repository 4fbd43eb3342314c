"""Proving what was revoked, and the CRLs that said so: rows, bytes, signatures, log agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.crl import TbsCrl, read_tbs_crl
from tpmhsm.pki.crl_entries import read_entry, serial_of, split_entries
from tpmhsm.pki.reasons import HOLD, UNSPECIFIED
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.pki.tbs import read_tbs_certificate, rfc3339, serial_hex
from tpmhsm.store.proof import Check
from tpmhsm.store.revocations import LISTED, REVOKED

if TYPE_CHECKING:
    from tpmhsm.store import Transaction
    from tpmhsm.store.revocations import CrlRow, RevocationRow

_BACKUP = "somebody changed the database: restore a backup, and compare it with the log"
_EVERY = 1000
_MOST = 100
_ACTS = {"revoke": "revoked", "hold": "held", "release": "released"}

Tell = Callable[[str], None]


def check_revocations(tx: Transaction, tell: Tell) -> Check:
    """Each entry says what its columns say, and is what the log last says of that certificate."""
    check = Check("revocations")
    logged = _logged(tx)
    for row in tx.revocations.each():
        if check.seen % _EVERY == 0:
            tell(f"revocation {check.seen + 1}")
        check.seen += 1
        last = logged.pop((row.authority, row.serial), None)
        for fault in (*_entry_faults(row), *_log_faults(row, last)):
            check.found(f"serial {row.serial} of {row.authority!r}: {fault}", _BACKUP)
    for (authority, serial), (_, state) in logged.items():
        check.found(f"serial {serial} of {authority!r} was {state}, and has no record", _BACKUP)
    return check


def _logged(tx: Transaction) -> dict[tuple[str, str], tuple[int, str]]:
    """Of each certificate the last entry about it: number, and the state that it made."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for act, state in _ACTS.items():
        for entry in tx.audit.each(act):
            key = (entry.facts["ca"], entry.facts["serial"])
            if entry.seq > found.get(key, (0, ""))[0]:
                found[key] = (entry.seq, state)
    return found


def _log_faults(row: RevocationRow, last: tuple[int, str] | None) -> Iterator[str]:
    if last is None:
        yield f"the log does not know that it was {row.state}"
    elif last != (row.changed, row.state):
        yield f"it is {row.state}; the log says it was {last[1]} last, by entry {last[0]}"


def _entry_faults(row: RevocationRow) -> Iterator[str]:
    try:
        entry = read_entry(row.entry)
    except TpmHsmError as error:
        yield f"its entry for the CRL cannot be read: {error.message}"
        return
    true = {
        "serial": serial_hex(entry.serial),
        "reason": entry.reason or UNSPECIFIED,
        "revoked_at": rfc3339(entry.revoked),
        "invalidity": rfc3339(entry.invalidity) if entry.invalidity else "",
    }
    wrong = [name for name, value in true.items() if getattr(row, name) != value]
    if wrong or entry.odd:
        yield f"its entry for the CRL says otherwise of {', '.join(wrong) or entry.odd[0]}"
    if (row.reason == HOLD) != (row.state != REVOKED):
        yield f"it is {row.state} for {row.reason}"


def check_crls(tx: Transaction, tell: Tell) -> Check:
    """Numbers grow; bytes, columns, log and the authority's signature agree; the newest CRL of each
    authority lists what was revoked when it was drawn up, and nothing else.
    """
    check = Check("CRLs")
    keys = _public_keys(tx)
    logged = {(e.facts["ca"], e.facts["number"]): e.facts["sha256"] for e in tx.audit.each("crl")}
    newest = {row.authority: row for row in tx.crls.all()}
    highest: dict[str, int] = {}
    for row in tx.crls.all():
        tell(f"CRL {row.number} of {row.authority}")
        check.seen += 1
        faults = list(_row_faults(tx, row, newest[row.authority]))
        if row.number <= highest.get(row.authority, 0):
            faults.append(f"its number does not follow {highest[row.authority]}")
        highest[row.authority] = max(row.number, highest.get(row.authority, 0))
        if row.state == "issued":
            if logged.pop((row.authority, row.number), "") != row.sha256:
                faults.append("the log does not know it")
            latest = tx.crls.latest(row.authority)
            faults += _issued_faults(tx, row, keys, newest=latest is not None and latest == row)
        for fault in faults:
            check.found(f"CRL {row.number} of {row.authority!r}: {fault}", _BACKUP)
    for authority, number in logged:
        check.found(f"CRL {number} of {authority!r} was made, and has no record", _BACKUP)
    return check


def _public_keys(tx: Transaction) -> dict[str, tuple[bytes, bytes]]:
    """Subject and SubjectPublicKeyInfo by authority."""
    found = {}
    for row in tx.authorities.all():
        kept = tx.certificates.find(row.certificate) if row.certificate else None
        if kept is not None:
            try:
                fields = read_tbs_certificate(split_signed(kept.der)[0])
            except TpmHsmError:  # said by the check of certificates
                continue
            found[row.name] = (fields.subject, fields.spki)
    return found


def _row_faults(tx: Transaction, row: CrlRow, newest: CrlRow) -> Iterator[str]:
    if row.state == "reserved" and row.request_id is None and row == newest:
        yield "it was interrupted; the chip may have signed it; tpmhsm ca crl makes the next one"
    if row.request_id is None:
        return
    request = tx.requests.find(row.request_id)
    wanted = {"reserved": ("waiting",), "issued": ("executed",)}.get(row.state)
    if request is None:
        yield f"its request {row.request_id} is gone"
    elif (wanted is not None and request.state not in wanted) or (
        wanted is None and request.state in ("waiting", "executed")
    ):
        yield f"it is {row.state}, and its request {row.request_id} is {request.state}"


def _issued_faults(
    tx: Transaction, row: CrlRow, keys: dict[str, tuple[bytes, bytes]], *, newest: bool
) -> Iterator[str]:
    try:
        der = tx.crls.der(row)
        if sha256(der).hexdigest() != row.sha256:
            yield "its bytes are others than those that were signed"
        content = split_signed(der, "a CRL")[0]
        tbs = read_tbs_crl(content)
        entries = list(split_entries(tbs.entries))
    except TpmHsmError as error:
        yield f"its bytes are no CRL: {error.message}"
        return
    true = {
        "number": tbs.number,
        "this_update": rfc3339(tbs.this_update),
        "next_update": rfc3339(tbs.next_update) if tbs.next_update else "",
        "entries": len(entries),
        "tbs_sha256": sha256(content).hexdigest(),
    }
    if wrong := [name for name, value in true.items() if getattr(row, name) != value]:
        yield f"its bytes say otherwise of {', '.join(wrong)}"
    known = keys.get(row.authority)
    if known is None or known[0] != tbs.issuer or not is_signed_by(der, known[1]):
        yield f"it is not signed by {row.authority!r}"
    if newest:
        yield from _listing_faults(tx, row, tbs, set(entries))


def _listing_faults(tx: Transaction, row: CrlRow, tbs: TbsCrl, listed: set[bytes]) -> Iterator[str]:
    """What changed after the CRL was drawn up may differ; what had expired may be left out."""
    made, said = rfc3339(tbs.this_update), 0
    later = set()
    for one in tx.revocations.each(row.authority):
        there = one.entry in listed
        listed.discard(one.entry)
        if one.changed > row.upto:
            later.add(one.serial)
        elif there != (one.state in LISTED) and (there or one.not_after >= made) and said < _MOST:
            said += 1
            yield f"serial {one.serial} is {one.state}, and {'' if there else 'not '}listed"
    for entry in list(listed)[:_MOST]:
        serial = serial_hex(int.from_bytes(serial_of(entry)[2:], "big"))
        if serial not in later:
            yield f"it lists serial {serial}, and no record says so"
