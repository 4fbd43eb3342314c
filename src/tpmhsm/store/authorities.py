"""Authorities (CAs of this host), and the serial numbers they have reserved.

A serial is written, with the bytes to be signed, before the chip signs: after a power failure
the database knows every certificate that may exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    exists,
    func,
    insert,
    select,
)

from tpmhsm.errors import ExistsError, UsageError
from tpmhsm.store.schema import (
    CanonicalJson,
    Compiled,
    Repository,
    canonical,
    identity,
    metadata,
    now,
    one_or_missing,
)


@dataclass(frozen=True)
class AuthorityRow:
    """An authority. `certificate` is a SHA-256, None while it waits for approvals or another CA.

    `issuer` is the name of the authority above it here, None for a root or an outside issuer.
    State: pending, active.
    """

    name: str
    key_label: str
    profile: str
    subject: str
    issuer: str | None = None
    certificate: str | None = None
    state: str = "pending"
    settings: Any = None
    created: str = ""
    id: int = 0


authorities = Table(
    "authorities",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    Column("key_label", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("issuer", Text, ForeignKey("authorities.name")),
    Column("certificate", Text, ForeignKey("certificates.sha256")),
    Column("state", Text, nullable=False),
    Column("settings", CanonicalJson),
    Column("created", Text, nullable=False),
)


class Authorities(Repository[AuthorityRow]):
    """Authorities by name."""

    table = authorities
    row = AuthorityRow
    stamp = "created"

    def add(self, authority: AuthorityRow) -> AuthorityRow:
        """Keep an authority. Raises ExistsError when the name is taken."""
        if self.find(authority.name) is not None:
            raise ExistsError(
                f"an authority named {authority.name!r} exists already",
                hint="tpmhsm ca list shows all authorities",
            )
        return self._insert(authority)

    def find(self, name: str) -> AuthorityRow | None:
        """The authority of this name."""
        return self._first(authorities.c.name == name)

    def get(self, name: str) -> AuthorityRow:
        """The authority of this name. Raises NotFoundError."""
        return one_or_missing(
            self.find(name),
            f"there is no authority named {name!r}",
            "tpmhsm ca list shows all authorities",
        )

    def all(self) -> list[AuthorityRow]:
        """All authorities by name."""
        return self._select(order=authorities.c.name)

    def save(self, authority: AuthorityRow) -> AuthorityRow:
        """Write a changed row back (`dataclasses.replace`). Raises NotFoundError."""
        return self._save(authority, f"there is no authority named {authority.name!r}")

    def activate(self, name: str, certificate: str) -> AuthorityRow:
        """Give an authority its certificate (SHA-256, already kept). Raises NotFoundError."""
        return self.save(replace(self.get(name), certificate=certificate, state="active"))

    def remove_pending(self, name: str) -> None:
        """Forget an authority that never got its certificate; its name is free again.

        Raises NotFoundError; UsageError when it is active.
        """
        authority = self.get(name)
        if authority.state != "pending":
            raise UsageError(f"the authority {name!r} is active and cannot be forgotten")
        self._connection.execute(authorities.delete().where(authorities.c.name == name))


@dataclass(frozen=True)
class SerialRow:
    """A serial number (hexadecimal) of one authority and the TBSCertificate it stands in.

    `prepared` is the issuance as it was checked, to go on with after days or a power failure.
    State: reserved (the chip may have signed), issued, abandoned (nobody will ask the chip).
    """

    authority: str
    serial: str
    tbs: bytes
    tbs_sha256: str
    request_id: int | None = None
    prepared: Any = None
    state: str = "reserved"
    reserved_at: str = ""
    id: int = 0


serials = Table(
    "serials",
    metadata,
    identity(),
    Column("authority", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("tbs", LargeBinary, nullable=False),
    Column("tbs_sha256", Text, nullable=False),
    Column("request_id", BigInteger, ForeignKey("requests.id"), index=True),
    Column("prepared", CanonicalJson),
    Column("state", Text, nullable=False, index=True),
    Column("reserved_at", Text, nullable=False),
    UniqueConstraint("authority", "serial"),
)


_RESERVE = Compiled(insert(serials), [c.name for c in serials.c if c.name != "id"])
_END = Compiled(
    serials.update()
    .where(serials.c.authority == bindparam("whose"))
    .where(serials.c.serial == bindparam("number"))
    .where(serials.c.state == bindparam("before"))
    .values(state=bindparam("after"))
)


class Serials(Repository[SerialRow]):
    """Serials, each used once for ever: abandoned ones are not given out again."""

    table = serials
    row = SerialRow
    stamp = "reserved_at"

    def reserve(
        self,
        authority: str,
        serial: str,
        tbs: bytes,
        request_id: int | None = None,
        prepared: Any = None,
    ) -> SerialRow:
        """Write serial and TBS ahead of the signature. Raises ExistsError when it is used."""
        if self.find(authority, serial) is not None:
            raise ExistsError(f"serial {serial} of {authority!r} has been used")
        digest = sha256(tbs).hexdigest()
        return self._insert(SerialRow(authority, serial, tbs, digest, request_id, prepared))

    def reserve_all(self, rows: Sequence[SerialRow]) -> None:
        """Write many ahead in one statement. Raises ExistsError when one of them is used."""
        present = now()
        values = [
            vars(row)
            | {"tbs_sha256": sha256(row.tbs).hexdigest(), "reserved_at": row.reserved_at or present}
            | {"prepared": None if row.prepared is None else canonical(row.prepared)}
            for row in rows
        ]
        if values:
            _RESERVE.run(self._connection, values)

    def issue_all(self, pairs: Sequence[tuple[str, str]]) -> int:
        """The certificates of (authority, serial) are kept; how many of them were reserved."""
        values = [
            {"whose": authority, "number": serial, "before": "reserved", "after": "issued"}
            for authority, serial in pairs
        ]
        return _END.run(self._connection, values).rowcount if values else 0

    def lost(self) -> list[tuple[str, str]]:
        """(authority, serial) of certificates that were issued and have no record."""
        from tpmhsm.store.certificates import certificates

        same = (
            certificates.c.serial == serials.c.serial,
            certificates.c.authority == serials.c.authority,
        )
        found = self._connection.execute(
            select(serials.c.authority, serials.c.serial)
            .where(serials.c.state == "issued", ~exists().where(*same))
            .order_by(serials.c.id)
        )
        return [(row.authority, row.serial) for row in found]

    def count(self) -> int:
        """How many serials were ever reserved."""
        return self._connection.execute(select(func.count()).select_from(serials)).scalar_one()

    def stale(self, authority: str, before: str) -> list[str]:
        """Serials that no request stands for, reserved before a moment (RFC 3339)."""
        found = self._connection.execute(
            select(serials.c.serial)
            .where(serials.c.state == "reserved", serials.c.authority == authority)
            .where(serials.c.request_id.is_(None), serials.c.reserved_at < before)
        )
        return [row.serial for row in found]

    def awaited(self, authority: str) -> list[tuple[int, bytes]]:
        """What people have yet to approve: request and TBSCertificate, newest first."""
        found = self._connection.execute(
            select(serials.c.request_id, serials.c.tbs)
            .where(serials.c.state == "reserved", serials.c.authority == authority)
            .where(serials.c.request_id.is_not(None))
            .order_by(serials.c.id.desc())
        )
        return [(row.request_id, row.tbs) for row in found]

    def find(self, authority: str, serial: str) -> SerialRow | None:
        """The record of a serial."""
        return self._first(serials.c.authority == authority, serials.c.serial == serial)

    def get(self, authority: str, serial: str) -> SerialRow:
        """The record of a serial. Raises NotFoundError."""
        missing = f"serial {serial} of {authority!r} was never reserved"
        return one_or_missing(self.find(authority, serial), missing)

    def of_request(self, request_id: int) -> SerialRow:
        """The record that a request stands for. Raises NotFoundError."""
        return one_or_missing(
            self._first(serials.c.request_id == request_id),
            f"no serial was reserved for request {request_id}",
        )

    def of_requests(self, first: int, last: int) -> dict[int, SerialRow]:
        """The records that requests between two ids (both included) stand for, by request."""
        rows = self._select(serials.c.request_id.between(first, last))
        return {row.request_id: row for row in rows if row.request_id is not None}

    def all(self, *, authority: str | None = None, state: str | None = None) -> list[SerialRow]:
        """Records in the order of reservation."""
        where = []
        if authority is not None:
            where.append(serials.c.authority == authority)
        if state is not None:
            where.append(serials.c.state == state)
        return self._select(*where)

    def issued(self, authority: str, serial: str) -> SerialRow:
        """The certificate exists and is kept. Raises NotFoundError; UsageError if abandoned."""
        return self._end(authority, serial, "issued")

    def abandoned(self, authority: str, serial: str) -> SerialRow:
        """The request was denied, expired or cancelled. As `issued`."""
        return self._end(authority, serial, "abandoned")

    def _end(self, authority: str, serial: str, state: str) -> SerialRow:
        record = self.get(authority, serial)
        if record.state == state:
            return record
        if record.state != "reserved":
            raise UsageError(f"serial {serial} of {authority!r} is {record.state} already")
        return self._save(replace(record, state=state), f"serial {serial} vanished")
