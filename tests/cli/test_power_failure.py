"""The power fails at any step of any flow; the same command, or `request execute`, goes on.

Each flow is run once to learn its steps, then once for each step in a process that is killed
there, on a copy of the same machine. With --long, before and after each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.crashes import killed_at, steps_of
from tests.support.shell import RULE, Shell, stranger_csr

from tpmhsm.store import Store
from tpmhsm.tpm import nv, software
from tpmhsm.tpm.device import open_device

Flow = tuple[str, ...]
Check = Callable[[Shell], None]

GROUP = ("group", "create", "people", "--officers", RULE)
ROOT = ("ca", "create", "new-ca", "--key", "web", "--subject", "CN=New", "--days", "100")
GUARDED = ("ca", "create", "sub-ca", "--key", "web", "--issuer", "root-ca", "--subject", "CN=Sub")
CHANGE = ("group", "change", "officers", "--officers", "2:alice,dave,carol")


@pytest.fixture
def crash(place: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Run a flow on copies of a machine, killed at each step, then `recover`, then look."""
    made: list[Shell] = []
    every = request.config.getoption("--long")

    def run(prepared: Shell, words: Flow, recover: Check) -> None:
        software.stop(prepared.tpm)
        whole = prepared.copy(place / "whole")
        made.append(whole)
        steps = steps_of(whole, *words)
        whole.close()
        assert steps, "nothing lasting happens in this flow"
        for number, step in enumerate(steps):
            # what lasts does not change between "after" one step and "before" the next
            if step.startswith("after") and number < len(steps) - 1 and not every:
                continue
            machine = prepared.copy(place / f"at-{number}")
            made.append(machine)
            assert killed_at(machine, number, *words), step
            try:
                recover(machine)
                consistent(machine)
                machine.close()
            except AssertionError as error:
                raise AssertionError(f"killed at step {number}, {step}: {error}") from error
            shutil.rmtree(machine.path)

    yield run
    for machine in made:
        if software.is_manufactured(machine.tpm):
            software.stop(machine.tpm)


def consistent(machine: Shell) -> None:
    """Nothing in the database is half done: every state has what belongs to it."""
    with Store.open(machine.home) as store:
        store.check()
        with store.reading() as tx:
            requests = {row.id: row for row in tx.requests.all()}
            for serial in tx.serials.all():
                certificates = [
                    row
                    for row in tx.certificates.all(authority=serial.authority)
                    if row.serial == serial.serial
                ]
                assert len(certificates) == (serial.state == "issued"), serial
                if serial.request_id is not None and serial.state == "reserved":
                    assert requests[serial.request_id].state == "waiting"
            for authority in tx.authorities.all():
                assert (authority.certificate is not None) == (authority.state == "active")
            for group in tx.groups.all():
                founded = tx.rosters.in_force(group.id) is not None
                assert founded == (group.state == "active")
            for row in requests.values():
                assert row.document


def indices(machine: Shell) -> list[int]:
    """NV indices of the owner's range."""
    with open_device("software", machine.home).transaction() as chip:
        return [i for i in nv.indices(chip) if nv.FIRST_INDEX <= i <= nv.LAST_INDEX]


def states(machine: Shell) -> list[str]:
    return [row["state"] for row in machine.json("request", "list")["items"]]


def again(*words: str, code: int = 0) -> Check:
    def recover(machine: Shell) -> None:
        machine(*words, code=code)

    return recover


def approve_again(number: int, name: str, digest: str) -> Check:
    """What the person does whose approval was interrupted: look, execute or approve again."""

    def recover(machine: Shell) -> None:
        if machine.attempt("request", "execute", str(number)).code == 3:
            machine.approve(str(number), name, digest)
        found = machine.json("request", "show", str(number))
        assert found["state"] == "executed"
        assert sorted(a["approver"] for a in found["approvals"]) == sorted({"alice", name})

    return recover


def last_approval(machine: Shell, *asked: str) -> tuple[Flow, Check, int]:
    """A request that one approval, by bob, is missing from; the command that gives it."""
    number = machine.ask(*asked)
    digest = machine.json("request", "show", str(number))["digest"]
    machine.approve(str(number), "alice", digest)
    name = "carol" if "change" in asked else "bob"
    words = ("approve", str(number), "--as", name, "-i", f"{name}.key", "--passphrase-file",
             str(machine.path / "passphrase"), "--expect", digest)  # fmt: skip
    return words, approve_again(number, name, digest), number


def test_asking_for_a_group(plain: Shell, crash: Callable[..., None]) -> None:
    def recover(machine: Shell) -> None:
        machine(*GROUP, code=3)
        assert states(machine) == ["waiting"]
        assert indices(machine) == []

    crash(plain, GROUP, recover)


def test_founding_a_group(plain: Shell, crash: Callable[..., None]) -> None:
    words, approved, _ = last_approval(plain, *GROUP)

    def recover(machine: Shell) -> None:
        approved(machine)
        machine("key", "create", "guarded", "--policy", "quorum(people)")
        machine.settle(machine.ask("csr", "create", "guarded", "--subject", "CN=x"))
        assert len(indices(machine)) == 2

    crash(plain, words, recover)


def test_giving_up_a_group_that_is_half_founded(plain: Shell, crash: Callable[..., None]) -> None:
    words, _, number = last_approval(plain, *GROUP)

    def recover(machine: Shell) -> None:
        before = machine.json("request", "show", str(number))
        cancelled = machine.attempt("request", "cancel", str(number))
        if cancelled.code == 0:
            assert indices(machine) == []
            machine(*GROUP, code=3)
        elif before["state"] == "executed":
            assert "executed already" in cancelled.err
        else:  # the chip has done it, and says so
            assert f"request execute {number}" in cancelled.err
            machine("request", "execute", str(number))
            machine("key", "create", "guarded", "--policy", "quorum(people)")

    crash(plain, words, recover)


def test_changing_an_officer(governed: Shell, crash: Callable[..., None]) -> None:
    waiting = governed.ask("csr", "create", "root", "--subject", "CN=waits for the new officers")
    words, approved, _ = last_approval(governed, *CHANGE)

    def recover(machine: Shell) -> None:
        approved(machine)
        assert machine.json("group", "show", "officers")["officers"]["members"][1] == "dave"
        machine.settle(waiting, "dave", "carol")

    crash(governed, words, recover)


def test_making_a_key(plain: Shell, crash: Callable[..., None]) -> None:
    def recover(machine: Shell) -> None:
        done = machine.attempt("key", "create", "new")
        assert done.code == 0 or "exists already" in done.err
        machine("csr", "create", "new", "--subject", "CN=x")

    crash(plain, ("key", "create", "new"), recover)


def test_an_open_authority(plain: Shell, crash: Callable[..., None]) -> None:
    def recover(machine: Shell) -> None:
        done = machine.attempt(*ROOT)
        assert done.code == 0 or "exists already" in done.err
        found = machine.json("ca", "show", "new-ca")
        assert found["state"] == "active"
        with Store.open(machine.home) as store, store.reading() as tx:
            assert [s.state for s in tx.serials.all(authority="new-ca")] == ["issued"]
        machine("ca", "sign", "new-ca", stranger_csr(machine))

    crash(plain, ROOT, recover)


def test_an_open_authority_that_is_wanted_otherwise(
    plain: Shell, crash: Callable[..., None]
) -> None:
    def recover(machine: Shell) -> None:
        done = machine.attempt(*ROOT[:-1], "200")
        if done.code == 0:
            assert machine.json("ca", "show", "new-ca")["certificate"]["days_left"] > 190
        else:
            assert "exists already" in done.err

    crash(plain, ROOT, recover)


def test_an_open_certificate(plain: Shell, crash: Callable[..., None]) -> None:
    words = ("ca", "sign", "open-ca", "web.csr", "--out", "web.pem")

    def recover(machine: Shell) -> None:
        done = machine.attempt(*words)
        assert done.code == 0 or "exists and is kept" in done.err
        machine("cert", "verify", "web.pem", "--host", "www.example.com")

    crash(plain, words, recover)


def test_asking_for_a_guarded_authority(governed: Shell, crash: Callable[..., None]) -> None:
    def recover(machine: Shell) -> None:
        number = machine.ask(*GUARDED)
        assert states(machine) == ["executed", "executed", "waiting"]
        machine.settle(number)
        assert machine.json("ca", "show", "sub-ca")["state"] == "active"

    crash(governed, GUARDED, recover)


def test_a_guarded_certificate(governed: Shell, crash: Callable[..., None]) -> None:
    words, approved, number = last_approval(governed, "ca", "sign", "root-ca", "web.csr")

    def recover(machine: Shell) -> None:
        approved(machine)
        (machine.path / "web.pem").write_text(
            machine.json("request", "show", str(number))["result"]["pem"]
        )
        machine("cert", "verify", "web.pem", "--host", "www.example.com")
        assert len(machine.json("cert", "list")["items"]) == 3

    crash(governed, words, recover)


def test_a_guarded_csr(governed: Shell, crash: Callable[..., None]) -> None:
    asked = ("csr", "create", "root", "--subject", "CN=x", "--out", "root.csr")
    words, approved, _ = last_approval(governed, *asked)

    def recover(machine: Shell) -> None:
        approved(machine)
        machine(*asked)
        machine("csr", "verify", "root.csr")

    crash(governed, words, recover)


def test_refusing_a_request(governed: Shell, crash: Callable[..., None]) -> None:
    number = str(governed.ask(*GUARDED))
    words = ("deny", number, "--as", "bob", "-i", "bob.key", "--passphrase-file",
             str(governed.path / "passphrase"), "--reason", "no")  # fmt: skip

    def recover(machine: Shell) -> None:
        if machine.json("request", "show", number)["state"] == "waiting":
            machine(*words)
        assert states(machine)[-1] == "denied"
        machine("ca", "show", "sub-ca", code=2)
        machine(*GUARDED, code=3)

    crash(governed, words, recover)


def test_making_an_approver(bare: Shell, place: Path, crash: Callable[..., None]) -> None:
    words = ("approver", "create", "erin", "-i", "erin.key", "--passphrase-file", "secret")
    start = bare.path / "start"
    start.mkdir()
    (start / "secret").write_text("correct horse\n")

    def recover(machine: Shell) -> None:
        done = machine.attempt(*words)
        assert done.code == 0 or "exists and is kept" in done.err
        assert machine.json("show", "erin.card")["name"] == "erin"
        assert len(machine.json("trust", "list")["items"]) == 1

    crash(Shell(start), words, recover)


def test_setting_up_a_home(bare: Shell, crash: Callable[..., None]) -> None:
    start = bare.path / "start"
    start.mkdir()

    def recover(machine: Shell) -> None:
        machine("init")
        machine("key", "create", "web")
        assert machine("status").out.startswith("all is well")

    crash(Shell(start), ("init",), recover)
