"""Requests that travel as files between machines, and all the ways in which they end."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from tests.support.shell import PEOPLE, RULE, Shell

from tpmhsm.store import Store
from tpmhsm.store.requests import requests


def expect(machine: Shell, number: int) -> str:
    return str(machine.json("request", "show", str(number))["digest"])


def laptop(host: Shell, place: Path, name: str, trusts: tuple[str, ...] = PEOPLE) -> Shell:
    """An approver's own machine: the key, and cards that came from the people themselves."""
    path = place / f"laptop-{name}"
    path.mkdir()
    machine = Shell(path)
    for file in (f"{name}.key", "passphrase"):
        shutil.copy(host.path / file, path)
    machine("trust", "add", *(host.path / f"{other}.card" for other in {name, *trusts}))
    return machine


def carry(number: int, ending: str, source: Shell, target: Shell) -> None:
    for file in source.path.glob(f"{number}*.{ending}"):
        shutil.copy(file, target.path)


# ── by files ─────────────────────────────────────────────────────────────────


def test_by_files_between_machines(governed: Shell, place: Path) -> None:
    number = governed.ask("ca", "sign", "root-ca", "web.csr", "--reason", "the shop")
    governed("request", "export", str(number))
    for name in ("alice", "bob", "carol"):
        machine = laptop(governed, place, name)
        carry(number, "req", governed, machine)
        shown = machine.approve(f"{number}.req", name, expect(governed, number)).err
        assert "www.example.com" in shown
        assert "the shop" in shown
        assert machine.json("trust", "list")["items"]
        carry(number, "approval", machine, governed)
    files = [f"{number}-{name}.approval" for name in ("alice", "bob", "carol")]
    said = governed("request", "import", *files)
    assert f"request {number} is waiting for 1 more" in said.err
    items = governed.json("request", "import", *files)["items"]  # again, and one too many
    assert [item["state"] for item in items] == ["executed"] * 3
    found = governed.json("request", "show", str(number))
    assert [a["approver"] for a in found["approvals"]] == ["alice", "bob"]


def test_first_use_wants_cards_from_outside_the_host(governed: Shell, place: Path) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed("request", "export", str(number))
    machine = laptop(governed, place, "alice", trusts=("bob",))
    carry(number, "req", governed, machine)
    refused = machine.approve(f"{number}.req", "alice", expect(governed, number), code=1).err
    assert "carol" in refused
    assert "tpmhsm trust add" in refused
    assert not list(machine.path.glob("*.approval"))
    machine("trust", "add", governed.path / "carol.card")
    machine.approve(f"{number}.req", "alice", expect(governed, number))


def test_through_pipes(governed: Shell, place: Path) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    machine = laptop(governed, place, "alice")
    request = governed("request", "export", str(number), "--out", "-").out
    assert json.loads(request)["id"] == number
    words = ("approve", "-", "--as", "alice", "-i", "alice.key", "--passphrase-file", "passphrase",
             "--expect", expect(governed, number), "--out", "-")  # fmt: skip
    approval = machine(*words, stdin=request.encode()).out
    assert json.loads(approval)["approver"] == "alice"
    assert json.loads(machine("--json", *words, stdin=request.encode()).out)["request"] == number
    taken = governed("--json", "request", "import", "-", stdin=approval.encode())
    assert taken.json["items"][0]["request"] == number


def test_one_bad_approval_hinders_no_other(governed: Shell) -> None:
    one = governed.ask("csr", "create", "root", "--subject", "CN=one")
    two = governed.ask("csr", "create", "root", "--subject", "CN=two")
    for number, name in ((one, "alice"), (two, "alice"), (two, "bob")):
        governed("request", "export", str(number), "--force")
        governed.approve(f"{number}.req", name, expect(governed, number))
    bad = json.loads((governed.path / f"{one}-alice.approval").read_text())
    bad["request"] = two
    (governed.path / "bad.approval").write_text(json.dumps(bad))
    files = ("bad.approval", f"{two}-alice.approval", f"{two}-bob.approval")
    error = governed.json("request", "import", *files, code=1)["error"]
    assert "other bytes" in error["message"]
    assert [item.get("state") for item in error["items"]] == [None, "waiting", "executed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"approver": "bob"}, "key is alice's"),
        ({"approver": "dave"}, "key is alice's"),
        ({"epoch": 77}, "epoch"),
        ({"request": 99}, "no request 99"),
        ({"signatures": []}, "did not approve"),
        ({"kind": "data"}, "approved a data"),
    ],
)
def test_approvals_that_were_changed(
    governed: Shell, change: dict[str, object], words: str
) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed("request", "export", str(number))
    governed.approve(f"{number}.req", "alice", expect(governed, number))
    file = governed.path / f"{number}-alice.approval"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    result = governed.attempt("request", "import", file)
    assert result.code in (1, 2)
    assert words in result.err
    assert governed.json("request", "show", str(number))["approvals"] == []


# ── how requests end ─────────────────────────────────────────────────────────


def test_a_denial_by_file(governed: Shell, place: Path) -> None:
    number = governed.ask("ca", "create", "sub-ca", "--key", "web", "--issuer", "root-ca",
                          "--subject", "CN=Sub")  # fmt: skip
    governed("request", "export", str(number))
    machine = laptop(governed, place, "bob")
    carry(number, "req", governed, machine)
    machine("deny", f"{number}.req", "--as", "bob", "-i", "bob.key", "--passphrase-file",
            "passphrase", "--reason", "who asked for this?")  # fmt: skip
    carry(number, "denial", machine, governed)
    said = governed("request", "import", f"{number}-bob.denial").err
    assert f"request {number} is denied" in said
    found = governed.json("request", "show", str(number))
    assert found["state"] == "denied"
    assert found["denials"][0]["reason"] == "who asked for this?"
    assert "who asked for this?" in governed("request", "show", str(number)).out
    governed("ca", "show", "sub-ca", code=2)
    for words in (("request", "execute", str(number)), ("request", "cancel", str(number))):
        assert "denied already" in governed.json(*words, code=2)["error"]["message"]
    governed.approve(str(number), "alice", found["digest"], code=2)


def test_only_members_deny(governed: Shell) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    words = ("--passphrase-file", "passphrase", "--reason", "x")
    governed("deny", str(number), "--as", "dave", "-i", "dave.key", *words, code=1)
    governed("deny", str(number), "--as", "bob", "-i", "alice.key", *words, code=1)
    governed("deny", str(number), "--as", "bob", "-i", "bob.key", "--passphrase-file",
             "passphrase", "--reason", " ", code=2)  # fmt: skip
    assert governed.json("request", "show", str(number))["state"] == "waiting"


def test_cancelling_frees_what_was_asked_for(governed: Shell) -> None:
    asked = ("ca", "create", "sub-ca", "--key", "web", "--issuer", "root-ca", "--subject", "CN=Sub")
    number = governed.ask(*asked)
    error = governed.json(*asked[:-1], "CN=Other", code=2)["error"]
    assert f"tpmhsm request cancel {number}" in error["hint"]
    governed("request", "cancel", str(number))
    assert governed.ask(*asked[:-1], "CN=Other") == number + 1
    group = governed.ask("group", "create", "more", "--officers", RULE)
    error = governed.json("group", "create", "more", "--officers", "2:alice,bob,dave", code=2)
    assert f"request show {group}" in error["error"]["hint"]
    governed("key", "create", "x", "--policy", "quorum(more)", code=2)
    governed("request", "cancel", str(group))
    governed("group", "show", "more", code=2)
    governed("group", "create", "more", "--officers", "2:alice,bob,dave", code=3)


def travel(machine: Shell, number: int, days: int) -> None:
    """Let a request be as old as this."""
    then = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with Store.open(machine.home) as store, store.transaction() as tx:
        tx.requests._change(requests.c.id == number, expires=then)


def test_requests_expire(governed: Shell) -> None:
    asked = ("ca", "create", "sub-ca", "--key", "web", "--issuer", "root-ca", "--subject", "CN=Sub")
    number = governed.ask(*asked)
    digest = expect(governed, number)
    governed.approve(str(number), "alice", digest)
    travel(governed, number, 1)
    assert governed.json("request", "list")["items"][-1]["state"] == "expired"
    governed.approve(str(number), "bob", digest, code=2)
    governed("request", "execute", str(number), code=2)
    assert governed.ask(*asked) == number + 1
    with Store.open(governed.home) as store, store.reading() as tx:
        states = [s.state for s in tx.serials.all(authority="root-ca")]
    assert states == ["issued", "abandoned", "reserved"]


def test_a_group_that_the_chip_has_begun_does_not_expire(plain: Shell) -> None:
    number = plain.ask("group", "create", "people", "--officers", RULE)
    digest = expect(plain, number)
    plain.approve(str(number), "alice", digest)
    with mock.patch("tpmhsm.requests.execution.finish", side_effect=KeyboardInterrupt):
        plain.approve(str(number), "bob", digest, code=1)
    travel(plain, number, 1)
    assert plain.json("request", "show", str(number))["state"] == "waiting"
    error = plain.json("request", "cancel", str(number), code=2)["error"]
    assert error["code"] == "request-done"
    plain("deny", str(number), "--as", "carol", "-i", "carol.key", "--passphrase-file",
          "passphrase", "--reason", "too late", code=2)  # fmt: skip
    plain("request", "execute", str(number))
    plain("key", "create", "guarded", "--policy", "quorum(people)")


# ── when the officers change meanwhile ───────────────────────────────────────


def test_waiting_requests_are_asked_anew_of_new_officers(governed: Shell) -> None:
    number = governed.ask("ca", "sign", "root-ca", "web.csr")
    digest = expect(governed, number)
    governed.approve(str(number), "bob", digest)
    governed("request", "export", str(number))
    shutil.copy(governed.path / f"{number}.req", governed.path / "old.req")
    change = governed.ask("group", "change", "officers", "--officers", "2:alice,dave,carol")
    other = governed.ask("group", "change", "officers", "--officers", "2:alice,bob,dave")
    governed.settle(change, "alice", "carol")
    found = governed.json("request", "show", str(number))
    assert (found["state"], found["approvals"], found["digest"]) == ("waiting", [], digest)
    assert governed.json("request", "show", str(other))["state"] == "cancelled"
    # bob is no officer any more, and approvals of the old file do not count
    governed.approve(str(number), "bob", digest, code=1)
    governed.approve("old.req", "carol", digest, code=1)
    governed.settle(number, "dave", "carol")


def test_what_must_be_asked_anew_is_shown_without_a_chip(governed: Shell) -> None:
    number = str(governed.ask("ca", "sign", "root-ca", "web.csr", "--reason", "the shop"))
    change = governed.ask("group", "change", "officers", "--officers", "2:alice,dave,carol")
    with mock.patch("tpmhsm.requests.ledger.Ledger.renew_all"):  # it was killed before this
        governed.settle(change, "alice", "carol")
    governed("device", "stop")
    aside = governed.tpm.with_name("aside")
    governed.tpm.rename(aside)
    assert governed.json("request", "show", number)["state"] == "waiting"
    assert "the shop" in governed("request", "show", number).out
    assert governed.json("request", "list")["items"]
    governed("request", "export", number, code=4)
    aside.rename(governed.tpm)
    assert governed("request", "export", number)
    governed.settle(int(number), "dave", "carol")


def test_the_same_change_is_the_same_request(governed: Shell) -> None:
    assert governed.ask("group", "change", "officers", "--officers", RULE) == 3
    assert governed.ask("group", "change", "officers", "--officers", RULE) == 3


def test_the_list_shows_every_state(governed: Shell) -> None:
    asked = [governed.ask("csr", "create", "root", "--subject", f"CN={n}") for n in range(4)]
    governed("request", "cancel", str(asked[0]))
    governed("deny", str(asked[1]), "--as", "bob", "-i", "bob.key", "--passphrase-file",
             "passphrase", "--reason", "no")  # fmt: skip
    travel(governed, asked[2], 1)
    states = ["executed", "executed", "cancelled", "denied", "expired", "waiting"]
    assert [row["state"] for row in governed.json("request", "list")["items"]] == states
    for state in set(states):
        rows = governed.json("request", "list", "--state", state)["items"]
        assert {row["state"] for row in rows} == {state}
    text = governed("request", "list").out
    assert all(state in text for state in states)


def test_a_request_says_what_its_bytes_ask_for(governed: Shell) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x", "--san", "dns:x.example")
    found = governed.json("request", "show", str(number))
    assert found["content"]["subject"] == "CN=x"
    assert found["content"]["names"] == "dns:x.example"
    assert "x.example" in governed("request", "show", str(number)).out


def test_several_requests_are_exported_at_once(governed: Shell) -> None:
    ids = [str(governed.ask("ca", "sign", "root-ca", "web.csr", "--days", d)) for d in "789"]
    found = governed.json("request", "export", *ids, ids[0])["items"]
    assert found == [{"request": int(one), "file": f"{one}.req"} for one in ids]
    (governed.path / "stick").mkdir()
    said = governed("request", "export", "--all", "--to", "stick").out
    assert said.startswith(" ".join(f"stick/{one}.req" for one in ids) + ": the approvers run")
    for one in ids:
        (exported,) = (governed.path / "stick").glob(f"{one}.req")
        assert json.loads(exported.read_text())["id"] == int(one)
    before = sorted(governed.path.iterdir())
    for words, hint in (
        ((), "request list"),
        ((ids[0], "--all"), "request list"),
        ((*ids, "--out", "x"), "--to DIR"),
        ((ids[0], "--to", "nowhere"), "mkdir nowhere"),
        ((ids[0], "999", "--force"), "request list"),
        (("--all", "--to", "stick"), "--force"),
    ):
        assert hint in governed("request", "export", *words, code=2).err
    assert sorted(governed.path.iterdir()) == before
    governed("request", "export", *ids, "--to", "stick", "--force")
    for one in ids:
        governed("request", "cancel", one)
    assert "no request waits" in governed("request", "export", "--all", code=2).err
