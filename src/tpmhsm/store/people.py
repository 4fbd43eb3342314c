"""People as the host knows them (approvers), and cards that an approver's machine trusts."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Column, LargeBinary, Table, Text, delete

from tpmhsm.errors import ExistsError, NotFoundError
from tpmhsm.store.schema import Repository, identity, metadata, one_or_missing


@dataclass(frozen=True)
class ApproverRow:
    """An approver: the card as it came, its SubjectPublicKeyInfo (DER), the TPM Name of the key."""

    name: str
    card: bytes
    spki: bytes
    key_name: str
    kind: str = ""
    added: str = ""
    id: int = 0


approvers = Table(
    "approvers",
    metadata,
    identity(),
    Column("name", Text, nullable=False, unique=True),
    Column("card", LargeBinary, nullable=False),
    Column("spki", LargeBinary, nullable=False),
    Column("key_name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("added", Text, nullable=False),
)


class Approvers(Repository[ApproverRow]):
    """Approvers on the host. A name stands for one key and a key for one name."""

    table = approvers
    row = ApproverRow
    stamp = "added"

    def add(self, approver: ApproverRow) -> ApproverRow:
        """Keep an approver. The same card again is no error; a taken name or key is ExistsError."""
        present = self.find(approver.name)
        if present is not None and present.card == approver.card:
            return present
        if present is not None:
            raise ExistsError(f"an approver named {approver.name!r} exists with another card")
        twin = self._first(approvers.c.key_name == approver.key_name)
        if twin is not None:
            raise ExistsError(f"the key of {approver.name!r} is already that of {twin.name!r}")
        return self._insert(approver)

    def find(self, name: str) -> ApproverRow | None:
        """The approver of this name."""
        return self._first(approvers.c.name == name)

    def get(self, name: str) -> ApproverRow:
        """The approver of this name. Raises NotFoundError."""
        return one_or_missing(
            self.find(name),
            f"there is no approver named {name!r}",
            f"tpmhsm approver add {name}.card",
        )

    def all(self) -> list[ApproverRow]:
        """All approvers by name."""
        return self._select(order=approvers.c.name)

    def remove(self, name: str) -> None:
        """Forget an approver (groups keep their documents). Raises NotFoundError."""
        self.get(name)
        self._connection.execute(delete(approvers).where(approvers.c.name == name))


@dataclass(frozen=True)
class TrustedCardRow:
    """A card somebody vouched for on this machine. `kind` is approver or device."""

    kind: str
    name: str
    card: bytes
    digest: str = ""
    added: str = ""
    id: int = 0


trusted_cards = Table(
    "trusted_cards",
    metadata,
    identity(),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("card", LargeBinary, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("added", Text, nullable=False),
)


class TrustedCards(Repository[TrustedCardRow]):
    """Cards by SHA-256 of their bytes. Two cards may carry one name (a renewed key)."""

    table = trusted_cards
    row = TrustedCardRow
    stamp = "added"

    def add(self, kind: str, name: str, card: bytes) -> TrustedCardRow:
        """Trust a card; the same bytes again are no error."""
        digest = sha256(card).hexdigest()
        known = self.find(digest)
        return known or self._insert(TrustedCardRow(kind, name, card, digest))

    def find(self, digest: str) -> TrustedCardRow | None:
        """The card whose bytes hash to this (hexadecimal)."""
        return self._first(trusted_cards.c.digest == digest)

    def all(self, kind: str | None = None) -> list[TrustedCardRow]:
        """All cards, or those of one kind, by name."""
        where = [] if kind is None else [trusted_cards.c.kind == kind]
        return self._select(*where, order=(trusted_cards.c.name, trusted_cards.c.id))

    def change_kind(self, old: str, new: str) -> None:
        """Make all cards of one kind cards of another."""
        self._change(trusted_cards.c.kind == old, kind=new)

    def remove(self, reference: str) -> list[TrustedCardRow]:
        """Stop trusting the cards of a name, or of a digest (8 digits or more suffice).

        Returns what was removed. Raises NotFoundError when nothing fits.
        """
        by_name = self._select(trusted_cards.c.name == reference)
        found = by_name or (
            self._select(trusted_cards.c.digest.startswith(reference.lower(), autoescape=True))
            if len(reference) >= 8
            else []
        )
        if not found:
            raise NotFoundError(f"no trusted card is {reference!r}", hint="tpmhsm trust list")
        ids = [card.id for card in found]
        self._connection.execute(delete(trusted_cards).where(trusted_cards.c.id.in_(ids)))
        return found
