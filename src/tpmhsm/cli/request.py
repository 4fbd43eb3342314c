"""`tpmhsm request`: what waits for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.crl_files import publish_executed
from tpmhsm.cli.files import STDIO, naming
from tpmhsm.cli.options import Out, out_options, wait_option
from tpmhsm.cli.pins import pin_options
from tpmhsm.cli.waiting import overtaken, settled
from tpmhsm.cli.words import one_line
from tpmhsm.errors import DeviceError, NotFoundError, StoreError, TpmHsmError, UsageError

if TYPE_CHECKING:
    from tpmhsm.store.requests import RequestRow


@click.group(epilog="Example: tpmhsm request export 7 --out 7.req")
def request() -> None:
    """Approval requests: list, show, export, import, execute, cancel."""


# of a content's short facts, those that its title does not say
_SHOWN = ("names", "issuer", "not_before", "not_after", "officers")


def number(text: str) -> int:
    """A request's id. Raises NotFoundError for what is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFoundError(f"{text!r} is no request id", hint="tpmhsm request list")
    return int(text)


def request_json(app: App, row: RequestRow) -> dict[str, Any]:
    """The names of the contract for one request."""
    approvals, denials = app.desk.approvals(row.id), app.desk.denials(row.id)
    kinds = _key_kinds(row) if denials else {}
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "key": row.key,
        "group": app.desk.group_name(row),
        "needed": row.needed,
        "approvals": [{"approver": a.approver, "kind": a.kind, "at": a.at} for a in approvals],
        "denials": [
            {
                "approver": d.approver,
                "kind": kinds.get(d.approver, ""),
                "reason": d.reason,
                "at": d.at,
            }
            for d in denials
        ],
        "missing": app.desk.missing(row),
        "digest": row.digest,
        "title": app.desk.title(row),
        "reason": app.desk.reason(row),
        "created": row.created,
        "expires": row.expires,
        "executed": row.executed_at or None,
        "result": row.result,
    }


def _key_kinds(row: RequestRow) -> dict[str, str]:
    """With which kind of key each member signs, as their cards say; a denial does not."""
    from tpmhsm.approval.request import parse_request

    return {card.name: card.kind for card in parse_request(row.document).cards}


def _approved(found: dict[str, Any]) -> str:
    """'1 of 3': approvals that count. Too many on one of joined ladders count for no other."""
    count = found["needed"] - found["missing"] if found["state"] == "waiting" else None
    return f"{len(found['approvals']) if count is None else count} of {found['needed']}"


@request.command("list", epilog="Example: tpmhsm request list --state waiting")
@click.option(
    "--state", type=click.Choice(["waiting", "executed", "denied", "expired", "cancelled"])
)
@pass_app
def list_(app: App, state: str | None) -> None:
    """All requests, in every state."""
    rows = [request_json(app, row) for row in app.desk.all(state)]
    app.emit(
        {"items": rows},
        lambda: table(
            ("ID", "STATE", "KIND", "WHAT", "KEY", "GROUP", "APPROVED"),
            [
                (
                    str(r["id"]),
                    r["state"],
                    r["kind"],
                    r["title"],
                    r["key"] or "",
                    r["group"] or "",
                    _approved(r),
                )
                for r in rows
            ],
            empty="no requests",
        ),
    )


@request.command(epilog="Example: tpmhsm request show 7")
@click.argument("what", metavar="ID|FILE")
@pass_app
def show(app: App, what: str) -> None:
    """What a request asks for, and who has approved."""
    if not (what.isascii() and what.isdigit()):
        from tpmhsm.approval.request import MAX_CRL_REQUEST
        from tpmhsm.cli.show import show_request_bytes

        show_request_bytes(app, app.read(what, limit=MAX_CRL_REQUEST), what)
        return
    row = app.desk.look(number(what))
    found = {**request_json(app, row), "content": app.desk.content(row)}

    def words() -> str:
        people = [f"{a['approver']} ({a['kind']}, {a['at']})" for a in found["approvals"]]
        denied = [
            f"{d['approver']} ({d['kind']}, {d['at']}): {d['reason']}" for d in found["denials"]
        ]
        return facts(
            [
                ("Request", f"{found['id']} · {found['kind']} · {found['state']}"),
                ("What", found["title"]),
                *[
                    (name.replace("_", " ").capitalize(), one_line(text))
                    for name, text in found["content"].items()
                    if name in _SHOWN
                ],
                ("Reason", one_line(found["reason"])),
                ("Key", found["key"]),
                ("Group", found["group"]),
                ("Approved", _approved(found)),
                ("", "\n".join(map(one_line, people))),
                ("Denied", "\n".join(map(one_line, denied))),
                ("SHA-256", found["digest"]),
                ("Created", found["created"]),
                ("Expires", found["expires"] if found["state"] == "waiting" else ""),
                ("Executed", found["executed"]),
                ("Result", result_words(row).removeprefix("; ")),
            ]
        )

    app.emit(found, words)


@request.command()
@click.argument("identifiers", nargs=-1, metavar="ID…")
@click.option("--all", "every", is_flag=True, help="All requests that wait for people.")
@click.option("--to", "folder", metavar="DIR", help="Write ID.req into this directory.")
@out_options("ID.req by default.")
@pass_app
def export(
    app: App, identifiers: tuple[str, ...], every: bool, folder: str | None, out: Out
) -> None:
    """Write requests for approvers, one file each. A file is JSON itself, so --json changes
    nothing on stdout.

    \b
    Example:
      tpmhsm request export 7
      tpmhsm request export --all --to /media/stick
    """
    wanted = _wanted(app, identifiers, every)
    if out.out and (folder or len(wanted) > 1):
        raise UsageError("--out is for one request", hint="--to DIR writes ID.req for each")
    place = _folder(folder) if folder else Path()
    targets = [out.claim(str(place / f"{one}.req")) for one in wanted]
    for one, target in zip(wanted, targets, strict=True):
        out.write(app.desk.export(one), target)
    if targets[0] == STDIO:
        return
    items = [{"request": n, "file": target} for n, target in zip(wanted, targets, strict=True)]
    app.done(
        items[0] if identifiers and len(items) == 1 else {"items": items},
        f"{' '.join(targets)}: the approvers run tpmhsm approve {' '.join(targets)}"
        " --as NAME -i KEY",
        made="" if out.out else "\n".join(targets),
    )


def _wanted(app: App, identifiers: tuple[str, ...], every: bool) -> list[int]:
    """The ids that are meant, each once, all of which exist. UsageError for none."""
    if every == bool(identifiers):
        raise UsageError("name requests, or --all", hint="tpmhsm request list")
    if every:
        found = [row.id for row in app.desk.all("waiting")]
        if not found:
            raise UsageError("no request waits for people", hint="tpmhsm request list")
        return sorted(found)
    return [app.desk.look(number(one)).id for one in dict.fromkeys(identifiers)]


def _folder(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        make = "" if folder.exists() else f"mkdir {name}"
        raise UsageError(f"{name} is no directory", hint=make)
    return folder


@request.command("import", epilog="Example: tpmhsm request import 7-alice.approval")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@pin_options
@pass_app
def import_(app: App, files: tuple[str, ...]) -> None:
    """Take in approvals and denials; the last one needed executes the request.

    A file that is none is found before any is taken. One that does not hold hinders no other.
    """
    votes = [(file, data) for file in files if _read_vote(data := app.read(file), file)]
    outcomes: list[dict[str, Any]] = []
    failure: TpmHsmError | None = None
    for file, data in votes:
        try:
            row = app.desk.take(data)
        except (DeviceError, StoreError):
            raise
        except TpmHsmError as error:
            outcomes.append({"file": file, "error": {"code": error.code, "message": error.message}})
            app.note(f"{file}: {error.message}")
            failure = failure or error
        else:
            outcomes.append({"file": file, "request": row.id, "state": row.state, **overtaken(app)})
            app.note(f"{file}: request {row.id} is {describe(app, row)}")
            publish_executed(app, row)
    if failure is not None:
        failure.details["items"] = outcomes
        raise failure
    app.emit({"items": outcomes})


def _read_vote(data: bytes, file: str) -> bool:
    """ParseError, naming the file, for what is neither an approval nor a denial."""
    from tpmhsm.approval.votes import is_approval, parse_approval, parse_denial

    with naming(file, data, "an approval or a denial"):
        if is_approval(data):
            parse_approval(data)
        else:
            parse_denial(data)
    return True


def result_words(row: RequestRow) -> str:
    """What to do with what a request gave, empty when there is nothing to fetch."""
    sha256 = (row.result or {}).get("sha256")
    return f"; tpmhsm cert export {sha256[:16]} writes the certificate" if sha256 else ""


def describe(app: App, row: RequestRow) -> str:
    """`executed`, or how many approvals are missing."""
    if row.state != "waiting":
        return f"{row.state}{result_words(row)}"
    missing = app.desk.missing(row)
    if missing == 0 and row.kind == "backup":
        return f"approved; tpmhsm key backup {row.key} --to FILE again writes the copy"
    if missing == 0 and row.kind == "decrypt":
        return f"approved; tpmhsm key decrypt {row.key} FILE gives what is inside"
    return f"waiting for {missing} more" if missing > 0 else "ready to execute"


@request.command(epilog="Example: tpmhsm request execute 7")
@click.argument("identifier", metavar="ID")
@wait_option
@pin_options
@pass_app
def execute(app: App, identifier: str, wait: bool) -> None:
    """Have the chip do what was approved (again, after a failure)."""
    wanted = number(identifier)
    row = settled(app, wait, lambda: app.desk.execute(wanted))
    publish_executed(app, row)
    found = {**request_json(app, row), **overtaken(app)}
    app.done(found, f"request {row.id} is {row.state}")


@request.command(epilog="Example: tpmhsm request remind --within 24h")
@click.option("--within", "length", default="24h", metavar="TIME", show_default=True,
              help="How soon they expire: 90m, 24h.")  # fmt: skip
@pass_app
def remind(app: App, length: str) -> None:
    """Tell the hook of tpmhsm.toml which waiting requests expire soon; for a timer to run."""
    from datetime import timedelta

    from tpmhsm.cli.opening import seconds_of

    within = timedelta(seconds=seconds_of(length))
    rows = [request_json(app, app.desk.look(one)) for one in app.desk.expiring(within)]
    if app.notices is not None:
        app.notices.remind([row["id"] for row in rows])
    app.emit(
        {"items": rows},
        lambda: table(
            ("ID", "EXPIRES", "WHAT", "GROUP", "APPROVED"),
            [
                (str(r["id"]), r["expires"], r["title"], r["group"] or "", _approved(r))
                for r in rows
            ],
            empty=f"nothing expires within {length}",
        ),
    )


@request.command(epilog="Example: tpmhsm request cancel 7")
@click.argument("identifier", metavar="ID")
@pass_app
def cancel(app: App, identifier: str) -> None:
    """Withdraw a waiting request."""
    row = app.desk.cancel(number(identifier))
    app.done(request_json(app, row), f"request {row.id} is {row.state}")
