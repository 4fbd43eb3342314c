"""Groups and their rosters: documents as bytes, where they stand in the chip, their state."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from tpmhsm.errors import ExistsError
from tpmhsm.store.schema import Repository, identity, metadata, one_or_missing


@dataclass(frozen=True)
class GroupRow:
    """A group. `id` is hexadecimal; `document` the founding document; the indices are handles.

    State: founding (waiting for its custodians), active, failed (its name is free again).
    """

    id: str
    name: str
    document: bytes
    counter_index: int
    roster_index: int
    state: str = "founding"
    fingerprint: str = ""
    created: str = ""


groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("counter_index", BigInteger, nullable=False),
    Column("roster_index", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created", Text, nullable=False),
)


class Groups(Repository[GroupRow]):
    """Groups on this host."""

    table = groups
    row = GroupRow
    stamp = "created"

    def add(self, group: GroupRow) -> GroupRow:
        """Keep a group. Raises ExistsError when the name or id is taken."""
        if self.find(group.name) is not None or self.find_by_id(group.id) is not None:
            raise ExistsError(
                f"a group named {group.name!r} exists already",
                hint="tpmhsm group list shows all groups",
            )
        return self._insert(group)

    def find(self, name: str) -> GroupRow | None:
        """The group of this name that has not failed."""
        return self._first(groups.c.name == name, groups.c.state != "failed")

    def get(self, name: str) -> GroupRow:
        """The group of this name that has not failed. Raises NotFoundError."""
        return one_or_missing(
            self.find(name),
            f"there is no group named {name!r}",
            "tpmhsm group list shows all groups",
        )

    def find_by_id(self, group_id: str) -> GroupRow | None:
        """The group of this id, whatever its state."""
        return self._first(groups.c.id == group_id)

    def get_by_id(self, group_id: str) -> GroupRow:
        """The group of this id, whatever its state. Raises NotFoundError."""
        return one_or_missing(self.find_by_id(group_id), f"there is no group with id {group_id}")

    def all(self, *, failed: bool = False) -> list[GroupRow]:
        """Groups by name; with `failed` those that failed too."""
        where = [] if failed else [groups.c.state != "failed"]
        return self._select(*where, order=(groups.c.name, groups.c.created))

    def save(self, group: GroupRow) -> GroupRow:
        """Write a changed row back (`dataclasses.replace`). Raises NotFoundError."""
        return self._save(group, f"there is no group with id {group.id}")


@dataclass(frozen=True)
class RosterRow:
    """A roster document of a group. State: proposed, in-force, past. `digest` is its SHA-256."""

    group_id: str
    epoch: int
    document: bytes
    digest: str
    state: str = "proposed"
    created: str = ""
    id: int = 0


rosters = Table(
    "rosters",
    metadata,
    identity(),
    Column("group_id", Text, ForeignKey("groups.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created", Text, nullable=False),
    UniqueConstraint("group_id", "epoch", "digest"),
)


class Rosters(Repository[RosterRow]):
    """Rosters; at most one of a group is in force."""

    table = rosters
    row = RosterRow
    stamp = "created"

    def add(self, roster: RosterRow) -> RosterRow:
        """Keep a roster; the very same one again is no error."""
        return self.find(roster.group_id, roster.epoch, roster.digest) or self._insert(roster)

    def find(self, group_id: str, epoch: int, digest: str) -> RosterRow | None:
        """The roster of this group, epoch and digest."""
        return self._first(
            rosters.c.group_id == group_id, rosters.c.epoch == epoch, rosters.c.digest == digest
        )

    def in_force(self, group_id: str) -> RosterRow | None:
        """The roster in force, or None while the group is being founded."""
        return self._first(rosters.c.group_id == group_id, rosters.c.state == "in-force")

    def all(self, group_id: str) -> list[RosterRow]:
        """All rosters of a group, oldest epoch first."""
        return self._select(rosters.c.group_id == group_id, order=(rosters.c.epoch, rosters.c.id))

    def put_in_force(self, group_id: str, epoch: int, digest: str) -> RosterRow:
        """Make this roster the one in force; every other one of this or a lower epoch is past.

        Raises NotFoundError when the roster is not kept here.
        """
        roster = one_or_missing(
            self.find(group_id, epoch, digest), f"there is no such roster of epoch {epoch}"
        )
        self._change(
            rosters.c.group_id == group_id,
            rosters.c.id != roster.id,
            (rosters.c.state == "in-force") | (rosters.c.epoch <= epoch),
            state="past",
        )
        self._change(rosters.c.id == roster.id, state="in-force")
        return replace(roster, state="in-force")
