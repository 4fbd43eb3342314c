"""Root puts a backup back: of the database, and of a software TPM's state."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from tests.support.machines import governed, governed_template, place, plain_template
from tests.support.shell import Shell

from tpmhsm.home import sealed
from tpmhsm.home.container import read_backup, write_backup

__all__ = ["governed", "governed_template", "place", "plain_template"]

CHANGED = ("group", "change", "officers", "--officers")


@pytest.fixture(autouse=True)
def _less_work() -> Iterator[None]:
    with mock.patch.object(sealed, "_P", 1):
        yield


def code_of(machine: Shell, *words: str) -> str:
    """The chip's code, or else the program's, for a command that is refused."""
    error = machine.attempt("--json", *words).json["error"]
    return str(error.get("rc", error["code"]))


def change(machine: Shell, officers: str) -> None:
    machine.settle(machine.ask(*CHANGED, officers))


def votes(machine: Shell, number: int, *people: str) -> None:
    """Approvals of people whose tools remember nothing of the time since."""
    digest = machine.json("request", "show", str(number))["digest"]
    for name in people[:-1]:
        machine.approve(str(number), name, digest)
    last = ("approve", str(number), "--as", people[-1], "-i", f"{people[-1]}.key")
    machine.attempt(*last, "--passphrase-file", "passphrase", "--expect", digest)


def test_officers_of_a_restored_database(governed: Shell) -> None:
    """Carol was removed after the backup. Database, request and approvals are of before; the chip
    is of now, and nobody's tool approves by the database's roster.
    """
    number = str(governed.ask("ca", "sign", "root-ca", "web.csr"))
    governed("request", "export", number, "--out", "r")
    digest = governed.json("request", "show", number)["digest"]
    for name in ("alice", "carol"):
        last = ("approve", "r", "--as", name, "-i", f"{name}.key", "--out", f"{name}.old")
        governed(*last, "--passphrase-file", "passphrase", "--expect", digest)
    governed("backup", "-o", "old")
    change(governed, "2:alice,bob,dave")
    governed("restore", "old", "--force", code=1)
    governed("request", "import", "alice.old")
    assert code_of(governed, "request", "import", "carol.old") == "0x126"
    fresh = governed.ask("ca", "crl", "root-ca")
    digest = governed.json("request", "show", str(fresh))["digest"]
    asked = ("approve", str(fresh), "--as", "carol", "-i", "carol.key", "--expect", digest)
    assert code_of(governed, *asked, "--passphrase-file", "passphrase") == "state"


def test_units_of_a_restored_database(governed: Shell) -> None:
    """What was used stays used: the chip counts, not the database."""
    governed("key", "create", "paid", "--policy", "budget(officers)")
    governed.settle(governed.ask("key", "grant", "paid", "2"))
    governed("backup", "-o", "old")
    sign = ("key", "sign", "paid", "web.csr", "--force", "-o", "s")
    for _ in range(2):
        governed(*sign)
    governed("restore", "old", "--force")
    assert code_of(governed, *sign) == "0x12f"


def test_a_backup_written_by_root(governed: Shell) -> None:
    """Without a passphrase nothing says who wrote it; with one, only who knows it can."""
    with_pass = ("--passphrase-file", "passphrase")
    governed("backup", "-o", "sealed", *with_pass)
    governed("backup", "-o", "plain")
    unpacked = governed.path / "u"
    manifest = read_backup(io.BytesIO((governed.path / "plain").read_bytes()), unpacked)
    out = io.BytesIO()
    facts = {**manifest.facts, "made": "2026-01-01T00:00:00Z"}
    write_backup(out, facts, {part.name: unpacked / part.name for part in manifest.parts})
    (governed.path / "plain").write_bytes(out.getvalue())
    assert governed.json("show", "plain")["made"] == "2026-01-01T00:00:00Z"
    data = (governed.path / "sealed").read_bytes()
    head = data.index(b"\n") + 1
    for changed in (data[:head] + out.getvalue(), data[:-1] + b"\0"):
        (governed.path / "sealed").write_bytes(changed)
        found = code_of(governed, "restore", "sealed", "--force", *with_pass)
        assert found in ("wrong-passphrase", "damaged")


def test_a_stick_that_is_stolen(governed: Shell, place: Path) -> None:
    """The chip's state is encrypted before it is on the disk that the backup goes to: what was
    there in clear could be found on it after it was removed.
    """
    stick = place / "stick"
    stick.mkdir()
    seen = []

    def write(*given: object) -> object:
        made = write_backup(*given)  # type: ignore[arg-type]
        seen.extend(path.name for path in stick.rglob("*"))
        return made

    words = ("--with-software-tpm", "--passphrase-file", "passphrase")
    with mock.patch("tpmhsm.home.container.write_backup", write):
        governed("backup", "-o", str(stick / "b"), *words)
    assert len(seen) == 1 and seen[0].endswith(".part")
    assert [path.name for path in stick.iterdir()] == ["b"]
    assert not list(governed.home.glob("*.copying"))


def test_settings_that_run_something(governed: Shell, place: Path) -> None:
    """Without a passphrase anybody writes the settings, too; whoever restores is told what runs."""
    (governed.path / "home/tpmhsm.toml").write_text(
        '[requests]\nhook = ["/tmp/evil\\u001b[2J", "-x"]\n'
    )
    governed("backup", "-o", "old")
    other = Shell(place / "fresh")
    other.path.mkdir()
    shutil.copy(governed.path / "old", other.path)
    said = other.attempt("restore", "old").out
    assert "has this machine run /tmp/evil" in said and "\x1b" not in said
    other.close()


def test_a_hold_undone_by_older_records(governed: Shell) -> None:
    """A certificate was held and released; it is held again. Records of before do not end that."""
    governed("ca", "sign", "open-ca", "web.csr", "-o", "web.pem")
    governed("ca", "hold", "open-ca", "web.pem")
    governed("ca", "release", "open-ca", "web.pem")
    governed("backup", "-o", "old")
    time.sleep(1.1)  # a CRL's dates have whole seconds
    governed("ca", "hold", "open-ca", "web.pem")
    assert governed.json("restore", "old", "--records")["revocations"] == 0
    assert governed.json("ca", "crl", "open-ca")["entries"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's directory")
def test_a_place_of_another_users(governed: Shell) -> None:
    """Where others can write, one was there before; what is unpacked in it is theirs."""
    governed("backup", "-o", "old")
    for stage in (governed.path / ".fresh.restoring", governed.path / "home/.restoring"):
        stage.mkdir(mode=0o777)
        os.chown(stage, 65534, 65534)
        home = stage.parent / "fresh" if stage.parent == governed.path else stage.parent
        assert code_of(governed, "--home", str(home), "restore", "old", "--force") == "denied"
        assert list(stage.iterdir()) == []
        stage.rmdir()


def test_the_state_of_a_software_tpm_put_back(governed: Shell, place: Path) -> None:
    """The one thing that a backup can turn back, and no hardware chip lets be turned back: an
    officer who was removed signs again.
    """
    with_pass = ("--passphrase-file", "passphrase")
    governed("backup", "-o", "old", "--with-software-tpm", *with_pass)
    change(governed, "2:alice,bob,dave")
    governed("device", "stop")
    other = Shell(place / "o")
    other.path.mkdir()
    for name in ("old", "passphrase", "web.csr", "alice.key", "carol.key"):
        shutil.copy(governed.path / name, other.path)
    other("restore", "old", *with_pass)
    number = other.ask("ca", "sign", "root-ca", "web.csr")
    votes(other, number, "alice", "carol")
    assert other.json("request", "show", str(number))["state"] == "executed"
    other.close()


def test_the_memory_of_a_home_put_back(governed: Shell, place: Path) -> None:
    """It would otherwise approve a second roster for an epoch: it knows an earlier day."""
    own = Shell(place / "own")
    own.path.mkdir()
    shutil.copy(governed.path / "passphrase", own.path)
    own.person("erin")
    own("backup", "-o", "old")
    assert own.json("trust", "list")["items"]
    found = own("restore", "old", "--force").out
    assert "what erin approved after that is forgotten" in found
    kinds = {one["kind"] for one in own.json("trust", "list")["items"]}
    assert "own" not in kinds
