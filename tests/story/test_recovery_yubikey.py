"""A YubiKey is stolen: what the thief can do with its PIN, and after the page.

Without the PIN it locks: `tests/tokens/test_yubikey.py:test_a_blocked_pin`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from tests.story.recovery import Town
from tests.tokens.piv_card import PivCard
from tests.tokens.readers import Readers, running

PIN = "271828"


@pytest.fixture
def readers() -> Iterator[Readers]:
    with running() as found, mock.patch.dict(os.environ, found.environment):
        yield found
        found.leave()


def tried(town: Town, number: int, pin: str) -> str:
    """What comes of the thief's approval: empty, or why not."""
    host, thief = town.machine(), town.machine("frank")
    host("request", "export", str(number), "--out", "tried.req", "--force")
    (town.shared / "typed").write_text(f"{pin}\n")
    (town.shared / "tried").unlink(missing_ok=True)
    words = ("approve", "tried.req", "--as", "frank", "-i", "yubikey:4711", "--pin-file", "typed")
    more = ("-o", "tried", "--expect", town.digest("tried.req"))
    done = thief.attempt("--json", *words, *more).json
    return str(done.get("error", {}).get("code", ""))


def test_a_yubikey_is_stolen(town: Town, readers: Readers) -> None:
    host = town.machine()
    card = readers.insert(PivCard(serial=4711).personalise(PIN))
    card.fill(0x9C)
    (town.shared / "card-pin").write_text(f"{PIN}\n")
    frank = town.machine("frank")
    frank("approver", "create", "frank", "-i", "yubikey:4711", "--pin-file", "card-pin")
    everybody = ("alice", "bob", "carol", "dave")
    frank("trust", "add", *(f"{name}.card" for name in everybody), "host.card")
    for name in ("alice", "carol"):
        town.machine(name)("trust", "add", "frank.card")
    host("approver", "add", "frank.card")
    wanted = ("--officers", "2:alice,carol,frank")
    town.settle(host.ask("group", "change", "officers", *wanted), "alice", "carol")
    waiting = host.ask("ca", "crl", "root-ca")
    assert tried(town, waiting, PIN) == ""  # with the PIN it is a vote
    host("request", "cancel", str(waiting))
    # the page is for request 6: this founding had one more
    town.follow("A YubiKey is stolen, or a key file was copied", 0, 2)
    number = host.ask("group", "change", "officers", "--officers", "2:alice,carol,dave")
    town.settle(number, "alice", "carol")
    waiting = host.ask("ca", "crl", "root-ca")
    assert tried(town, waiting, PIN) == "not-a-member"
