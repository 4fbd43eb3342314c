"""The one way to a certificate: reserve → sign, now or when people approved → complete.

Serial and to-be-signed bytes are in the database before anybody signs, so after a failure at any
point it is known which certificates may exist, and an authority that is made again goes on where
it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tpmhsm.ca.records import certificate_facts, certificate_row
from tpmhsm.errors import NotFoundError, ParseError, TpmHsmError
from tpmhsm.pki.issue import Prepared, assemble, restore
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.tbs import read_tbs_certificate, rfc3339, serial_hex

if TYPE_CHECKING:
    from tpmhsm.approval.request import Claims
    from tpmhsm.ca.signer import Signer
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow, SerialRow

STALE = timedelta(minutes=15)
"""A serial reserved longer ago than this, without a request, is nobody's: its process died."""


@dataclass(frozen=True)
class Issued:
    """A certificate that exists: JSON-ready `facts` with `pem`, and notes for people."""

    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """One certificate to be issued: by which authority, with whose key, over which bytes.

    `born` is the authority that the certificate will make, None for everything else; `evidence`
    what was proven of the key, where that was demanded.
    """

    authority: str
    key: str
    token: Prepared
    claims: Claims
    born: AuthorityRow | None = None
    evidence: Mapping[str, Any] | None = None


def issue(store: Store, signer: Signer, order: Order) -> Issued:
    """Issue now, or ask people: raises WaitingError when they must approve it first."""
    if signer.needs_people(order.key):
        draft = signer.draft(order.key, "certificate", order.token.tbs, order.claims)
        with store.transaction() as tx:
            reserve(tx, order, number := signer.register(tx, draft))
        raise signer.waiting(number)
    with store.transaction() as tx:
        abandon_stale(tx, order.authority)
        serial = reserve(tx, order, None)
    return _sign(store, signer, order.key, serial, order.token.notes)


def refuse_repetition(store: Store, signer: Signer, order: Order) -> None:
    """Raises WaitingError when people have been asked for the same certificate already."""
    if not signer.needs_people(order.key):
        return
    spki = read_tbs_certificate(order.token.tbs).spki
    with store.reading() as tx:
        waiting = tx.serials.awaited(order.authority)
    for number, tbs in waiting:
        if spki in tbs and same_wish(tbs, order.token.tbs):
            again = signer.waiting(number)
            again.message += ", made before for the same certificate: no other is made"
            again.details["repeated"] = True
            raise again


def resume(store: Store, signer: Signer, key: str, serial: SerialRow) -> Issued:
    """Go on with a certificate whose process died after it had reserved the serial."""
    return _sign(store, signer, key, serial, ())


def _sign(
    store: Store, signer: Signer, key: str, serial: SerialRow, notes: tuple[str, ...]
) -> Issued:
    try:
        signature = signer.sign(key, serial.tbs)
    except TpmHsmError as error:
        # a chip that vanished may have signed: that is left as a power failure leaves it
        if error.code != "device-vanished":
            with store.transaction() as tx:
                abandon(tx, serial)
        raise
    with store.transaction() as tx:
        current = tx.serials.get(serial.authority, serial.serial)
        return Issued(_complete(tx, current, signature), notes)


def complete_certificate(
    tx: Transaction, request_id: int, tbs: bytes, signature: bytes
) -> dict[str, Any]:
    """What becomes of an approved signature: the certificate, kept; its facts with `pem`."""
    record = tx.serials.of_request(request_id)
    if record.tbs != tbs:
        raise ParseError(f"request {request_id} is not for the bytes that were prepared")
    return _complete(tx, record, signature)


def _complete(tx: Transaction, record: SerialRow, signature: bytes) -> dict[str, Any]:
    issuing = tx.authorities.get(record.authority)
    born = _born_by(tx, record)
    if record.state == "issued":  # by another process, which resumed the same order
        return _issued_before(tx, record)
    signer = load_spki(tx.keys.get(issuing.key_label).spki)
    certificate = assemble(restore(record.prepared, signer), signature)
    kept = tx.certificates.add(
        certificate_row(
            certificate,
            source="issued",
            authority=record.authority,
            name=born.name if born else "",
        )
    )
    tx.serials.issued(record.authority, record.serial)
    if born is not None:
        tx.authorities.activate(born.name, kept.sha256)
    tx.audit.append(
        "issued", {"ca": record.authority, "serial": record.serial, "sha256": kept.sha256}
    )
    return certificate_facts(certificate)


def _issued_before(tx: Transaction, record: SerialRow) -> dict[str, Any]:
    for row in tx.certificates.of_serial(record.serial):
        if row.authority == record.authority:
            return certificate_facts(x509.load_der_x509_certificate(row.der))
    raise NotFoundError(f"the certificate {record.serial} of {record.authority!r} was deleted")


def _born_by(tx: Transaction, record: SerialRow) -> AuthorityRow | None:
    """The pending authority whose certificate this serial is."""
    return next((row for row in tx.authorities.all() if is_birth(row, record)), None)


def is_birth(row: AuthorityRow, record: SerialRow) -> bool:
    """Whether a serial stands for the certificate that a pending authority waits for."""
    return (
        row.state == "pending"
        and (row.issuer or row.name) == record.authority
        and (row.settings or {}).get("serial") == record.serial
    )


def birth_of(tx: Transaction, row: AuthorityRow) -> SerialRow | None:
    """The reserved serial of a pending authority's certificate."""
    reserved = tx.serials.all(authority=row.issuer or row.name, state="reserved")
    return next((record for record in reserved if is_birth(row, record)), None)


def reserve(tx: Transaction, order: Order, request: int | None) -> SerialRow:
    """Keep what an order is to make before anybody signs: serial, bytes, a pending authority."""
    token, serial = order.token, serial_hex(order.token.serial)
    row = tx.serials.reserve(order.authority, serial, token.tbs, request, token.to_document())
    if order.evidence is not None:
        tx.audit.append("evidence", {"ca": order.authority, "serial": serial, **order.evidence})
    if order.born is not None:
        settings = {"serial": serial, "request": request}
        tx.authorities.add(replace(order.born, settings=settings))
        facts = {"name": order.born.name, "key": order.born.key_label, "request": request}
        tx.audit.append("ca-create", facts)
    return row


def abandon(tx: Transaction, serial: SerialRow) -> None:
    """Nobody will ask the chip for this certificate; an authority that waited for it is gone."""
    current = tx.serials.get(serial.authority, serial.serial)
    if current.state != "reserved":
        return
    born = _born_by(tx, current)
    tx.serials.abandoned(current.authority, current.serial)
    if born is not None:
        tx.authorities.remove_pending(born.name)


def abandon_stale(tx: Transaction, authority: str, older: timedelta | None = None) -> None:
    """Give up what processes that died had reserved, so long ago or longer ago than `STALE`."""
    found = set(tx.serials.stale(authority, rfc3339(datetime.now(UTC) - (older or STALE))))
    births = {(row.settings or {}).get("serial") for row in tx.authorities.all() if found}
    for serial in sorted(found - births):
        tx.serials.abandoned(authority, serial)
        tx.audit.append("abandoned", {"ca": authority, "serial": serial})


def same_wish(one: bytes, other: bytes) -> bool:
    """Whether two TBSCertificates differ in nothing but serial and the moment they were made."""
    a, b = read_tbs_certificate(one), read_tbs_certificate(other)
    fixed = ("version", "algorithm", "issuer", "subject", "spki", "extensions")
    if any(getattr(a, name) != getattr(b, name) for name in fixed):
        return False
    lasting = a.not_after - a.not_before == b.not_after - b.not_before
    return lasting or a.not_after == b.not_after
