"""Set-ups broken on purpose, and what `tpmhsm doctor` says of them: home, programs, rights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.support.cli import Home, Result
from tests.support.rights import without_power
from tests.support.shell import Shell

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
    assert found["rosters"]["seen"] .startswith("officers in epoch ")
    said = governed("doctor").out
    assert "!" not in said and "not seen" not in said


def test_a_machine_without_a_home(bare: Shell) -> None:
    found = examined(doctor(bare), "home")
    assert "tpmhsm init" in found["home"]["findings"][0]["next"]
    assert found["lockout"]["state"] == found["people"]["state"] == "unseen"
    assert not bare.home.exists(), "looking makes nothing"
    said = bare("doctor", code=1).out
    assert "not seen: the chip cannot be asked: lockout, " in said


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
        broken = ("software-tpm", "chip") if missing == "swtpm" else ("software-tpm",)
        found = examined(doctor(plain), *broken)
    (finding,) = found["software-tpm"]["findings"]
    assert f"{missing} is not installed" in finding["what"]
    assert "apt install swtpm" in finding["next"]
