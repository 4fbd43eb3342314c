"""Certificates: issued here, imported, or met on the way; tied to keys by their public key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Boolean, Column, LargeBinary, Table, Text

from tpmhsm.errors import NotFoundError, UsageError
from tpmhsm.store.schema import Repository, identity, metadata, now


@dataclass(frozen=True)
class CertificateRow:
    """A certificate. Digests, identifiers and the serial are hexadecimal, names RFC 4514 text.

    `authority` is the name of the authority that issued it here; `source` is issued, imported
    or external (issued elsewhere for a key of ours); `name` is what people call it, if anything.
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
    Column("issuer", Text, nullable=False, index=True),
    Column("serial", Text, nullable=False, index=True),
    Column("not_before", Text, nullable=False),
    Column("not_after", Text, nullable=False),
    Column("spki_sha256", Text, nullable=False, index=True),
    Column("ski", Text, nullable=False, index=True),
    Column("aki", Text, nullable=False),
    Column("is_ca", Boolean, nullable=False),
    Column("authority", Text, index=True),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("added", Text, nullable=False),
    Column("deleted", Text, nullable=False),
)
_PRESENT = certificates.c.deleted == ""


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
            return self._insert(certificate)
        if not known.deleted:
            return known
        return self._save(replace(known, deleted="", added=now()), "the certificate vanished")

    def add_all(self, rows: Sequence[CertificateRow]) -> None:
        """Keep certificates that were never kept before. Raises ExistsError if one was."""
        self._insert_all(rows)

    def find(self, sha256: str) -> CertificateRow | None:
        """The certificate whose DER hashes to this."""
        return self._first(certificates.c.sha256 == sha256, _PRESENT)

    def find_all(self, reference: str) -> list[CertificateRow]:
        """What a person may mean: a name, subject, serial, SHA-256 (8 digits or more), or id.

        The first of these meanings that fits anything decides.
        """
        digits = re.sub(r"[:\s]", "", reference).lower()
        c = certificates.c
        tries = [c.name == reference, c.subject == reference, c.subject == f"CN={reference}"]
        if re.fullmatch("[0-9a-f]+", digits):
            tries.append(c.serial.in_((digits, digits.lstrip("0") or "0")))
            if len(digits) >= 8:
                tries.append(c.sha256.startswith(digits))
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

    def save(self, certificate: CertificateRow) -> CertificateRow:
        """Write a changed row back (`dataclasses.replace`). Raises NotFoundError."""
        return self._save(certificate, f"there is no certificate {certificate.sha256}")

    def delete(self, sha256: str) -> CertificateRow:
        """Take a certificate off the lists; its record stays. Raises NotFoundError."""
        present = self.find(sha256)
        if present is None:
            raise NotFoundError(f"there is no certificate {sha256}")
        return self.save(replace(present, deleted=now()))
