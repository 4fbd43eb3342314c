"""Questions to the person at the terminal. They go to stderr: stdout is for results."""

from __future__ import annotations

import sys
from contextlib import suppress
from getpass import getpass

import click

from tpmhsm.errors import RefusedError


def stopped(what: str, *, hint: str = "") -> RefusedError:
    """The error for Ctrl-C, or the end of input, at a question."""
    return RefusedError(what, code="interrupted", hint=hint)


def at_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def forget_typed() -> None:
    """Drop what was typed before now: an answer comes after what it is an answer to."""
    try:
        import termios
    except ImportError:  # other systems
        return
    with suppress(termios.error, OSError, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def ask(question: str, *, undone: str = "nothing was done") -> str:
    """One line from the terminal, empty for Enter. RefusedError when it is stopped."""
    try:
        click.echo(question, nl=False, err=True)
        line = sys.stdin.readline()
    except (KeyboardInterrupt, UnicodeDecodeError):
        line = ""
    if not line:  # Ctrl-C or Ctrl-D
        click.echo(err=True)
        raise stopped(f"stopped: {undone}")
    return line.rstrip("\r\n")


def ask_secret(question: str, *, confirm: bool) -> bytes:
    """A passphrase, not shown; typed twice to `confirm`. RefusedError when it is stopped."""
    while True:
        typed = _hidden(question)
        if not typed:
            click.echo("it is empty", err=True)
        elif not confirm or _hidden("The same again: ") == typed:
            return typed.encode()
        else:
            click.echo("they differ: once more", err=True)


def _hidden(question: str) -> str:
    try:
        return getpass(f"{question.rstrip(': ')}: ", stream=sys.stderr)
    except (KeyboardInterrupt, EOFError, UnicodeDecodeError):
        click.echo(err=True)
        raise stopped("stopped: nothing was done") from None
