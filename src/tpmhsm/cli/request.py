"""`tpmhsm request`: what waits for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.errors import NotFoundError

if TYPE_CHECKING:
    from tpmhsm.store.requests import RequestRow


@click.group(epilog="Example: tpmhsm request export 7 --out 7.req")
def request() -> None:
    """Approval requests: list, show, export, import, execute, cancel."""


def number(text: str) -> int:
    """A request's id. Raises NotFoundError for what is none."""
    if not text.isascii() or not text.isdigit():
        raise NotFoundError(f"{text!r} is no request id", hint="tpmhsm request list")
    return int(text)


def request_json(app: App, row: RequestRow) -> dict[str, Any]:
    """The names of the contract for one request."""
    approvals = app.desk.approvals(row.id)
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "key": row.key,
        "group": app.desk.group_name(row),
        "needed": row.needed,
        "approvals": [{"approver": a.approver, "kind": a.kind, "at": a.at} for a in approvals],
        "denials": [
            {"approver": d.approver, "reason": d.reason, "at": d.at}
            for d in app.desk.denials(row.id)
        ],
        "digest": row.digest,
        "title": app.desk.title(row),
        "created": row.created,
        "expires": row.expires,
        "executed": row.executed_at or None,
        "result": row.result,
    }


@request.command("list")
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
                    f"{len(r['approvals'])} of {r['needed']}",
                )
                for r in rows
            ],
            empty="no requests",
        ),
    )


@request.command()
@click.argument("what", metavar="ID|FILE")
@pass_app
def show(app: App, what: str) -> None:
    """What a request asks for, and who has approved."""
    if not what.isdigit():
        from tpmhsm.cli.show import show_request_bytes

        show_request_bytes(app, app.read(what), what)
        return
    found = request_json(app, app.desk.get(number(what)))

    def words() -> str:
        people = "\n".join(f"{a['approver']} ({a['kind']}, {a['at']})" for a in found["approvals"])
        denied = "\n".join(f"{d['approver']}: {d['reason']}" for d in found["denials"])
        return facts(
            [
                ("Request", f"{found['id']} · {found['kind']} · {found['state']}"),
                ("What", found["title"]),
                ("Key", found["key"]),
                ("Group", found["group"]),
                ("Approved", f"{len(found['approvals'])} of {found['needed']}"),
                ("", people),
                ("Denied", denied),
                ("SHA-256", found["digest"]),
                ("Created", found["created"]),
                ("Expires", found["expires"] if found["state"] == "waiting" else ""),
                ("Executed", found["executed"]),
            ]
        )

    app.emit(found, words)


@request.command()
@click.argument("identifier", metavar="ID")
@click.option("-o", "--out", metavar="F", help="The file; ID.req by default.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@pass_app
def export(app: App, identifier: str, out: str | None, force: bool) -> None:
    """Write a request as one file for an approver."""
    wanted = number(identifier)
    target = out or f"{wanted}.req"
    data = app.desk.export(wanted)
    app.write(target, data, force=force)
    if target != "-":
        app.emit(
            {"request": wanted, "file": target},
            f"{target}: the approvers run tpmhsm approve {target} --as NAME -i KEY",
        )


@request.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@pass_app
def import_(app: App, files: tuple[str, ...]) -> None:
    """Take in approvals and denials; the last one needed executes the request."""
    outcomes = []
    for file in files:
        row = app.desk.take(app.read(file))
        outcomes.append({"file": file, "request": row.id, "state": row.state})
        app.note(f"{file}: request {row.id} is {describe(app, row)}")
    app.emit({"items": outcomes})


def describe(app: App, row: RequestRow) -> str:
    """`executed`, or how many approvals are missing."""
    if row.state != "waiting":
        return row.state
    missing = row.needed - len(app.desk.approvals(row.id))
    return f"waiting for {missing} more" if missing > 0 else "ready to execute"


@request.command()
@click.argument("identifier", metavar="ID")
@pass_app
def execute(app: App, identifier: str) -> None:
    """Have the chip do what was approved (again, after a failure)."""
    row = app.desk.execute(number(identifier))
    app.emit(request_json(app, row), f"request {row.id} is {row.state}")


@request.command()
@click.argument("identifier", metavar="ID")
@pass_app
def cancel(app: App, identifier: str) -> None:
    """Withdraw a waiting request."""
    row = app.desk.cancel(number(identifier))
    app.emit(request_json(app, row), f"request {row.id} is {row.state}")
