"""`tpmhsm status`: right in five states, on one small screen, and without a needless command."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.support.shell import RULE, Shell
from tests.support.standing import STATES, states

from tpmhsm.cli.status_screen import screen
from tpmhsm.tpm import software
from tpmhsm.tpm.chip import Chip


@dataclass
class Seen:
    """A screen, the document, and the commands that the chip was asked."""

    screen: str
    found: dict[str, Any]
    asked: list[str]


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Seen]]:
    if not shutil.which("swtpm"):
        pytest.skip("swtpm is not installed")
    machine = Shell(Path(tempfile.mkdtemp(prefix="tpmhsm-")))
    try:
        yield {state: _look(machine) for state in states(machine)}
    finally:
        software.stop(machine.tpm)
        shutil.rmtree(machine.path)


def _look(machine: Shell) -> Seen:
    asked: list[str] = []
    send = Chip.send

    def counted(chip: Chip, command: Any, *auths: Any) -> Any:
        asked.append(type(command).__name__)
        return send(chip, command, *auths)

    shown = machine("status").out
    with mock.patch.object(Chip, "send", counted):
        found = machine.json("status")
    return Seen(shown, found, asked)


@pytest.mark.parametrize("state", STATES)
def test_every_state_fits_a_small_screen(seen: dict[str, Seen], state: str) -> None:
    lines = seen[state].screen.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, seen[state].screen


def test_a_fresh_home_says_how_to_begin(seen: dict[str, Seen]) -> None:
    one = seen["fresh"]
    assert one.screen.startswith("all is well, and nothing is made yet\n")
    assert "  tpmhsm ceremony --officers 2:alice.card,bob.card,carol.card\n" in one.screen
    assert "  tpmhsm key create LABEL\n" in one.screen
    assert one.found["ok"] and "software TPM in " in one.screen
    assert "Today     nothing signed" in one.screen


def test_all_is_well(seen: dict[str, Seen]) -> None:
    one = seen["well"]
    assert one.screen.startswith("all is well\nDevice ")
    assert one.found["ok"] and not one.found["todo"]
    for line in (
        "Keys      1 any(budget(officers), quorum(officers))",
        "1 open: anyone with this machine",
        "issuing: 16 of 20 left",
        "5 certificates, 1 CRL, 1 CSR signed",
        "officers: 2 of 3 (alice, bob, carol), 1 may be lost",
        "root-ca (active, ",
        "3 valid, the next ends ",
        "entries, unbroken; certified by the chip ",
    ):
        assert line in one.screen, line


def test_waiting_for_people(seen: dict[str, Seen]) -> None:
    one = seen["waiting"]
    assert one.screen.startswith("2 things need you\n")
    for item in one.found["todo"]:
        number = item["what"].split()[1].rstrip(",")
        assert item["about"] == "waiting" and not item["urgent"]
        assert "2 more must approve" in item["what"]
        assert f"tpmhsm approve {number} --as NAME -i KEY" in one.screen
    assert "budget" in one.screen


def test_what_ends_soon(seen: dict[str, Seen]) -> None:
    one = seen["ending"]
    assert one.screen.startswith("2 things need you\n")
    assert "the budget of key issuing: 8 of 20 left, granted by officers" in one.screen
    assert "tpmhsm key grant issuing N asks officers for N more" in one.screen
    assert "1 certificate ends within 30 days" in one.screen
    assert "tpmhsm cert list" in one.screen


def test_what_is_broken_comes_first(seen: dict[str, Seen]) -> None:
    one = seen["broken"]
    assert one.screen.startswith("2 things are broken, 2 things need you\n")
    assert [item["urgent"] for item in one.found["todo"]] == [True, True, False, False]
    assert {item["about"] for item in one.found["todo"][:2]} == {"device", "rosters"}
    assert "the chip takes no PIN: 10 were wrong" in one.screen
    assert "tpmhsm device unlock --recovery FILE; or wait until " in one.screen
    assert "group officers: its roster index is gone from the chip" in one.screen
    assert f"tpmhsm group change officers --officers {RULE}" in one.screen


def test_the_chip_is_asked_for_nothing_that_is_not_shown(seen: dict[str, Seen]) -> None:
    """docs/operations.md has these numbers."""
    assert seen["fresh"].asked == ["GetCapability"] * 2
    index = ["NV_ReadPublic"] * 2 + ["NV_Read"] * 2
    budget = ["NV_ReadPublic", "NV_ReadPublic", "NV_Read"]
    assert seen["well"].asked == ["GetCapability"] * 2 + index + budget


def test_however_much_there_is_it_fits(seen: dict[str, Seen]) -> None:
    found = dict(seen["broken"].found)
    found["todo"] = found["todo"] * 9
    found["keys"] = {
        "count": 99,
        "policies": {f"quorum(group-{n})" * 4: n for n in range(9)},
        "budgets": found["keys"]["budgets"] * 9,
        "windows": [{"key": "k" * 90, "ends": "2026-11-24", "group": "g" * 90}] * 9,
    }
    found["groups"] = found["groups"] * 9
    found["authorities"] = found["authorities"] * 9
    lines = screen(found).splitlines()
    plain = [line.replace("\x1b[33m", "").replace("\x1b[31m", "") for line in lines]
    assert 20 < len(lines) <= 24
    assert "and 18 more" in screen(found) or "and 8 more" in screen(found)
    assert sum(line.startswith("  ") and "!" in line for line in plain) >= 3
