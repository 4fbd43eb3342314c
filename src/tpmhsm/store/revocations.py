"""Certificates that were revoked or are held, and the CRLs that said so.

A row keeps the DER of its entry in a CRL, so that making one joins bytes and decodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    or_,
    select,
)

from tpmhsm.errors import UsageError
from tpmhsm.store.schema import Repository, identity, metadata, one_or_missing

REVOKED, HELD, RELEASED = "revoked", "held", "released"
LISTED = (REVOKED, HELD)

_CHUNK = 10_000
_QUERY = 500


@dataclass(frozen=True)
class RevocationRow:
    """One certificate of one authority. `serial` is hexadecimal, `entry` the DER of its CRL entry.

    State: revoked (for good), held, released (off the list again). `reason` is RFC 5280's word;
    `invalidity` may be empty. `changed` is the number of the audit entry that made it so: what a
    CRL drawn up at a certain entry of the log covers.
    """

    authority: str
    serial: str
    state: str
    reason: str
    revoked_at: str
    not_after: str
    entry: bytes
    changed: int
    invalidity: str = ""
    sha256: str = ""
    id: int = 0


revocations = Table(
    "revocations",
    metadata,
    identity(),
    Column("authority", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("revoked_at", Text, nullable=False),
    Column("invalidity", Text, nullable=False),
    Column("not_after", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("changed", BigInteger, nullable=False),
    UniqueConstraint("authority", "serial"),
    Index("ix_revocations_authority_state", "authority", "state"),
)
_R = revocations.c


class Revocations(Repository[RevocationRow]):
    """Revocations by authority and serial; one row a certificate, its history is in the log."""

    table = revocations
    row = RevocationRow

    def find(self, authority: str, serial: str) -> RevocationRow | None:
        """What is known of a serial, also when it was released."""
        return self._first(_R.authority == authority, _R.serial == serial)

    def put(self, row: RevocationRow) -> RevocationRow:
        """Write a certificate's state, new or changed."""
        known = self.find(row.authority, row.serial)
        if known is None:
            return self._insert(row)
        return self._save(replace(row, id=known.id), f"serial {row.serial} vanished")

    def of(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], RevocationRow]:
        """Those of these (authority, serial) that are revoked or held."""
        wanted: dict[str, list[str]] = {}
        for authority, serial in pairs:
            wanted.setdefault(authority, []).append(serial)
        found: dict[tuple[str, str], RevocationRow] = {}
        for authority, serials in wanted.items():
            for start in range(0, len(serials), _QUERY):
                some = _R.serial.in_(serials[start : start + _QUERY])
                rows = self._select(_R.authority == authority, some, _R.state.in_(LISTED))
                found |= {(authority, row.serial): row for row in rows}
        return found

    def each(self, authority: str = "") -> Iterator[RevocationRow]:
        """Every row, or every one of an authority, by id; few of them in memory at a time."""
        return self._each(*((_R.authority == authority,) if authority else ()))

    def count(self, authority: str) -> dict[str, int]:
        """How many certificates of an authority are `revoked` and `held`."""
        query = select(_R.state, func.count()).where(_R.authority == authority).group_by(_R.state)
        counts = {row[0]: int(row[1]) for row in self._connection.execute(query)}
        return {state: counts.get(state, 0) for state in LISTED}

    def changes(self, authority: str, after: int) -> int:
        """How many rows changed after an entry of the log."""
        query = select(func.count()).where(_R.authority == authority, _R.changed > after)
        return int(self._connection.execute(query).scalar_one())

    def entries(self, authority: str, last: CrlRow | None) -> Iterator[tuple[int, bytes]]:
        """What belongs on the next CRL, as (how many, their DER joined), a chunk at a time.

        `last` is the CRL before. What had expired when that one was made has been on a CRL beyond
        its validity, or was left out before, and is left out (RFC 5280, 3.3).
        """
        due: list[ColumnElement[bool]] = []
        if last is not None:
            due.append(or_(_R.not_after >= last.this_update, _R.changed > last.upto))
        for state in LISTED:  # one state at a time: the index has its rows in order, unsorted
            where = (_R.authority == authority, _R.state == state, *due)
            query = select(_R.entry).where(*where).order_by(_R.id)
            rows = self._stream(query)
            while part := rows.fetchmany(_CHUNK):
                yield len(part), b"".join([row[0] for row in part])

    def _stream(self, query: Any) -> Any:
        """Something with `fetchmany` that does not hold all rows at once."""
        if self._connection.dialect.name != "sqlite":
            return self._connection.execution_options(yield_per=_CHUNK).execute(query)
        # SQLite's own rows: as objects of SQLAlchemy a million take half a second more
        return self._connection.execute(query).cursor


@dataclass(frozen=True)
class CrlRow:
    """A CRL of an authority. Its number is written before anybody signs, and never used again.

    State: reserved, issued, abandoned. `upto` is the last entry of the log that it covers,
    `entries` how many certificates it lists, `tbs_sha256` the digest of the bytes to be signed,
    `sha256` that of the CRL once it is signed; the CRL itself is had by `Crls.der`.
    """

    authority: str
    number: int
    this_update: str
    next_update: str
    upto: int
    entries: int
    tbs_sha256: str = ""
    sha256: str = ""
    request_id: int | None = None
    state: str = "reserved"
    reserved_at: str = ""
    id: int = 0


crls = Table(
    "crls",
    metadata,
    identity(),
    Column("authority", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("this_update", Text, nullable=False),
    Column("next_update", Text, nullable=False),
    Column("upto", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("tbs_sha256", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    # not a field of the row: it can be 40 MB, and most who ask want the dates
    Column("der", LargeBinary),
    Column("request_id", BigInteger, ForeignKey("requests.id")),
    Column("state", Text, nullable=False),
    Column("reserved_at", Text, nullable=False),
    UniqueConstraint("authority", "number"),
)
_C = crls.c


class Crls(Repository[CrlRow]):
    """CRLs by authority and number."""

    table = crls
    row = CrlRow
    stamp = "reserved_at"

    def reserve(self, crl: CrlRow) -> CrlRow:
        """Write a number ahead. UsageError unless it is greater than all before."""
        if crl.number <= self.highest(crl.authority):
            raise UsageError(f"CRL {crl.number} of {crl.authority!r} has been used")
        return self._insert(crl)

    def highest(self, authority: str) -> int:
        """The highest number that was ever reserved, 0 when there is none."""
        query = select(func.max(_C.number)).where(_C.authority == authority)
        return int(self._connection.execute(query).scalar() or 0)

    def latest(self, authority: str) -> CrlRow | None:
        """The CRL of the highest number that was signed."""
        where = (_C.authority == authority, _C.state == "issued")
        return self._first(*where, order=_C.number.desc())

    def waiting(self, authority: str) -> CrlRow | None:
        """The newest one that waits for people."""
        where = (_C.authority == authority, _C.state == "reserved", _C.request_id.is_not(None))
        return self._first(*where, order=_C.number.desc())

    def of_request(self, request_id: int) -> CrlRow:
        """The CRL that a request stands for. Raises NotFoundError."""
        return one_or_missing(
            self._first(_C.request_id == request_id),
            f"no CRL was drawn up for request {request_id}",
        )

    def all(self, authority: str | None = None, *, state: str | None = None) -> list[CrlRow]:
        """CRLs in the order of their reservation."""
        where = []
        if authority is not None:
            where.append(_C.authority == authority)
        if state is not None:
            where.append(_C.state == state)
        return self._select(*where)

    def issued(self, crl: CrlRow, der: bytes) -> CrlRow:
        """The CRL was signed. Raises NotFoundError; UsageError unless it was reserved."""
        done = replace(crl, state="issued", sha256=sha256(der).hexdigest())
        self._end(done)
        self._change(_C.id == crl.id, der=der)
        return done

    def abandoned(self, crl: CrlRow) -> CrlRow:
        """Nobody will sign it; its number is used all the same. As `issued`."""
        return self._end(replace(crl, state="abandoned"))

    def der(self, crl: CrlRow) -> bytes:
        """The CRL. Raises NotFoundError when it was not signed."""
        query = select(_C.der).where(_C.id == crl.id)
        found: bytes | None = self._connection.execute(query).scalar()
        return one_or_missing(found, f"CRL {crl.number} of {crl.authority!r} was never signed")

    def _end(self, crl: CrlRow) -> CrlRow:
        current = self._first(_C.id == crl.id)
        if current is not None and current.state not in ("reserved", crl.state):
            raise UsageError(f"CRL {crl.number} of {crl.authority!r} is {current.state} already")
        return self._save(crl, f"there is no CRL {crl.number} of {crl.authority!r}")
