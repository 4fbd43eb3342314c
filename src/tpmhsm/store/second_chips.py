"""The further chips of a group, as they answered challenges of this home."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text

from tpmhsm.store.schema import Repository, metadata, now


@dataclass(frozen=True)
class SecondChipRow:
    """A chip, by its attestation key: the device's card, the Name of the storage key under which it
    takes copies, the group's counter there, what kind of chip this home's pinned roots made it.
    Ids and Names are hexadecimal.
    """

    group_id: str
    ak_name: str
    card: bytes
    parent_name: str
    counter: int
    kind: str
    checked: str = ""


second_chips = Table(
    "second_chips",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("ak_name", Text, primary_key=True),
    Column("card", LargeBinary, nullable=False),
    Column("parent_name", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("checked", Text, nullable=False),
)


class SecondChips(Repository[SecondChipRow]):
    """One row a group and chip; the newest answer counts."""

    table = second_chips
    row = SecondChipRow
    stamp = "checked"

    def of_group(self, group_id: str) -> list[SecondChipRow]:
        """All of a group, in the order of their attestation keys."""
        c = second_chips.c
        return self._select(c.group_id == group_id, order=c.ak_name)

    def remember(self, row: SecondChipRow) -> None:
        """Remember an answer instead of the one before."""
        c = second_chips.c
        same = (c.group_id == row.group_id, c.ak_name == row.ak_name)
        if self._first(*same) is None:
            self._insert(row)
        else:
            facts = {"parent_name": row.parent_name, "counter": row.counter, "kind": row.kind}
            self._change(*same, card=row.card, checked=now(), **facts)
