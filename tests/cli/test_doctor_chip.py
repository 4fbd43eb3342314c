"""Chips broken on purpose, and what `tpmhsm doctor` says of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.cli.test_doctor_setups import doctor, examined
from tests.support.old_chip import OldChip, old_chip
from tests.support.shell import RULE, Shell

from tpmhsm.errors import DeviceError
from tpmhsm.tpm import nv, software
from tpmhsm.tpm.device import open_device
from tpmhsm.wire.commands import NV_DefineSpace, NV_UndefineSpace
from tpmhsm.wire.constants import ALG, CC, NT, RH
from tpmhsm.wire.constants import NvAttributes as Attribute
from tpmhsm.wire.structures import NvPublic

PINS = {"pin": "1234\n", "wrong": "9999\n"}
SIGN = ("key", "sign", "box", "passphrase", "--pin-file", "wrong")


def finding(machine: Shell, *names: str) -> dict[str, Any]:
    """The one finding of the first check; only these checks are broken."""
    found = examined(doctor(machine), *names)
    (one,) = found[names[0]]["findings"]
    return dict(one)


@pytest.fixture
def locked(plain: Shell) -> Shell:
    """A chip with one more wrong PIN to come, of a key that has one."""
    for name, words in PINS.items():
        (plain.path / name).write_text(words)
    plain("key", "create", "box", "--policy", "pin", "--pin-file", "pin")
    for _ in range(9):
        plain(*SIGN, code=1)
    return plain


def test_a_chip_in_lockout(locked: Shell) -> None:
    found = examined(doctor(locked, code=0))
    (soon,) = found["lockout"]["findings"]
    assert "one more wrong PIN locks it" in soon["what"]
    locked(*SIGN, code=1)
    one = finding(locked, "lockout")
    assert "takes no PIN: 10 were wrong" in one["what"]
    assert "tpmhsm device unlock --recovery FILE" in one["next"]
    assert "1 hour" in one["next"]
    assert "one try comes back" in one["why"]


def test_a_chip_that_another_process_holds(plain: Shell) -> None:
    plain("key", "list")
    hold = (
        "import sys, time; from pathlib import Path; from tpmhsm.tpm.lock import Lock\n"
        f"with Lock(Path({str(plain.tpm / 'lock')!r})).held(5) as hold:\n"
        "    hold.mark(); print('held', flush=True); sys.stdin.read(); hold.clear()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        with mock.patch("tpmhsm.doctor.look_chip.PATIENCE", 0.2):
            began = time.monotonic()
            one = finding(plain, "chip")
            assert time.monotonic() - began < 10
        other.stdin.close()
    assert f"process {other.pid} has held the software TPM" in one["what"]
    assert "wait for that process" in one["next"]


def test_a_chip_whose_state_is_gone(plain: Shell) -> None:
    software.stop(plain.tpm)
    shutil.rmtree(plain.tpm / "chip")
    one = finding(plain, "chip")
    assert "no software TPM" in one["what"] and "restore" in one["next"]


def test_another_chip(plain: Shell) -> None:
    software.stop(plain.tpm)
    shutil.rmtree(plain.tpm)
    software.manufacture(plain.tpm)
    one = finding(plain, "chip")
    assert "another chip than the one this home was made for" in one["what"]


def test_an_old_state_of_the_chip(plain: Shell, place: Path) -> None:
    plain("device", "stop")
    shutil.copytree(plain.tpm / "chip", place / "old")
    for _ in range(2):
        plain("key", "sign", "web", "passphrase", "--out", "s", "--force")
        plain("device", "stop")
    assert doctor(plain, code=0)["ok"]
    plain("device", "stop")
    shutil.rmtree(plain.tpm / "chip")
    shutil.copytree(place / "old", plain.tpm / "chip")
    one = finding(plain, "chip-state")
    assert "an old state of the chip was put back: it was started" in one["what"]
    assert "put back the newest copy" in one["next"]


def test_nv_space_that_is_used_up(plain: Shell) -> None:
    attributes = NT.ORDINARY << 4 | Attribute.OWNERWRITE | Attribute.OWNERREAD | Attribute.NO_DA
    made = []
    with open_device("software", plain.home).transaction() as chip:
        index = nv.FIRST_INDEX + 0x1000
        for size in (2048, 512, 64):
            try:
                while True:
                    index += 1
                    public = NvPublic(index, ALG.SHA256, attributes, b"", size)
                    chip.send(NV_DefineSpace(RH.OWNER, b"", public))
                    made.append(index)
            except DeviceError as full:
                assert full.code == "chip-nv-space"
    one = finding(plain, "nv-space")
    assert "no more" in one["what"] and "tpm2_nvundefine" in one["next"]
    with open_device("software", plain.home).transaction() as chip:
        for index in made:
            chip.send(NV_UndefineSpace(RH.OWNER, index))
    assert doctor(plain, code=0)["state"] == "well"


def test_a_clock_that_jumped(plain: Shell) -> None:
    """Against the chip's clock, which went on evenly: nothing in the database is of the future."""
    plain("audit", "prove", "--out", "log.json")
    with mock.patch("tpmhsm.doctor.look_chip.time.time", lambda: time.monotonic() + 4e9):
        one = finding(plain, "chip-clock")
    assert "went by for the chip" in one["what"] and "timedatectl" in one["next"]
    assert doctor(plain, code=0)["state"] == "well"


# ── rosters ──────────────────────────────────────────────────────────────────


def roster_index(machine: Shell) -> int:
    return int(machine.json("group", "show", "officers")["roster_index"], 16)


def test_a_roster_that_was_removed(governed: Shell) -> None:
    with open_device("software", governed.home).transaction() as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, roster_index(governed)))
    one = finding(governed, "rosters")
    assert "its roster index is gone from the chip" in one["what"]
    assert f"tpmhsm group change officers --officers {RULE}" in one["next"]


def test_a_roster_that_was_made_anew(governed: Shell) -> None:
    index = roster_index(governed)
    with open_device("software", governed.home).transaction() as chip:
        public = nv.read_public(chip, index).public
        chip.send(NV_UndefineSpace(RH.OWNER, index))
        fresh = NvPublic(index, public.name_alg, public.attributes & ~Attribute.WRITTEN,
                         public.auth_policy, public.data_size)  # fmt: skip
        chip.send(NV_DefineSpace(RH.OWNER, b"", fresh))
    assert "its roster index was removed and made anew" in finding(governed, "rosters")["what"]
    governed.settle(governed.ask("group", "change", "officers", "--officers", RULE))
    assert doctor(governed, code=0)["ok"]


def test_an_old_database(governed: Shell, place: Path) -> None:
    """The chip's epoch is ahead."""
    governed("device", "stop")
    shutil.copy(governed.home / "tpmhsm.db", place / "old.db")
    change = ("group", "change", "officers", "--officers", "2:alice,bob,dave")
    governed.settle(governed.ask(*change))
    governed("device", "stop")
    for file in governed.home.glob("tpmhsm.db-*"):
        file.unlink()
    shutil.copy(place / "old.db", governed.home / "tpmhsm.db")
    one = finding(governed, "rosters")
    assert "the chip is in epoch 3, the database in 2" in one["what"]
    assert "restore the newest backup" in one["next"]


def test_a_chip_with_an_old_roster(governed: Shell, place: Path) -> None:
    """Put back after a change of officers: who was removed could approve again."""
    governed("device", "stop")
    shutil.copytree(governed.tpm / "chip", place / "old")
    change = ("group", "change", "officers", "--officers", "2:alice,bob,dave")
    governed.settle(governed.ask(*change))
    governed("device", "stop")
    shutil.rmtree(governed.tpm / "chip")
    shutil.copytree(place / "old", governed.tpm / "chip")
    found = {one["name"]: one for one in doctor(governed)["checks"]}
    (one,) = found["rosters"]["findings"]
    assert "the chip is in epoch 2, the database in 3" in one["what"]
    assert "officers who were removed are in force again" in one["why"]


# ── chips behind a filter ────────────────────────────────────────────────────


def test_a_chip_without_what_groups_need(bare: Shell) -> None:
    with old_chip() as chip:
        bare("--tpm", f"swtpm:{chip.socket}", "init")
        found = examined(bare.json("--tpm", f"swtpm:{chip.socket}", "doctor"))
    (one,) = found["abilities"]["findings"]
    assert "no TPM2_PolicyAuthorizeNV" in one["what"] and "static" in one["why"]
    assert "tpmhsm device probe" in one["next"]


FAILURE = 0x101


@dataclass
class FailedChip(OldChip):
    """In failure mode it answers TPM2_GetTestResult and TPM2_GetCapability alone (Part 1 §12.2)."""

    failed: bool = False

    def answer(self, command: bytes, ask: Any) -> bytes:
        code = int.from_bytes(command[6:10], "big")
        if not self.failed or code == CC.GetCapability:
            return super().answer(command, ask)
        if code == CC.GetTestResult:
            return bytes.fromhex("8001 00000010 00000000 0000 00000101")
        return bytes.fromhex("8001 0000000a 00000101")


@pytest.fixture
def failing() -> Iterator[FailedChip]:
    with (
        mock.patch("tests.support.old_chip.OldChip", FailedChip),
        old_chip(CC.CertifyX509, pin_pass=True) as chip,
    ):
        assert isinstance(chip, FailedChip)
        yield chip


def test_a_chip_that_failed_its_self_test(bare: Shell, failing: FailedChip) -> None:
    where = ("--tpm", f"swtpm:{failing.socket}")
    bare(*where, "init")
    assert bare.json(*where, "doctor")["ok"]
    failing.failed = True
    found = examined(bare.json(*where, "doctor", code=1), "chip")
    (one,) = found["chip"]["findings"]
    assert "failed its self-test (0x101)" in one["what"]
    assert "switch the machine off and on" in one["next"]


def test_a_chip_that_does_not_answer(bare: Shell) -> None:
    with old_chip() as chip:
        where = ("--tpm", f"swtpm:{chip.socket}")
        bare(*where, "init")
    found = examined(bare.json(*where, "doctor", code=1), "chip")
    (one,) = found["chip"]["findings"]
    assert str(chip.socket) in one["what"]
