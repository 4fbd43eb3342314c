"""A database copied while others write to it, and a copy put in another's place.

A copy is an SQLite file, of whichever database it was made: so it can be put back into any.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, func, insert, inspect, select, text
from sqlalchemy.engine import Connection

from tpmhsm.errors import ExistsError, StoreError
from tpmhsm.store.engine import FILE_NAME, begin_writing, make_engine, place_of
from tpmhsm.store.failures import store_error, translate
from tpmhsm.store.schema import metadata
from tpmhsm.store.version import HEAD, TABLE, found_version

if TYPE_CHECKING:
    from sqlalchemy import Table

    from tpmhsm.store.database import Store

_ROWS = 1000
_WAIT = 5.0  # seconds, for others who have the database open that is to be replaced
_COUNTED = ("certificates", "keys", "groups", "authorities", "requests", "revocations", "audit")
_BESIDE = ("-wal", "-shm", "-journal")


def copy_database(store: Store, folder: Path) -> dict[str, Any]:
    """Copy one consistent state into a new SQLite file of a folder, on disk when this returns.

    Returns JSON-ready facts of that state: `kind`, `schema`, `entries` and `head` of the log, how
    many rows the tables have. Writers are not held up. Raises StoreError.
    """
    file = folder / FILE_NAME
    if store.kind == "sqlite":
        with store.snapshot() as connection:
            facts = _facts(connection, store.kind)
            _copy_pages(connection, file)
    else:
        from tpmhsm.store.database import Store

        Store.create(folder).close()
        with store.snapshot() as connection, _writing(folder) as target:
            facts = _facts(connection, store.kind)
            _copy_rows(connection, target)
    _settle(file)
    return facts


def _facts(connection: Connection, kind: str) -> dict[str, Any]:
    """The first reading of the transaction: what it sees from here on is one state."""
    tables = _tables()
    log = tables["audit"]
    last = select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)
    row = connection.execute(last).first()
    counts = {
        name: connection.execute(select(func.count()).select_from(tables[name])).scalar_one()
        for name in _COUNTED
    }
    return {
        "kind": kind,
        "schema": found_version(connection),
        "entries": row.seq if row else 0,
        "head": row.hash if row else "",
        "rows": counts,
    }


def _copy_pages(connection: Connection, file: Path) -> None:
    source: Any = connection.connection.driver_connection
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as target:
            target.execute("PRAGMA journal_mode=OFF")
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target)  # in one step: what others write meanwhile is not waited for
    except sqlite3.Error as error:
        raise translate(error, str(file)) or error from error


def _settle(file: Path) -> None:
    """On disk, private, and one file alone."""
    file.chmod(0o600)
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as opened:
            opened.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise translate(error, str(file)) or error from error
    _sync(file)


# ── rows ─────────────────────────────────────────────────────────────────────


def _tables() -> dict[str, Table]:
    """All tables of this program."""
    import tpmhsm.store as room

    for module in iter_modules(room.__path__, f"{room.__name__}."):
        if not module.ispkg:
            import_module(module.name)
    return dict(metadata.tables)


def _copy_rows(source: Connection, target: Connection) -> None:
    _tables()
    for table in metadata.sorted_tables:
        names = [column.name for column in table.columns]
        rows = source.execution_options(yield_per=_ROWS).execute(
            select(table).order_by(*table.primary_key)
        )
        for some in rows.partitions():
            values = [dict(zip(names, row, strict=True)) for row in some]
            target.execute(insert(table), values)


def _set_sequences(source: Connection, target: Connection) -> None:
    """PostgreSQL gives out ids after those of the SQLite file, used or left out."""
    ahead = {row[0]: row[1] for row in source.exec_driver_sql("SELECT * FROM sqlite_sequence")}
    for table in metadata.sorted_tables:
        if "id" in table.c and isinstance(table.c.id.type, BigInteger):
            last = source.execute(select(func.max(table.c.id))).scalar() or 0
            if last := max(last, ahead.get(table.name, 0)):
                name = func.pg_get_serial_sequence(table.name, "id")
                target.execute(select(func.setval(name, last)))


@contextmanager
def _writing(where: str | Path) -> Iterator[Connection]:
    """A transaction over any database that is there, whatever is in it."""
    place = place_of(where)
    engine = make_engine(place, 10.0)
    try:
        with engine.connect() as connection, connection.begin():
            begin_writing(connection, place, 10.0)
            yield connection
    finally:
        engine.dispose()


def copy_into(folder: Path, where: str, *, replace: bool = False) -> None:
    """Put the rows of a folder's SQLite file into a PostgreSQL database, all or nothing.

    Raises ExistsError where this program has tables already, unless they are to be replaced;
    StoreError.
    """
    from tpmhsm.store.migrate import upgrade

    with _writing(where) as target:
        there = found_version(target)
        if there is not None and not replace:
            raise ExistsError(
                f"there is a database of this program at {place_of(where).words}",
                hint="--force replaces it",
            )
        _tables()
        kept = set(inspect(target).get_table_names())
        if there is not None:
            for name in [*(t.name for t in reversed(metadata.sorted_tables)), TABLE]:
                if name in kept:
                    target.execute(text(f'DROP TABLE "{name}" CASCADE'))
            target.execute(text("DROP FUNCTION IF EXISTS tpmhsm_audit_append_only() CASCADE"))
        upgrade(target)
        with _writing(folder) as source:
            if found_version(source) != HEAD:
                raise store_error("corrupt", str(folder))
            _copy_rows(source, target)
            _set_sequences(source, target)


# ── files ────────────────────────────────────────────────────────────────────


def put_in_place(new: Path, home: Path, kept: Path) -> bool:
    """Make a database file that of a home, by one rename; the one before gets the name `kept`.

    True if there was one. `new` is in the same file system and a whole SQLite file without a log
    beside it. Raises StoreError `busy` while others have the old one open: they would go on
    writing to it.
    """
    file = home / FILE_NAME
    if any(new.with_name(new.name + one).exists() for one in _BESIDE):
        raise store_error("busy", str(new))
    _sync(new)
    try:
        if not file.exists():
            _move_logs(file, kept)
            new.rename(file)
            found = False
        else:
            with _alone(file, kept):
                _keep(file, kept)
                new.rename(file)
            found = True
        _sync(home)
    except OSError as error:
        raise store_error("denied", str(file), error) from error
    return found


@contextmanager
def _alone(file: Path, kept: Path) -> Iterator[None]:
    """Nobody else has the database open, and its write-ahead log is in it. A damaged one, which
    nobody can open, keeps its log under the new name.
    """
    connection = sqlite3.connect(file, isolation_level=None, timeout=_WAIT)
    try:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            said = translate(error, str(file))
            if isinstance(said, StoreError) and said.code == "busy":
                raise StoreError(
                    f"another process has the database {file} open",
                    code="busy",
                    hint="stop every tpmhsm command and service of this home first",
                ) from error
            connection.close()
            _move_logs(file, kept)
        # who opens the file from here on waits for us, then finds that it was moved, and writes
        # nothing (SQLITE_READONLY_DBMOVED)
        yield
    finally:
        connection.close()


def _move_logs(file: Path, kept: Path) -> None:
    """Logs of another file must not be taken for those of the new one."""
    for one in _BESIDE:
        with suppress(FileNotFoundError):
            file.with_name(file.name + one).rename(kept.with_name(kept.name + one))


def _keep(file: Path, kept: Path) -> None:
    try:
        os.link(file, kept)
    except OSError:  # a file system without links
        import shutil

        shutil.copy2(file, kept)
        _sync(kept)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
