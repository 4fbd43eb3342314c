"""Which schema a database has. Reading it imports no Alembic: an ordinary start stays quick."""

from __future__ import annotations

from sqlalchemy.engine import Connection

HEAD = "0014"
"""The schema this program knows: the newest revision in `migrations/versions` (a test agrees).

Revisions are numbered with four digits, so that comparing text compares ages.
"""
TABLE = "tpmhsm_version"
"""Where the revision stands; not Alembic's usual table, which another program may own."""


def found_version(connection: Connection) -> str | None:
    """The database's revision, None when it has none."""
    if TABLE not in _tables(connection):
        return None
    row = connection.exec_driver_sql(f"SELECT version_num FROM {TABLE}").first()  # noqa: S608
    return None if row is None else str(row[0])


def is_ours_or_empty(connection: Connection) -> bool:
    """False for somebody else's SQLite database. A PostgreSQL database may be shared."""
    tables = _tables(connection)
    return connection.dialect.name != "sqlite" or not tables or TABLE in tables


def _tables(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        query = "SELECT relname FROM pg_class WHERE oid = to_regclass('tpmhsm_version')"
    return {row[0] for row in connection.exec_driver_sql(query)}
