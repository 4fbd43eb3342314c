"""Windows from the command line: opened by officers, used with nobody present, then over."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from queue import SimpleQueue

import pytest
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.errors import ChipRefusedError, RefusedError, StoreError
from tpmhsm.store.windows import Windows
from tpmhsm.tpm import software
from tpmhsm.tpm.device import open_device


@pytest.fixture
def issuing(governed: Shell) -> Shell:
    """A machine with the key `issuing`, which the custodians allow to be opened."""
    governed("key", "create", "issuing", "--policy", "window(officers)")
    governed.settle(governed.ask("group", "change", "officers", "--open", "issuing"))
    for name in ("note", "other"):
        (governed.path / name).write_text(f"a {name}\n")
    return governed


def opened(machine: Shell, label: str = "issuing", length: str = "10m") -> int:
    number = machine.ask("key", "open", label, "--for", length)
    machine.settle(number)
    return number


def sign(machine: Shell, label: str = "issuing", code: int = 0) -> str:
    result = machine("key", "sign", label, "note", "--force", code=code)
    if not code:
        machine("key", "verify", label, "note", "--signature", "note.sig")
    return result.out + result.err


def test_a_window_opens_signs_and_is_closed(issuing: Shell) -> None:
    said = sign(issuing, code=1)
    assert "is closed" in said and "tpmhsm key open issuing --for 15m" in said
    number = issuing.ask("key", "open", "issuing", "--for", "10m", "--reason", "the night's batch")
    assert issuing.ask("key", "open", "issuing", "--for", "10m") == number
    assert "request cancel" in issuing("key", "open", "issuing", "--for", "5m", code=2).err
    digest = issuing.json("request", "show", str(number))["digest"]
    screen = issuing.approve(str(number), "alice", digest).err
    for words in ("open a key for 10 minutes", "signs ANYTHING with this key", "STRETCH", "17 %"):
        assert words in screen
    issuing.approve(str(number), "bob", digest)
    for _ in range(3):
        sign(issuing)
    shown = issuing.json("key", "show", "issuing")["window"]
    assert shown["group"] == "officers" and 500 < shown["left"] <= 600
    assert "Window" in issuing("key", "show", "issuing").out
    assert "issuing until" in issuing("status").out
    issuing("key", "close", "issuing")
    assert issuing.json("key", "show", "issuing")["window"] is None
    assert "is closed" in sign(issuing, code=1)
    assert issuing.json("key", "close", "issuing")["closed"] is False


def test_a_window_ends_when_it_says(issuing: Shell) -> None:
    """By the chip's clock: this machine's own notes are put aside."""
    opened(issuing, length="4s")
    sign(issuing)
    assert any("issuing" in todo["what"] for todo in issuing.json("status")["todo"])
    time.sleep(4)
    said = sign(issuing, code=1)
    assert "is closed" in said
    assert not issuing.json("status")["keys"]["windows"]
    opened(issuing)
    sign(issuing)


def test_the_chip_ends_it_not_this_machine(issuing: Shell) -> None:
    opened(issuing, length="4s")
    database = issuing.home / "tpmhsm.db"
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("update windows set ends = '2999-01-01T00:00:00Z'")
    sign(issuing)
    time.sleep(4)
    failed = issuing.json("key", "sign", "issuing", "note", "--force", code=1)["error"]
    assert failed["code"] == "window-closed" and "the window has ended" in failed["message"]
    assert "tpmhsm key open issuing" in failed["hint"]
    assert "is closed" in sign(issuing, code=1)


def test_certificates_in_a_window(issuing: Shell) -> None:
    """Several at a time, over the fast way; and a quorum key is asked of nobody meanwhile."""
    governed = issuing
    governed.settle(governed.ask("group", "change", "officers", "--open", "root"))
    opened(governed, "root")
    for number in (1, 2, 3):
        governed("key", "create", f"k{number}")
        host = f"dns:k{number}.example.com"
        governed("csr", "create", f"k{number}", "--san", host, "--out", f"k{number}.csr")
    (governed.path / "many").mkdir()
    csrs = [f"k{number}.csr" for number in (1, 2, 3)]
    governed("ca", "sign", "root-ca", *csrs, "--out", "many")
    assert len(list((governed.path / "many").iterdir())) == 3
    governed("ca", "sign", "root-ca", "web.csr", "--out", "web.pem")
    governed("key", "close", "root")
    assert governed.ask("ca", "sign", "root-ca", "web.csr", "--out", "again.pem")


def test_after_a_restart_it_is_closed(issuing: Shell) -> None:
    opened(issuing)
    sign(issuing)
    software.stop(issuing.tpm)
    assert "the chip was started anew" in sign(issuing, code=1)
    assert "is closed" in sign(issuing, code=1)
    number = issuing.ask("key", "open", "issuing", "--for", "10m")
    digest = issuing.json("request", "show", str(number))["digest"]
    issuing.approve(str(number), "alice", digest)
    software.stop(issuing.tpm)
    failed = issuing.approve(str(number), "bob", digest, code=1)
    assert "the chip's session that was waiting" in failed.err
    assert issuing.json("request", "show", str(number))["state"] == "cancelled"
    opened(issuing)
    sign(issuing)


def test_what_is_refused(issuing: Shell) -> None:
    for length, words in (("25h", "24 hours"), ("2s", "3 seconds"), ("soon", "not a length")):
        assert words in issuing("key", "open", "issuing", "--for", length, code=2).err
    said = issuing("key", "open", "root", "--for", "10m", code=2).err
    assert "not allowed" in said and "tpmhsm group change officers --open root" in said
    assert "no officers" in issuing("key", "open", "web", "--for", "10m", code=2).err
    assert "policy 'window(GROUP)'" in issuing("key", "open", "web", "--for", "10m", code=2).err


def test_a_change_of_officers_ends_windows_and_requests(issuing: Shell) -> None:
    opened(issuing)
    waiting = issuing.ask("key", "open", "issuing", "--for", "5m")
    issuing.settle(issuing.ask("group", "change", "officers", "--officers", "2:alice,bob,dave"))
    assert "is closed" in sign(issuing, code=1)
    assert issuing.json("request", "show", str(waiting))["state"] == "cancelled"
    opened(issuing)
    sign(issuing)


def test_denied_cancelled_and_expired_requests_leave_no_session(issuing: Shell) -> None:
    number = issuing.ask("key", "open", "issuing", "--for", "10m")
    issuing("request", "cancel", str(number))
    number = issuing.ask("key", "open", "issuing", "--for", "3s")
    time.sleep(4)
    assert issuing.json("request", "show", str(number))["state"] == "expired"
    with open_device("software", issuing.home).transaction() as chip:
        assert not chip.leaks()


def test_files_travel(issuing: Shell) -> None:
    number = issuing.ask("key", "open", "issuing", "--for", "10m")
    issuing("request", "export", str(number), "--out", "w.req")
    digest = issuing.json("request", "show", str(number))["digest"]
    for name in ("alice", "bob"):
        issuing.approve("w.req", name, digest)
    files = (f"{number}-{name}.approval" for name in ("alice", "bob"))
    result = issuing.json("request", "import", *files)
    assert result["items"][-1]["state"] == "executed"
    sign(issuing)
    assert json.loads(issuing("--json", "request", "show", str(number)).out)["kind"] == "window"


def test_many_signatures_across_the_end_of_a_window(issuing: Shell) -> None:
    """One line of turns at the chip: it ends with the window, and goes on with the next."""
    app = App(issuing.home, tpm="software")
    try:
        row = app.keyring.get("issuing")
        opened(issuing, length="4s")
        with app.keyring.turns() as turns:

            def sign_one() -> object:
                told: SimpleQueue[object] = SimpleQueue()
                turns.put(row, bytes(32), lambda signature, error: told.put(error or signature))
                return told.get(timeout=20)

            assert all(isinstance(sign_one(), bytes) for _ in range(30))
            time.sleep(4)
            error = sign_one()
            assert isinstance(error, ChipRefusedError) and error.code == "window-closed"
            with pytest.raises(RefusedError, match="is closed"):
                sign_one()
            opened(issuing)
            assert isinstance(sign_one(), bytes)
    finally:
        app.close()


def test_a_failure_between_chip_and_database(
    issuing: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tickets are lost with it: the request says so, and people open the key again."""
    number = issuing.ask("key", "open", "issuing", "--for", "10m")
    digest = issuing.json("request", "show", str(number))["digest"]
    issuing.approve(str(number), "alice", digest)

    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Windows, "put", fails)
        assert "the approval is kept" in issuing.approve(str(number), "bob", digest, code=5).err
    said = issuing("request", "execute", str(number), code=1).err
    assert "ask" in said and "tpmhsm key open issuing" in said
    assert issuing.json("request", "show", str(number))["state"] == "cancelled"
    assert "is closed" in sign(issuing, code=1)
    opened(issuing)
    sign(issuing)
    assert issuing("doctor", "store")


def test_beside_a_budget(issuing: Shell) -> None:
    """all(window, budget): neither alone signs."""
    policy = "all(window(officers), budget(officers))"
    issuing("key", "create", "both", "--policy", policy)
    issuing.settle(issuing.ask("group", "change", "officers", "--open", "both"))
    opened(issuing, "both")
    assert "used up, or none was granted" in sign(issuing, "both", code=1)
    issuing.settle(issuing.ask("key", "grant", "both", "2"))
    sign(issuing, "both")
    issuing("key", "close", "both")
    assert "is closed" in sign(issuing, "both", code=1)
    opened(issuing, "both")
    sign(issuing, "both")
    assert "used up" in sign(issuing, "both", code=1)


def test_approvals_sign_by_a_window_key_too(issuing: Shell) -> None:
    asked = ("key", "sign", "issuing", "note", "--by", "officers", "--out", "by.sig")
    issuing.settle(issuing.ask(*asked))
    issuing(*asked)
    issuing("key", "verify", "issuing", "note", "--signature", "by.sig")
    said = issuing("policy", "explain", "window(officers)").out
    assert "have opened the key for a time" in said and "this is quorum(officers)" in said
