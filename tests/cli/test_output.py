"""What is written where: colours, full disks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.shell import Shell

FULL = Path("/dev/full")


def csr_of(machine: Shell) -> str:
    machine("csr", "create", "web", "--san", "dns:www.example.com", "--out", "www.csr")
    return "www.csr"


def test_facts_beside_a_certificate_on_stdout_are_plain_words(plain: Shell) -> None:
    done = plain("ca", "sign", "open-ca", csr_of(plain))
    assert done.out.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "Authority  open-ca\n" in done.err
    assert "\\u{1b}" not in done.err


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["cert", "list"], ["--json", "cert", "list"], ["--json", "x"]])
def test_a_full_disk_is_no_traceback(plain: Shell, words: list[str]) -> None:
    where = plain.surroundings()
    with FULL.open("w") as full:
        done = subprocess.run(
            plain.command(*words), stdout=full, stderr=subprocess.PIPE, check=False, **where
        )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_home_that_lost_its_database_or_chip_is_told_of_backups(plain: Shell) -> None:
    plain("device", "stop")
    database, chip = plain.home / "tpmhsm.db", plain.home / "tpm"
    database.rename(plain.path / "kept.db")
    assert "backup" in plain("cert", "list", code=5).err
    assert "backup" in plain("init").err
    plain("device", "stop")
    database.unlink()
    (plain.path / "kept.db").rename(database)
    chip.rename(plain.path / "kept")
    assert "backup" in plain("key", "create", "other", code=4).err
    assert "backup" in plain("init", code=4).err
    seen = plain("doctor", "store", code=4)  # what was looked at before
    assert "certificates  1          none" in seen.out
    checks = plain.json("doctor", "store", code=4)["error"]["checks"]
    assert [check["name"] for check in checks][:2] == ["file", "schema"]
    shutil.rmtree(chip, ignore_errors=True)
    (plain.path / "kept").rename(chip)
    plain("key", "create", "other")
