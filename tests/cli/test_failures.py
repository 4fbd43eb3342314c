"""Things that fail under a command: the chip, the disk, the database; and two commands at once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.cli.test_power_failure import GROUP, GUARDED, consistent, last_approval
from tests.support.cli import Home, Result
from tests.support.crashes import CHANGES
from tests.support.disks import fill, mounted
from tests.support.shell import Shell, stranger_csr

from tpmhsm.store import Store
from tpmhsm.tpm import software
from tpmhsm.tpm.chip import Chip

# ── the chip ─────────────────────────────────────────────────────────────────


def kill(machine: Shell, what: str) -> None:
    """Kill the software TPM, its keeper, or both, as an administrator or the kernel might."""
    running = software.state(machine.tpm)
    if "keeper" in what and running.keeper:
        os.kill(running.keeper, signal.SIGKILL)
    if "swtpm" in what and running.swtpm:
        os.kill(running.swtpm, signal.SIGKILL)


def vanishing(machine: Shell, number: int, what: str) -> Any:
    """The chip is killed before the `number`-th command that changes it or signs."""
    send, lock, count = Chip.send, threading.Lock(), 0

    def watched(chip: Chip, command: Any, *auths: Any) -> Any:
        nonlocal count
        if type(command).__name__ in CHANGES:
            with lock:
                count += 1
            if count == number:
                kill(machine, what)
        return send(chip, command, *auths)

    return mock.patch.object(Chip, "send", watched)


@pytest.mark.parametrize("what", ["swtpm", "swtpm and keeper"])
@pytest.mark.parametrize(
    "words",
    [
        ("key", "create", "new"),
        ("key", "sign", "web", "passphrase"),
        ("csr", "create", "web", "--subject", "CN=x", "--out", "x.csr"),
        ("ca", "create", "new-ca", "--key", "web", "--subject", "CN=x"),
        ("ca", "sign", "open-ca", "web.csr", "--out", "x.pem"),
        GROUP,
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value,
)
def test_a_chip_that_vanishes_midway(plain: Shell, words: tuple[str, ...], what: str) -> None:
    files = set(os.listdir(plain.path))
    plain("device", "show")
    with vanishing(plain, 1, what):
        error = plain.json(*words, code=4)["error"]
    assert error["code"] == "device-vanished"
    assert set(os.listdir(plain.path)) == files
    consistent(plain)
    plain(*words, code=3 if words == GROUP else 0)
    consistent(plain)


def test_a_chip_that_vanishes_while_a_group_is_founded(plain: Shell) -> None:
    words, approved, number = last_approval(plain, *GROUP)
    with vanishing(plain, 2, "swtpm"):
        error = plain.json(*words, code=4)["error"]
    assert error["approval"] == "kept"
    assert f"tpmhsm request execute {number}" in error["hint"]
    for count in (1, 2):
        with vanishing(plain, count, "swtpm"):
            plain("request", "execute", str(number), code=4)
    assert "approved, not executed" in plain("status").out
    approved(plain)
    consistent(plain)


def test_a_keeper_takes_its_chip_along(plain: Shell) -> None:
    plain("device", "show")
    with vanishing(plain, 1, "keeper"):
        plain("key", "create", "new", code=4)
    plain("key", "create", "new")
    plain("key", "sign", "new", "passphrase")


def test_a_home_whose_chip_is_gone(plain: Shell) -> None:
    software.stop(plain.tpm)
    shutil.rmtree(plain.tpm / "chip")
    error = plain.json("key", "sign", "web", "passphrase", code=4)["error"]
    assert "no software TPM" in error["message"]
    found = plain.json("status")
    assert found["ok"] is False
    assert found["device"]["ok"] is False
    plain("key", "list")
    plain("cert", "list")


def test_a_home_with_another_chip(plain: Shell, place: Path) -> None:
    software.stop(plain.tpm)
    shutil.rmtree(plain.tpm)
    software.manufacture(plain.tpm)
    words = plain.json("key", "sign", "web", "passphrase", code=2)["error"]
    assert "another chip" in words["message"] + words["hint"]
    assert plain.json(*GROUP, code=1)["error"]["code"] == "other-chip"


def test_a_chip_that_is_not_there(bare: Shell) -> None:
    for tpm in ("device:/dev/no-tpm", f"swtpm:{bare.path}/no-socket"):
        assert bare.json("--tpm", tpm, "init", code=4)["error"]["code"] == "device-missing"


def test_no_swtpm_installed(bare: Shell) -> None:
    with mock.patch.dict(os.environ, {"PATH": str(bare.path)}):
        error = bare.json("--tpm", "software", "init", code=4)["error"]
    assert "apt install swtpm" in error["hint"]
    bare("init")


# ── the disk ─────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    with mounted(place, "8m") as disk:
        yield disk


def test_a_full_disk(governed_template: Shell, small_disk: Path) -> None:
    machine = governed_template.copy(small_disk / "m")
    number = str(machine.ask(*GUARDED))
    digest = machine.json("request", "show", number)["digest"]
    stranger = stranger_csr(machine)
    machine("device", "stop")
    filler = fill(small_disk)
    flows: list[tuple[tuple[str, ...], tuple[int, ...]]] = [
        (("key", "create", "new"), (4, 5)),
        (("csr", "create", "web", "--subject", "CN=x", "--out", "x.csr"), (2, 4, 5)),
        (("ca", "sign", "open-ca", stranger, "--out", "x.pem"), (4, 5)),
        (("cert", "export", "open-ca", "--out", "x.pem"), (2, 5)),
        (
            ("approver", "create", "erin", "-i", "erin.key", "--passphrase-file", "passphrase"),
            (2, 5),
        ),
        (("request", "export", number), (2, 5)),
        (("request", "cancel", number), (5,)),
        (GROUP, (4, 5)),
    ]
    before = set(os.listdir(machine.path))
    for words, codes in flows:
        result = machine.attempt("--json", *words)
        assert result.code in codes, (words, result.out)
        assert "Traceback" not in result.err
        assert set(os.listdir(machine.path)) - before <= {"erin.key"}
    result = machine.attempt("--home", str(small_disk / "new"), "init")
    assert result.code in (4, 5), result.err
    filler.unlink()
    for words, _ in flows[:-2]:
        machine(*words, "--force") if "--out" in words else machine(*words)
    for name in ("alice", "carol"):
        machine.approve(number, name, digest)
    assert machine.json("request", "show", number)["state"] == "executed"
    consistent(machine)
    machine.close()


def test_a_result_that_cannot_be_written_is_not_lost(plain: Shell, small_disk: Path) -> None:
    """The certificate is issued and kept; the file is refused; the error says how to get it."""
    fill(small_disk)
    target = str(small_disk / "x.pem")
    error = plain.json("ca", "sign", "open-ca", "web.csr", "--out", target, code=2)["error"]
    assert "No space left" in error["message"]
    assert "cert export" in error["hint"]
    sha256 = error["sha256"]
    plain("cert", "export", sha256[:16], "--out", "x.pem")
    assert plain.json("cert", "show", "x.pem")["sha256"] == sha256
    assert os.listdir(small_disk) == ["filler"]


def test_a_place_that_is_no_place(plain: Shell) -> None:
    count = len(plain.json("cert", "list")["items"])
    for target in ("no/such/dir/x", ".", "web.csr"):
        plain("ca", "sign", "open-ca", "web.csr", "--out", target, code=2)
    assert len(plain.json("cert", "list")["items"]) == count
    plain("ca", "sign", "open-ca", "web.csr", "--out", "/dev/null")
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.csr", "--force")
    assert plain.json("cert", "show", "web.csr")["issuer"] == "CN=Open Root,O=Example"


# ── the database ─────────────────────────────────────────────────────────────


def test_a_locked_database(plain: Shell) -> None:
    other = sqlite3.connect(plain.home / "tpmhsm.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        opened = Store.open

        def impatient(where: Any, *, create: bool = False, timeout: float = 0.3) -> Store:
            return opened(where, create=create, timeout=timeout)

        with mock.patch.object(Store, "open", impatient):
            plain("key", "list")  # reading waits for nobody
            for words in (
                ("key", "create", "new"),
                ("key", "delete", "web"),
                ("ca", "sign", "open-ca", "web.csr", "--out", "x.pem"),
                ("approver", "add", "alice.card"),
                ("trust", "add", "bob.card"),
            ):
                error = plain.json(*words, code=5)["error"]
                assert error["code"] == "busy"
                assert "another process" in error["message"]
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert not (plain.path / "x.pem").exists()
    consistent(plain)
    plain("key", "create", "new")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no database": lambda file: file.write_bytes(b"this is something else\n" * 100),
    "short": lambda file: file.write_bytes(b"x"),
    "pages": lambda file: file.write_bytes(
        file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096)
    ),
    "cut": lambda file: os.truncate(file, 5000),
    "another program's": lambda file: (file.unlink(), sqlite3.connect(file).execute(
        "create table t (x)").connection.close()),
    "a directory": lambda file: (file.unlink(), file.mkdir()),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_database(plain: Shell, how: str) -> None:
    file = plain.home / "tpmhsm.db"
    DAMAGE[how](file)
    before = file.read_bytes() if file.is_file() else b""
    for words in (("status",), ("key", "list"), ("key", "create", "x"), ("init",),
                  ("trust", "list"), ("approve", "1", "--as", "x", "-i", "alice.key")):  # fmt: skip
        error = plain.json(*words, code=5)["error"]
        assert error["code"] in ("corrupt", "denied"), (words, error)
        assert error["message"]
    if file.is_file():
        assert file.read_bytes() == before
        file.unlink()
    else:
        file.rmdir()
    for rest in plain.home.glob("tpmhsm.db-*"):
        rest.unlink()


def test_no_database(bare: Shell) -> None:
    for words in (("status",), ("key", "list"), ("group", "list"), ("request", "list"),
                  ("approver", "list"), ("ca", "list"), ("device", "show"),
                  ("device", "export"), ("cert", "list")):  # fmt: skip
        error = bare.json(*words, code=5)["error"]
        assert "tpmhsm init" in error["hint"]
    assert not bare.home.exists()


def test_facts_of_the_device_that_make_no_sense(plain: Shell) -> None:
    with Store.open(plain.home) as store, store.transaction() as tx:
        tx.settings.set("device", {"kind": "software TPM", "ek_certificates": [1]})
    assert plain.json("device", "show", code=5)["error"]["code"] == "corrupt"
    assert plain.json("key", "create", "x", code=5)["error"]["code"] == "corrupt"


# ── two at once ──────────────────────────────────────────────────────────────


def together(machine: Shell, *commands: tuple[str, ...]) -> list[Result]:
    """Run commands at the same time, each in a process of its own."""
    home = Home(machine.path)

    def one(words: tuple[str, ...]) -> Result:
        done = subprocess.run(
            home.command(*words), **home.surroundings(), capture_output=True, check=False
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.err
        return result

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(one, commands))


def approving(number: int, name: str, digest: str) -> tuple[str, ...]:
    return ("approve", str(number), "--as", name, "-i", f"{name}.key",
            "--passphrase-file", "passphrase", "--expect", digest)  # fmt: skip


@pytest.mark.parametrize("asked", [GUARDED, GROUP], ids=["certificate", "group"])
def test_three_approve_at_once(governed: Shell, asked: tuple[str, ...]) -> None:
    number = governed.ask(*asked)
    digest = governed.json("request", "show", str(number))["digest"]
    people = ("alice", "bob", "carol")
    results = together(governed, *(approving(number, name, digest) for name in people))
    codes = sorted(result.code for result in results)
    assert codes in ([0, 0, 0], [0, 0, 2]), [result.err for result in results]
    found = governed.json("request", "show", str(number))
    assert found["state"] == "executed"
    assert len(found["approvals"]) >= 2
    consistent(governed)


def test_two_execute_at_once(governed: Shell) -> None:
    words, _, number = last_approval(governed, *GUARDED)
    with vanishing(governed, 1, "swtpm"):
        governed(*words, code=4)
    execute = ("request", "execute", str(number))
    results = together(governed, execute, execute, execute)
    assert [result.code for result in results] == [0, 0, 0], [r.err for r in results]
    consistent(governed)
    assert len(governed.json("cert", "list")["items"]) == 3


def test_two_sign_at_once(plain: Shell) -> None:
    sign = ("--json", "ca", "sign", "open-ca", "web.csr")
    results = together(plain, *[sign] * 4)
    assert [result.code for result in results] == [0] * 4, [r.err for r in results]
    assert len({result.json["serial"] for result in results}) == 4
    consistent(plain)


def test_two_make_the_same_at_once(plain: Shell) -> None:
    for words, codes in (
        (("key", "create", "new"), [0, 2, 2]),
        (("ca", "create", "new-ca", "--key", "web", "--subject", "CN=x"), None),
        (("csr", "create", "web", "--subject", "CN=x", "--out", "x.csr"), [0, 2, 2]),
        (GROUP, None),
    ):
        results = together(plain, *[words] * 3)
        found = sorted(result.code for result in results)
        said = [result.err for result in results]
        if codes:
            assert found == codes, said
        elif words == GROUP:
            assert set(found) <= {2, 3} and 3 in found, said
        else:
            assert set(found) <= {0, 2} and 0 in found, said
    consistent(plain)
    assert len(plain.json("request", "list")["items"]) == 1
    assert plain.json("ca", "show", "new-ca")["state"] == "active"


def test_two_set_up_the_same_home(bare: Shell) -> None:
    results = together(bare, ("init",), ("init",), ("init",))
    assert [result.code for result in results] == [0, 0, 0], [r.err for r in results]
    consistent(bare)
    assert bare("status").out.startswith("all is well")
    bare.close()
