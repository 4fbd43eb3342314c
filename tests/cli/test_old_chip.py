"""A chip without TPM2_PolicyAuthorizeNV and PIN_PASS: found, said, and served by a static group."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest
from tests.support.old_chip import OldChip, old_chip
from tests.support.shell import Shell

from tpmhsm.wire.constants import CC

pytestmark = pytest.mark.skipif(not shutil.which("swtpm"), reason="swtpm is not installed")

RULE = "2:alice,bob,carol"
Run = Callable[..., Any]


@pytest.fixture
def chip() -> Iterator[OldChip]:
    with old_chip() as found:
        yield found


@pytest.fixture
def machine(bare: Shell, chip: OldChip) -> Shell:
    """A home on the old chip, with three approvers."""
    for name in ("alice", "bob", "carol"):
        bare.person(name)
    bare("--tpm", f"swtpm:{chip.socket}", "init")
    bare("approver", "add", "alice.card", "bob.card", "carol.card")
    (bare.path / "note").write_text("a note\n")
    return bare


def on(machine: Shell, chip: OldChip) -> Run:
    def run(*words: str, code: int = 0) -> Any:
        return machine.json("--tpm", f"swtpm:{chip.socket}", *words, code=code)

    return run


def test_the_probe_finds_what_is_missing(machine: Shell, chip: OldChip) -> None:
    found = on(machine, chip)("device", "probe")
    assert (found["policy_authorize_nv"], found["pin_pass"]) == (False, False)
    said = " ".join(found["missing"])
    assert "static groups alone" in said
    assert "no budgets" in said


def test_a_group_that_could_change_is_refused_by_name(machine: Shell, chip: OldChip) -> None:
    run = on(machine, chip)
    error = run("group", "create", "officers", "--officers", RULE, code=1)["error"]
    assert error["code"] == "no-authorize-nv"
    assert "--static" in error["hint"]
    assert run("group", "list")["items"] == []
    assert run("request", "list")["items"] == []


def test_a_static_group_serves(machine: Shell, chip: OldChip) -> None:
    """From the group to a signature, and not one command that the chip does not have."""
    run = on(machine, chip)
    tpm = ("--tpm", f"swtpm:{chip.socket}")
    made = machine(*tpm, "group", "create", "fixed", "--officers", RULE, "--static")
    assert "can never be changed" in made.err
    assert "nobody: static" in made.out
    group = run("group", "show", "fixed")
    assert (group["static"], group["epoch"], group["state"]) == (True, 1, "active")
    assert (group["counter_index"], group["roster_index"]) == (None, None)
    said = machine(*tpm, "key", "create", "root", "--policy", "quorum(fixed)").err
    assert "can never be changed" in said
    run("key", "sign", "root", "note", code=3)
    digest = sha256(b"a note\n").hexdigest()
    machine(*tpm, "request", "export", "1", "--out", "1.req")
    for name in ("alice", "carol"):
        shown = machine(
            *(*tpm, "approve", "1", "--as", name, "-i", f"{name}.key", "--expect", digest),
            *("--passphrase-file", machine.path / "passphrase"),
        )
        assert "STATIC" in shown.out + shown.err
    run("key", "sign", "root", "note")
    machine(*tpm, "key", "verify", "root", "note", "--signature", "note.sig")
    assert chip.refused == []
    explained = machine(*tpm, "policy", "explain", "quorum(fixed)").out
    assert "can never be changed" in explained
    assert "Custodians" not in explained
    assert run("doctor", "store")
    assert (
        "cannot be replaced" in machine(*tpm, "group", "explain", "fixed", "--without", "bob").out
    )


def test_what_a_static_group_cannot_do(machine: Shell, chip: OldChip) -> None:
    run = on(machine, chip)
    run("group", "create", "fixed", "--officers", RULE, "--static")
    change = run("group", "change", "fixed", "--officers", "2:alice,bob", code=2)
    assert change["error"]["code"] == "static-group"
    for kind in ("budget", "window"):
        error = run("key", "create", "b", "--policy", f"{kind}(fixed)", code=2)["error"]
        assert error["code"] == "static-group"
    run(*("group", "create", "x", "--officers", RULE, "--custodians", RULE, "--static"), code=2)
    again = run("group", "create", "fixed", "--officers", RULE, "--static", code=2)
    assert again["error"]["code"] == "exists"


def test_decryption_by_a_static_group(machine: Shell, chip: OldChip) -> None:
    run = on(machine, chip)
    run("group", "create", "fixed", "--officers", RULE, "--static")
    made = run("key", "create", "box", "--use", "decrypt", "--policy", "quorum(fixed)")
    sign = run("key", "create", "root", "--policy", "quorum(fixed)")
    assert made["name"] != sign["name"]
    assert run("doctor", "store")


def test_budgets_without_pin_pass(bare: Shell) -> None:
    """A chip that has groups, and no PIN_PASS: refused by name, and nothing is left behind."""
    with old_chip(CC.CertifyX509) as chip:
        tpm = ("--tpm", f"swtpm:{chip.socket}")
        for name in ("alice", "bob"):
            bare.person(name)
        bare(*tpm, "init")
        bare("approver", "add", "alice.card", "bob.card")
        bare(*tpm, "group", "create", "officers", "--officers", "1:alice", code=3)
        digest = bare.json(*tpm, "request", "show", "1")["digest"]
        bare(
            *(*tpm, "approve", "1", "--as", "alice", "-i", "alice.key", "--expect", digest),
            *("--passphrase-file", bare.path / "passphrase"),
        )
        refused = bare.json(*tpm, "key", "create", "b", "--policy", "budget(officers)", code=1)
        assert refused["error"]["code"] == "no-pin-pass"
        assert "quorum(GROUP)" in refused["error"]["hint"]
        assert bare.json(*tpm, "key", "list")["items"] == []
        assert CC.NV_DefineSpace in chip.refused
