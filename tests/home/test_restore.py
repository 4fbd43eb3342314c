"""Backups taken while others work, put back whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from unittest import mock

import pytest
from tests.durability.load import loaded
from tests.support.shell import Shell

from tpmhsm.home import sealed
from tpmhsm.store import Store

KILLS = 3


def back_up(machine: Shell, name: str, *more: str) -> str:
    machine("backup", "-o", name, *more)
    return name


def state(machine: Shell) -> tuple[int, int, bytes]:
    """What tells one state of a database from another: log, certificates, the newest of them."""
    with Store.open(machine.home) as store, store.reading() as tx:
        rows = tx.certificates.all()
        return tx.audit.head().seq, len(rows), rows[-1].der


def proved(machine: Shell) -> None:
    found = machine.json("doctor", "store")
    assert found["ok"], found


# ── whole ────────────────────────────────────────────────────────────────────


def test_backups_while_another_process_issues(plain: Shell) -> None:
    """A hundred certificates at least come meanwhile; each backup is one state of the database."""
    csr = (plain.path / "web.csr").read_bytes()
    with loaded(plain.home, [csr], [], workers=0) as load:
        load.wait(0.1)
        taken = []
        for number in range(2):
            done = subprocess.run(
                plain.command("backup", "-o", f"{number}.backup"),
                **plain.surroundings(),
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            taken.append(f"{number}.backup")
            load.wait(0.3)
        load.end()
    promised = len(load.promises)
    assert promised > 100
    counts = []
    for name in taken:
        shown = plain.json("show", name)
        plain("restore", name, "--force")
        proved(plain)
        with Store.open(plain.home) as store, store.reading() as tx:
            counts.append(sum(row.source == "issued" for row in tx.certificates.all()))
            assert tx.audit.verify_chain().seq > shown["database"]["entries"]
            assert not tx.serials.all(state="reserved")
    assert counts == sorted(counts)
    assert counts[-1] <= promised + 10
    plain("ca", "sign", "open-ca", "web.csr")


def test_nothing_is_used_twice(governed: Shell) -> None:
    back_up(governed, "b")
    number = governed.ask("ca", "sign", "root-ca", "web.csr")
    crl = governed.json("ca", "crl", "open-ca")["number"]
    governed("restore", "b", "--force")
    assert governed.ask("ca", "sign", "root-ca", "web.csr") > number
    assert governed.json("ca", "crl", "open-ca")["number"] > crl
    with Store.open(governed.home) as store, store.reading() as tx:
        (entry,) = tx.audit.each("restore")
    assert entry.facts["made"]
    assert entry.facts["entry"] < entry.seq
    proved(governed)


def test_numbers_go_on_however_old_the_backup_is(plain: Shell) -> None:
    """Not only by a million: by two for each second since, when that is more."""
    first = plain.json("ca", "crl", "open-ca")["number"]
    back_up(plain, "b")
    old = "2020-01-01T00:00:00Z"
    with mock.patch("tpmhsm.store.schema.now", lambda: old):
        back_up(plain, "b2020")
    plain("restore", "b", "--force")
    assert plain.json("ca", "crl", "open-ca")["number"] == first + 1_000_001
    plain("restore", "b2020", "--force")
    age = time.time() - 1577836800
    assert plain.json("ca", "crl", "open-ca")["number"] > first + 2 * age - 60


def test_an_empty_home_and_another_chip(plain: Shell, place: Path) -> None:
    """Everything can be read there; the proof says that the chip is another one."""
    back_up(plain, "b")
    (plain.home / "tpmhsm.toml").write_text("[ca.open-ca]\ncrl_days = 3\n")
    back_up(plain, "with-settings")
    other = Shell(place / "o")
    other.path.mkdir()
    shutil.copy(plain.path / "with-settings", other.path)
    found = other.json("--tpm", "software", "restore", "with-settings", code=4)["error"]
    assert "not proved" in found["message"]
    assert (other.home / "tpmhsm.toml").read_text() == "[ca.open-ca]\ncrl_days = 3\n"
    assert other.home.stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in other.home.iterdir()) == ["tpmhsm.db", "tpmhsm.toml"]
    assert other.json("cert", "list")["items"] == plain.json("cert", "list")["items"]


def test_settings_that_are_there_stay(plain: Shell) -> None:
    settings = plain.home / "tpmhsm.toml"
    settings.write_text("[ca.open-ca]\ncrl_days = 3\n")
    back_up(plain, "b")
    settings.write_text("[ca.open-ca]\ncrl_days = 4\n")
    said = plain("restore", "b", "--force").out
    assert "of this home stays" in said
    assert "crl_days = 4" in settings.read_text()


def test_with_the_software_tpm(plain: Shell, place: Path) -> None:
    """Every key works elsewhere, as it did on that day: said loudly."""
    (plain.path / "pw").write_text("secret\n")
    plain("backup", "-o", "b", "--with-software-tpm", code=2)
    made = plain("backup", "-o", "b", "--with-software-tpm", "--passphrase-file", "pw")
    assert "takes counters, epochs and budgets back" in made.err
    assert plain.json("show", "b", "--passphrase-file", "pw")["software_tpm"] is True
    plain("device", "stop")
    other = Shell(place / "o")
    other.path.mkdir()
    for name in ("b", "pw", "web.csr"):
        shutil.copy(plain.path / name, other.path)
    said = other("restore", "b", "--passphrase-file", "pw").out
    assert "takes counters, epochs and budgets back" in said
    other("ca", "sign", "open-ca", "web.csr")
    other.close()
    # over a chip that is there it is never put
    again = plain("restore", "b", "--passphrase-file", "pw", "--force").out
    assert "the one of this home stays" in again


# ── refused ──────────────────────────────────────────────────────────────────


def test_a_database_is_replaced_only_on_demand_and_kept(plain: Shell) -> None:
    back_up(plain, "b")
    plain("ca", "sign", "open-ca", "web.csr")
    before = state(plain)
    assert plain.json("restore", "b", code=2)["error"]["code"] == "exists"
    assert state(plain) == before
    kept = plain.json("restore", "b", "--force")["kept"]
    assert state(plain) != before
    shutil.copy(kept, plain.home / "tpmhsm.db")
    assert state(plain) == before


def test_damaged_wrong_or_no_backups_change_nothing(plain: Shell, place: Path) -> None:
    (plain.path / "pw").write_text("secret\n")
    (plain.path / "other").write_text("other\n")
    with mock.patch.object(sealed, "_P", 1):
        back_up(plain, "sealed", "--passphrase-file", "pw")
        back_up(plain, "b")
        before, files = state(plain), sorted(p.name for p in plain.home.iterdir())
        data = bytearray((plain.path / "b").read_bytes())
        data[len(data) // 2] ^= 1
        (plain.path / "flipped").write_bytes(data)
        (plain.path / "cut").write_bytes((plain.path / "b").read_bytes()[:-4096])
        for name, code in (("flipped", "damaged"), ("cut", "damaged"), ("web.csr", "parse")):
            assert plain.json("restore", name, "--force", code=2)["error"]["code"] == code
            if name != "web.csr":
                assert plain.json("show", name, code=2)["error"]["code"] == "damaged"
        wrong = ("restore", "sealed", "--force", "--passphrase-file", "other")
        assert plain.json(*wrong, code=1)["error"]["code"] == "wrong-passphrase"
        assert plain.json("restore", "sealed", "--force", code=2)["error"]["code"] == "usage"
        assert state(plain) == before
        assert sorted(p.name for p in plain.home.iterdir()) == files
        plain("restore", "sealed", "--force", "--passphrase-file", "pw")


def test_not_while_others_have_it_open(plain: Shell) -> None:
    back_up(plain, "b")
    plain("ca", "sign", "open-ca", "web.csr")
    before = state(plain)
    with (
        mock.patch("tpmhsm.store.copying._WAIT", 0.3),
        Store.open(plain.home) as store,
        store.reading() as tx,
    ):
        tx.keys.all()
        found = plain.json("restore", "b", "--force", code=5)["error"]
    assert found["code"] == "busy"
    assert "stop every" in found["hint"]
    assert state(plain) == before
    plain("restore", "b", "--force")


def test_who_has_the_old_file_writes_nothing(plain: Shell) -> None:
    """SQLite notices that the file under its hand is no longer the one of this name."""
    back_up(plain, "b")
    idle = sqlite3.connect(plain.home / "tpmhsm.db", isolation_level=None)
    plain("restore", "b", "--force")
    with pytest.raises(sqlite3.OperationalError):
        idle.execute("INSERT INTO settings VALUES ('x', '1')")
    idle.close()
    proved(plain)


def test_a_full_disk_leaves_the_home_as_it_was(plain: Shell) -> None:
    back_up(plain, "b")
    before = state(plain)
    with mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")):
        assert plain.json("restore", "b", "--force", code=5)["error"]["code"] == "full"
        assert plain.attempt("backup", "-o", "c").code == 2
    assert not (plain.path / "c").exists()
    assert state(plain) == before
    assert not [p for p in plain.home.iterdir() if "restoring" in p.name]


def test_a_file_that_is_there_is_kept(plain: Shell) -> None:
    back_up(plain, "b")
    assert plain.json("backup", "-o", "b", code=2)["error"]["code"] == "exists"
    back_up(plain, "b", "--force")


# ── killed ───────────────────────────────────────────────────────────────────


def run_for(machine: Shell, seconds: float, *words: str) -> bool:
    """Run a command and kill it after so long; whether it came to its end."""
    process = subprocess.Popen(
        machine.command(*words),
        **machine.surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return False


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, 9))]
)
def test_kills_at_random_moments(plain: Shell, part: int) -> None:
    """After each the home is the one of before or the restored one; the same command then ends."""
    back_up(plain, "old")
    plain("ca", "sign", "open-ca", "web.csr")
    back_up(plain, "new")
    began = time.monotonic()
    assert run_for(plain, 60, "restore", "new", "--force")
    whole = time.monotonic() - began
    for moment in range(KILLS):
        chosen = random.uniform(0.1, 0.9) * whole
        name = "old" if moment % 2 else "new"
        before = state(plain)
        ended = run_for(plain, chosen, "restore", name, "--force")
        if (plain.home / "tpmhsm.db").exists():
            after = state(plain)
            assert after[1:] in (before[1:], restored(plain, name)), (moment, chosen, ended)
            if ended:
                assert after[1:] == restored(plain, name)
        target = f"{moment}.backup"
        if not run_for(plain, chosen, "backup", "-o", target):
            assert not (plain.path / target).exists() or plain("show", target)
            plain("backup", "-o", target, "--force")
        plain("show", target)
        plain("restore", name, "--force")
        proved(plain)
    assert not [p for p in plain.home.iterdir() if "restoring" in p.name]


def restored(machine: Shell, name: str) -> tuple[int, bytes]:
    """What a backup's database has: certificates, the newest."""
    folder = machine.path / f"{name}.unpacked"
    if not folder.exists():
        folder.mkdir()
        subprocess.run(["tar", "xf", machine.path / name, "-C", folder], check=True)
    with Store.open(folder) as store, store.reading() as tx:
        rows = tx.certificates.all()
        return len(rows), rows[-1].der
