"""What many issuances at a time write: one statement for all of them, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tpmhsm.ca.issuance import abandon, abandon_stale
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.store import Transaction
    from tpmhsm.store.authorities import SerialRow
    from tpmhsm.store.certificates import CertificateRow


def reserve_all(tx: Transaction, rows: Sequence[SerialRow]) -> Sequence[SerialRow]:
    """Write many issuances ahead of their signatures."""
    tx.serials.reserve_all(rows)
    return rows


def record_evidence(tx: Transaction, facts: Sequence[Mapping[str, Any]]) -> Sequence[None]:
    """What was proven of keys that are about to be certified."""
    tx.audit.append_all([("evidence", dict(one)) for one in facts])
    return [None] * len(facts)


def keep_all(tx: Transaction, rows: Sequence[CertificateRow]) -> Sequence[CertificateRow]:
    """Many certificates exist: they are kept and their serials issued.

    Raises UsageError unless each serial is still reserved; then none is kept.
    """
    if tx.serials.issue_all([(row.authority or "", row.serial) for row in rows]) != len(rows):
        raise UsageError(
            "the serial was given up meanwhile: the certificate took too long",
            code="abandoned",
            hint="have it certified again",
        )
    tx.certificates.add_all(rows)
    tx.audit.append_all([
        ("issued", {"ca": row.authority, "serial": row.serial, "sha256": row.sha256})
        for row in rows
    ])  # fmt: skip
    return rows


def abandon_all(tx: Transaction, pairs: Sequence[tuple[str, str]]) -> Sequence[None]:
    """Nobody will ask the chip for these: (authority, serial) each."""
    for authority, serial in pairs:
        abandon(tx, tx.serials.get(authority, serial))
    return [None] * len(pairs)


def sweep(tx: Transaction, authorities: Sequence[str]) -> Sequence[None]:
    """Give up what processes that died had reserved."""
    for authority in authorities:
        abandon_stale(tx, authority)
    return [None] * len(authorities)
