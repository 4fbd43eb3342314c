"""Certificates: issued here, imported, or met on the way; tied to keys by their public key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
)

from tpmhsm.errors import NotFoundError, UsageError
from tpmhsm.store.schema import Compiled, Repository, identity, metadata, now


@dataclass(frozen=True)
class CertificateRow:
    """A certificate. Digests, identifiers and the serial are hexadecimal, names RFC 4514 text.

    `authority` is the name of the authority that issued it here; `source` is issued, imported
    or external (issued elsewhere for a key of ours); `name` is what people call it, if anything;
    `names` all that it is found by, in lower case, one a line.
    """

    sha256: str
    der: bytes
    subject: str
    issuer: str
    serial: str
    not_before: str
    not_after: str
    spki_sha256: str
    ski: str = ""
    aki: str = ""
    is_ca: bool = False
    authority: str | None = None
    source: str = "imported"
    name: str = ""
    names: str = ""
    added: str = ""
    deleted: str = ""
    id: int = 0


certificates = Table(
    "certificates",
    metadata,
    identity(),
    Column("sha256", Text, nullable=False, unique=True),
    Column("der", LargeBinary, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("issuer", Text, nullable=False),
    Column("serial", Text, nullable=False, index=True),
    Column("not_before", Text, nullable=False),
    Column("not_after", Text, nullable=False),
    Column("spki_sha256", Text, nullable=False, index=True),
    Column("ski", Text, nullable=False),
    Column("aki", Text, nullable=False),
    Column("is_ca", Boolean, nullable=False),
    Column("authority", Text, index=True),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("names", Text, nullable=False),
    Column("added", Text, nullable=False),
    Column("deleted", Text, nullable=False),
    Index("ix_certificates_is_ca_not_after_authority", "is_ca", "not_after", "authority"),
)
certificate_names = Table(
    "certificate_names",
    metadata,
    # from its end: so all names under a domain stand together
    Column("reversed", Text, primary_key=True),
    Column("certificate_id", BigInteger, ForeignKey("certificates.id"), primary_key=True),
)
_INSERT = Compiled(insert(certificates), [c.name for c in certificates.c if c.name != "id"])
_NAME = Compiled(
    insert(certificate_names).from_select(
        ["reversed", "certificate_id"],
        select(bindparam("name", type_=Text), certificates.c.id).where(
            certificates.c.sha256 == bindparam("whose")
        ),
    )
)
_NAMESAKES, _FEW = 1000, 20
_PRESENT = certificates.c.deleted == ""


@dataclass(frozen=True)
class Wanted:
    """What is looked for; what is empty limits nothing.

    `name`: a host, an address, a domain (all below it), a CN, compared in lower case. `serial` and
    `spki_sha256` are hexadecimal, `sha256` its first digits, `before` an id.
    """

    name: str = ""
    serial: str = ""
    sha256: str = ""
    spki_sha256: str = ""
    authority: str = ""
    before: int | None = None


@dataclass(frozen=True)
class Ends:
    """How many certificates are in force, how many end soon, when the next one does."""

    count: int
    soon: int
    first: str | None


def _begins(digits: str) -> ColumnElement[bool]:
    """By range, not by LIKE: that would read every row. All digits stand before `g`."""
    return and_(certificates.c.sha256 >= digits, certificates.c.sha256 < digits + "g")


def _under(name: str) -> ColumnElement[bool]:
    """This name, and whatever stands before it and a dot or an at sign."""
    end, r = name.lower()[::-1], certificate_names.c.reversed
    below = (and_(r >= end + mark, r < end + chr(ord(mark) + 1)) for mark in ".@")
    return _called(or_(r == end, *below))


def _called(which: ColumnElement[bool]) -> ColumnElement[bool]:
    return certificates.c.id.in_(select(certificate_names.c.certificate_id).where(which))


class Certificates(Repository[CertificateRow]):
    """Certificates by SHA-256 of their DER. Deleted ones keep their record and are not found."""

    table = certificates
    row = CertificateRow
    stamp = "added"

    def add(self, certificate: CertificateRow) -> CertificateRow:
        """Keep a certificate; the same bytes again are no error, and undo a deletion.

        What is known of it already (its authority, source and name) is kept.
        """
        known = self._first(certificates.c.sha256 == certificate.sha256)
        if known is None:
            kept = self._insert(certificate)
            self._name([kept])
            return kept
        if not known.deleted:
            return known
        return self._save(replace(known, deleted="", added=now()), "the certificate vanished")

    def add_all(self, rows: Sequence[CertificateRow]) -> None:
        """Keep certificates that were never kept before. Raises ExistsError if one was."""
        if rows:
            present = now()
            _INSERT.run(
                self._connection, [vars(row) | {"added": row.added or present} for row in rows]
            )
            self._name(rows)

    def _name(self, rows: Sequence[CertificateRow]) -> None:
        values = [
            {"name": name[::-1], "whose": row.sha256}
            for row in rows
            for name in dict.fromkeys(row.names.split("\n"))
            if name
        ]
        if values:
            _NAME.run(self._connection, values)

    def find(self, sha256: str) -> CertificateRow | None:
        """The certificate whose DER hashes to this."""
        return self._first(certificates.c.sha256 == sha256, _PRESENT)

    def find_all(self, reference: str) -> list[CertificateRow]:
        """What a person may mean: a name, subject, serial, SHA-256 (8 digits or more), or id.

        The first of these meanings that fits anything decides.
        """
        digits = re.sub(r"[:\s]", "", reference).lower()
        c = certificates.c
        tries: list[ColumnElement[bool]] = [
            c.name == reference,
            c.subject == reference,
            c.subject == f"CN={reference}",
            _called(certificate_names.c.reversed == reference.lower()[::-1]),
        ]
        if re.fullmatch("[0-9a-f]+", digits):
            tries.append(c.serial.in_((digits, digits.lstrip("0") or "0")))
            if len(digits) >= 8:
                tries.append(_begins(digits))
        if re.fullmatch("[0-9]{1,18}", reference):
            tries.append(c.id == int(reference))
        for where in tries:
            if reference and (found := self._select(where, _PRESENT)):
                return found
        return []

    def get(self, reference: str) -> CertificateRow:
        """The one certificate a person means. Raises NotFoundError, or UsageError if several."""
        found = self.find_all(reference)
        if not found:
            raise NotFoundError(
                f"there is no certificate {reference!r}", hint="tpmhsm cert list shows all"
            )
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} certificates are called {reference!r}",
                hint="name one by its SHA-256 (8 digits suffice)",
                code="ambiguous",
                details={"sha256": [certificate.sha256 for certificate in found]},
            )
        return found[0]

    def all(
        self, *, authority: str | None = None, spki_sha256: str | None = None
    ) -> list[CertificateRow]:
        """All certificates, or those an authority issued, or those of one public key; by id."""
        where = [_PRESENT]
        if authority is not None:
            where.append(certificates.c.authority == authority)
        if spki_sha256 is not None:
            where.append(certificates.c.spki_sha256 == spki_sha256)
        return self._select(*where)

    def was_kept(self, sha256: str) -> bool:
        """Whether there is a record, though the certificate may be deleted."""
        return self._first(certificates.c.sha256 == sha256) is not None

    def each(self) -> Iterator[CertificateRow]:
        """Every record, deleted ones too, by id; few of them in memory at a time."""
        return self._each()

    def of_serial(self, serial: str) -> list[CertificateRow]:
        """All certificates of a serial (hexadecimal, whole octets), whoever issued them."""
        return self._select(certificates.c.serial == serial, _PRESENT)

    def has_leaf(self, authority: str) -> bool:
        """Whether an authority issued any certificate that is none of a CA."""
        where = (certificates.c.authority == authority, certificates.c.is_ca.is_(False))
        return self._first(*where) is not None

    def page(self, wanted: Wanted, limit: int) -> list[CertificateRow]:
        """The newest that fit, at most `limit`, newest first."""
        c = certificates.c
        where = [_PRESENT]
        if wanted.before is not None:
            where.append(c.id < wanted.before)
        if wanted.name:
            where.append(_under(wanted.name))
        if wanted.serial:
            where.append(c.serial.in_((wanted.serial, wanted.serial.zfill(32))))
        if wanted.sha256:
            where.append(_begins(wanted.sha256))
        if wanted.spki_sha256:
            where.append(c.spki_sha256 == wanted.spki_sha256)
        if wanted.authority:
            where.append(c.authority == wanted.authority)
        return self._select(*where, order=c.id.desc(), limit=limit)

    def cas(self) -> list[CertificateRow]:
        """Certificates of CAs, by id: what chains are made of."""
        return self._select(certificates.c.is_ca.is_(True), _PRESENT)

    def issuers_of(self, issuer: str) -> list[CertificateRow]:
        """Certificates of CAs with this subject; of others, at most some, where there is none."""
        if not issuer:
            return []
        c = certificates.c
        named = (c.subject == issuer, _PRESENT)
        return self._select(*named, c.is_ca.is_(True), limit=_NAMESAKES) or self._select(
            *named, limit=_FEW
        )

    def ends(self, after: str, before: str) -> Ends:
        """Of what authorities here issued to others: how many end after a moment, how many of them
        before another, and when the first of them ends. Deleted ones count.
        """
        c = certificates.c
        issued = (c.is_ca.is_(False), c.authority.is_not(None), c.not_after > after)
        query = select(func.count(), func.min(c.not_after)).where(*issued)
        count, first = self._connection.execute(query).one()
        soon = select(func.count()).where(*issued, c.not_after < before)
        return Ends(count, self._connection.execute(soon).scalar_one(), first)

    def save(self, certificate: CertificateRow) -> CertificateRow:
        """Write a changed row back (`dataclasses.replace`). Raises NotFoundError."""
        return self._save(certificate, f"there is no certificate {certificate.sha256}")

    def delete(self, sha256: str) -> CertificateRow:
        """Take a certificate off the lists; its record stays. Raises NotFoundError."""
        present = self.find(sha256)
        if present is None:
            raise NotFoundError(f"there is no certificate {sha256}")
        return self.save(replace(present, deleted=now()))
