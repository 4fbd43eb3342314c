"""What a ceremony makes, asked of the person at the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.prompts import ask
from tpmhsm.errors import TpmHsmError, UsageError

if TYPE_CHECKING:
    from tpmhsm.cli.ceremony import Asked

UNDONE = "nothing was made"
INTRODUCTION = """\
A ceremony founds a group, a root and an issuer. Nothing is made before the last answer.
Cards are files that people brought themselves, one of each."""


def questions() -> Asked:
    """One question after the other; Enter takes what stands in brackets. RefusedError when it is
    stopped.
    """
    from tpmhsm.cli.ceremony import Asked

    found = sorted(str(path) for path in Path().glob("*.card"))
    click.echo(INTRODUCTION, err=True)
    group = _ask("Name of the group", "officers")
    officers = _rule("Cards of the officers, who approve", found)
    custodians = _rule("Cards of the custodians, who replace officers (Enter: the officers)", [])
    root = _ask("Name of the root, as CN=Example Root,O=Example", check=_name)
    issuer = _ask("Name of the issuer below it (Enter: none)", "-", _name)
    budget, window = (None, None) if issuer == "-" else _unattended()
    return Asked(
        group=group,
        officers=(officers,),
        custodians=(custodians,) if custodians else (),
        root=root,
        issuer=None if issuer == "-" else issuer,
        budget=budget,
        window=window,
        permit=(),
        exclude=(),
        alg=None,
    )


def _ask(question: str, default: str = "", check: Callable[[str], None] | None = None) -> str:
    """An answer that `check` does not refuse."""
    while True:
        shown = f" [{default}]" if default and default != "-" else ""
        answer = ask(f"{question}{shown}: ", undone=UNDONE).strip() or default
        if not answer:
            continue
        try:
            if check is not None and answer != "-":
                check(answer)
        except TpmHsmError as error:
            click.echo(f"  {error.message}; {error.hint}".rstrip("; "), err=True)
            continue
        return answer


def _rule(question: str, found: list[str]) -> str:
    """`2:alice.card,bob.card,carol.card`, or empty."""
    default = " ".join(found) or "-"
    files = _ask(question, default, _cards).replace(",", " ").split()
    if files == ["-"]:
        return ""
    majority = str(len(files) // 2 + 1)
    number = _ask(f"How many of these {len(files)} must agree", majority, _within(len(files)))
    return f"{number}:{','.join(files)}"


def _cards(text: str) -> None:
    missing = [name for name in text.replace(",", " ").split() if not Path(name).is_file()]
    if missing:
        raise UsageError(
            f"there is no file {missing[0]}", hint="names of files, with blanks between"
        )


def _within(most: int) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise UsageError(f"a number from 1 to {most}")

    return check


def _name(text: str) -> None:
    from tpmhsm.pki.names import parse_dn

    parse_dn(text)


def _unattended() -> tuple[int | None, str | None]:
    """A number of signatures, a length of time, or neither."""
    from tpmhsm.cli.opening import seconds_of

    def check(text: str) -> None:
        if not text.isdigit():
            seconds_of(text)

    answer = _ask(
        "The issuer signs with nobody present: so often (1000), so long (8h; Enter: never)",
        "-",
        check,
    )
    if answer == "-":
        return None, None
    return (int(answer), None) if answer.isdigit() else (None, answer)
