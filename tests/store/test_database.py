"""Opening, creating, transactions, and what is said when the database is not as it should be."""

import importlib
import os
import pkgutil
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

import tpmhsm.store
from tpmhsm.errors import ExistsError, StoreError, UsageError
from tpmhsm.store import Store
from tpmhsm.store.engine import place_of
from tpmhsm.store.migrate import head
from tpmhsm.store.schema import metadata
from tpmhsm.store.version import HEAD


def test_missing(tmp_path):
    with pytest.raises(StoreError, match="there is no database") as caught:
        Store.open(tmp_path / "home")
    assert caught.value.code == "missing"
    assert caught.value.hint.startswith("tpmhsm init creates it; if the CA is on another machine")
    assert not (tmp_path / "home").exists()


def test_empty_postgresql_is_missing(postgres):
    with pytest.raises(StoreError, match="there is no database") as caught:
        Store.open(postgres.url())
    assert caught.value.code == "missing"


def test_create_is_idempotent_and_keeps_everything(where):
    with Store.create(where) as store, store.transaction() as tx:
        tx.settings.set("a", 1)
    with Store.create(where) as store, store.transaction() as tx:
        tx.settings.set("b", 2)
    with Store.open(where) as store, store.reading() as tx:
        assert tx.settings.all() == {"a": 1, "b": 2}
    with Store.open(where, create=True) as store, store.reading() as tx:
        assert tx.settings.all() == {"a": 1, "b": 2}


def test_files_are_the_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with Store.create(tmp_path / "a" / "home") as store:
            with store.transaction() as tx:
                tx.settings.set("a", 1)
            modes = {
                file.name: stat.S_IMODE(file.stat().st_mode)
                for file in (tmp_path / "a" / "home").iterdir()
            }
    finally:
        os.umask(before)
    assert modes == {"tpmhsm.db": 0o600, "tpmhsm.db-wal": 0o600, "tpmhsm.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "a" / "home").stat().st_mode) == 0o700


def test_sqlite_is_set_up_to_be_durable(home):
    with Store.open(home) as store, store.transaction() as tx:
        pragma = {
            name: tx._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_the_program_knows_the_newest_migration():
    assert head() == HEAD


def test_migrations_make_what_the_tables_say(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for module in pkgutil.iter_modules(tpmhsm.store.__path__, "tpmhsm.store."):
        importlib.import_module(module.name)
    only_in_migrations = {"uq_keys_label_present", "uq_groups_name_alive", "uq_rosters_in_force"}

    def include(_object, name, kind, reflected, _compare_to):
        if kind == "table":
            return name != "tpmhsm_version"
        return not (kind == "index" and reflected and name in only_in_migrations)

    with store.transaction() as tx:
        context = MigrationContext.configure(
            tx._connection, opts={"include_object": include, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_database_itself_keeps_names_unique(store):
    with store.transaction() as tx:
        for label in ("a", "b"):
            tx._connection.exec_driver_sql(
                "INSERT INTO groups VALUES "
                f"('{label}', 'one', '', 1, 2, 'failed', '', '2026-01-01T00:00:00Z')"
            )
    with pytest.raises(ExistsError, match="has such an entry"), store.transaction() as tx:
        tx._connection.exec_driver_sql("UPDATE groups SET state = 'active'")


def test_an_ordinary_start_imports_no_alembic(home):
    code = (
        "import sys; from pathlib import Path; from tpmhsm.store import Store\n"
        f"store = Store.open(Path({str(home)!r}))\n"
        "with store.transaction() as tx: tx.settings.set('a', 1)\n"
        "bad = {'alembic', 'mako', 'sqlalchemy.orm', 'psycopg', 'tpmhsm.store.certificates',"
        " 'sqlalchemy.dialects.postgresql'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_init_is_quick(tmp_path):
    Store.create(tmp_path / "warm").close()
    start = time.perf_counter()
    Store.create(tmp_path / "home").close()
    assert time.perf_counter() - start < 0.3


def test_each_noun_works_when_only_its_module_is_loaded(home):
    code = (
        "from pathlib import Path; from tpmhsm.store import Store\n"
        "from tpmhsm.store.keys import KeyRow\n"
        f"store = Store.open(Path({str(home)!r}))\n"
        "with store.transaction() as tx:\n"
        "    tx.keys.add(KeyRow('l', 'a', 'h', 'u', 'p', b'', b'', 'n', b''))\n"
        "    tx.keys.delete('l')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_exception_rolls_everything_back(store):
    with pytest.raises(KeyboardInterrupt), store.transaction() as tx:
        tx.settings.set("a", 1)
        tx.trusted.add("device", "host", b"card")
        raise KeyboardInterrupt
    with store.transaction() as tx:
        assert tx.settings.all() == {}
        assert tx.trusted.all() == []


def test_a_refusal_inside_does_not_spoil_the_transaction(store):
    with store.transaction() as tx:
        tx.settings.set("a", 1)
        with pytest.raises(UsageError):
            tx.keys.get("nobody")
        tx.settings.set("b", 2)
    with store.reading() as tx:
        assert tx.settings.all() == {"a": 1, "b": 2}


def test_reading_cannot_write_and_does_not_block_writers(store):
    with store.transaction() as tx:
        tx.settings.set("a", 1)
    with pytest.raises(StoreError, match="cannot be written"), store.reading() as tx:
        tx.settings.set("a", 2)
    with store.transaction() as tx:
        tx.settings.set("a", 3)
    with store.reading() as tx:
        assert tx.settings.get("a") == 3


def test_reading_sees_one_state(where, store):
    with store.transaction() as tx:
        tx.settings.set("a", 1)
    with Store.open(where) as other, store.reading() as tx:
        assert tx.settings.get("a") == 1
        with other.transaction() as writer:
            writer.settings.set("a", 2)
        assert tx.settings.get("a") == 1


def test_a_transaction_inside_another_is_refused_at_once(store):
    with (
        store.transaction(),
        pytest.raises(StoreError, match="open in this thread already"),
        store.transaction(),
    ):
        pass
    with store.transaction() as after:
        after.settings.set("a", 1)


def test_text_that_is_no_unicode_is_bad_input(store):
    with pytest.raises(UsageError, match="Unicode"), store.transaction() as tx:
        tx.settings.set("\udcff", 1)
    with pytest.raises(UsageError, match="Unicode"), store.transaction() as tx:
        tx.keys.find("\udcff")


def test_foreign_keys_hold(store):
    from tpmhsm.store.groups import RosterRow

    with pytest.raises(StoreError), store.transaction() as tx:
        tx.rosters.add(RosterRow("no such group", 1, b"", "aa"))


@pytest.mark.parametrize("size", [1, 100, 511, 512, 5000, 2_000_000])
def test_garbage_is_refused_and_left_alone(tmp_path, size):
    file = tmp_path / "tpmhsm.db"
    garbage = os.urandom(size)
    file.write_bytes(garbage)
    for act in (Store.open, Store.create):
        with pytest.raises(StoreError, match="is damaged or is no database") as caught:
            act(tmp_path)
        assert caught.value.code == "corrupt"
    assert file.read_bytes() == garbage


def test_an_empty_file_counts_as_missing(tmp_path):
    (tmp_path / "tpmhsm.db").touch()
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    assert caught.value.code == "missing"
    Store.create(tmp_path).close()
    Store.open(tmp_path).close()


def test_a_directory_in_its_place(tmp_path):
    (tmp_path / "tpmhsm.db").mkdir()
    for act in (Store.open, Store.create):
        with pytest.raises(StoreError) as caught:
            act(tmp_path)
        assert caught.value.code == "denied"


def test_somebody_elses_database_is_left_alone(tmp_path):
    file = tmp_path / "tpmhsm.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = file.read_bytes()
    for act in (Store.open, Store.create):
        with pytest.raises(StoreError, match="no database of TPM HSM"):
            act(tmp_path)
    assert file.read_bytes() == before


def test_a_newer_schema_is_refused(where):
    with Store.create(where) as store, store.transaction() as tx:
        tx._connection.exec_driver_sql("UPDATE tpmhsm_version SET version_num = '9999'")
    for act in (Store.open, Store.create):
        with pytest.raises(StoreError, match="newer version of this program") as caught:
            act(where)
        assert caught.value.code == "newer"


def test_a_damaged_page_is_noticed(home):
    with Store.open(home) as store, store.transaction() as tx:
        for n in range(200):
            tx.trusted.add("device", f"host{n}", os.urandom(2000))
    file = home / "tpmhsm.db"
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(size // 2)
        handle.write(b"\xff" * (size // 4))
    with Store.open(home) as store:
        with pytest.raises(StoreError) as caught:
            store.check()
        assert caught.value.code == "corrupt"


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://h/db", "postgresql://h:port/x"],
)
def test_urls_that_are_none(url):
    with pytest.raises(UsageError):
        Store.open(url)


def test_sqlite_url(tmp_path):
    with Store.create(f"sqlite:///{tmp_path}/other.db") as store:
        assert store.kind == "sqlite"
        assert store.words == f"{tmp_path}/other.db"
    assert (tmp_path / "other.db").exists()


def test_a_password_is_never_shown():
    assert place_of("postgresql://u:secret@host/db").words == "postgresql://u:***@host/db"


def test_postgresql_that_does_not_answer(tmp_path):
    with pytest.raises(StoreError) as caught:
        Store.open(f"postgresql://u:secret@/db?host={tmp_path}", timeout=1)
    assert caught.value.code == "lost"
    assert "secret" not in str(caught.value) + str(caught.value.details)


def test_postgresql_database_that_does_not_exist(postgres):
    with pytest.raises(StoreError) as caught:
        Store.open(postgres.url().replace("@/t", "@/nosuch"))
    assert caught.value.code == "missing"
