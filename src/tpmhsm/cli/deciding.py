"""A decision at the terminal: everything is shown first, and only the digits are a yes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App
from tpmhsm.cli.prompts import ask, at_terminal, forget_typed
from tpmhsm.cli.words import one_line
from tpmhsm.errors import ApprovalRefusedError, RefusedError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.batch import Batch
    from tpmhsm.approval.paging import Page
    from tpmhsm.approval.review import Review

WIDEST, LOWEST = 100, 12
"""Columns beyond which lines are hard to read; lines of the lowest terminal that is believed."""

UNDONE = "nothing was signed"
_MARKED = re.compile(r"^([!Δ] .*?)(  +)")


def confirm(app: App, found: Review, expected: str | None) -> None:
    """Show everything, and take nothing but the first digits of the digest for a yes."""
    from tpmhsm.approval.display import code_of, pages, question, render

    if expected is not None:
        _check_expected(app, found, expected)
        return
    width, height = _size()
    _take(lambda: pages(found, height, width), lambda: render(found), question(found),
          code_of(found))  # fmt: skip


def confirm_all(batch: Batch) -> None:
    """The same of several requests in one table, with digits over all of them."""
    from tpmhsm.approval.batch import pages, render

    width, height = _size()
    _take(lambda: pages(batch, height, width), lambda: render(batch), batch.question, batch.code)


def show_first(text: Callable[[int], str]) -> None:
    """Show a page that asks for nothing, before those that do; `text` of a width."""
    click.echo(_painted(text(_size()[0])), err=True)
    if at_terminal():
        forget_typed()
        ask("(Enter shows the first act)", undone=UNDONE)


def _size() -> tuple[int, int]:
    """Columns, and lines of a page: below it stands a question."""
    columns, lines = shutil.get_terminal_size()
    return min(columns, WIDEST), max(lines, LOWEST) - 1


def _check_expected(app: App, found: Review, expected: str) -> None:
    from tpmhsm.approval.display import render

    digest = found.request.digest.hex()
    if app.talks:
        click.echo(render(found), err=True)
    elif found.first_use and not app.as_json:
        # to be compared aloud, however few words are wanted
        words = " ".join(found.group.fingerprint)
        click.echo(f"first use of group {one_line(found.request.group.name)}: {words}", err=True)
    kind, _, expected = expected.rpartition(":")
    _check_kind(found.request.kind, kind)
    if expected.lower() != digest:
        raise ApprovalRefusedError(
            "the request is for other bytes than --expect says",
            code="other-bytes",
            hint="--expect takes the SHA-256 of the bytes to be signed, which tpmhsm show prints, "
            f"not the file's own (sha256sum); here it is {digest}: give that only if you have "
            "the same from elsewhere than the host",
            details={"digest": digest, "expected": expected.lower()},
        )


def _check_kind(kind: str, expected: str) -> None:
    """The same bytes may be signed as a file, and decrypted: a digest alone does not say which."""
    if expected == kind or (not expected and kind != "decrypt"):
        return
    raise ApprovalRefusedError(
        f"the request is of kind {kind}, and --expect says {expected or 'nothing of it'}",
        code="other-kind",
        hint=f"if that is what is wanted: --expect {kind}:SHA256",
    )


def _take(
    pages: Callable[[], Sequence[Page]], whole: Callable[[], str], question: str, code: str
) -> None:
    """Show pages, and take nothing but `code` for a yes."""
    if not at_terminal():
        click.echo(whole(), err=True)
        raise UsageError(
            "there is no terminal to confirm at",
            hint="scripts say --expect SHA256, the digest from elsewhere than the host",
        )
    shown = pages()
    for number, page in enumerate(shown, 1):
        click.echo(_painted(page.text), err=True)
        if number < len(shown):
            forget_typed()
            ask(page.prompt(number, len(shown), _size()[0]), undone=UNDONE)
    forget_typed()
    while not (typed := ask(question, undone=UNDONE).strip()):
        pass  # Enter does nothing
    if typed.lower() != code:
        raise RefusedError(f"these are not the digits: {UNDONE}", code="not-confirmed")


def _painted(page: str) -> str:
    """The page with colours, which a terminal shows that has them."""
    return "\n".join(_coloured(line) for line in page.split("\n"))


def _coloured(line: str) -> str:
    if line.startswith("── "):
        return click.style(line, fg="cyan")
    if line.startswith(("APPROVE ", "CEREMONY ")):
        return click.style(line, bold=True)
    if found := _MARKED.match(line):
        colour = "yellow" if line[0] == "!" else "magenta"
        return click.style(found[1], fg=colour, bold=True) + line[found.end(1) :]
    return line
