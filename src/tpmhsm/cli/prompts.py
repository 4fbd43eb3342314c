"""Questions to the person at the terminal. They go to stderr: stdout is for results."""

from __future__ import annotations

import sys

import click

from tpmhsm.errors import RefusedError


def stopped(what: str, *, hint: str = "") -> RefusedError:
    """The error for Ctrl-C, or the end of input, at a question."""
    return RefusedError(what, code="interrupted", hint=hint)


def at_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def ask(question: str, *, undone: str = "nothing was done") -> str:
    """One line from the terminal, empty for Enter. RefusedError when it is stopped."""
    try:
        typed: str = click.prompt(
            question, default="", show_default=False, prompt_suffix="", err=True
        )
    except click.Abort:
        click.echo(err=True)
        raise stopped(f"stopped: {undone}") from None
    return typed


def ask_secret(question: str, *, confirm: bool) -> bytes:
    """A passphrase, not shown. RefusedError when it is stopped."""
    try:
        typed: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
    except click.Abort:
        click.echo(err=True)
        raise stopped("stopped: nothing was done") from None
    return typed.encode()
