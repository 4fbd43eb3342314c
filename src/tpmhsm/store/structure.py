"""What a database is made of, as PostgreSQL and SQLite both tell it; rows that refer to none."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.engine.reflection import Inspector

POSTGRESQL_TRIGGERS = frozenset({"trigger audit_append_only", "trigger chip_records_append_only"})
"""What the migrations make for PostgreSQL alone: the log's guards."""


def structure(connection: Connection) -> set[str]:
    """Tables, columns, keys, foreign keys, indices and what is unique, a line each."""
    found = inspect(connection)
    return {line for table in found.get_table_names() for line in _of_table(found, table)}


def _of_table(found: Inspector, table: str) -> Iterator[str]:
    yield f"table {table}"
    for column in found.get_columns(table):
        yield f"column {table}.{column['name']}{'' if column['nullable'] else ', not null'}"
    if key := found.get_pk_constraint(table)["constrained_columns"]:
        yield f"primary key {table} ({', '.join(key)})"
    for one in found.get_foreign_keys(table):
        yield f"foreign key {table} ({_columns(one)}) to {one['referred_table']}"
    for unique in found.get_unique_constraints(table):
        yield f"unique {table} ({', '.join(unique['column_names'])})"
    for index in found.get_indexes(table):
        if "duplicates_constraint" not in index:
            yield f"index {index['name']}{', unique' if index['unique'] else ''}"


def _columns(key: object) -> str:
    return ", ".join(key["constrained_columns"])  # type: ignore[index]


def guards(connection: Connection) -> set[str]:
    """PostgreSQL's triggers, and which of them, and of the constraints, are not in force."""
    triggers = connection.exec_driver_sql(
        "SELECT tgname, tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace"
    )
    found = {f"trigger {name}{'' if on == 'O' else ', switched off'}" for name, on in triggers}
    internal = connection.exec_driver_sql(
        "SELECT DISTINCT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE tgisinternal AND tgenabled <> 'O'"
        " AND relnamespace = current_schema()::regnamespace"
    )
    found |= {f"foreign keys of {row[0]}, switched off" for row in internal}
    weak = connection.exec_driver_sql(
        "SELECT conname FROM pg_constraint WHERE NOT convalidated"
        " AND connamespace = current_schema()::regnamespace"
    )
    return found | {f"constraint {row[0]}, never checked" for row in weak}


def stray_rows(connection: Connection, most: int) -> list[str]:
    """Rows that refer to no row, in words; of each foreign key at most so many."""
    found, said = inspect(connection), []
    quote = connection.dialect.identifier_preparer.quote
    for table in found.get_table_names():
        for key in found.get_foreign_keys(table):
            pairs = list(zip(key["constrained_columns"], key["referred_columns"], strict=True))
            same = " AND ".join(f"r.{quote(there)} = c.{quote(here)}" for here, there in pairs)
            given = " AND ".join(f"c.{quote(here)} IS NOT NULL" for here, _ in pairs)
            query = (
                f"SELECT c.{quote(pairs[0][0])} FROM {quote(table)} c WHERE {given} AND NOT EXISTS"  # noqa: S608
                f" (SELECT 1 FROM {quote(key['referred_table'])} r WHERE {same}) LIMIT {most}"
            )
            said += [
                f"{pairs[0][0]} {row[0]} of {table} refers to no row of {key['referred_table']}"
                for row in connection.exec_driver_sql(query)
            ]
    return said
