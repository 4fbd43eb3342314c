"""`approve --together`: many requests as one table, one decision."""

from __future__ import annotations

import pytest
from tests.cli.test_terminal import at_terminal, stopped
from tests.support.cli import PASSPHRASE
from tests.support.shell import Shell
from tests.support.terminal import CTRL_C, Terminal


def asked(machine: Shell, *names: str) -> list[int]:
    """Requests for certificates, each for a key of its own."""
    numbers = []
    for name in names:
        machine("key", "create", name)
        machine("csr", "create", name, "--san", f"dns:{name}.example.com", "--out", f"{name}.csr")
        numbers.append(machine.ask("ca", "sign", "root-ca", f"{name}.csr"))
    return numbers


def begin(machine: Shell, numbers: list[int]) -> Terminal:
    words = ("approve", *map(str, numbers), "--together", "--as", "alice", "-i", "alice.key")
    terminal = at_terminal(machine, *words)
    terminal.expect("Passphrase for alice.key: ")
    terminal.type(f"{PASSPHRASE}\r")
    return terminal


def read(terminal: Terminal) -> str:
    shown = ""
    while True:
        part = terminal.expect("Enter shows the next", "to sign all ")
        shown += part
        if part.endswith("to sign all "):
            return shown
        terminal.type("\r")


def approvals(machine: Shell, numbers: list[int]) -> list[int]:
    return [len(machine.json("request", "show", str(n))["approvals"]) for n in numbers]


def test_one_table_and_one_decision(governed: Shell) -> None:
    numbers = asked(governed, "one", "two", "three")
    with begin(governed, numbers) as terminal:
        shown = read(terminal)
        for name in ("one", "two", "three"):
            assert f"{name}.example.com" in shown
        for number in numbers:
            digest = governed.json("request", "show", str(number))["digest"]
            assert " ".join(digest[i : i + 8] for i in range(0, 64, 8)) in shown
        assert shown.count("CN=Root,O=Example") == 1  # the same in all: said once
        assert max(map(len, shown.splitlines())) <= 80
        terminal.type(shown[shown.rindex("Type ") + 5 :][:4] + "\r")
        code, _ = terminal.end()
    assert code == 0
    assert approvals(governed, numbers) == [1, 1, 1]


@pytest.mark.parametrize("typed", ["0000", "digest"])
def test_other_digits_sign_nothing(governed: Shell, typed: str) -> None:
    numbers = asked(governed, "one", "two")
    digest = governed.json("request", "show", str(numbers[0]))["digest"]
    with begin(governed, numbers) as terminal:
        read(terminal)
        terminal.type((digest[:4] if typed == "digest" else typed) + "\r")
        code, said = terminal.end()
    assert code == 1 and "nothing was signed" in said
    assert approvals(governed, numbers) == [0, 0]


def test_stopped(governed: Shell) -> None:
    numbers = asked(governed, "one", "two")
    with begin(governed, numbers) as terminal:
        read(terminal)
        terminal.type(CTRL_C)
        assert "nothing was signed" in stopped(terminal)
    assert approvals(governed, numbers) == [0, 0]


def test_a_key_that_is_there_twice(governed: Shell) -> None:
    """It is said before the decision; the second one then has a warning that nobody has seen."""
    numbers = asked(governed, "one")
    again = (
        "csr",
        "create",
        "one",
        "--san",
        "dns:other.example.com",
        "--subject",
        "CN=other,O=B",
        "--out",
        "b.csr",
    )
    governed(*again)
    numbers.append(governed.ask("ca", "sign", "root-ca", "b.csr"))
    with begin(governed, numbers) as terminal:
        shown = read(terminal)
        assert "! KEY TWICE" in shown
        terminal.type(shown[shown.rindex("Type ") + 5 :][:4] + "\r")
        code, said = terminal.end()
    assert code == 1 and "was not on the screen" in said
    assert approvals(governed, numbers) == [1, 0]


def test_what_cannot_be_decided_together(governed: Shell) -> None:
    first = asked(governed, "one")[0]
    other = governed.ask("csr", "create", "root", "--subject", "CN=x")
    words = ("--as", "alice", "-i", "alice.key", "--passphrase-file", "passphrase", "--together")
    for numbers in ((first, other), (first,)):
        error = governed.json("approve", *map(str, numbers), *words, code=2)["error"]
        assert error["code"] == "not-alike"
    digests = ("--expect", "0" * 64)
    assert "--expect" in governed("approve", str(first), *words, *digests, code=2).err
    assert approvals(governed, [first, other]) == [0, 0]
