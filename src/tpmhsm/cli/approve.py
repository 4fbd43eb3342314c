"""`tpmhsm approve` and `deny`: look at a request, then sign it or refuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.crl_files import publish_executed
from tpmhsm.cli.deciding import confirm, confirm_all
from tpmhsm.cli.files import STDIO, naming
from tpmhsm.cli.options import Out, out_options, packed
from tpmhsm.cli.pins import identity_secret, module_of, pin_options
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.cli.sitting import approve_ceremony, ceremony_of, check_target, deny_ceremony
from tpmhsm.cli.waiting import overtaken
from tpmhsm.errors import ApprovalRefusedError, TpmHsmError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity
    from tpmhsm.approval.request import Request
    from tpmhsm.approval.review import Review
    from tpmhsm.store import Transaction

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Who:
    """The approver: name, and where the key is."""

    name: str
    identity: str


@dataclass(frozen=True)
class Item:
    """One request as it was named: by its id in this home (`in_place`), or as a file."""

    request: Request
    in_place: bool

    def target(self, who: Who, ending: str) -> str:
        """The file that the host will want."""
        return f"{self.request.id}-{who.name}.{ending}"


def vote_options(command: F) -> F:
    """What approving and denying have in common."""
    with_out = out_options("ID-NAME.approval or .denial by default.")(passphrase_options(command))
    return packed(
        "who",
        Who,
        click.option("--as", "name", required=True, metavar="NAME", help="Who you are."),
        click.option(
            "-i",
            "--identity",
            required=True,
            metavar="ID",
            help="Your key: a file, yubikey[:SERIAL][/SLOT] or pkcs11:… (RFC 7512).",
        ),
    )(click.argument("what", nargs=-1, required=True, metavar="ID|FILE…")(with_out))


@click.command()
@click.option("--expect", "expected", multiple=True, metavar="[KIND:]SHA256",
              help="For scripts: the digest, instead of typing; one for each request.")  # fmt: skip
@click.option("--together", is_flag=True,
              help="Several requests in one table, with one decision for all.")  # fmt: skip
@click.option("--imported", is_flag=True,
              help="Also for a key that was imported: copies of it may exist.")  # fmt: skip
@click.option("--trust", multiple=True, metavar="CARD,…",
              help="Cards that you have from people, not from the host: trust add.")  # fmt: skip
@vote_options
@pin_options
@pass_app
def approve(
    app: App,
    what: tuple[str, ...],
    who: Who,
    expected: tuple[str, ...],
    together: bool,
    imported: bool,
    trust: tuple[str, ...],
    out: Out,
    secret: Secret,
) -> None:
    """Show a request as decoded from its bytes, then sign it.

    By ID on the CA host, the last approval needed executes the request. From a FILE it writes an
    approval file, which the host takes in with `request import`.

    \b
    Example:
      tpmhsm approve 7.req --as alice -i alice.key
      tpmhsm approve 7.req 8.req 9.req --together --as alice -i alice.key
      tpmhsm approve officers.ceremony --as bob -i bob.key --trust alice.card,carol.card
    """
    if together and expected:
        raise UsageError("--together is a question to a person", hint="--expect names each digest")
    what = tuple(dict.fromkeys(what))
    if expected and len(expected) != len(what):
        raise UsageError(f"{len(what)} requests, but {len(expected)} digests with --expect")
    for given in expected:
        _, _, wanted = given.rpartition(":")
        if len(wanted) != 64 or not set(wanted.lower()) <= set("0123456789abcdef"):
            raise UsageError(f"--expect {given!r} is no SHA-256: 64 hexadecimal digits")
    trust_all(app, trust)
    if (ceremony := ceremony_of(app, what)) is not None:
        if together:
            raise UsageError("the acts of a ceremony are shown one by one", hint="no --together")
        check_target(ceremony, who.name, out)
        person = open_person(app, who, secret)
        approve_ceremony(app, ceremony, who.name, person, (expected or (None,))[0], out)
        return
    digests: Sequence[str | None] = expected or [None] * len(what)
    items = load_all(app, what, who, out, "approval")
    person = open_person(app, who, secret)
    voter = Voter(who, person, imported)
    seen = _decide_together(app, items, voter) if together else [None] * len(items)
    done: list[dict[str, Any]] = []
    for item, digest, shown in zip(items, digests, seen, strict=True):
        with counting(done):
            done.append(_approve(app, item, voter, digest, out, shown))
    finish(app, done, out)


def trust_all(app: App, given: tuple[str, ...]) -> None:
    """Trust cards that the person has from others, as `trust add` does."""
    from tpmhsm.cli.people import trust_cards

    files = [file for one in given for file in one.split(",") if file]
    if files:
        trust_cards(app, [(file, app.read(file)) for file in files])


@dataclass(frozen=True)
class Voter:
    """Who approves, with which key; `imported`: also what is done by imported keys."""

    who: Who
    person: Identity
    imported: bool

    def review(self, request: Request, tx: Transaction) -> Review:
        """Every check, against the memory in a transaction."""
        from tpmhsm.approval.review import review
        from tpmhsm.policy import moments
        from tpmhsm.requests.memory import StoredMemory

        memory, now = StoredMemory(tx), moments.now()
        return review(request, memory, self.person, self.who.name, now, imported=self.imported)


def _decide_together(app: App, items: Sequence[Item], voter: Voter) -> list[Review | None]:
    """Show all in one table and take one decision; gives what was shown of each."""
    from tpmhsm.approval.batch import batch_of

    with app.own_store().reading() as tx:
        batch = batch_of([voter.review(item.request, tx) for item in items])
    confirm_all(batch)
    return list(batch.reviews)


def _approve(
    app: App, item: Item, voter: Voter, digest: str | None, out: Out, shown: Review | None = None
) -> dict[str, Any]:
    """One approval; `shown`: decided already, among others, after this was on the screen."""
    from tpmhsm.approval.approve import make_approval
    from tpmhsm.requests.memory import StoredMemory

    request, who, store = item.request, voter.who, app.own_store()
    if shown is None:
        with store.reading() as tx:
            found = voter.review(request, tx)
        confirm(app, found, digest)
    with store.transaction() as tx:
        # once more: another approval may have been made while the person was reading
        found = voter.review(request, tx)
        if shown is not None:
            _check_nothing_new(shown, found)
        StoredMemory(tx).keep(found.entries)
        tx.audit.append("approve", {"request": request.id, "digest": request.digest.hex()})
    approval = make_approval(found, voter.person)
    result = {"approver": who.name, **what_of(found)}
    if item.in_place:
        row = app.desk.add_approval(approval)
        app.note(f"approved; request {row.id} is {row.state}")
        publish_executed(app, row)
        return {**result, "state": row.state, **overtaken(app)}
    return {**result, "file": hand_over(app, item, who, out, "approval", approval.data)}


def _check_nothing_new(shown: Review, found: Review) -> None:
    from tpmhsm.approval.batch import unseen

    if new := unseen(shown, found):
        raise ApprovalRefusedError(
            f"request {found.request.id} has a warning that was not on the screen: {new[0]}",
            code="changed-since",
            hint="approve it alone",
        )


def what_of(found: Review) -> dict[str, Any]:
    """What was approved, as the tool itself computed it."""
    from tpmhsm.attest.statements import key_for

    request = found.request
    key = request.key
    return {
        "request": request.id,
        "kind": request.kind,
        "digest": request.digest.hex(),
        "key": key and {"label": key.label, "name": key_for(request.kind, key.public).name.hex()},
        "group": {"name": request.group.name, "id": request.group.id.hex()},
        "fingerprint": " ".join(found.group.fingerprint),
        "first_use": found.first_use,
    }


@click.command()
@click.option("--reason", required=True, help="Why; the others see it.")
@vote_options
@pin_options
@pass_app
def deny(app: App, what: tuple[str, ...], who: Who, reason: str, out: Out, secret: Secret) -> None:
    """Refuse a request, signed and with a reason; it stops the request on an honest host.

    \b
    Example:
      tpmhsm deny 7.req --as bob -i bob.key --reason "nobody asked for a wildcard"
    """
    if (ceremony := ceremony_of(app, what)) is not None:
        deny_ceremony(app, ceremony, who.name, open_person(app, who, secret), reason, out)
        return
    items = load_all(app, tuple(dict.fromkeys(what)), who, out, "denial")
    person = open_person(app, who, secret)
    done: list[dict[str, Any]] = []
    for item in items:
        with counting(done):
            done.append(_deny(app, item, who, person, reason, out))
    finish(app, done, out)


def _deny(
    app: App, item: Item, who: Who, person: Identity, reason: str, out: Out
) -> dict[str, Any]:
    from tpmhsm.approval.approve import make_denial

    denial = make_denial(item.request, person, who.name, reason)
    result = {"request": item.request.id, "approver": who.name}
    if item.in_place:
        row = app.desk.add_denial(denial)
        app.note(f"denied; request {row.id} is {row.state}")
        return {**result, "state": row.state}
    return {**result, "file": hand_over(app, item, who, out, "denial", denial.data)}


# ── what both do ─────────────────────────────────────────────────────────────


def load_all(app: App, what: Sequence[str], who: Who, out: Out, ending: str) -> list[Item]:
    """All requests, before anything is asked or signed. Raises UsageError, ExistsError."""
    if out.out and len(what) > 1:
        raise UsageError("--out names one file and there are several requests")
    items = [load(app, one) for one in what]
    for item in items:
        if item.in_place:
            app.desk.must_wait(item.request.id)
        else:
            out.claim(item.target(who, ending))
    return items


def load(app: App, what: str) -> Item:
    """A request by its id in this home, or from a file. Raises UsageError, ParseError."""
    from pathlib import Path

    from tpmhsm.approval.request import MAX_CRL_REQUEST, parse_request

    if what.isascii() and what.isdigit() and not Path(what).exists():
        return Item(app.desk.request(int(what[:19])), in_place=True)
    if "://" in what:
        raise UsageError(
            f"{what}: requests by URL are not in this version",
            hint="tpmhsm request export ID writes a file",
            code="not-in-this-version",
        )
    data = app.read(what, limit=MAX_CRL_REQUEST)
    with naming(what, data, "an approval request"):
        return Item(parse_request(data), in_place=False)


def open_person(app: App, who: Who, secret: Secret) -> Identity:
    """The identity of `-i`. Raises UsageError, RefusedError, DeviceError for a card."""
    from tpmhsm.approval.identity import open_identity

    if not who.identity:
        raise UsageError("an identity is needed", hint="-i alice.key")
    ask = identity_secret(app, who.identity, secret)
    found = open_identity(who.identity, ask, app.note, module_of(app, who.identity))
    app.at_end(found.close)
    return found


def hand_over(app: App, item: Item, who: Who, out: Out, ending: str, data: bytes) -> str:
    """Write the file for the host."""
    target = out.path(item.target(who, ending))
    out.write(data, target)
    if target != STDIO:
        app.note(f"take {target} to the host and run tpmhsm request import {target}")
    return target


@contextmanager
def counting(done: list[dict[str, Any]]) -> Iterator[None]:
    """An error in the block says what was done before it."""
    try:
        yield
    except TpmHsmError as error:
        if done:
            error.details["done"] = list(done)
            numbers = ", ".join(str(one["request"]) for one in done)
            error.message += f" (done before: request {numbers})"
        raise


def finish(app: App, done: list[dict[str, Any]], out: Out) -> None:
    """Say what was done; not after a document that went to stdout."""
    if out.out != STDIO or any("state" in one for one in done):
        written = "" if out.out else "\n".join(one["file"] for one in done if "file" in one)
        app.done(done[0] if len(done) == 1 else {"items": done}, "", made=written)
