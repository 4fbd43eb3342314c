"""The store: open or create a database, and transactions over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from tpmhsm.errors import StoreError
from tpmhsm.store.engine import (
    Place,
    begin_reading,
    begin_writing,
    create_file,
    make_engine,
    place_of,
)
from tpmhsm.store.failures import store_error
from tpmhsm.store.schema import run_plainly
from tpmhsm.store.version import HEAD, found_version, is_ours_or_empty

if TYPE_CHECKING:
    from tpmhsm.store.audit import Audit
    from tpmhsm.store.authorities import Authorities, Serials
    from tpmhsm.store.barred_keys import BarredKeys
    from tpmhsm.store.certificates import Certificates
    from tpmhsm.store.chip_records import ChipRecords
    from tpmhsm.store.groups import Groups, Rosters
    from tpmhsm.store.keys import Keys
    from tpmhsm.store.memory import ApproverMemory
    from tpmhsm.store.people import Approvers, TrustedCards
    from tpmhsm.store.requests import Requests
    from tpmhsm.store.revocations import Crls, Revocations
    from tpmhsm.store.second_chips import SecondChips
    from tpmhsm.store.settings import Settings
    from tpmhsm.store.trusted_roots import TrustedRoots
    from tpmhsm.store.windows import Windows

TIMEOUT = 10.0
"""Seconds a transaction waits for its turn."""


class Transaction:
    """One transaction: a repository for each noun. Made by `Store.transaction` alone.

    A noun's module is imported when it is first asked for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def settings(self) -> Settings:
        """Facts of this home."""
        from tpmhsm.store.settings import Settings

        return Settings(self._connection)

    @cached_property
    def keys(self) -> Keys:
        """Keys by label."""
        from tpmhsm.store.keys import Keys

        return Keys(self._connection)

    @cached_property
    def approvers(self) -> Approvers:
        """Approvers, as the host knows them."""
        from tpmhsm.store.people import Approvers

        return Approvers(self._connection)

    @cached_property
    def trusted(self) -> TrustedCards:
        """Cards this machine's owner vouched for."""
        from tpmhsm.store.people import TrustedCards

        return TrustedCards(self._connection)

    @cached_property
    def groups(self) -> Groups:
        """Groups."""
        from tpmhsm.store.groups import Groups

        return Groups(self._connection)

    @cached_property
    def rosters(self) -> Rosters:
        """Rosters of groups."""
        from tpmhsm.store.groups import Rosters

        return Rosters(self._connection)

    @cached_property
    def memory(self) -> ApproverMemory:
        """What the approver's tool remembers."""
        from tpmhsm.store.memory import ApproverMemory

        return ApproverMemory(self._connection)

    @cached_property
    def second_chips(self) -> SecondChips:
        """What the approver's tool remembers of the further chips of groups."""
        from tpmhsm.store.second_chips import SecondChips

        return SecondChips(self._connection)

    @cached_property
    def requests(self) -> Requests:
        """Approval requests with their approvals and denials."""
        from tpmhsm.store.requests import Requests

        return Requests(self._connection)

    @cached_property
    def certificates(self) -> Certificates:
        """Certificates."""
        from tpmhsm.store.certificates import Certificates

        return Certificates(self._connection)

    @cached_property
    def authorities(self) -> Authorities:
        """Authorities."""
        from tpmhsm.store.authorities import Authorities

        return Authorities(self._connection)

    @cached_property
    def serials(self) -> Serials:
        """Serial numbers written ahead of signatures."""
        from tpmhsm.store.authorities import Serials

        return Serials(self._connection)

    @cached_property
    def revocations(self) -> Revocations:
        """Certificates that were revoked or are held."""
        from tpmhsm.store.revocations import Revocations

        return Revocations(self._connection)

    @cached_property
    def barred_keys(self) -> BarredKeys:
        """Keys that are certified never again, and what else is known of a key."""
        from tpmhsm.store.barred_keys import BarredKeys

        return BarredKeys(self._connection)

    @cached_property
    def trusted_roots(self) -> TrustedRoots:
        """Certificates that are trusted as roots."""
        from tpmhsm.store.trusted_roots import TrustedRoots

        return TrustedRoots(self._connection)

    @cached_property
    def crls(self) -> Crls:
        """CRLs and their numbers."""
        from tpmhsm.store.revocations import Crls

        return Crls(self._connection)

    @cached_property
    def windows(self) -> Windows:
        """Keys that are open for a time."""
        from tpmhsm.store.windows import Windows

        return Windows(self._connection)

    @cached_property
    def audit(self) -> Audit:
        """The audit log."""
        from tpmhsm.store.audit import Audit

        return Audit(self._connection)

    @cached_property
    def chip_records(self) -> ChipRecords:
        """What the chip audits."""
        from tpmhsm.store.chip_records import ChipRecords

        return ChipRecords(self._connection)

    @property
    def written(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What this transaction has added to the audit log: act and facts."""
        return self.audit.appended if "audit" in self.__dict__ else []


class Store:
    """A database. Threads may share it; close it (or use `with`) when done.

    Writers take turns, in this process and all others: keep transactions short, and never wait
    for a person or a chip inside one.
    """

    def __init__(self, place: Place, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._engine = make_engine(place, timeout)
        self.listener: Callable[[list[tuple[str, Mapping[str, Any]]]], None] | None = None
        """Told what each transaction wrote into the audit log, once it is on disk."""
        self._local = threading.local()

    @classmethod
    def open(cls, where: str | Path, *, create: bool = False, timeout: float = TIMEOUT) -> Store:
        """Open the database of a home (Path) or a URL (text).

        An older SQLite schema is brought up to date; PostgreSQL's only by `create`, when every
        node has the new program. Raises StoreError: `missing`, `busy`, `corrupt`, `newer`,
        `older`, `denied`, `read-only`, `full`, `lost`; UsageError for a URL that is none.
        """
        if create:
            return cls.create(where, timeout=timeout)
        place = place_of(where)
        if place.file is not None and not place.file.exists():
            raise _missing(place)
        if place.file is not None:
            _refuse_short(place.file)
        store = cls(place, timeout)
        try:
            store._open_existing()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def create(cls, where: str | Path, *, timeout: float = TIMEOUT) -> Store:
        """Create the database where there is none, bring an older one up to date, and open it.

        What is there is never overwritten. Raises as `open`.
        """
        place = place_of(where)
        if place.file is not None:
            create_file(place.file)
        store = cls(place, timeout)
        try:
            store._upgrade()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._place.kind

    @property
    def words(self) -> str:
        """Where the database is: a path, or a URL without its password."""
        return self._place.words

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write: all or nothing. An exception in the block rolls everything back.

        Raises StoreError `busy` when other writers hold the database longer than the timeout,
        `full`, `read-only`, … as the disk has it; committed and on disk when the block is left.
        """
        with self._connection() as connection:
            begin_writing(connection, self._place, self._timeout)
            tx = Transaction(connection)
            yield tx
        if self.listener is not None and tx.written:
            self.listener(tx.written)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Read one consistent state without waiting for writers. Writing in it is an error."""
        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            if self.kind == "sqlite":
                run_plainly(connection, "PRAGMA query_only=ON")
            try:
                yield Transaction(connection)
            finally:
                if self.kind == "sqlite":
                    run_plainly(connection, "PRAGMA query_only=OFF")

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One consistent state, as the driver has it: for who copies whole tables."""
        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            yield connection

    def check(self) -> None:
        """Look for damage: SQLite's own check and foreign keys, then the audit chain.

        Raises StoreError `corrupt`, VerificationError for the chain.
        """
        if damage := self.damage(1):
            raise store_error("corrupt", self.words, damage[0])
        with self.reading() as tx:
            tx.audit.verify_chain()

    def damage(self, most: int = 100) -> list[str]:
        """What SQLite finds wrong with the file, and rows that refer to no row. Empty: nothing."""
        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            if self.kind != "sqlite":
                from tpmhsm.store.structure import stray_rows

                return stray_rows(connection, most)
            said = connection.exec_driver_sql(f"PRAGMA integrity_check({most})").scalars().all()
            stray = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(most)
        return [
            *(str(line) for line in said if line != "ok"),
            *(f"row {row[1]} of {row[0]} refers to no row of {row[2]}" for row in stray),
        ]

    def schema(self) -> dict[str, str]:
        """What an SQLite database is made of: `table x`, `index y`, … and the SQL of each."""
        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            query = (
                "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_master "
                "WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'"
            )
            return {str(row[0]): str(row[1]) for row in connection.exec_driver_sql(query)}

    def structure(self) -> tuple[set[str], set[str]]:
        """What any database is made of, a line each (`tpmhsm.store.structure`), and PostgreSQL's
        triggers and what of it is not in force.
        """
        from tpmhsm.store.structure import guards, structure

        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            return structure(connection), guards(connection) if self.kind != "sqlite" else set()

    def close(self) -> None:
        """Close all connections. The store can be used again; it will reconnect."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if getattr(self._local, "inside", False):
            # a second one would wait for the first until the timeout
            raise StoreError("a transaction is open in this thread already", code="nested")
        self._local.inside = True
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        finally:
            self._local.inside = False

    def _open_existing(self) -> None:
        with self._connection() as connection:
            begin_reading(connection, self._place, self._timeout)
            version = found_version(connection)
            ours = is_ours_or_empty(connection) if version is None else True
        if version == HEAD:
            return
        if not ours:
            raise store_error("corrupt", self.words)
        if version is None:
            raise _missing(self._place)
        if version < HEAD and self.kind == "postgresql":
            raise StoreError(
                f"the database {self.words} was made by an older version of this program",
                hint="upgrade every node, then run tpmhsm init on one",
                code="older",
            )
        self._upgrade()

    def _upgrade(self) -> None:
        if self._place.file is not None:
            self._require_sqlite_ours(self._place.file)
        with self._connection() as connection:
            begin_writing(connection, self._place, self._timeout)
            version = found_version(connection)
            if version == HEAD:
                return
            if version is not None and version > HEAD:
                raise StoreError(
                    f"the database {self.words} was made by a newer version of this program "
                    f"(schema {version}, this program knows {HEAD})",
                    hint="install the newer version of tpmhsm",
                    code="newer",
                    details={"schema": version, "known": HEAD},
                )
            from tpmhsm.store.migrate import upgrade

            upgrade(connection)

    def _require_sqlite_ours(self, file: Path) -> None:
        _refuse_short(file)
        with self._connection() as connection:
            if not is_ours_or_empty(connection):
                raise store_error("corrupt", self.words)
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _refuse_short(file: Path) -> None:
    """A file shorter than any SQLite page: SQLite would take it for empty and overwrite it."""
    if file.is_file() and 0 < file.stat().st_size < 512:
        raise store_error("corrupt", str(file))


def _missing(place: Place) -> StoreError:
    return StoreError(
        f"there is no database {place.words}",
        hint="tpmhsm init creates it; if the CA is on another machine, run this there",
        code="missing",
    )
