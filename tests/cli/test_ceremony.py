"""From empty machines to a governed CA: one file, approved once by each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.support.ceremonies import DNS, Meeting
from tests.support.terminal import ENTER, Terminal

from tpmhsm.approval.minutes import parse_minutes

Meet = Callable[..., Meeting]


@pytest.fixture
def meet(place: Path) -> Iterator[Meet]:
    held: list[Meeting] = []

    def make(*people: str) -> Meeting:
        held.append(Meeting(place, *people))
        return held[-1]

    yield make
    for meeting in held:
        meeting.host.attempt("ceremony", "--cancel")  # no session may wait in the chip
        meeting.host.close()


def test_two_of_three_take_seven_commands_over_four_machines(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    for name in ("alice", "carol"):
        given = meeting.approve(name, asked["ceremony"]).json
        assert given["fingerprint"] == asked["fingerprint"]
        assert given["first_use"]
    done = meeting.ask("--place", "Room 101", "--witness", "Wendy", code=0)
    assert meeting.commands == 7
    assert done["state"] == "done"
    host = meeting.host
    minutes = parse_minutes((host.path / "officers.minutes").read_bytes())
    assert " ".join(minutes.words) == done["fingerprint"]
    assert (minutes.place, minutes.witnesses) == ("Room 101", ("Wendy",))
    assert [act.request.kind for act in minutes.acts] == [
        *("group", "certificate", "certificate", "budget")
    ]
    assert all(len(act.request.approvals) == 2 and act.executed for act in minutes.acts)
    assert [one.label for one in minutes.certificates] == ["issuing", "root-ca"]
    judged = host.json("attest", "verify", "officers.evidence")
    assert minutes.evidence is not None
    assert minutes.evidence.sha256.hex() == judged["evidence"]
    host("key", "create", "web")
    host("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    host("ca", "sign", "issuing", "web.csr", "--chain", "--out", "web.pem")
    host("cert", "export", "root-ca", "--out", "root.pem")
    host("cert", "verify", "web.pem", "--trust", "root.pem")
    assert host.json("key", "show", "issuing")["budgets"][0]["left"] == 4


def test_three_of_five_with_custodians_of_their_own(meet: Meet) -> None:
    meeting = meet("ann", "ben", "cyd", "dan", "eve", "gus", "hal", "ivy")
    officers, custodians = ("ann", "ben", "cyd", "dan", "eve"), ("gus", "hal", "ivy")
    asked = meeting.ask(
        *("--officers", f"3:{meeting.cards(*officers)}"),
        *("--custodians", f"2:{meeting.cards(*custodians)}", *DNS, "--budget", "20"),
    )
    for name in ("ann", "cyd", "eve"):  # officers first: their approvals wait for the founding
        assert meeting.approve(name, asked["ceremony"]).json["approved"] == [2, 3, 4]
    waits = meeting.ask()
    assert waits["error"]["message"].startswith("waiting for 2 of the custodians of officers")
    states = {one["step"]: one["state"] for one in waits["steps"]}
    assert (states["group"], states["root"], states["grant"]) == ("waiting", "to come", "to come")
    for name in ("gus", "ivy"):
        assert meeting.approve(name, asked["ceremony"]).json["approved"] == [1]
    assert {one["state"] for one in meeting.ask(code=0)["steps"]} == {"done"}
    shown = meeting.host.json("group", "show", "officers")
    assert (shown["officers"]["needed"], shown["custodians"]["members"]) == (3, list(custodians))


def test_a_window_in_place_of_a_budget(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS, "--window", "1h")
    for name in ("alice", "bob"):
        meeting.approve(name, asked["ceremony"])
    meeting.ask(code=0)
    host = meeting.host
    assert host.json("key", "show", "issuing")["window"]["seconds"] == 3600
    host("key", "create", "web")
    host("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    host("ca", "sign", "issuing", "web.csr", "--out", "web.pem")


def test_a_root_alone(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", "--root", "CN=Root,O=Example")
    for name in ("alice", "bob"):
        meeting.approve(name, asked["ceremony"])
    steps = [one["step"] for one in meeting.ask(code=0)["steps"]]
    assert steps[3:5] == ["group", "root"]
    assert meeting.host.json("ca", "show", "root-ca")["state"] == "active"


def test_other_options_later_are_refused_by_name(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    options = ("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    first = meeting.ask(*options)
    assert meeting.ask(*options)["ceremony"] == first["ceremony"]
    error = meeting.ask("--budget", "6", "--root", "CN=Other", code=2)["error"]
    assert error["code"] == "ceremony-changed"
    assert error["changed"] == ["root", "budget"]
    assert "budget was 5, now 6" in error["message"]


def test_a_last_act_that_is_over_is_asked_for_anew(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    host = meeting.host
    host("device", "stop")  # the chip forgets the session
    for name in ("alice", "carol"):
        meeting.approve(name, asked["ceremony"])
    waits = meeting.ask()
    number = waits["error"]["request"]
    assert "asked for anew" in waits["error"]["message"]
    assert [one["state"] for one in waits["steps"]][3:7] == ["done", "done", "done", "waiting"]
    assert (host.path / f"{number}.req").exists()
    again = host.json("request", "show", str(number))
    for name in ("alice", "bob"):
        machine = meeting.people[name]
        (machine.path / "again.req").write_bytes((host.path / f"{number}.req").read_bytes())
        machine(
            *("approve", "again.req", "--as", name, "-i", f"{name}.key", "--expect"),
            *(again["digest"], "--passphrase-file", "passphrase"),
            *(("--trust", meeting.cards("alice", "carol")) if name == "bob" else ()),
        )
        host("ceremony", machine.path / f"{number}-{name}.approval", code=0 if name == "bob" else 3)
    assert host.json("key", "show", "issuing")["budgets"][0]["left"] == 5


def test_at_a_terminal_it_asks(meet: Meet) -> None:
    """And a person at a terminal sees each act, and types the digits of each."""
    meeting = meet("alice", "bob", "carol")
    host = meeting.host
    screen = Terminal(host.command("ceremony"), **host.surroundings())
    for words, typed in (
        ("Name of the group [officers]: ", ""),
        ("who approve [alice.card bob.card carol.card]: ", ""),
        ("How many of these 3 must agree [2]: ", ""),
        ("who replace officers (Enter: the officers): ", ""),
        ("Name of the root, as CN=Example Root,O=Example: ", "Example"),
        ("Name of the root, as CN=Example Root,O=Example: ", "CN=Root"),
        ("(Enter: none): ", "CN=Issuing"),
        ("Enter: never): ", "12"),
    ):
        screen.expect(words)
        screen.type(typed + ENTER)
    code, said = screen.end()
    assert code == 3, said
    assert "tpmhsm approve officers.ceremony --as NAME -i KEY" in said
    machine = meeting.people["alice"]
    shutil.copy(host.path / "officers.ceremony", machine.path)
    words = ("approve", "officers.ceremony", "--as", "alice", "-i", "alice.key", "--trust",
             "bob.card,carol.card", "--passphrase-file", "passphrase")  # fmt: skip
    screen = Terminal(machine.command(*words), **machine.surroundings())
    asked = 0
    while asked < 4:
        if "Enter shows" in screen.expect("Enter shows", " to sign"):
            screen.type(ENTER)
            continue
        screen.expect(": ")
        screen.type(host.json("request", "list")["items"][asked]["digest"][:4] + ENTER)
        asked += 1
    code, said = screen.end()
    assert code == 0, said
    assert (machine.path / "officers-alice.approval").exists()


def test_another_digest_is_told_which_one_is_meant(meet: Meet) -> None:
    meeting = meet("alice", "bob")
    digest = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS)["ceremony"]
    of_the_file = sha256((meeting.host.path / "officers.ceremony").read_bytes()).hexdigest()
    error = meeting.approve("alice", of_the_file, code=1).json["error"]
    assert error["code"] == "other-bytes"
    assert digest in error["hint"] and "not the file's own" in error["hint"]
    assert not (meeting.people["alice"].path / "officers-alice.approval").exists()


def test_one_who_says_no_ends_it(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS)
    host, bob = meeting.host, meeting.people["bob"]
    shown = bob.json("show", host.path / "officers.ceremony")
    assert (shown["type"], shown["digest"]) == ("ceremony", asked["ceremony"])
    assert [one["kind"] for one in shown["acts"]] == ["group", "certificate", "certificate"]
    bob("deny", host.path / "officers.ceremony", "--as", "bob", "-i", "bob.key", "--reason",
        "not today", "--passphrase-file", "passphrase")  # fmt: skip
    error = host.json("ceremony", bob.path / "1-bob.denial", code=1)["error"]
    assert error["code"] == "request-denied"
    assert error["hint"].endswith("tpmhsm ceremony --cancel withdraws the rest")
    meeting.approve("alice", asked["ceremony"])
    assert bob.json("show", host.path / "officers-alice.approval")["requests"] == [1, 2, 3]
    assert host.json("ceremony", code=1)["error"]["code"] == "request-denied"
    steps = [one["next"] for one in host.json("status")["todo"] if one["what"].startswith("req")]
    assert steps == ["tpmhsm ceremony"] * 2, "approving its other acts leads nowhere"
    meeting.ask("--cancel", code=0)
    ended = [one for one in host.json("audit", "list")["items"] if one["act"] == "request-ended"]
    assert ended[0]["facts"] == {"id": 1, "why": "denied", "by": "bob"}


def test_it_is_withdrawn_and_begun_again(meet: Meet) -> None:
    meeting = meet("alice", "bob", "carol")
    options = ("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    first = meeting.ask(*options)
    assert meeting.ask("--cancel", code=0)["state"] == "cancelled"
    host = meeting.host
    assert host.json("key", "list")["items"] == host.json("group", "list")["items"] == []
    assert meeting.ask(code=2)["error"]["code"] == "no-ceremony"
    (host.path / "officers.ceremony").unlink()
    second = meeting.ask(*options)
    assert second["ceremony"] != first["ceremony"]
    for name in ("alice", "bob"):
        meeting.approve(name, second["ceremony"])
    meeting.ask(code=0)
    minutes = parse_minutes((host.path / "officers.minutes").read_bytes())
    assert [one.kind for one in minutes.notes] == ["deviation"], "it is not kept quiet"
    told = [one.what for one in minutes.steps]
    assert {"ceremony withdrawn", "request 1 ended", "key root deleted"} <= set(told)
    assert told.index("ceremony withdrawn") < told.index("request 5")
