"""`tpmhsm approve` and `deny`: look at a request, then sign it or refuse it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.people import approver_store, open_person
from tpmhsm.cli.secrets import passphrase_options, passphrase_source
from tpmhsm.errors import ApprovalRefusedError, RefusedError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.approval.review import Review

WHAT = "ID|FILE…"


def _options(command: Any) -> Any:
    for option in (
        click.option("--as", "name", required=True, metavar="NAME", help="Who you are."),
        click.option("-i", "--identity", required=True, metavar="ID", help="Your key: a file."),
        click.option("-o", "--out", metavar="F", help="Where the file for the host goes."),
        click.option("--force", is_flag=True, help="Overwrite an existing file."),
        click.argument("what", nargs=-1, required=True, metavar=WHAT),
    ):
        command = option(command)
    return passphrase_options(command)


@click.command()
@_options
@click.option("--expect", metavar="SHA256", help="For scripts: the digest, instead of typing.")
@pass_app
def approve(
    app: App,
    what: tuple[str, ...],
    name: str,
    identity: str,
    out: str | None,
    force: bool,
    expect: str | None,
    passphrase_file: str | None,
    passphrase_fd: int | None,
) -> None:
    """Show a request as decoded from its bytes, then sign it.

    By ID on the CA host, the last approval needed executes the request. From a FILE it writes an
    approval file, which the host takes in with `request import`.

    \b
    Example:
      tpmhsm approve 7.req --as alice -i alice.key
    """
    _one_out(what, out)
    ask = passphrase_source(passphrase_file, passphrase_fd)
    person = open_person(identity, _once(ask))
    done = [_approve(app, item, name, person, expect, out, force) for item in what]
    app.emit(done[0] if len(done) == 1 else {"items": done})


def _approve(
    app: App,
    item: str,
    name: str,
    person: Any,
    expect: str | None,
    out: str | None,
    force: bool,
) -> dict[str, Any]:
    from tpmhsm.approval import moments
    from tpmhsm.approval.approve import make_approval
    from tpmhsm.approval.review import review
    from tpmhsm.requests.memory import StoredMemory

    request, in_place = load(app, item)
    if in_place:
        app.desk.must_wait(request.id)
    target = out or f"{request.id}-{name}.approval"
    _must_be_free(target, force or in_place)
    store = approver_store(app)
    with store.reading() as tx:
        found = review(request, StoredMemory(tx), person, name, moments.now())
    confirm(app, found, expect)
    approval = make_approval(found, person)
    with store.transaction() as tx:
        StoredMemory(tx).keep(found.entries)
        tx.audit.append("approve", {"request": request.id, "digest": request.digest.hex()})
    result: dict[str, Any] = {
        "request": request.id,
        "approver": name,
        "digest": request.digest.hex(),
    }
    if in_place:
        row = app.desk.add_approval(approval)
        app.note(f"approved; request {row.id} is {row.state}")
        return {**result, "state": row.state}
    app.write(target, approval.data, force=force)
    app.note(f"approved: take {target} to the host and run tpmhsm request import {target}")
    return {**result, "file": target}


def load(app: App, item: str) -> tuple[Request, bool]:
    """The request and whether it was named by its id in this home."""
    from tpmhsm.approval.request import MAX_REQUEST, parse_request

    if item.isascii() and item.isdigit() and not Path(item).exists():
        return app.desk.request(int(item)), True
    if "://" in item:
        raise UsageError(
            f"{item}: requests by URL are not in this version",
            hint="tpmhsm request export ID writes a file",
            code="not-in-this-version",
        )
    return parse_request(app.read(item, limit=MAX_REQUEST)), False


def confirm(app: App, found: Review, expect: str | None) -> None:
    """Show everything, and take nothing but the first digits of the digest for a yes."""
    from tpmhsm.approval.display import code_of, question, render

    digest = found.request.digest.hex()
    if expect is not None:
        if not app.as_json and app.verbosity >= 0:
            click.echo(render(found), err=True)
        if expect.lower() != digest:
            raise ApprovalRefusedError(
                "the request is for other bytes than --expect says",
                code="other-bytes",
                details={"digest": digest, "expected": expect.lower()},
            )
        return
    if not sys.stdin.isatty():
        click.echo(render(found), err=True)
        raise UsageError(
            "there is no terminal to confirm at",
            hint="scripts say --expect SHA256, the digest from elsewhere than the host",
        )
    _show_pages(found)
    while True:
        typed = click.prompt(question(found), default="", show_default=False, prompt_suffix="")
        if typed.strip().lower() == code_of(found):
            return
        if typed.strip():
            raise RefusedError("these are not the digits: nothing was signed", code="not-confirmed")


def _show_pages(found: Review) -> None:
    from tpmhsm.approval.display import pages

    shown = pages(found)
    for number, page in enumerate(shown, 1):
        click.echo(page)
        if number < len(shown):
            click.prompt(
                f"(page {number} of {len(shown)}; Enter shows the next)",
                default="",
                show_default=False,
                prompt_suffix="",
            )


@click.command()
@_options
@click.option("--reason", required=True, help="Why; the others see it.")
@pass_app
def deny(
    app: App,
    what: tuple[str, ...],
    name: str,
    identity: str,
    out: str | None,
    force: bool,
    reason: str,
    passphrase_file: str | None,
    passphrase_fd: int | None,
) -> None:
    """Refuse a request, signed and with a reason; it stops the request on an honest host.

    \b
    Example:
      tpmhsm deny 7.req --as bob -i bob.key --reason "nobody asked for a wildcard"
    """
    from tpmhsm.approval.approve import make_denial

    _one_out(what, out)
    ask = passphrase_source(passphrase_file, passphrase_fd)
    person = open_person(identity, _once(ask))
    done = []
    for item in what:
        request, in_place = load(app, item)
        denial = make_denial(request, person, name, reason)
        if in_place:
            row = app.desk.add_denial(denial)
            done.append({"request": row.id, "approver": name, "state": row.state})
            app.note(f"denied; request {row.id} is {row.state}")
            continue
        target = out or f"{request.id}-{name}.denial"
        app.write(target, denial.data, force=force)
        done.append({"request": request.id, "approver": name, "file": target})
        app.note(f"denied: take {target} to the host and run tpmhsm request import {target}")
    app.emit(done[0] if len(done) == 1 else {"items": done})


def _one_out(what: tuple[str, ...], out: str | None) -> None:
    if out and len(what) > 1:
        raise UsageError("--out names one file and there are several requests")


def _must_be_free(target: str, fine: bool) -> None:
    from tpmhsm.errors import ExistsError

    if not fine and target != "-" and Path(target).exists():
        raise ExistsError(f"{target} exists and is kept", hint="--force overwrites it")


def _once(ask: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """One passphrase for many requests."""
    known: dict[str, bytes] = {}

    def cached(prompt: str) -> bytes:
        if prompt not in known:
            known[prompt] = ask(prompt)
        return known[prompt]

    return cached
