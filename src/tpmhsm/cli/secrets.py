"""Passphrases and PINs: from a prompt, a file or a descriptor; never from an argument."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import click

from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import packed
from tpmhsm.cli.prompts import ask_secret, at_terminal
from tpmhsm.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Ask = Callable[[str], bytes]
LIMIT = 4096


@dataclass(frozen=True)
class Secret:
    """Where a passphrase comes from. It is asked for when, and only when, it is needed."""

    passphrase_file: str | None = None
    passphrase_fd: int | None = None
    word: ClassVar[str] = "passphrase"
    option: ClassVar[str] = "passphrase"

    @property
    def given(self) -> bool:
        """Whether a file or descriptor was named: nobody need be asked."""
        return self.passphrase_file is not None or self.passphrase_fd is not None

    def source(self, *, confirm: bool = False) -> Ask:
        """A function from the prompt's words to the passphrase; asked once for each prompt.

        It raises UsageError, RefusedError when it is stopped. `confirm`: typed twice.
        """
        known: dict[str, bytes] = {}

        def ask(prompt: str) -> bytes:
            if prompt not in known:
                known[prompt] = self._get(prompt, confirm)
            return known[prompt]

        return ask

    def _get(self, prompt: str, confirm: bool) -> bytes:
        if self.passphrase_file is not None:
            return _first_line(self.passphrase_file, self.word)
        if self.passphrase_fd is not None:
            return _clean(_read_descriptor(self.passphrase_fd), self.word)
        if not at_terminal():
            raise UsageError(
                f"a {self.word} is needed and there is no terminal to ask at",
                hint=f"--{self.option}-file F, or --{self.option}-fd N",
            )
        return ask_secret(prompt, confirm=confirm)


def passphrase_options(command: F) -> F:
    """Add --passphrase-file and --passphrase-fd to a command, as its argument `secret`."""
    return packed(
        "secret",
        Secret,
        click.option(
            "--passphrase-file", metavar="F", help="Read the passphrase from a file's first line."
        ),
        click.option(
            "--passphrase-fd", type=int, metavar="N", help="Read it from an open descriptor."
        ),
    )(command)


def _first_line(file: str, word: str) -> bytes:
    if file == STDIO:
        return _clean(sys.stdin.buffer.readline(LIMIT), word)
    try:
        with open(file, "rb") as opened:
            return _clean(opened.read(LIMIT), word)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the {word} from {file!r}: {reason}") from error


def _read_descriptor(descriptor: int) -> bytes:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as opened:
            return opened.read(LIMIT)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read from descriptor {descriptor}: {reason}") from error


def _clean(data: bytes, word: str) -> bytes:
    line = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise UsageError(f"the {word} is empty")
    if len(line) >= LIMIT:
        raise UsageError(f"a {word} has fewer than {LIMIT} bytes; is this the right file?")
    return line
