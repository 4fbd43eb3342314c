"""What all tables share: the metadata, column types, canonical JSON, the clock, and a repository.

A noun is one module: a frozen dataclass for a row, its table, and a repository with the verbs.
Times are RFC 3339 UTC text with whole seconds, so that comparing text compares times.

The tables here are for queries; the migrations make them, and add what only the database needs to
know (partial indices, triggers): naming a dialect here would load it, 30 ms for PostgreSQL's.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    TypeDecorator,
    and_,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Dialect

from tpmhsm.errors import NotFoundError
from tpmhsm.store.failures import translate

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives out row ids only to a column that is exactly INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: object) -> str:
    """Canonical JSON: sorted keys, no blanks, UTF-8 as it is, no NaN."""
    return _JSON.encode(value)


def now() -> str:
    """The present as RFC 3339 UTC, whole seconds: `2026-07-01T12:00:00Z`."""
    return _stamp(int(time.time()))


@lru_cache(4)  # several times in each transaction
def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class CanonicalJson(TypeDecorator[Any]):
    """A column whose values are JSON; the text in the database is canonical."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write: any JSON-ready value to its text; None is SQL NULL."""
        return None if value is None else canonical(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Read: the text back to the value."""
        return None if value is None else json.loads(value)


def identity() -> Column[int]:
    """The column `id`: increasing integers that the database gives out."""
    return Column("id", RowId, primary_key=True, autoincrement=True)


def to_json(row: Any) -> dict[str, Any]:
    """A row as a JSON-ready dictionary; bytes become base64 text."""
    return {name: _plain(value) for name, value in asdict(row).items()}


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class Compiled:
    """A statement whose SQL is worked out once for each kind of database and given to its driver:
    what SQLAlchemy does for each execution takes longer than the database does.

    `names` are the columns that an insertion fills.
    """

    def __init__(self, statement: Any, names: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._names = names
        self._made: dict[str, tuple[str, tuple[str, ...]]] = {}

    def run(
        self, connection: Connection, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Any:
        """Run it with these values, the driver's own, or once with each of several.

        Returns the driver's cursor (PEP 249). Raises as every statement does.
        """
        made = self._made.get(connection.dialect.name)
        if made is None:
            compiled: Any = self._statement.compile(
                dialect=connection.dialect, column_keys=self._names
            )
            made = str(compiled), tuple(compiled.positiontup or ())
            self._made[connection.dialect.name] = made
        text, places = made
        if isinstance(values, Mapping):
            return run_plainly(connection, text, [values[p] for p in places] if places else values)
        rows = [[v[p] for p in places] for v in values] if places else values
        return run_plainly(connection, text, rows, many=True)


def run_plainly(connection: Connection, text: str, values: Any = (), *, many: bool = False) -> Any:
    """Give the driver a statement in its own SQL; the driver's cursor (PEP 249).

    Errors are those of `tpmhsm.store.failures`.
    """
    cursor = connection.connection.cursor()
    try:
        if many:
            cursor.executemany(text, values)
        else:
            cursor.execute(text, values)
    except Exception as error:
        if said := translate(error, connection.get_execution_options()["place"]):
            raise said from error
        raise
    return cursor


R = TypeVar("R")


class Repository(Generic[R]):
    """The rows of one table inside one transaction.

    By convention `find…` returns None and `get…` raises NotFoundError when there is no such row;
    `add` returns the row as stored, with its id and time filled in.
    """

    table: ClassVar[Table]
    row: type[R]
    stamp: ClassVar[str] = ""
    """The column that `add` fills with the present when it is empty."""
    _query: ClassVar[Select[Any]]

    def __init_subclass__(cls) -> None:
        # built once: what a row has, in the order of its fields
        cls._query = select(*(cls.table.c[one.name] for one in fields(cls.row)))  # type: ignore[arg-type]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _select(
        self, *where: ColumnElement[bool], order: Any = None, limit: int | None = None
    ) -> list[R]:
        statement = self._query.where(*where)
        if order is None:
            order = list(self.table.primary_key)
        statement = statement.order_by(*(order if isinstance(order, list | tuple) else [order]))
        if limit is not None:
            statement = statement.limit(limit)
        return [self.row(*found) for found in self._connection.execute(statement)]

    def _each(self, *where: ColumnElement[bool]) -> Iterator[R]:
        """All that fit, by id, a thousand at a time in memory."""
        statement = self._query.where(*where).order_by(*self.table.primary_key)
        options = {"yield_per": 1000}
        with self._connection.execute(statement, execution_options=options) as rows:
            for found in rows:
                yield self.row(*found)

    def _first(self, *where: ColumnElement[bool], order: Any = None) -> R | None:
        return next(iter(self._select(*where, order=order, limit=1)), None)

    def _insert(self, row: R) -> R:
        values = dict(vars(row))
        if self.stamp:
            values[self.stamp] = values[self.stamp] or now()
        if "id" in values and isinstance(self.table.c.id.type, BigInteger):
            del values["id"]
        changes = {self.stamp: values[self.stamp]} if self.stamp else {}
        result = self._connection.execute(insert(self.table).values(values))
        if "id" in self.table.c and "id" not in values:
            key = result.inserted_primary_key
            changes["id"] = key[0] if key else 0
        return replace(row, **changes)  # type: ignore[type-var]

    def _save(self, row: R, missing: str) -> R:
        keys = [c.name for c in self.table.primary_key]
        values = {f.name: getattr(row, f.name) for f in fields(row)}  # type: ignore[arg-type]
        where = and_(*(self.table.c[k] == values.pop(k) for k in keys))
        if self._change(where, **values) == 0:
            raise NotFoundError(missing)
        return row

    def _change(self, *where: ColumnElement[bool], **values: Any) -> int:
        result = self._connection.execute(update(self.table).where(*where).values(values))
        return result.rowcount


def one_or_missing(row: R | None, message: str, hint: str = "") -> R:
    """The row, or NotFoundError in words."""
    if row is None:
        raise NotFoundError(message, hint=hint)
    return row
