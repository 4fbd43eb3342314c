"""The chip's care from the command line: sealed at `init`, unlocked with what is kept elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.old_chip import old_chip
from tests.support.shell import Shell
from tests.support.swtpm import bare_swtpm

from tpmhsm.tpm import software
from tpmhsm.tpm.device import open_device
from tpmhsm.wire.commands import HierarchyChangeAuth
from tpmhsm.wire.constants import CC, RH

pytestmark = pytest.mark.skipif(not shutil.which("swtpm"), reason="swtpm is not installed")

PASS = ("--passphrase-file", "pass")


@pytest.fixture
def machine(bare: Shell) -> Iterator[Shell]:
    """A machine with a passphrase, a PIN, a wrong PIN and a file to sign; not set up."""
    for name, text in (("pass", "a passphrase"), ("pin", "482915"), ("bad", "000000")):
        (bare.path / name).write_text(text + "\n")
    try:
        yield bare
    finally:
        if software.is_manufactured(bare.tpm):
            software.stop(bare.tpm)


@pytest.fixture
def sealed(machine: Shell) -> Shell:
    """Set up, its lockout hierarchy's password in chip.recovery; the key `safe` has a PIN."""
    machine("init", "--recovery", "chip.recovery", *PASS)
    machine("key", "create", "safe", "--policy", "pin", "--pin-file", "pin")
    return machine


def sign(machine: Shell, pin: str, code: int = 0) -> str:
    done = machine(*("key", "sign", "safe", "pass", "--force", "--pin-file", pin), code=code)
    return done.out + done.err


def lock_out(machine: Shell) -> None:
    for _ in range(10):
        sign(machine, "bad", code=1)


def test_a_new_software_tpm_is_sealed_and_nobody_keeps_the_password(machine: Shell) -> None:
    assert "nobody has the password" in machine("init").out
    shown = machine.json("device", "show")
    assert shown["hierarchies"]["lockout_set"]
    assert not shown["hierarchies"]["platform_on"]
    assert not shown["hierarchies"]["owner_set"]  # other programs make their keys by it
    assert (shown["lockout"]["max_tries"], shown["lockout"]["recovery"]) == (10, 3600)
    assert shown["lockout"]["next_try_by"] is None
    assert machine.json("device", "unlock", code=1)["error"]["code"] == "sealed"
    error = machine.json("device", "seal", "--discard", code=1)["error"]
    assert error["code"] == "already-sealed"


def test_init_may_leave_the_chip_as_it_was(machine: Shell) -> None:
    machine("init", "--no-seal")
    said = machine("device", "show").out
    assert "tpmhsm device seal closes it" in said
    assert "anybody with this machine can do that" in machine("device", "unlock").err
    assert machine.json("init", "--seal", code=2)["error"]["code"] == "usage"
    machine("device", "seal", "--discard", "--tries", "5", "--every", "600")
    state = machine.json("device", "show")["lockout"]
    assert (state["max_tries"], state["recovery"], state["lockout_auth_set"]) == (5, 600, True)


def test_what_goes_together(machine: Shell) -> None:
    machine("init", "--no-seal", "--recovery", "f", *PASS, code=2)
    machine("init", "--no-seal")
    machine("device", "seal", code=2)
    machine("device", "seal", "--discard", "--recovery", "f", *PASS, code=2)
    (machine.path / "kept").write_text("mine")
    assert machine.json("device", "seal", "--recovery", "kept", *PASS, code=2)
    assert (machine.path / "kept").read_text() == "mine"
    assert "no terminal" in machine("device", "seal", "--recovery", "f", code=2).err
    assert not machine.json("device", "show")["hierarchies"]["lockout_set"]
    machine("device", "unlock", "--recovery", "kept", *PASS, code=2)


def test_a_lockout_says_when_it_ends_and_the_recovery_file_ends_it(sealed: Shell) -> None:
    lock_out(sealed)
    said = sign(sealed, "pin", code=4)
    assert "60 minutes at the latest (2" in said
    assert "tpmhsm device unlock --recovery FILE ends it now" in said
    state = sealed.json("device", "show")["lockout"]
    assert state["active"]
    until = datetime.fromisoformat(state["next_try_by"]) - datetime.now(UTC)
    assert 3500 < until.total_seconds() <= 3601
    until = datetime.fromisoformat(state["all_tries_by"]) - datetime.now(UTC)
    assert 35900 < until.total_seconds() <= 36001
    assert "PINs are refused after 10 wrong ones" in sealed("device", "show").out
    sealed("device", "unlock", "--recovery", "chip.recovery", *PASS)
    sign(sealed, "pin")
    assert sealed.json("device", "show")["lockout"]["tries"] == 0


def test_the_recovery_file(sealed: Shell) -> None:
    path = sealed.path / "chip.recovery"
    assert path.stat().st_mode & 0o777 == 0o600
    shown = sealed.json("show", path)
    assert shown["type"] == "recovery"
    assert shown["ak_name"] == sealed.json("device", "show")["ak_name"]
    use = ("device", "unlock", "--recovery")
    wrong = sealed.json(*use, path, "--passphrase-file", "bad", code=1)
    assert wrong["error"]["code"] == "wrong-passphrase"
    for name in ("made", "ak_name", "nonce", "sealed"):
        other = json.loads(path.read_text())
        last = "0" if other[name][-1] != "0" else "1"
        other[name] = other[name][:-1] + last
        (sealed.path / "other").write_text(json.dumps(other))
        assert sealed.json(*use, "other", *PASS, code=1)["error"]["code"] in (
            "wrong-passphrase",
            "other-chip",
        )
    assert sealed.json(*use, "pass", *PASS, code=2)["error"]["code"] == "parse"
    assert sealed(*use, path, *PASS)  # the chip was asked none of that


def test_a_wrong_password_closes_the_hierarchy_for_a_while(sealed: Shell) -> None:
    use = ("device", "unlock", "--auth-file", "bad")
    assert sealed.json(*use, code=1)["error"]["code"] == "wrong-secret"
    right = ("device", "unlock", "--recovery", "chip.recovery", *PASS)
    error = sealed.json(*right, code=4)["error"]
    assert error["code"] == "lockout-closed"
    assert "at the latest" in error["hint"]
    sign(sealed, "pin")  # PINs are not concerned


def test_sealed_anew(sealed: Shell) -> None:
    again = ("device", "seal", "--recovery", "new", *PASS)
    sealed(*again, code=1)
    said = sealed(*again, "--force", "--old", "chip.recovery").out
    assert "chip.recovery is void: destroy it" in said
    sealed("device", "unlock", "--recovery", "new", *PASS)
    error = sealed.json("device", "unlock", "--recovery", "chip.recovery", *PASS, code=1)["error"]
    assert error["code"] == "wrong-secret"


def test_the_password_is_nowhere_on_the_machine(sealed: Shell) -> None:
    from tpmhsm.keys.recovery import parse_recovery

    data = (sealed.path / "chip.recovery").read_bytes()
    file = parse_recovery(data)
    secret = file.open(b"a passphrase", file.ak_name)
    assert len(secret) == 32
    sealed("device", "stop")
    for place in sealed.home.rglob("*"):
        if place.is_file() and "chip/state" not in str(place):  # the software TPM's own
            content = place.read_bytes()
            assert secret not in content
            assert secret.hex().encode() not in content


def test_a_chip_that_others_may_use(machine: Shell) -> None:
    """Nothing is changed that was not asked for; sealing closes what the firmware left open."""
    with bare_swtpm() as socket:
        tpm = ("--tpm", f"swtpm:{socket}")
        machine("init", *tpm)
        shown = machine.json("device", "show", *tpm)
        assert shown["hierarchies"]["platform_open"]
        assert not shown["hierarchies"]["lockout_set"]  # nothing is changed that was not asked for
        assert "left it without a password" in machine("device", "show", *tpm).out
        machine("device", "seal", "--discard", *tpm)
        assert not machine.json("device", "show", *tpm)["hierarchies"]["platform_on"]


def test_a_chip_that_is_not_ours_is_told_that_its_power_goes(machine: Shell) -> None:
    """TPM2_Shutdown, and nothing after it, which would take it back."""
    with old_chip(pin_pass=True) as chip:
        tpm = ("--tpm", f"swtpm:{chip.socket}")
        machine("init", *tpm)
        assert "ready to lose its power" in machine("device", "stop", *tpm).out
        assert chip.asked[-1] == CC.Shutdown
        assert chip.asked.count(CC.Shutdown) == 1


def test_hierarchies_with_passwords_of_others(machine: Shell) -> None:
    """Somebody gave the owner and endorsement hierarchies passwords: said, and used from files."""
    with bare_swtpm() as socket:
        tpm = ("--tpm", f"swtpm:{socket}")
        with open_device(f"swtpm:{socket}", Path(os.devnull)).transaction() as chip:
            chip.send(HierarchyChangeAuth(RH.OWNER, b"owner's"))
            chip.send(HierarchyChangeAuth(RH.ENDORSEMENT, b"endorser's"))
        error = machine.json("init", *tpm, code=1)["error"]
        assert error["rc"] == "0x9a2"
        assert "owner_auth_file" in error["hint"]
        for name in ("owner", "endorser"):
            (machine.home / f"{name}.auth").write_text(f"{name}'s\n")
        settings = machine.home / "tpmhsm.toml"
        settings.write_text('[device]\nowner_auth_file = "owner.auth"\n')
        assert "endorsement_auth_file" in machine("init", *tpm, code=1).err
        settings.write_text(
            '[device]\nowner_auth_file = "owner.auth"\nendorsement_auth_file = "endorser.auth"\n'
        )
        machine("init", *tpm)
        machine("key", "create", "web", *tpm)
        shown = machine.json("device", "show", *tpm)["hierarchies"]
        assert (shown["owner_set"], shown["endorsement_set"]) == (True, True)
        assert machine.json("device", "probe", *tpm)["pin_pass"]  # it makes and removes indices
        (machine.home / "owner.auth").write_text("wrong\n")
        assert machine.json("device", "probe", *tpm, code=1)["error"]["rc"] == "0x9a2"


def test_power_fails_before_the_chip_is_sealed(
    machine: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recovery file is there, and opens nothing; the same again with --force seals."""
    machine("init", "--no-seal")
    seal = ("device", "seal", "--recovery", "chip.recovery", *PASS)
    with monkeypatch.context() as patched:

        def fails(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr("tpmhsm.tpm.hierarchies.seal_lockout", fails)
        machine(*seal, code=1)
    assert (machine.path / "chip.recovery").exists()
    assert not machine.json("device", "show")["hierarchies"]["lockout_set"]
    assert machine.json(*seal, code=2)["error"]["code"] == "exists"
    machine(*seal, "--force")
    machine("device", "unlock", "--recovery", "chip.recovery", *PASS)


def test_status_says_what_pins_are_worth(machine: Shell) -> None:
    machine("init", "--no-seal")
    assert machine.json("status")["todo"] == []  # no key with a PIN yet
    machine("key", "create", "safe", "--policy", "pin", "--pin-file", "pin")
    assert "tpmhsm device seal --recovery" in machine("status").out
    machine("device", "seal", "--discard", "--tries", "2")
    assert machine.json("status")["ok"]
    for _ in range(2):
        sign(machine, "bad", code=1)
    assert "takes no PIN: 2 were wrong" in machine("status").out
