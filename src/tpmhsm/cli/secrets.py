"""Passphrases and PINs: from a prompt, a file or a descriptor; never from an argument."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tpmhsm.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
LIMIT = 4096


def passphrase_options(command: F) -> F:
    """Add --passphrase-file and --passphrase-fd to a command."""
    command = click.option(
        "--passphrase-file", metavar="F", help="Read the passphrase from a file's first line."
    )(command)
    return click.option(
        "--passphrase-fd", type=int, metavar="N", help="Read it from an open descriptor."
    )(command)


def passphrase_source(
    file: str | None, descriptor: int | None, *, confirm: bool = False
) -> Callable[[str], bytes]:
    """A function that asks when, and only when, the passphrase is needed.

    It takes the words of the prompt and gives the passphrase's bytes. Raises UsageError.
    """

    def ask(prompt: str) -> bytes:
        if file is not None:
            return _first_line(file)
        if descriptor is not None:
            return _clean(_read_descriptor(descriptor))
        if not sys.stdin.isatty():
            raise UsageError(
                "a passphrase is needed and there is no terminal to ask at",
                hint="--passphrase-file F, or --passphrase-fd N",
            )
        text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return text.encode()

    return ask


def _first_line(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return _clean(opened.read(LIMIT))
    except OSError as error:
        raise UsageError(f"cannot read the passphrase from {file}: {error.strerror}") from error


def _read_descriptor(descriptor: int) -> bytes:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as opened:
            return opened.read(LIMIT)
    except OSError as error:
        raise UsageError(f"cannot read from descriptor {descriptor}: {error.strerror}") from error


def _clean(data: bytes) -> bytes:
    line = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise UsageError("the passphrase is empty")
    return line
