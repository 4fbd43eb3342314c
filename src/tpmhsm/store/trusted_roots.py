"""Certificates that `cert verify` takes for roots because somebody here said so."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Table, Text

from tpmhsm.store.schema import Repository, metadata


@dataclass(frozen=True)
class TrustedRootRow:
    """A certificate, by the SHA-256 of its DER in hexadecimal, and since when it is trusted."""

    sha256: str
    since: str = ""


trusted_roots = Table(
    "trusted_roots",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("since", Text, nullable=False),
)


class TrustedRoots(Repository[TrustedRootRow]):
    """Trust in certificates; to import one is not to trust it."""

    table = trusted_roots
    row = TrustedRootRow
    stamp = "since"

    def all(self) -> list[TrustedRootRow]:
        """All that are trusted."""
        return self._select()

    def add(self, sha256: str) -> bool:
        """Trust a certificate; False when it was trusted before."""
        if self._first(trusted_roots.c.sha256 == sha256) is not None:
            return False
        self._insert(TrustedRootRow(sha256))
        return True

    def remove(self, sha256: str) -> bool:
        """Trust it no more; False when it was not trusted."""
        done = self._connection.execute(
            trusted_roots.delete().where(trusted_roots.c.sha256 == sha256)
        )
        return done.rowcount > 0
