"""Where the database is and how to reach it: SQLite in the home, or a URL."""

from __future__ import annotations

import math
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from tpmhsm.errors import StoreError, UsageError
from tpmhsm.store.failures import store_error, translate
from tpmhsm.store.schema import run_plainly
from tpmhsm.store.turns import turnstile

FILE_NAME = "tpmhsm.db"
"""The SQLite file's name in a home."""

# Any fixed number: the advisory lock by which writers of one PostgreSQL database take turns.
WRITER_LOCK = 0x74706D68736D


@dataclass(frozen=True)
class Place:
    """A database: a SQLite file, or a server's URL. `words` names it without its password."""

    file: Path | None
    url: URL | None
    words: str

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if self.file is not None else "postgresql"


def place_of(where: str | Path) -> Place:
    """A home directory (Path) or a URL (text): sqlite:///FILE, postgresql://…

    Raises UsageError for any other URL.
    """
    if isinstance(where, Path):
        file = where / FILE_NAME
        return Place(file, None, str(file))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "this is no database URL", hint="sqlite:////path/to/file or postgresql://host/name"
        ) from error
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return Place(Path(url.database), None, url.database)
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        url = url.set(drivername="postgresql+psycopg")
        return Place(None, url, url.set(drivername="postgresql").render_as_string())
    raise UsageError(
        f"databases of kind {url.drivername!r} are not supported",
        hint="sqlite:////path/to/file or postgresql://host/name",
    )


def make_engine(place: Place, timeout: float) -> Engine:
    """An engine whose failures are StoreErrors; `timeout` (seconds) is how long a lock is awaited.

    Nothing is connected yet. Raises StoreError when PostgreSQL's driver is not installed.
    """
    engine = _sqlite(place.file, timeout) if place.file else _postgresql(place, timeout)

    @event.listens_for(engine, "handle_error", retval=True)
    def _in_words(context: Any) -> BaseException | None:
        return translate(context.original_exception, place.words)

    return engine


def begin_writing(connection: Connection, place: Place, timeout: float) -> None:
    """Take the one writer's turn for this transaction. StoreError `busy` when it never comes."""
    if place.file is not None:
        with turnstile(place.file.parent, timeout) as left:
            _wait_at_most(connection, left)
            run_plainly(connection, "BEGIN IMMEDIATE")
        return
    run_plainly(connection, f"SET LOCAL lock_timeout = {max(1, int(timeout * 1000))}")
    run_plainly(connection, f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def begin_reading(connection: Connection, place: Place, timeout: float) -> None:
    """One consistent view for this transaction, and no writing on PostgreSQL."""
    if place.file is not None:
        _wait_at_most(connection, timeout)
        run_plainly(connection, "BEGIN")
        return
    run_plainly(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _wait_at_most(connection: Connection, seconds: float) -> None:
    """How long SQLite waits for a lock; said to each connection when it changes."""
    wanted = math.ceil(seconds * 10) * 100
    if connection.info.get("busy_timeout") != wanted:
        run_plainly(connection, f"PRAGMA busy_timeout = {wanted}")
        connection.info["busy_timeout"] = wanted


def _sqlite(file: Path, timeout: float) -> Engine:
    # mode=rw: opening never creates a file by accident
    uri = f"file:{quote(os.path.abspath(file))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        try:
            # FULL: a committed transaction survives a power failure also in WAL mode
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA trusted_schema=OFF")
            # pages (16 MB): in a smaller log the same pages of indices are copied over and over
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            # what is overwritten (the private part of a deleted key) is zeroed in the file
            connection.execute("PRAGMA secure_delete=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    return create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=-1,
        pool_use_lifo=True,  # the last connection has the pages in its cache
        execution_options={"place": str(file)},
    )


def _postgresql(place: Place, timeout: float) -> Engine:
    assert place.url is not None  # noqa: S101  (a Place is one or the other)
    try:
        return create_engine(
            place.url,
            pool_pre_ping=True,
            max_overflow=-1,
            execution_options={"place": place.words},
            connect_args={"connect_timeout": max(2, int(timeout))},
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(
            "the driver for PostgreSQL is not installed",
            hint="pip install 'tpmhsm[postgres]'",
            code="driver",
        ) from error


def create_file(file: Path) -> None:
    """Make an empty file that only its owner can read, and its directory. StoreError if not."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not file.is_file():
            raise store_error("denied", str(file), "it is no file") from None
    except OSError as error:
        code = {28: "full", 30: "read-only"}.get(error.errno or 0, "denied")
        raise store_error(code, str(file), error) from error
