"""Approvers with YubiKeys at the command line, on the real smart card stack and a software TPM."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.cli import Home
from tests.support.shell import Shell
from tests.tokens.piv_card import PivCard
from tests.tokens.readers import Readers

PIN = "271828"


def by_card(machine: Shell, *arguments: str) -> tuple[str, ...]:
    """`arguments`, with the PIN in a file."""
    (machine.path / "pin").write_text(PIN + "\n")
    (machine.path / "management").write_text(bytes(range(0x40, 0x58)).hex() + "\n")
    return (*arguments, "--pin-file", "pin")


def test_an_approval_signed_in_a_card_is_taken_by_the_chip(plain: Shell, readers: Readers) -> None:
    card = readers.insert(PivCard(serial=4711).personalise())
    create = by_card(plain, "approver", "create", "erin", "-i", "yubikey")
    said = plain(*create, "--management-key-file", "management")
    assert "not proven to be on a YubiKey: slot f9 is certified by nobody known here" in said.out
    plain("approver", "add", "erin.card")
    assert plain.json("approver", "show", "erin")["kind"] == "yubikey"
    number = plain.ask("group", "create", "one", "--officers", "1:erin")
    digest = plain.json("request", "show", str(number))["digest"]
    vote = by_card(plain, "approve", str(number), "--as", "erin", "-i", "yubikey:4711")
    screen = plain(*vote, "--expect", digest).err
    assert "erin, YubiKey 4711" in screen
    assert "touch YubiKey 4711 when it blinks" in screen
    assert plain.json("request", "show", str(number))["state"] == "executed"
    assert card.signatures >= 2


def test_without_a_daemon(place: Path) -> None:
    machine = Home(place)
    environment = machine.surroundings()["env"]
    done = subprocess.run(
        machine.command("approver", "create", "erin", "-i", "yubikey"),
        env={**environment, "PCSCLITE_CSOCK_NAME": str(place / "nothing")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "the smart card daemon does not answer" in done.stderr and "pcscd" in done.stderr
