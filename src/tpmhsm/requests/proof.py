"""Proving a home's database: each row against its bytes, its neighbours, the log and the chip.

Nothing is changed, and nobody is asked. What an interrupted command left behind, and the next one
cleans up, is a finding too, as long as it is there: nothing lies about unreported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.request import parse_request
from tpmhsm.approval.votes import parse_approval
from tpmhsm.ca.issuance import is_birth
from tpmhsm.ca.records import certificate_row
from tpmhsm.errors import DeviceError, StoreError, TpmHsmError
from tpmhsm.keys.auditing import check_records
from tpmhsm.keys.proof import check_chip, check_groups, check_keys
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.policy.people import still_needed
from tpmhsm.requests.execution import votes_by_act
from tpmhsm.requests.revocation_proof import check_crls, check_revocations
from tpmhsm.store.proof import Check, check_file, check_log, check_schema

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow, SerialRow
    from tpmhsm.store.certificates import CertificateRow
    from tpmhsm.store.requests import RequestRow
    from tpmhsm.tpm.device import Device

_COLUMNS = (
    "sha256 subject issuer serial not_before not_after spki_sha256 ski aki is_ca names".split()  # noqa: SIM905
)
_BACKUP = "somebody changed the database: restore a backup, and compare it with the log"
_EVERY = 1000

Tell = Callable[[str], None]


def prove(
    store: Store, device: Device, groups: Groups, tell: Tell = lambda _: None
) -> Iterator[Check]:
    """Each check when it is done. Raises StoreError, DeviceError when one cannot be made.

    `tell` is told in a few words what is being looked at.
    """

    def reading(look: Callable[[Transaction], Check]) -> Check:
        with store.reading() as tx:
            return look(tx)

    checks: dict[str, Callable[[], Check]] = {
        "file": lambda: check_file(store),
        "schema": lambda: check_schema(store),
        "log": lambda: check_log(store),
        "certificates": lambda: reading(lambda tx: _certificates(tx, tell)),
        "serials": lambda: reading(_serials),
        "authorities": lambda: reading(_authorities),
        "revocations": lambda: reading(lambda tx: check_revocations(tx, tell)),
        "CRLs": lambda: reading(lambda tx: check_crls(tx, tell)),
        "requests": lambda: reading(_requests),
        "chip records": lambda: reading(check_records),
        "chip": lambda: check_chip(store, device),
        "keys": lambda: check_keys(store, device, groups, tell),
        "groups": lambda: check_groups(store, device, groups),
    }
    for name, look in checks.items():
        tell(f"looking at the database: {name}")
        try:
            yield look()
        except (DeviceError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever somebody wrote into the database
            broken = Check(name)
            broken.found(f"it cannot be read: {type(error).__name__}: {error}", _BACKUP)
            yield broken


# ── certificates ─────────────────────────────────────────────────────────────


def _certificates(tx: Transaction, tell: Tell) -> Check:
    """Columns are those of the bytes, the bytes are those that were reserved, signed and logged."""
    check = Check("certificates")
    issuers = _issuer_keys(tx)
    logged = {bytes.fromhex(row.facts["sha256"]) for row in tx.audit.each("issued")}
    for row in tx.certificates.each():
        if check.seen % _EVERY == 0:
            tell(f"certificate {check.seen + 1}")
        check.seen += 1
        own = row.source == "issued"
        faults = [*_faults(row), *(_issuance_faults(tx, row, issuers) if own else ())]
        if own and (digest := bytes.fromhex(row.sha256)) in logged:
            logged.remove(digest)
        elif own:
            faults.append("the log does not know that it was issued")
        for fault in faults:
            check.found(f"certificate {row.id} ({row.sha256[:16]}): {fault}", _BACKUP)
    for digest in sorted(logged):
        check.found(f"certificate {digest.hex()[:16]} was issued and has no record", _BACKUP)
    return check


def _issuer_keys(tx: Transaction) -> dict[str, bytes]:
    """SubjectPublicKeyInfo by authority."""
    found = {}
    for row in tx.authorities.all():
        kept = tx.certificates.find(row.certificate) if row.certificate else None
        if kept is not None:
            found[row.name] = _spki(kept.der)
    return found


def _spki(der: bytes) -> bytes:
    from tpmhsm.pki.tbs import read_tbs_certificate

    try:
        return read_tbs_certificate(split_signed(der)[0]).spki
    except TpmHsmError:
        return b""


def _faults(row: CertificateRow) -> Iterator[str]:
    try:
        true = certificate_row(row.der, source=row.source, authority=row.authority, name=row.name)
    except TpmHsmError as error:
        yield f"its bytes are no certificate: {error.message}"
        return
    wrong = [name for name in _COLUMNS if getattr(row, name) != getattr(true, name)]
    if wrong:
        yield f"its bytes say otherwise of {', '.join(wrong)}"


def _issuance_faults(
    tx: Transaction, row: CertificateRow, issuers: dict[str, bytes]
) -> Iterator[str]:
    name = row.authority or ""
    if name not in issuers:
        yield f"the authority {name!r} that issued it has no certificate"
    elif not is_signed_by(row.der, issuers[name]):
        yield f"it is not signed by {name!r}"
    record = tx.serials.find(name, row.serial)
    if record is None or record.state != "issued":
        yield f"its serial is {record.state if record else 'not on record'}"
        return
    try:
        same = split_signed(row.der)[0] == record.tbs
    except TpmHsmError:
        same = False
    if not same:
        yield "it is not what was reserved under its serial"


# ── serials and authorities ──────────────────────────────────────────────────


def _serials(tx: Transaction) -> Check:
    check = Check("serials", seen=tx.serials.count())
    for authority, serial in tx.serials.lost():
        check.found(f"serial {serial} of {authority!r} was issued; its record is gone", _BACKUP)
    pending = [row for row in tx.authorities.all() if row.state == "pending"]
    for record in tx.serials.all(state="reserved"):
        _reserved(tx, check, record, pending)
    return check


def _reserved(
    tx: Transaction, check: Check, record: SerialRow, pending: list[AuthorityRow]
) -> None:
    words = f"serial {record.serial} of {record.authority!r}"
    if record.request_id is not None:
        request = tx.requests.find(record.request_id)
        if request is None or request.state != "waiting":
            state = request.state if request else "gone"
            check.found(f"{words} is reserved, and its request is {state}", _BACKUP)
        return
    born = next((row for row in pending if is_birth(row, record)), None)
    check.found(
        f"{words}, reserved {record.reserved_at}, was interrupted; the chip may have signed it",
        f"tpmhsm ca create {born.name} … as before goes on with it"
        if born
        else "the next certificate of this authority gives it up, after 15 minutes",
    )


def _each(name: str, looks: Iterable[tuple[str, Iterable[str]]]) -> Check:
    """A check of all rows: what each is called, and its faults."""
    check = Check(name)
    for words, faults in looks:
        check.seen += 1
        for fault in faults:
            check.found(f"{words}: {fault}", _BACKUP)
    return check


def _authorities(tx: Transaction) -> Check:
    rows = tx.authorities.all()
    return _each("authorities", ((f"authority {r.name!r}", _authority_faults(tx, r)) for r in rows))


def _authority_faults(tx: Transaction, row: AuthorityRow) -> Iterator[str]:
    if (row.state == "active") != (row.certificate is not None):
        yield f"it is {row.state}, {'with' if row.certificate else 'without'} a certificate"
    if row.certificate is None:
        return
    kept = tx.certificates.find(row.certificate)
    if kept is None:
        yield "its certificate is gone"
        return
    if not kept.is_ca:
        yield "its certificate is no CA's"
    key = tx.keys.find(row.key_label)
    if key is not None and kept.spki_sha256 != key.spki_sha256:
        yield f"its certificate is for another key than {row.key_label!r}"


# ── requests ─────────────────────────────────────────────────────────────────


def _requests(tx: Transaction) -> Check:
    rows = tx.requests.all()
    return _each("requests", ((f"request {r.id}", _request_faults(tx, r)) for r in rows))


def _request_faults(tx: Transaction, row: RequestRow) -> Iterator[str]:
    try:
        request = parse_request(row.document)
        if request.digest.hex() != row.digest or request.id != row.id or request.kind != row.kind:
            yield "its document asks for something else than its row"
    except (TpmHsmError, json.JSONDecodeError) as error:
        yield f"its document cannot be read: {error}"
        return
    approvals = tx.requests.approvals(row.id)
    if row.state == "executed":
        yield from _executed_faults(tx, row)
        try:
            votes_by_act(
                replace(request, approvals=tuple(parse_approval(a.document) for a in approvals))
            )
        except TpmHsmError as error:
            yield f"an approval does not hold: {error.message}"
        if missing := still_needed(rule_of(request), {a.approver for a in approvals}):
            yield f"it was executed, and {row.needed - missing} of {row.needed} approvals are there"
    elif row.kind == "certificate":
        states = {"waiting": "reserved"}
        yield from _serial_faults(tx, row, states.get(row.state, "abandoned"))


def _executed_faults(tx: Transaction, row: RequestRow) -> Iterator[str]:
    if not row.result:
        yield "it was executed, and its result is missing"
    if row.kind == "certificate":
        yield from _serial_faults(tx, row, "issued")
        sha256 = (row.result or {}).get("sha256", "")
        if not tx.certificates.was_kept(sha256):
            yield "the certificate that it issued is gone"


def _serial_faults(tx: Transaction, row: RequestRow, wanted: str) -> Iterator[str]:
    try:
        record = tx.serials.of_request(row.id)
    except TpmHsmError as error:
        yield error.message
        return
    if record.state != wanted or record.tbs_sha256 != row.digest:
        yield f"it is {row.state}, and serial {record.serial} is {record.state}"
