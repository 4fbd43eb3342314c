"""A full disk, a read-only one, and files that others own."""

import os
import subprocess

import pytest
from tests.support.disks import fill, mounted

from tpmhsm.errors import StoreError
from tpmhsm.store import Store


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte of our own."""
    with mounted(tmp_path, "1m") as disk:
        yield disk


def test_full_disk_undoes_the_transaction(small_disk):
    with Store.create(small_disk / "home") as store:
        with store.transaction() as tx:
            tx.audit.append("before")
        filler = fill(small_disk)
        for _ in range(3):
            match = "the disk is full"
            with pytest.raises(StoreError, match=match) as caught, store.transaction() as tx:
                tx.audit.append("lost")
                tx.trusted.add("device", "host", b"x" * 100_000)
            assert caught.value.code == "full"
        filler.unlink()
        with store.transaction() as tx:
            assert tx.trusted.all() == []
            tx.audit.append("after")
        store.check()
    with Store.open(small_disk / "home") as store, store.reading() as tx:
        assert [row.act for row in tx.audit.all()] == ["before", "after"]


def test_disk_that_fills_up_while_writing(small_disk):
    with Store.create(small_disk / "home") as store:
        kept = 0
        with pytest.raises(StoreError) as caught:
            while True:
                with store.transaction() as tx:
                    tx.trusted.add("device", "host", os.urandom(10_000))
                kept += 1
        assert caught.value.code == "full"
        assert kept > 5
        store.check()
        with store.reading() as tx:
            assert len(tx.trusted.all()) == kept


@pytest.mark.parametrize("leave", [0, 4096, 8192, 40960])
def test_no_room_to_create(small_disk, leave):
    filler = fill(small_disk, leave)
    with pytest.raises(StoreError) as caught:
        Store.create(small_disk / "home")
    assert caught.value.code == "full"
    filler.unlink()
    with Store.create(small_disk / "home") as store:
        store.check()


def test_opening_on_a_full_disk(small_disk):
    Store.create(small_disk / "home").close()
    fill(small_disk)
    try:
        with Store.open(small_disk / "home") as store, store.reading() as tx:
            assert tx.settings.all() == {}
    except StoreError as error:
        assert error.code == "full"


def test_read_only_disk(small_disk):
    with Store.create(small_disk / "home") as store, store.transaction() as tx:
        tx.settings.set("a", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with (
        pytest.raises(StoreError) as caught,
        Store.open(small_disk / "home") as store,
        store.transaction() as tx,
    ):
        tx.settings.set("a", 2)
    assert caught.value.code in {"read-only", "denied"}
    with pytest.raises(StoreError) as caught:
        Store.create(small_disk / "other")
    assert caught.value.code == "read-only"


def test_home_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as caught:
        Store.create(tmp_path / "file" / "home")
    assert caught.value.code == "denied"


AS_NOBODY = """
import os, sys
from pathlib import Path
from tpmhsm.store import Store
from tpmhsm.errors import StoreError
os.setgid(65534); os.setuid(65534)
try:
    with Store.open(Path(sys.argv[1])) as store, store.transaction() as tx:
        tx.settings.set("a", 1)
except StoreError as error:
    print(error.code)
"""


@pytest.mark.parametrize(("mode", "code"), [(0o600, "denied"), (0o644, "read-only")])
def test_files_of_another_user(small_disk, mode, code):
    import sys

    home = small_disk / "home"
    Store.create(home).close()
    small_disk.chmod(0o755)
    home.chmod(0o755)
    (home / "tpmhsm.db").chmod(mode)
    inside = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True)
    view = inside.stdout.strip()
    os.chmod(view, 0o755)
    subprocess.run(["mount", "--bind", str(small_disk), view], check=True)
    try:
        said = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"{view}/home"],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        subprocess.run(["umount", view], check=True)
        os.rmdir(view)
    assert said.stdout.strip() in {code, "denied"}
