"""Approvers with YubiKeys at the command line, on the real smart card stack and a software TPM."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.approval.test_yubico import der
from tests.support.cli import Home
from tests.support.shell import Shell
from tests.support.terminal import ENTER, Terminal
from tests.tokens.attestations import test_root as made_root
from tests.tokens.piv_card import PivCard
from tests.tokens.readers import Readers

from tpmhsm.approval import cards, yubico
from tpmhsm.approval.yubico import Anchors
from tpmhsm.pki.path_certificate import read_path_certificate

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


@pytest.fixture
def staffed(plain: Shell, readers: Readers) -> tuple[Shell, PivCard]:
    """A machine whose erin has a YubiKey, with her card in the reader."""
    card = readers.insert(PivCard(serial=4711).personalise())
    card.fill(0x9C)
    plain(*by_card(plain, "approver", "create", "erin", "-i", "yubikey"))
    plain("approver", "add", "erin.card")
    return plain, card


def founding(machine: Shell, name: str = "one", rule: str = "1:erin") -> tuple[str, str]:
    number = str(machine.ask("group", "create", name, "--officers", rule))
    return number, machine.json("request", "show", number)["digest"]


def test_what_approvers_see_of_a_key_that_yubico_vouches_for(
    staffed: tuple[Shell, PivCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, _ = staffed
    number, digest = founding(machine, rule="2:alice,erin")
    unproven = machine.approve(number, "alice", digest).err
    assert "UNPROVEN" in unproven and "erin's key is not proven to be on a YubiKey" in unproven
    assert machine.json("approver", "show", "erin")["proof"].startswith("not proven")
    roots = Anchors((read_path_certificate(der(made_root().certificate)),), ())
    monkeypatch.setattr(yubico, "pinned", lambda: roots)
    cards.parse_card.cache_clear()
    vote = by_card(machine, "approve", number, "--as", "erin", "-i", "yubikey")
    proven = machine(*vote, "--expect", digest).err
    words = "YubiKey 5, serial 4711, PIN always, touch always, attested"
    assert words in proven and "YubiKey: " not in proven
    assert all(len(line) <= 80 for line in proven.splitlines())
    assert machine.json("approver", "show", "erin")["proof"] == words
    assert words in machine("show", "erin.card").out
    assert f"trusted: approver erin, {words}" in machine("trust", "add", "erin.card").out
    cards.parse_card.cache_clear()


def test_a_batch_takes_one_pin_and_a_touch_for_each(staffed: tuple[Shell, PivCard]) -> None:
    machine, card = staffed
    asked = {name: founding(machine, name) for name in ("one", "two", "three")}
    for name, (number, _) in asked.items():
        machine("request", "export", number, "--out", f"{name}.req")
    before = card.signatures
    vote = by_card(
        machine, "approve", *(f"{n}.req" for n in asked), "--as", "erin", "-i", "yubikey"
    )
    said = machine(*vote, *(word for _, digest in asked.values() for word in ("--expect", digest)))
    assert len(list(machine.path.glob("*-erin.approval"))) == 3
    acts = card.signatures - before
    assert acts == said.err.count("touch YubiKey 4711 when it blinks") == 9


def test_what_goes_wrong_has_a_code_and_an_exit_code(
    staffed: tuple[Shell, PivCard], readers: Readers
) -> None:
    machine, card = staffed
    number, digest = founding(machine)
    vote = by_card(machine, "approve", number, "--as", "erin", "-i", "yubikey", "--expect", digest)

    def error(code: int, *changed: str) -> str:
        found = machine.json(*(changed or vote), code=code)["error"]
        assert found["message"]
        return str(found["code"])

    card.touch, card.second = None, 0.01
    assert error(1) == "not-touched"
    card.touch = 0.0
    (machine.path / "wrong").write_text("000000\n")
    wrong = tuple("wrong" if word == "pin" else word for word in vote)
    assert error(1, *wrong) == "wrong-pin"
    card.pin.left = 1
    assert error(1) == "pin-tries"
    card.pin.left = 3
    card.pulled_at = 0x87
    assert error(4) == "card-removed"
    card.pulled_at = None
    readers.empty()
    assert error(4) == "no-card"
    other = PivCard(serial=815).personalise()
    other.fill(0x9C)
    readers.insert(other)
    assert error(4, *(w if w != "yubikey" else "yubikey:4711" for w in vote)) == "wrong-card"
    assert error(1) == "not-a-member"
    readers.insert(card, 1)
    assert error(2) == "several-cards"
    machine(*(w if w != "yubikey" else "yubikey:4711" for w in vote))
    assert machine.json("request", "show", number)["state"] == "executed"


def test_a_pin_is_no_passphrase(staffed: tuple[Shell, PivCard]) -> None:
    machine, _ = staffed
    number, digest = founding(machine)
    words = ("approve", number, "--as", "erin", "-i", "yubikey", "--expect", digest)
    found = machine.json(*words, "--passphrase-file", "pin", code=2)["error"]
    assert found["hint"] == "--pin-file F, or --pin-fd N"
    assert "a PIN is needed" in machine.json(*words, code=2)["error"]["message"]


def test_a_denial_by_card(staffed: tuple[Shell, PivCard]) -> None:
    machine, _ = staffed
    number, _ = founding(machine)
    deny = by_card(machine, "deny", number, "--as", "erin", "-i", "yubikey")
    machine(*deny, "--reason", "not now")
    assert machine.json("request", "show", number)["state"] == "denied"


def test_creating_again_gives_the_same_card(staffed: tuple[Shell, PivCard]) -> None:
    machine, _ = staffed
    before = (machine.path / "erin.card").read_bytes()
    create = by_card(machine, "approver", "create", "erin", "-i", "yubikey", "--slot", "9c")
    machine(*create, "--force")
    assert (machine.path / "erin.card").read_bytes() == before
    assert machine("approver", "create", "x", "-i", "x.key", "--slot", "9c", code=2)
    assert machine("approver", "create", "x", "-i", "x.key", "--alg", "rsa2048", code=2)


def test_a_person_at_a_terminal(staffed: tuple[Shell, PivCard]) -> None:
    machine, card = staffed
    number, digest = founding(machine)
    command = machine.command("approve", number, "--as", "erin", "-i", "yubikey")
    where = machine.surroundings()
    with Terminal(command, where["cwd"], where["env"]) as terminal:
        while True:
            shown = terminal.expect("Enter shows the next)", "times: ")
            if shown.endswith("times: "):
                break
            terminal.type(ENTER)
        assert f"Type {digest[:4]} to sign, then touch the key 3 times: " in shown
        terminal.type(f"{digest[:4]}\r")
        terminal.expect("PIN of YubiKey 4711: ")
        terminal.type(f"{PIN}\r")
        code, said = terminal.end()
    assert code == 0
    assert said.count("touch YubiKey 4711 when it blinks") == 3
    assert PIN not in said
    assert machine.json("request", "show", number)["state"] == "executed"
    assert card.signatures == 4
