"""The power fails at any step of a ceremony; the same command goes on, and does nothing twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from tests.support.ceremonies import DNS, Meeting
from tests.support.crashes import killed_at, steps_of
from tests.support.shell import Shell

from tpmhsm.approval import minutes_pdf
from tpmhsm.approval.minutes import parse_minutes
from tpmhsm.approval.minutes_check import check_minutes
from tpmhsm.store import Store
from tpmhsm.tpm import software

OPTIONS = ("--officers", "2:alice.card,bob.card,carol.card", *DNS)


@pytest.fixture
def meeting(place: Path) -> Iterator[Meeting]:
    """Three people who have cards, and a host with nothing but these."""
    met = Meeting(place, "alice", "bob", "carol")
    yield met
    if software.is_manufactured(met.host.tpm):
        met.host.attempt("ceremony", "--cancel")
        met.host.close()


def killed_everywhere(
    host: Shell, words: tuple[str, ...], recover: Callable[[Shell], None], every: bool
) -> None:
    """Run a command on copies of a machine, killed at each step, then `recover`."""
    software.stop(host.tpm)
    whole = host.copy(host.path.parent / "whole")
    steps = steps_of(whole, *words)
    software.stop(whole.tpm)
    assert steps
    for number, step in enumerate(steps):
        if step.startswith("after") and not every:  # lasts until the "before" of the next
            continue
        machine = host.copy(host.path.parent / f"at-{number}")
        try:
            assert killed_at(machine, number, *words), step
            recover(machine)
            with Store.open(machine.home) as store:
                store.check()
        except AssertionError as error:
            raise AssertionError(f"killed at step {number}, {step}: {error}") from error
        finally:
            software.stop(machine.tpm)
            shutil.rmtree(machine.path)


def test_while_it_is_drawn_up(meeting: Meeting, request: pytest.FixtureRequest) -> None:
    host = meeting.host
    host("init")
    words = ("ceremony", *OPTIONS, "--budget", "5", "-o", ".")

    def recover(machine: Shell) -> None:
        found = machine.json(*words, code=3)
        assert [one["state"] for one in machine.json("request", "list")["items"]] == ["waiting"] * 4
        assert len(machine.json("key", "list")["items"]) == 2
        assert len(machine.json("group", "list")["items"]) == 1
        again = machine.json("ceremony", code=3)
        assert again["ceremony"] == found["ceremony"]

    killed_everywhere(host, words, recover, request.config.getoption("--long"))


def test_while_it_is_executed(meeting: Meeting, request: pytest.FixtureRequest) -> None:
    host = meeting.host
    asked = meeting.ask(*OPTIONS)
    for name in ("alice", "bob"):
        meeting.approve(name, asked["ceremony"])

    def recover(machine: Shell) -> None:
        done = machine.json("ceremony", "-o", ".")
        assert {one["state"] for one in done["steps"]} == {"done"}
        minutes = parse_minutes((machine.path / "officers.minutes").read_bytes())
        check_minutes(minutes)
        assert len(machine.json("cert", "list")["items"]) == 2

    every = request.config.getoption("--long")
    # one more file like the page before it, which takes over a second each time
    with mock.patch.object(minutes_pdf, "can_write_pdf", lambda: every):
        killed_everywhere(host, ("ceremony", "-o", "."), recover, every)


def test_again_and_again_on_one_machine(meeting: Meeting) -> None:
    """From the very beginning to the end; each run comes a little further before it is killed."""
    host, kills = meeting.host, 0
    words: tuple[str, ...] = ("ceremony", *OPTIONS, "--budget", "5")
    while killed_at(host, kills + 3, *words):
        kills += 1
    asked = meeting.ask()
    for name in ("bob", "carol"):
        meeting.approve(name, asked["ceremony"])
    more = 0
    while killed_at(host, more + 1, "ceremony"):
        more += 1
    assert kills > 5
    assert more > 5
    found = host.attempt("--json", "ceremony").json
    assert {one["state"] for one in found["steps"][:6]} == {"done"}
    # killed while the chip held the session, the last act is asked for anew
    assert found["steps"][6]["state"] in {"done", "waiting"}
