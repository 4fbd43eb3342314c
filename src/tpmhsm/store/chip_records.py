"""What the chip audits, command by command, in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, func, insert, select
from sqlalchemy.engine import Connection

from tpmhsm.store.schema import Compiled, metadata


@dataclass(frozen=True)
class ChipRecordRow:
    """One command: its number from 1, the Name of the key that signed and what it signed (both
    hexadecimal, empty for other commands), and the record of the journal, whole.
    """

    key_name: str
    digest: str
    record: bytes
    n: int = 0


chip_records = Table(
    "chip_records",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("key_name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

_INSERT = Compiled(insert(chip_records))
_STREAM = {"yield_per": 1000}


class ChipRecords:
    """Append and read; the database refuses to change or remove one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last(self) -> int:
        """The number of the last one, 0 if there is none."""
        return int(self._connection.execute(select(func.max(chip_records.c.n))).scalar() or 0)

    def append(self, rows: Sequence[ChipRecordRow]) -> int:
        """Add several in their order; returns the number of the first."""
        first = self.last() + 1
        if rows:
            _INSERT.run(
                self._connection, [{**vars(row), "n": n} for n, row in enumerate(rows, first)]
            )
        return first

    def each(self, *, after: int = 0, key_name: str | None = None) -> Iterator[ChipRecordRow]:
        """Those after a number, in order; few of them in memory at a time."""
        c = chip_records.c
        statement = select(c.key_name, c.digest, c.record, c.n).where(c.n > after).order_by(c.n)
        if key_name is not None:
            statement = statement.where(c.key_name == key_name)
        with self._connection.execute(statement, execution_options=_STREAM) as rows:
            for row in rows:
                yield ChipRecordRow(*row)

    def latest(self, most: int) -> list[ChipRecordRow]:
        """The last so many, newest first."""
        c = chip_records.c
        statement = select(c.key_name, c.digest, c.record, c.n).order_by(c.n.desc()).limit(most)
        return [ChipRecordRow(*row) for row in self._connection.execute(statement)]
