"""Public keys that are certified never again, because their private half is in other hands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Table, Text, bindparam, select

from tpmhsm.store.authorities import authorities
from tpmhsm.store.certificates import certificates
from tpmhsm.store.keys import keys
from tpmhsm.store.revocations import LISTED, revocations
from tpmhsm.store.schema import Compiled, Repository, metadata

_TOGETHER = 16
_LOOKED_AT = 50
"""So many certificates of one key are looked at, the newest: a key seldom has more than two."""


@dataclass(frozen=True)
class BarredKeyRow:
    """One key by the SHA-256 of its DER SubjectPublicKeyInfo, hexadecimal, and why in words."""

    spki_sha256: str
    why: str
    since: str = ""


@dataclass(frozen=True)
class KeyUse:
    """A certificate of a key: `revoked` is the reason in RFC 5280's word, empty for none."""

    subject: str
    issuer: str
    serial: str
    names: frozenset[str]
    is_ca: bool
    revoked: str


barred_keys = Table(
    "barred_keys",
    metadata,
    Column("spki_sha256", Text, primary_key=True),
    Column("why", Text, nullable=False),
    Column("since", Text, nullable=False),
)


class BarredKeys(Repository[BarredKeyRow]):
    """Keys known to be compromised, and what else is known of a key."""

    table = barred_keys
    row = BarredKeyRow
    stamp = "since"

    def bar(self, spki_sha256: str, why: str) -> None:
        """Certify this key never again; again is no error."""
        if not self.among([spki_sha256]):
            self._insert(BarredKeyRow(spki_sha256, why))

    def all(self) -> list[BarredKeyRow]:
        """All of them."""
        return self._select()

    def among(self, digests: Iterable[str]) -> dict[str, str]:
        """Why some of these keys are barred, by digest."""
        wanted = list(digests)
        if not wanted:
            return {}
        room = -len(wanted) % _TOGETHER  # few statements differ, and each is prepared once
        values = {f"key{n}": one for n, one in enumerate(wanted + wanted[:1] * room)}
        return dict(_among(len(values)).run(self._connection, values).fetchall())

    def of_cas(self) -> dict[str, str]:
        """The keys of all CA certificates kept here: subject by digest of the key."""
        c = certificates.c
        query = select(c.spki_sha256, c.subject).where(c.is_ca.is_(True), c.deleted == "")
        return {row[0]: row[1] for row in self._connection.execute(query)}

    def authorities_of(self, spki_sha256: str) -> list[str]:
        """The names of the authorities here that have this key."""
        found = self._connection.execute(_AUTHORITIES, {"key": spki_sha256})
        return [row[0] for row in found]

    def uses(self, spki_sha256: str) -> list[KeyUse]:
        """What is certified for a key, newest first; of very many certificates the newest alone."""
        return [
            KeyUse(
                row.subject,
                row.issuer,
                row.serial,
                frozenset(filter(None, row.names.split("\n"))),
                row.is_ca,
                row.reason or "",
            )
            for row in self._connection.execute(_USES, {"key": spki_sha256})
        ]


def _uses() -> Any:
    c, r = certificates.c, revocations.c
    newest = (
        select(c.id, c.subject, c.issuer, c.serial, c.names, c.is_ca, c.authority)
        .where(c.spki_sha256 == bindparam("key"), c.deleted == "")
        .order_by(c.id.desc())
        .limit(_LOOKED_AT)
        .subquery()
    ).c
    same = (r.authority == newest.authority) & (r.serial == newest.serial)
    query = select(*newest, r.reason).outerjoin(revocations, same & r.state.in_(LISTED))
    return query.order_by(newest.id.desc())


@lru_cache(64)
def _among(many: int) -> Compiled:
    wanted: list[Any] = [bindparam(f"key{n}", type_=Text()) for n in range(many)]
    query = select(barred_keys.c.spki_sha256, barred_keys.c.why)
    return Compiled(query.where(barred_keys.c.spki_sha256.in_(wanted)))


# Built once: building them takes longer than the database does.
_USES = _uses()
_AUTHORITIES = (
    select(authorities.c.name)
    .join(keys, keys.c.label == authorities.c.key_label)
    .where(keys.c.spki_sha256 == bindparam("key"))
    .order_by(authorities.c.name)
)
