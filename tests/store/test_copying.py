"""Copies of a database: one state, of any kind of database, into any other."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from tpmhsm.errors import ExistsError, StoreError
from tpmhsm.store import Store
from tpmhsm.store.copying import _tables, copy_database, copy_into, put_in_place
from tpmhsm.store.requests import RequestRow
from tpmhsm.store.schema import metadata


def fill(store: Store) -> None:
    with store.transaction() as tx:
        tx.settings.set("audit", {"mark": "é", "at": 1})
        for number in range(3):
            row = RequestRow("certificate", 2, "ab" * 32, b"{}", expires="2030-01-01T00:00:00Z")
            tx.audit.append("asked", {"request": tx.requests.add(row).id, "n": number})
        tx.barred_keys.bar("cd" * 32, "known")
        tx.trusted.add("own", "alice", b"\x00card")


def rows(store: Store) -> dict[str, list[tuple[object, ...]]]:
    _tables()
    with store.snapshot() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }


def test_a_copy_has_every_row(store: Store, tmp_path: Path) -> None:
    fill(store)
    folder = tmp_path / "copy"
    folder.mkdir()
    facts = copy_database(store, folder)
    assert facts["rows"]["requests"] == facts["entries"] == 3
    assert facts["kind"] == store.kind
    assert [p.name for p in folder.iterdir()] == ["tpmhsm.db"]
    assert (folder / "tpmhsm.db").stat().st_mode & 0o777 == 0o600
    with Store.open(folder) as copy:
        copy.check()
        assert rows(copy) == rows(store)


def test_a_copy_is_put_into_a_server(home: Path, postgres, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    with Store.open(home) as store:
        fill(store)
        with store.transaction() as tx:
            tx.requests.skip(1000)
        copy_database(store, folder)
        wanted = rows(store)
    url = postgres.url()
    copy_into(folder, url)
    with Store.open(url) as there:
        assert rows(there) == wanted
        there.check()
        assert not there.damage()
        with pytest.raises(StoreError) as error, there.transaction() as tx:
            tx._connection.exec_driver_sql("DELETE FROM audit")
        assert error.value.code == "append-only"
        with there.transaction() as tx:
            row = RequestRow("certificate", 2, "ab" * 32, b"{}", expires="2030-01-01T00:00:00Z")
            assert tx.requests.add(row).id == 1004
            assert tx.trusted.add("own", "bob", b"card").id == 2
    with pytest.raises(ExistsError):
        copy_into(folder, url)
    with Store.open(url) as there:
        assert len(rows(there)["requests"]) == 4
    copy_into(folder, url, replace=True)
    with Store.open(url) as there:
        assert rows(there) == wanted


def test_a_copy_that_fails_changes_nothing_in_the_server(
    home: Path,
    postgres,
    tmp_path: Path,
) -> None:
    url = postgres.url()
    with Store.create(url) as there:
        fill(there)
        before = rows(there)
    (tmp_path / "tpmhsm.db").write_bytes(b"")
    with pytest.raises(StoreError):
        copy_into(tmp_path, url, replace=True)
    with Store.open(url) as there:
        assert rows(there) == before


def test_a_copy_is_one_state_while_others_write(store: Store, tmp_path: Path) -> None:
    """Two rows that are always written together are both there, or neither is."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with store.transaction() as tx:
                tx.settings.set("one", number)
                tx.audit.append("wrote", {"n": number})
                tx.settings.set("two", number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(4):
            folder = tmp_path / str(number)
            folder.mkdir()
            facts = copy_database(store, folder)
            with Store.open(folder) as copy, copy.reading() as tx:
                assert tx.settings.get("one") == tx.settings.get("two")
                assert tx.audit.verify_chain().hash == facts["head"] or not facts["head"]
                assert (tx.settings.get("one") or 0) == facts["entries"]
    finally:
        stop.set()
        thread.join()


def test_the_log_of_a_lost_database_is_not_taken_for_the_new_ones(
    home: Path, tmp_path: Path
) -> None:
    """A write-ahead log that was left behind would be played into whatever has the name."""
    folder = tmp_path / "copy"
    folder.mkdir()
    with Store.open(home) as store:
        fill(store)
        copy_database(store, folder)
        wanted = rows(store)
        with store.transaction() as tx:
            tx.settings.set("later", 1)
        wal = (home / "tpmhsm.db-wal").read_bytes()
        assert wal
    (home / "tpmhsm.db").unlink()
    (home / "tpmhsm.db-wal").write_bytes(wal)
    kept = home / "kept"
    assert not put_in_place(folder / "tpmhsm.db", home, kept)
    assert (home / "kept-wal").read_bytes() == wal
    with Store.open(home) as store:
        assert rows(store) == wanted


def test_a_new_file_with_a_log_of_its_own_is_refused(home: Path, tmp_path: Path) -> None:
    new = tmp_path / "tpmhsm.db"
    connection = sqlite3.connect(new)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE x (y)")
    before = (home / "tpmhsm.db").read_bytes()
    with pytest.raises(StoreError):
        put_in_place(new, home, home / "kept")
    connection.close()
    assert (home / "tpmhsm.db").read_bytes() == before
