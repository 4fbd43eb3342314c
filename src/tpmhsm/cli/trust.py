"""`tpmhsm trust`: on an approver's machine, cards that came from outside the CA host."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app, table
from tpmhsm.errors import StoreError


@click.group(epilog="Example: tpmhsm trust add bob.card carol.card host.card")
def trust() -> None:
    """Cards that this machine's approver got from people, not from the CA host."""


@trust.command(epilog="Example: tpmhsm trust add bob.card carol.card host.card")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@pass_app
def add(app: App, files: tuple[str, ...]) -> None:
    """Trust approvers' and devices' cards."""
    from tpmhsm.cli.people import trust_cards

    found = trust_cards(app, [(file, app.read(file)) for file in files])
    app.done({"items": found}, "\n".join(f"trusted: {c['kind']} {c['name']}" for c in found))


@trust.command("list", epilog="Example: tpmhsm trust list")
@pass_app
def list_(app: App) -> None:
    """All trusted cards and pinned groups."""
    try:
        with app.store.reading() as tx:
            cards, groups = tx.trusted.all(), tx.memory.pinned_groups()
    except StoreError as error:
        if error.code != "missing":
            raise
        cards, groups = [], []
    items = [
        {"kind": c.kind, "name": c.name, "digest": c.digest, "added": c.added} for c in cards
    ] + [
        {"kind": "group", "name": g.fingerprint, "digest": g.group_id, "added": g.pinned}
        for g in groups
    ]
    app.emit(
        {"items": items},
        lambda: table(
            ("KIND", "NAME", "SHA-256 OR ID", "ADDED"),
            [(i["kind"], i["name"], i["digest"][:16], i["added"]) for i in items],
            empty="nothing is trusted; tpmhsm trust add CARD…",
        ),
    )


@trust.command(epilog="Example: tpmhsm trust remove bob")
@click.argument("reference", metavar="NAME|DIGEST")
@pass_app
def remove(app: App, reference: str) -> None:
    """Stop trusting a card."""
    with app.store.transaction() as tx:
        gone = tx.trusted.remove(reference)
    app.done(
        {"items": [{"kind": c.kind, "name": c.name, "digest": c.digest} for c in gone]},
        "\n".join(f"no longer trusted: {c.kind} {c.name}" for c in gone),
    )
