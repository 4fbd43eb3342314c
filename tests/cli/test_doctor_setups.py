"""Set-ups broken on purpose, and what `tpmhsm doctor` says of them: home, programs, rights."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.support.cli import Home, Result
from tests.support.devices import with_devices
from tests.support.disks import fill, mounted
from tests.support.rights import without_power
from tests.support.shell import Shell

from tpmhsm.doctor.checks import CHECKS
from tpmhsm.errors import DeviceError
from tpmhsm.tpm import software

KEYS = {"what", "where", "why", "next", "broken"}


def examined(found: dict[str, Any], *names: str) -> dict[str, Any]:
    """The findings of these checks, which must be all that are broken; each one is explained."""
    broken = {one["name"] for one in found["checks"] if one["state"] == "broken"}
    assert broken == set(names), broken
    for one in found["checks"]:
        for finding in one["findings"]:
            assert set(finding) == KEYS and all(finding[key] for key in KEYS - {"broken"}), finding
    assert found["ok"] is (not names)
    return {one["name"]: one for one in found["checks"]}


def doctor(machine: Home, *arguments: str | Path, code: int = 1) -> dict[str, Any]:
    return machine.json("doctor", *arguments, code=code)


def powerless(machine: Shell, *arguments: str) -> Result:
    """A command of a user whom modes stop."""
    command = without_power(machine.command(*arguments))
    done = subprocess.run(
        command, **machine.surroundings(), capture_output=True, timeout=120, check=False
    )
    result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.err and "fault of" not in result.out + result.err, result
    return result


def test_all_is_well(governed: Shell) -> None:
    found = examined(doctor(governed, code=0))
    assert {one["state"] for one in found.values()} == {"well"}, found
    assert "no hardware" in found["chip"]["seen"]
    assert found["rosters"]["seen"].startswith("officers in epoch ")
    said = governed("doctor").out
    assert "!" not in said and "not seen" not in said


def test_a_machine_without_a_home(bare: Shell) -> None:
    found = examined(doctor(bare), "home")
    assert "tpmhsm init" in found["home"]["findings"][0]["next"]
    assert found["lockout"]["state"] == found["people"]["state"] == "unseen"
    assert not bare.home.exists(), "looking makes nothing"
    said = bare("doctor", code=1).out
    assert "not seen: the chip cannot be asked: lockout, " in said


def test_an_approvers_home_needs_no_chip(bare: Shell) -> None:
    bare.person("alice")
    found = examined(doctor(bare, code=0))
    assert {one["state"] for one in found.values()} == {"well"}
    assert "an approver's home needs none" in found["chip"]["seen"] and "lockout" not in found


def test_an_unreadable_home(governed: Shell) -> None:
    governed("device", "stop")
    governed.home.chmod(0)
    try:
        result = powerless(governed, "--json", "doctor")
    finally:
        governed.home.chmod(0o700)
    assert result.code == 1, result
    found = examined(json.loads(result.out), "home")
    (finding,) = found["home"]["findings"]
    assert "mode 0000" in finding["what"]
    assert f"chmod 700 {governed.home}" in finding["next"]
    assert doctor(governed, code=0)["ok"]


@pytest.mark.parametrize("missing", ["swtpm", "swtpm_setup"])
def test_no_swtpm(plain: Shell, place: Path, missing: str) -> None:
    plain("device", "stop")
    programs = place / "bin"
    programs.mkdir()
    for name in {"swtpm", "swtpm_setup", "swtpm_localca"} - {missing}:
        (programs / name).write_text("#!/bin/sh\nexec /usr/bin/" + name + ' "$@"\n')
        (programs / name).chmod(0o755)
    with mock.patch.dict(os.environ, {"PATH": str(programs)}):
        found = examined(doctor(plain), "software-tpm")
    (finding,) = found["software-tpm"]["findings"]
    assert f"{missing} is not installed" in finding["what"]
    assert "apt install swtpm" in finding["next"]
    assert found["chip"]["state"] == ("unseen" if missing == "swtpm" else "well")


def test_no_card_daemon(plain: Shell, place: Path) -> None:
    pytest.importorskip("yubikit")
    with mock.patch.dict(os.environ, {"PCSCLITE_CSOCK_NAME": str(place / "nobody")}):
        result = Home(plain.path).json("doctor", "-i", "yubikey", code=1)
    found = examined(result, "cards")
    (finding,) = found["cards"]["findings"]
    assert "daemon does not answer" in finding["what"]
    assert "apt-get install pcscd" in finding["next"]
    assert "cards" not in examined(doctor(plain, code=0)), "nobody here has a YubiKey"


def test_no_card_daemon_for_whoever_has_a_yubikey(bare: Shell) -> None:
    pytest.importorskip("yubikit")
    bare.person("alice")
    kind = mock.patch("tpmhsm.doctor.look_records._is_yubikeys", lambda card: b"alice" in card)
    with kind, mock.patch("tpmhsm.approval.piv._context", side_effect=no_service()):
        found = examined(doctor(bare), "cards")
    assert "apt-get install pcscd" in found["cards"]["findings"][0]["next"]


def no_service() -> DeviceError:
    hint = "apt-get install pcscd; systemctl start pcscd.socket"
    return DeviceError("the smart card daemon does not answer", code="no-card-service", hint=hint)


def test_every_check_has_a_paragraph() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    named = re.findall(r"^\* ((?:`[a-z-]+`(?:, )?)+):", page, re.MULTILINE)
    found = [name for words in named for name in re.findall(r"`([a-z-]+)`", words)]
    assert found == list(CHECKS)


# ── home and disk ────────────────────────────────────────────────────────────


def test_a_home_that_others_can_write(plain: Shell) -> None:
    plain.home.chmod(0o757)
    (plain.home / "tpmhsm.db").chmod(0o644)
    found = examined(doctor(plain), "privacy")
    whole, database = found["privacy"]["findings"]
    assert whole["broken"] and "others may write" in whole["what"]
    assert not database["broken"] and "tpmhsm.db (mode 0644)" in database["what"]
    assert f"chmod 700 {plain.home}" in whole["next"]
    plain.home.chmod(0o700)
    assert examined(doctor(plain, code=0))["privacy"]["state"] == "well", "closed above it"


def test_files_of_another_user(plain: Shell) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    plain("device", "stop")
    os.chown(plain.home / "tpmhsm.db", 65534, 65534)
    found = examined(json.loads(powerless(plain, "--json", "doctor").out), "database")
    assert "cannot be opened" in found["database"]["findings"][0]["what"]
    (finding,) = found["owners"]["findings"]
    assert "tpmhsm.db is nobody's" in finding["what"]
    assert f"chown -R root: {plain.home}" in finding["next"]


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    with mounted(place, "16m") as disk:
        yield disk


def test_a_full_disk(plain_template: Shell, small_disk: Path) -> None:
    machine = plain_template.copy(small_disk / "m")
    machine("key", "list")
    filler = fill(small_disk)
    found = {one["name"]: one for one in doctor(machine)["checks"]}
    (finding,) = found["disk"]["findings"]
    assert "the disk is full: 0 bytes are left" in finding["what"]
    assert f"df -h {machine.home}" in finding["next"]
    filler.unlink()
    found = examined(doctor(machine, code=0))
    assert found["disk"]["state"] == "attention", "16 MB are little"
    machine.close()


def test_a_read_only_file_system(plain_template: Shell, small_disk: Path) -> None:
    machine = plain_template.copy(small_disk / "m")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = {one["name"]: one for one in doctor(machine)["checks"]}
    (finding, _) = found["disk"]["findings"]
    assert "read-only" in finding["what"] and "mount -o remount,rw" in finding["next"]
    assert found["database"]["state"] == "broken"


def test_settings_that_cannot_be_read(plain: Shell) -> None:
    toml = plain.home / "tpmhsm.toml"
    toml.write_text('[requests]\nhook = ["/nowhere/hook"]\n')
    found = examined(doctor(plain, code=0))
    assert "/nowhere/hook, which cannot be read" in found["settings"]["findings"][0]["what"]
    toml.write_text("[requests\n")
    found = examined(doctor(plain), "settings")
    (finding,) = found["settings"]["findings"]
    assert "is not TOML" in finding["what"] and str(toml) in finding["next"]


# ── the database ─────────────────────────────────────────────────────────────


@pytest.fixture
def wreck(plain_template: Shell, place: Path) -> Iterator[Shell]:
    """A machine that is not whole again at the end."""
    machine = plain_template.copy(place / "wreck")
    yield machine
    software.stop(machine.tpm)


def database_finding(machine: Shell) -> dict[str, Any]:
    found = examined(doctor(machine), "database")
    (finding,) = found["database"]["findings"]
    assert found["log"]["state"] == found["people"]["state"] == "unseen"
    return dict(finding)


def test_a_database_that_is_gone(wreck: Shell) -> None:
    (wreck.home / "tpmhsm.db").unlink()
    finding = database_finding(wreck)
    assert "there is no database" in finding["what"]
    assert "tpmhsm restore" in finding["next"]


def test_a_database_of_a_newer_version(wreck: Shell) -> None:
    with closing(sqlite3.connect(wreck.home / "tpmhsm.db")) as raw, raw:
        raw.execute("UPDATE tpmhsm_version SET version_num = '9999'")
    finding = database_finding(wreck)
    assert "newer version" in finding["what"]
    assert "install the newer version" in finding["next"]


def test_a_damaged_database(wreck: Shell) -> None:
    wreck("device", "stop")
    file = wreck.home / "tpmhsm.db"
    file.write_bytes(b"no database" * 1000)
    finding = database_finding(wreck)
    assert "is damaged" in finding["what"]
    assert "backup" in finding["next"]


def test_a_database_that_another_holds(plain: Shell) -> None:
    with closing(sqlite3.connect(plain.home / "tpmhsm.db", isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with mock.patch("tpmhsm.doctor.look_records.PATIENCE", 0.2):
            finding = database_finding(plain)
    assert "another process holds the database" in finding["what"]


def test_a_log_that_was_changed(wreck: Shell) -> None:
    with closing(sqlite3.connect(wreck.home / "tpmhsm.db")) as raw, raw:
        (trigger,) = raw.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%update'"
        ).fetchone()
        raw.execute(f"DROP TRIGGER {trigger.split()[2]}")
        raw.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
        raw.execute(trigger)
    found = examined(doctor(wreck), "log")
    (finding,) = found["log"]["findings"]
    assert "entry 3" in finding["what"]
    assert "tpmhsm doctor store" in finding["next"]


# ── the clock ────────────────────────────────────────────────────────────────


def test_a_clock_that_went_back(plain: Shell) -> None:
    with mock.patch("tpmhsm.store.audit.now", return_value="2031-05-01T00:00:00Z"):
        plain("key", "create", "later")
    found = examined(doctor(plain), "clock")
    (finding,) = found["clock"]["findings"]
    assert "of the log is of 2031-05-01" in finding["what"]
    assert "timedatectl" in finding["next"]


def test_a_clock_that_was_never_set(plain: Shell) -> None:
    with mock.patch("tpmhsm.doctor.look_machine.time.time", return_value=86400.0 * 365):
        found = {one["name"]: one for one in doctor(plain)["checks"]}
    first, second = found["clock"]["findings"]
    assert "the clock says 1971-01-01" in first["what"]
    assert "entry" in second["what"]


# ── the device file ──────────────────────────────────────────────────────────


def run(machine: Shell, command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, **machine.surroundings(), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done
    return dict(json.loads(done.stdout))


DEVICE = ("--json", "--tpm", "device:/dev/tpmrm0", "doctor")


def test_no_rights_to_the_device(plain: Shell, place: Path) -> None:
    make = ("mknod -m 660 /dev/tpmrm0 c 1 3", "chgrp tss /dev/tpmrm0 || chgrp 1 /dev/tpmrm0",
            "chown nobody /dev/tpmrm0")  # fmt: skip
    command = with_devices(place, without_power(plain.command(*DEVICE)), *make)
    found = examined(run(plain, command), "rights")
    (finding,) = found["rights"]["findings"]
    assert "may not use /dev/tpmrm0 (mode 0660, nobody:" in finding["what"]
    assert "usermod -aG" in finding["next"] and "log in anew" in finding["next"]
    assert found["chip"]["state"] == "unseen"


def test_a_device_without_resource_manager(plain: Shell, place: Path) -> None:
    command = with_devices(place, plain.command(*DEVICE), "mknod /dev/tpm0 c 1 3")
    (finding,) = examined(run(plain, command), "rights")["rights"]["findings"]
    assert "there is /dev/tpm0 alone" in finding["what"]
    assert "Linux 4.12" in finding["next"]


def test_a_chip_that_is_left_unused(plain: Shell, place: Path) -> None:
    make = ("mknod -m 600 /dev/tpmrm0 c 1 3", "chown nobody /dev/tpmrm0")
    command = without_power(plain.command("--json", "doctor"))
    done = subprocess.run(
        with_devices(place, command, *make),
        **plain.surroundings(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = examined(json.loads(done.stdout))
    (finding,) = found["unused-chip"]["findings"]
    assert "this home has a software TPM" in finding["what"]
    assert "usermod -aG tss" in finding["next"]


def test_no_device_at_all(plain: Shell) -> None:
    found = examined(plain.json("--tpm", "device:/dev/no-tpm", "doctor", code=1), "rights")
    (finding,) = found["rights"]["findings"]
    assert "there is no /dev/no-tpm" in finding["what"] and "firmware" in finding["next"]


def test_a_device_that_is_a_file(plain: Shell, place: Path) -> None:
    (place / "tpmrm0").write_bytes(b"")
    found = plain.json("--tpm", f"device:{place}/tpmrm0", "doctor", code=1)
    (finding,) = examined(found, "rights")["rights"]["findings"]
    assert "an ordinary file, not a TPM" in finding["what"]
