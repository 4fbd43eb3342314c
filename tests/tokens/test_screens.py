"""What a person with a YubiKey sees at a real terminal; the documents show it."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest
from tests.project import screens
from tests.support.shell import Shell
from tests.support.tmux import Screen
from tests.tokens.piv_card import PivCard
from tests.tokens.readers import Readers

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


def test_a_wrong_pin(plain: Shell, readers: Readers) -> None:
    """After the decision: the tries that are left are said, and nobody is asked for a touch."""
    card = readers.insert(PivCard(serial=12345678).personalise())
    card.fill(0x9C)
    (plain.path / "pin").write_text("271828\n")
    plain("approver", "create", "erin", "-i", "yubikey", "--pin-file", "pin")
    plain("approver", "add", "erin.card")
    number = plain.ask("group", "create", "one", "--officers", "1:erin")
    seen = at_the_end(plain, number)
    (shown,) = [text for _, name, text in screens.of_documents() if name == "wrong-pin"]
    assert screens.masked(seen) == screens.masked(shown), seen
    assert card.signatures == 1  # of the card that was made
    assert plain.json("request", "show", str(number))["approvals"] == []


def at_the_end(machine: Shell, number: int) -> str:
    """Erin turns the pages, types the digits and a wrong PIN; the screen from the question on."""
    command = machine.command("approve", str(number), "--as", "erin", "-i", "yubikey")
    digest = machine.json("request", "show", str(number))["digest"]
    where = machine.surroundings()
    waiting = ["sh", "-c", f"{shlex.join(command)}; printf '$ '; read answer"]
    with Screen(waiting, where["cwd"], {**os.environ, **where["env"]}, screens.SIZE) as screen:
        while screens.NEXT in screen.wait_for(screens.NEXT, "times:").rpartition("\n")[2]:
            screen.wipe()
            screen.type("")
        screen.type(digest[:4])
        screen.wait_for("PIN of YubiKey 12345678:")
        screen.type("000000")
        text = screen.wait_for("$").removesuffix("$").rstrip()
    return text[text.index("Type ") :]
