"""Completion in shells, colours on terminals, readers that go away."""

from __future__ import annotations

import os
import subprocess

from tests.support.shell import Shell
from tests.support.terminal import Terminal


def complete(machine: Shell, *words: str) -> list[str]:
    """What bash is offered after these words."""
    environment = {
        **machine.surroundings()["env"],
        "_TPMHSM_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["tpmhsm", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        machine.command(), cwd=machine.path, env=environment, capture_output=True, check=False
    )
    assert done.stderr == b""
    return [line.partition(",")[2] for line in done.stdout.decode().split()]


def test_words_are_completed(bare: Shell) -> None:
    assert {"key", "ca", "cert"} <= set(complete(bare, ""))
    assert complete(bare, "req") == ["request"]
    assert set(complete(bare, "key", "")) >= {"create", "list", "show", "sign", "delete"}
    assert "--alg" in complete(bare, "key", "create", "--al")
    assert "p384" in complete(bare, "key", "create", "x", "--alg", "p3")
    assert not bare.home.exists()


def test_the_help_says_how_completion_is_set_up(bare: Shell) -> None:
    said = bare("--help").out
    assert "_TPMHSM_COMPLETE=bash_source" in said
    environment = {**bare.surroundings()["env"], "_TPMHSM_COMPLETE": "bash_source"}
    done = subprocess.run(
        bare.command(), cwd=bare.path, env=environment, capture_output=True, check=False
    )
    assert b"complete " in done.stdout


def test_colours_on_a_terminal_only_where_wanted(plain: Shell) -> None:
    where = plain.surroundings()
    for changes, coloured in (
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb", "NO_COLOR": ""}, False),
    ):
        for words in (("key", "list"), ("key", "show", "nobody")):
            environment = {**where["env"], **changes}
            with Terminal(plain.command(*words), where["cwd"], environment) as terminal:
                _, said = terminal.end()
            assert ("\x1b[" in said) is coloured, (changes, said)


def test_a_reader_that_goes_away(plain: Shell) -> None:
    where = plain.surroundings()
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            plain.command("key", "list"), **where, stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert done.stderr == b""
    assert done.returncode == 0


def test_tracebacks_only_with_vv(plain: Shell) -> None:
    """A fault of the program is one line, and a traceback for whoever asks for it."""
    script = (
        "import sys; from unittest import mock; from tpmhsm.cli import main, app;"
        "mock.patch.object(app.App, 'emit', side_effect=ZeroDivisionError('boom')).start();"
        "sys.exit(main.run(sys.argv[1:]))"
    )
    where = plain.surroundings()
    for flags, traceback in (([], False), (["-v"], False), (["-vv"], True), (["-v", "-v"], True)):
        command = [plain.command()[0], "-c", script, "version", *flags]
        done = subprocess.run(command, **where, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) is traceback
        if not traceback:
            assert "this is a fault of TPM HSM: ZeroDivisionError: boom" in done.stderr
            assert "-vv" in done.stderr
