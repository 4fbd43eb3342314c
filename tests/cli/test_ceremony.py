"""From empty machines to a governed CA: one file, approved once by each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.ceremonies import DNS, Meeting

Meet = Callable[..., Meeting]


@pytest.fixture
def meet(place: Path) -> Iterator[Meet]:
    held: list[Meeting] = []

    def make(*people: str) -> Meeting:
        held.append(Meeting(place, *people))
        return held[-1]

    yield make
    for meeting in held:
        meeting.host.close()


def test_two_of_three_take_seven_commands_over_four_machines(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    for name in ("alice", "carol"):
        given = meeting.approve(name, asked["ceremony"]).json
        assert given["fingerprint"] == asked["fingerprint"]
        assert given["first_use"]
    done = meeting.ask(code=0)
    assert meeting.commands == 7
    assert done["state"] == "done"
    host = meeting.host
    host("key", "create", "web")
    host("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    host("ca", "sign", "issuing", "web.csr", "--chain", "--out", "web.pem")
    host("cert", "export", "root-ca", "--out", "root.pem")
    host("cert", "verify", "web.pem", "--trust", "root.pem")
    assert host.json("key", "show", "issuing")["budgets"][0]["left"] == 4
