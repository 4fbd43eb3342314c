"""People at a terminal: what they are asked, and Ctrl-C at every question."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from tests.support.shell import PASSPHRASE, RULE, Shell
from tests.support.terminal import CTRL_C, CTRL_D, ENTER, Terminal

from tpmhsm.store import Store

MANY = [f"dns:host-{number}.example.com" for number in range(60)]


def at_terminal(machine: Shell, *words: str, output: str = "") -> Terminal:
    """A command at a terminal; `output`: a file that its stdout goes to."""
    command = machine.command(*words)
    if output:
        command = ["sh", "-c", f"exec {shlex.join(command)} > {output}"]
    where = machine.surroundings()
    return Terminal(command, where["cwd"], where["env"])


def stopped(terminal: Terminal, code: int = 1) -> str:
    """The end of a command that was stopped: a clear word, the exit code, no traceback."""
    got, said = terminal.end()
    assert got == code, said
    assert "stopped" in said
    assert "Traceback" not in said
    assert "Aborted" not in said
    return said


def question(terminal: Terminal) -> str:
    """Turn all pages, up to the question; what was shown."""
    terminal.expect("Passphrase for alice.key: ")
    terminal.type(f"{PASSPHRASE}\r")
    return pages(terminal)


def pages(terminal: Terminal) -> str:
    shown = ""
    while True:
        shown += terminal.expect("\n(page ", "to sign: ")
        if shown.endswith("to sign: "):
            return shown
        shown += terminal.expect("Enter shows the next)")
        terminal.type(ENTER)


def approving(number: int, name: str = "alice") -> tuple[str, ...]:
    return ("approve", str(number), "--as", name, "-i", f"{name}.key")


def untouched(machine: Shell, number: int) -> None:
    """Nobody has approved, and nothing is remembered of what was shown."""
    assert machine.json("request", "show", str(number))["approvals"] == []
    with Store.open(machine.home) as store, store.reading() as tx:
        assert not [row for row in tx.audit.all() if row.act in ("approve", "approval")]
        assert tx.memory.pinned_groups() == []


# ── a new approver ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop", [CTRL_C, CTRL_D], ids=["ctrl-c", "ctrl-d"])
@pytest.mark.parametrize("question", [1, 2])
def test_stopping_at_a_new_passphrase(bare: Shell, question: int, stop: str) -> None:
    with at_terminal(bare, "approver", "create", "erin", "-i", "erin.key") as terminal:
        terminal.expect("New passphrase for erin.key: ")
        if question == 2:
            terminal.type("secret\r")
            terminal.expect("The same again: ")
        terminal.type(stop)
        stopped(terminal)
    assert not {"erin.key", "erin.card"} & set(os.listdir(bare.path))


def test_making_an_approver(bare: Shell) -> None:
    with at_terminal(bare, "approver", "create", "erin", "-i", "erin.key") as terminal:
        terminal.expect("New passphrase for erin.key: ")
        terminal.type("one\r")
        terminal.expect("The same again: ")
        terminal.type("two\r")
        terminal.expect("they differ")
        for question in ("New passphrase for erin.key: ", "The same again: "):
            terminal.expect(question)
            terminal.type("secret words\r")
        code, said = terminal.end()
    assert code == 0
    assert "erin.card" in said
    assert "secret" not in said
    # the key is there now: it is asked for once, and a wrong answer is refused
    (bare.path / "erin.card").unlink()
    with at_terminal(bare, "approver", "create", "erin", "-i", "erin.key") as terminal:
        terminal.expect("Passphrase for erin.key: ")
        terminal.type("wrong\r")
        code, said = terminal.end()
    assert (code, "wrong passphrase" in said) == (1, True)


# ── approving ────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(plain: Shell) -> tuple[Shell, int]:
    """A machine with a request that nobody has looked at."""
    return plain, plain.ask("group", "create", "people", "--officers", RULE)


@pytest.mark.parametrize("stop", [CTRL_C, CTRL_D], ids=["ctrl-c", "ctrl-d"])
@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_stopping_at_the_passphrase(asked: tuple[Shell, int], verb: str, stop: str) -> None:
    machine, number = asked
    words = (verb, *approving(number)[1:], *(("--reason", "no") if verb == "deny" else ()))
    with at_terminal(machine, *words) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(stop)
        stopped(terminal)
    untouched(machine, number)
    assert machine.json("request", "show", str(number))["state"] == "waiting"


@pytest.mark.parametrize("stop", [CTRL_C, CTRL_D], ids=["ctrl-c", "ctrl-d"])
def test_stopping_at_the_digits(asked: tuple[Shell, int], stop: str) -> None:
    machine, number = asked
    with at_terminal(machine, *approving(number)) as terminal:
        question(terminal)
        terminal.type(stop)
        assert "nothing was signed" in stopped(terminal)
    untouched(machine, number)


def test_enter_does_nothing_and_digits_sign(asked: tuple[Shell, int]) -> None:
    machine, number = asked
    digest = machine.json("request", "show", str(number))["digest"]
    with at_terminal(machine, *approving(number)) as terminal:
        shown = question(terminal)
        assert "decoded here, from the bytes" in shown
        assert "the host claims (unchecked)" in shown
        assert f"Type {digest[:4]} to sign" in shown
        for _ in range(3):
            terminal.type(ENTER)
            terminal.expect("to sign: ")
        terminal.type(f"{digest[:4].upper()}\r")
        code, said = terminal.end()
    assert code == 0, said
    assert "approved; request 1 is waiting" in said
    assert PASSPHRASE not in shown + said


@pytest.mark.parametrize("typed", ["y", "yes", "0000x", "nope"])
def test_other_answers_refuse(asked: tuple[Shell, int], typed: str) -> None:
    machine, number = asked
    with at_terminal(machine, *approving(number)) as terminal:
        question(terminal)
        terminal.type(f"{typed}\r")
        code, said = terminal.end()
    assert code == 1
    assert "nothing was signed" in said
    untouched(machine, number)


@pytest.fixture
def long_request(governed: Shell) -> tuple[Shell, int]:
    """A request that fills several pages."""
    words = [word for name in MANY for word in ("--san", name)]
    governed("csr", "create", "web", *words, "--out", "many.csr")
    return governed, governed.ask("ca", "sign", "root-ca", "many.csr")


@pytest.mark.parametrize("stop", [CTRL_C, CTRL_D], ids=["ctrl-c", "ctrl-d"])
def test_stopping_at_a_page(long_request: tuple[Shell, int], stop: str) -> None:
    machine, number = long_request
    with at_terminal(machine, *approving(number)) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        terminal.expect("(page 1 of ")
        terminal.type(ENTER)
        terminal.expect("(page 2 of ")
        terminal.type(stop)
        assert "nothing was signed" in stopped(terminal)
    assert machine.json("request", "show", str(number))["approvals"] == []


def test_every_page_is_shown_before_the_question(long_request: tuple[Shell, int]) -> None:
    machine, number = long_request
    with at_terminal(machine, *approving(number)) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        shown = terminal.expect("Enter shows the next")
        pages = int(shown.rpartition(" of ")[2].split(";")[0])
        for page in range(2, pages + 1):
            terminal.type(ENTER)
            shown += terminal.expect("Enter shows the next" if page < pages else "to sign: ")
        digest = machine.json("request", "show", str(number))["digest"]
        terminal.type(f"{digest[:4]}\r")
        code, _ = terminal.end()
    assert code == 0
    for name in MANY:
        assert name.removeprefix("dns:") in shown


def test_the_dialogue_is_not_in_the_document(asked: tuple[Shell, int]) -> None:
    machine, number = asked
    digest = machine.json("request", "show", str(number))["digest"]
    with at_terminal(machine, "--json", *approving(number), output="said.json") as terminal:
        question(terminal)
        terminal.type(f"{digest[:4]}\r")
        code, _ = terminal.end()
    assert code == 0
    assert json.loads((machine.path / "said.json").read_text())["state"] == "waiting"


def test_several_with_one_passphrase(governed: Shell) -> None:
    numbers = [governed.ask("csr", "create", "root", "--subject", f"CN={n}") for n in range(3)]
    digests = [governed.json("request", "show", str(n))["digest"] for n in numbers]
    words = ("approve", *map(str, numbers), "--as", "alice", "-i", "alice.key")
    with at_terminal(governed, *words) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        for digest in digests[:2]:
            shown = pages(terminal)
            assert "Passphrase" not in shown
            assert shown.endswith(f"Type {digest[:4]} to sign: ")
            terminal.type(f"{digest[:4]}\r")
        pages(terminal)
        terminal.type(CTRL_C)
        said = stopped(terminal)
    assert f"done before: request {numbers[0]}, {numbers[1]}" in said
    counts = [len(governed.json("request", "show", str(n))["approvals"]) for n in numbers]
    assert counts == [1, 1, 0]


def test_without_a_terminal_scripts_are_told_what_to_say(asked: tuple[Shell, int]) -> None:
    machine, number = asked
    error = machine.json(*approving(number), code=2)["error"]
    assert "--passphrase-file" in error["hint"]
    words = ("--passphrase-file", "passphrase")
    assert "--expect" in machine.json(*approving(number), *words, code=2)["error"]["hint"]
    digest = machine.json("request", "show", str(number))["digest"]
    machine(*approving(number), *words, "--expect", "0" * 64, code=1)
    wrong = ("--passphrase-file", "-", "--expect", digest)
    machine(*approving(number), *wrong, stdin=b"wrong\n", code=1)
    machine(*approving(number), *wrong, stdin=b"", code=2)
    machine("deny", *approving(77)[1:], *wrong[:2], "--reason", "x", stdin=b"x", code=2)
    read, write = os.pipe()
    os.write(write, PASSPHRASE.encode())
    os.close(write)
    try:
        fd = ("--passphrase-fd", str(read))
        machine(*approving(number), *fd, "--expect", digest.upper())
    finally:
        os.close(read)


# ── deleting ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("typed", "code"), [("spare\r", 0), ("y\r", 1), ("\r", 1), (CTRL_C, 1), (CTRL_D, 1)]
)
def test_a_key_is_deleted_by_its_label(plain: Shell, typed: str, code: int) -> None:
    plain("key", "create", "spare")
    with at_terminal(plain, "key", "delete", "spare") as terminal:
        terminal.expect("Type spare to delete it: ")
        terminal.type(typed)
        got, said = terminal.end()
    assert got == code, said
    labels = [one["label"] for one in plain.json("key", "list")["items"]]
    assert ("spare" in labels) == bool(code)


def test_yes_asks_nothing(plain: Shell) -> None:
    plain("key", "create", "spare")
    with at_terminal(plain, "key", "delete", "spare", "--yes") as terminal:
        assert terminal.end()[0] == 0
    assert plain("key", "delete", "spare", code=2)  # scripts have no terminal: nothing hangs


# ── what is trusted, at a terminal of 80 columns ─────────────────────────────


def test_what_is_compared_is_never_cut(governed: Shell) -> None:
    words = governed.json("group", "fingerprint", "officers")["fingerprint"]
    with at_terminal(governed, "trust", "list") as terminal:
        code, said = terminal.end()
    assert code == 0 and f"officers: {words}" in said
    table = said.partition("\n\n")[0].split("\n")
    assert max(map(len, table)) <= 80 and "…" not in said


# ── waiting ──────────────────────────────────────────────────────────────────


def waits(machine: Shell, *words: str, output: str = "said.json") -> tuple[Terminal, int]:
    terminal = at_terminal(machine, *words, "--wait", output=output)
    number = int(terminal.expect("(Ctrl-C stops").partition("request ")[2].split()[0])
    return terminal, number


WAITING = [
    ("group", "change", "officers", "--officers", RULE),
    ("ca", "sign", "root-ca", "web.csr", "--out", "x.pem"),
    ("ca", "issue", "root-ca", "--host", "new.example.com", "--out", "x.pem"),
    ("ca", "create", "sub", "--key", "web", "--issuer", "root-ca", "--subject", "CN=S", "-o",
     "x.pem"),
    ("ca", "create", "away", "--key", "root", "--external", "--subject", "CN=S", "-o", "x.pem"),
    ("csr", "create", "root", "--subject", "CN=x", "--out", "x.pem"),
    ("key", "sign", "signing", "alice.card", "--out", "x.pem"),
]  # fmt: skip


@pytest.mark.parametrize("words", WAITING, ids=lambda words: " ".join(words[:2]))
def test_waiting_ends_with_the_result(governed: Shell, words: tuple[str, ...]) -> None:
    governed("key", "create", "signing", "--policy", "quorum(officers)")
    terminal, number = waits(governed, *words)
    with terminal:
        governed.settle(number)
        code, said = terminal.end()
    assert code == 0, said
    assert ("x.pem" in os.listdir(governed.path)) == ("x.pem" in words)
    assert (governed.path / "said.json").read_text().strip()


@pytest.mark.parametrize("words", WAITING[:3], ids=lambda words: " ".join(words[:2]))
def test_stopping_to_wait_leaves_the_request(governed: Shell, words: tuple[str, ...]) -> None:
    terminal, number = waits(governed, *words)
    with terminal:
        terminal.type(CTRL_C)
        said = stopped(terminal, code=3)
    assert f"tpmhsm request execute {number} --wait" in said
    assert governed.json("request", "show", str(number))["state"] == "waiting"
    terminal = at_terminal(governed, "--json", "request", "execute", str(number), "--wait",
                           output="said.json")  # fmt: skip
    with terminal:
        time.sleep(0.5)
        governed.settle(number)
        assert terminal.end()[0] == 0
    assert json.loads((governed.path / "said.json").read_text())["state"] == "executed"


def test_waiting_for_a_refusal(governed: Shell) -> None:
    terminal, number = waits(governed, "ca", "sign", "root-ca", "web.csr")
    with terminal:
        governed("deny", str(number), "--as", "bob", "-i", "bob.key", "--passphrase-file",
                 "passphrase", "--reason", "not on a Friday")  # fmt: skip
        code, said = terminal.end()
    assert code == 1
    assert "denied (bob: not on a Friday)" in said


def test_interrupting_a_long_command(plain: Shell) -> None:
    words = ("key", "create", "large", "--alg", "rsa3072")
    with at_terminal(plain, *words) as terminal:
        terminal.expect("anyone with this machine")
        time.sleep(0.3)
        terminal.type(CTRL_C)
        code, said = terminal.end()
    assert "Traceback" not in said
    if code == 0:
        pytest.skip("the chip was faster")
    assert code == 1
    assert "stopped" in said
    plain("key", "show", "large", code=2)
    plain("key", "create", "large")


def test_python_is_not_in_the_way() -> None:
    """What the tests above run is what users run: a process of its own, with a terminal."""
    with Terminal([sys.executable, "-c", "print(input('? '))"], Path("/"), {}) as terminal:
        terminal.expect("? ")
        terminal.type("x\r")
        assert terminal.end() == (0, "x\nx\n")
