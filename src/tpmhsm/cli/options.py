"""Options that many commands share, packed into one argument each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from tpmhsm.cli.files import STDIO, check_free, write_output

F = TypeVar("F", bound=Callable[..., Any])


def packed(name: str, kind: type, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Add options to a command; it gets them as one argument `name`, a dataclass `kind`.

    The options must give exactly the fields of `kind`.
    """
    wanted = [one.name for one in fields(kind)]

    def add(command: F) -> F:
        @wraps(command)
        def unpacked(*arguments: Any, **values: Any) -> Any:
            values[name] = kind(**{field: values.pop(field) for field in wanted})
            return command(*arguments, **values)

        found: Any = unpacked
        for option in reversed(options):
            found = option(found)
        return found  # type: ignore[no-any-return]

    return add


@dataclass(frozen=True)
class Out:
    """Where a result goes: `-o F`, `--force`, `--der`."""

    out: str | None
    force: bool
    der: bool = False

    def path(self, default: str = STDIO) -> str:
        """The path that was named, or the default."""
        return self.out or default

    def claim(self, default: str = STDIO) -> str:
        """The path, refused right away when a file is there already."""
        check_free(self.path(default), force=self.force)
        return self.path(default)

    def write(self, data: bytes, default: str = STDIO) -> None:
        """Write it, whole or not at all."""
        write_output(self.path(default), data, force=self.force)


def named_after(file: str, suffix: str) -> str:
    """The default name of what is made of a file: the file's with another suffix, here; stdout for
    stdin.
    """
    return STDIO if file == STDIO else f"{Path(file).stem}{suffix}"


def out_options(what: str = "stdout by default.", *, der: bool = False) -> Callable[[F], F]:
    """Add -o/--out, --force and, if `der`, --der to a command, as its argument `out`."""
    der_option = (
        click.option("--der", is_flag=True, help="DER instead of PEM.")
        if der
        else _constant("der", False)
    )
    return packed(
        "out",
        Out,
        click.option("-o", "--out", metavar="F", help=f"Where it is written; {what}"),
        der_option,
        click.option("--force", is_flag=True, help="Overwrite an existing file."),
    )


def _constant(name: str, value: object) -> Callable[[F], F]:
    """No option: the command always gets this value."""

    def add(command: F) -> F:
        @wraps(command)
        def with_value(*arguments: Any, **values: Any) -> Any:
            return command(*arguments, **values, **{name: value})

        return with_value  # type: ignore[return-value]

    return add


def wait_option(command: F) -> F:
    """Add --wait."""
    return click.option(
        "--wait", is_flag=True, help="Wait for the approvals; Ctrl-C leaves the request waiting."
    )(command)


def reason_option(whom: str = "approvers") -> Callable[[F], F]:
    """Add --reason, which those who are asked see: `whom`."""
    return click.option("--reason", default="", help=f"Shown to {whom} as the host's claim.")
