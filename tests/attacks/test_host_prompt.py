"""The question itself, asked at a terminal while the host plays: what was pasted or exchanged
meanwhile, and what a hook is told.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import struct
import termios
from pathlib import Path

import pytest
from tests.cli.test_terminal import approving, at_terminal, long_request
from tests.cli.test_terminal import pages as turn_pages
from tests.support.machines import governed, governed_template, place, plain, plain_template
from tests.support.shell import PASSPHRASE, Shell
from tests.support.terminal import CTRL_C, ENTER, Terminal

from tpmhsm.approval.request import parse_request
from tpmhsm.approval.votes import parse_approval
from tpmhsm.errors import UsageError
from tpmhsm.policy.documents import check_label
from tpmhsm.store import Store

__all__ = ["governed", "governed_template", "long_request", "place", "plain", "plain_template"]


def digest_of(machine: Shell, number: int) -> str:
    return str(machine.json("request", "show", str(number))["digest"])


def given(machine: Shell, number: int) -> int:
    return len(machine.json("request", "show", str(number))["approvals"])


def two_requests(machine: Shell) -> list[int]:
    asked = ("csr", "create", "root", "--subject")
    return [machine.ask(*asked, f"CN={name}") for name in ("shown", "evil")]


def test_lines_pasted_before_the_question(long_request: tuple[Shell, int]) -> None:
    """Enters for all pages and an answer, pasted at the first page: one page is turned, the rest
    is dropped, else the answer would be taken. Then the terminal shrinks, which answers nothing.
    """
    machine, number = long_request
    digits = digest_of(machine, number)[:4]
    with at_terminal(machine, *approving(number)) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        terminal.expect("Enter shows the next)")
        terminal.type("\r\r\r\r\r\r\r\r\r\rhaste\r")
        terminal.expect("(page 2 of ")
        terminal.expect("Enter shows the next)")
        terminal.type(ENTER)
        turn_pages(terminal)
        shrink(terminal)
        assert given(machine, number) == 0
        terminal.type(f"{digits}\r")
        code, said = terminal.end()
    assert code == 0, said
    assert given(machine, number) == 1


def shrink(terminal: Terminal) -> None:
    """Another size, as a window manager sets it: the kernel sends SIGWINCH."""
    size = struct.pack("HHHH", 6, 30, 0, 0)
    fcntl.ioctl(terminal._descriptor, termios.TIOCSWINSZ, size)
    os.kill(terminal._pid, signal.SIGWINCH)


def test_digits_from_a_pipe(governed: Shell) -> None:
    """Standard input that is no terminal: the right digits there are nobody's yes."""
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    digits = digest_of(governed, number)[:4]
    words = (*approving(number), "--passphrase-file", "passphrase")
    for typed in (f"{digits}\n", f"\n\n\n{digits}\n", ""):
        said = governed(*words, code=2, stdin=typed.encode())
        assert "there is no terminal to confirm at" in said.err
    assert given(governed, number) == 0


def test_a_file_exchanged_at_the_question(governed: Shell) -> None:
    """Root puts another request in the file's place while a person reads: what is signed is what
    was shown, and the host that wants the other is told so (other-bytes).
    """
    first, second = two_requests(governed)
    for number, name in ((first, "a.req"), (second, "evil.req")):
        governed("request", "export", str(number), "--out", name)
    shown = parse_request((governed.path / "a.req").read_bytes())
    words = ("approve", "a.req", "--as", "alice", "-i", "alice.key", "--out", "x.approval")
    with at_terminal(governed, *words) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        assert "CN=shown" in turn_pages(terminal)
        (governed.path / "evil.req").replace(governed.path / "a.req")
        terminal.type(f"{shown.digest.hex()[:4]}\r")
        code, said = terminal.end()
    assert code == 0, said
    approval = parse_approval((governed.path / "x.approval").read_bytes())
    assert approval.digest == shown.digest
    relabelled = json.loads((governed.path / "x.approval").read_bytes())
    relabelled["request"] = second
    (governed.path / "y.approval").write_text(json.dumps(relabelled))
    error = governed.json("request", "import", "y.approval", code=1)["error"]
    assert error["code"] == "other-bytes" and given(governed, second) == 0
    governed("request", "import", "x.approval")
    assert given(governed, first) == 1


def test_a_database_changed_at_the_question(governed: Shell) -> None:
    """The same by its number, on the host: the approval made is of what was shown, and is not taken
    for the other (other-bytes).
    """
    first, second = two_requests(governed)
    digits = digest_of(governed, first)[:4]
    with at_terminal(governed, *approving(first)) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        assert "CN=shown" in turn_pages(terminal)
        exchange(governed.home, first, second)
        terminal.type(f"{digits}\r")
        code, said = terminal.end()
    assert code == 1 and "other bytes" in said, said
    assert "other-bytes" not in said  # words at a terminal; the code is for programs
    assert given(governed, first) == 0


def exchange(home: Path, first: int, second: int) -> None:
    """Root gives one request's document to the other's number."""
    import sqlite3
    from contextlib import closing
    from dataclasses import replace

    with Store.open(home) as store, store.reading() as tx:
        evil = replace(parse_request(tx.requests.get(second).document), id=first)
    with closing(sqlite3.connect(home / "tpmhsm.db")) as database, database:
        database.execute("update requests set document = ? where id = ?", (evil.data, first))


def test_a_hook_with_hostile_words(governed: Shell) -> None:
    """Names, reasons and file names with a shell's and a terminal's words reach a hook as one line
    of ASCII on its standard input; its arguments and environment hold none. What becomes an
    argument or a file name is refused as a name (usage).
    """
    log, script, owned = (governed.path / name for name in ("log", "hook", "owned"))
    script.write_text(
        f'#!/bin/sh\ncat >> "{log}"\nenv >> "{log}.env"\necho "$0 $*" >> "{log}.env"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    settings = f"[requests]\nhook = {json.dumps([str(script), 'one'])}\n"
    (governed.home / "tpmhsm.toml").write_text(settings)
    evil = f"`touch {owned}`; $(touch {owned}) ' \" | \x1b]0;x\x07 \u202e é %s"
    (governed.path / "web.csr").rename(governed.path / "-rf; $(id).csr")
    number = governed.ask("ca", "sign", "root-ca", "./-rf; $(id).csr", "--reason", evil)
    governed("deny", str(number), "--as", "bob", "-i", "bob.key", "--passphrase-file",
             "passphrase", "--reason", f"{evil}\nsecond line")  # fmt: skip
    lines = log.read_bytes().splitlines()
    assert len(lines) == 2 and all(line.isascii() and b"\x1b" not in line for line in lines)
    born, denied = (json.loads(line) for line in lines)
    assert born["requests"][0]["reason"] == evil
    assert denied["requests"][0]["denials"][0]["reason"].endswith("second line")
    told = Path(f"{log}.env").read_text()
    assert "touch" not in told and "\x1b" not in told and f"TPMHSM_REQUESTS={number}" in told
    assert not owned.exists()
    for name in ("$(id)", "`id`", "a;b", "a|b", "-rf", "a'b", "a b\nc", "../x", "a%s", "~" * 65):
        with pytest.raises(UsageError) as caught:
            check_label(name, "the name")
        assert caught.value.code == "usage"


def test_interrupted_between_signatures(governed: Shell) -> None:
    """Ctrl-C at the second of two questions: the first is given and said, the second is not."""
    numbers = two_requests(governed)
    words = ("approve", *map(str, numbers), "--as", "alice", "-i", "alice.key")
    with at_terminal(governed, *words) as terminal:
        terminal.expect("Passphrase for alice.key: ")
        terminal.type(f"{PASSPHRASE}\r")
        turn_pages(terminal)
        terminal.type(f"{digest_of(governed, numbers[0])[:4]}\r")
        turn_pages(terminal)
        terminal.type(CTRL_C)
        code, said = terminal.end()
    assert code == 1 and f"done before: request {numbers[0]}" in said and "Traceback" not in said
    assert [given(governed, number) for number in numbers] == [1, 0]
