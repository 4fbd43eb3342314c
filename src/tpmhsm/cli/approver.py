"""`tpmhsm approver`: the people who approve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.secrets import passphrase_options, passphrase_source

if TYPE_CHECKING:
    from tpmhsm.approval.cards import Card


@click.group(epilog="Example: tpmhsm approver create alice -i alice.key")
def approver() -> None:
    """People who approve: their keys and cards."""


def card_json(card: Card) -> dict[str, Any]:
    """One approver's facts."""
    from tpmhsm.approval.cards import describe_card

    return describe_card(card)


def card_text(found: dict[str, Any]) -> str:
    """The same for people."""
    return facts([(name.replace("_", " ").capitalize(), value) for name, value in found.items()])


@approver.command()
@click.argument("name")
@click.option("-i", "--identity", required=True, metavar="ID", help="The key: a file to be made.")
@click.option("-o", "--out", metavar="F", help="The card's file; NAME.card by default.")
@click.option("--force", is_flag=True, help="Overwrite an existing card (never a key).")
@passphrase_options
@pass_app
def create(
    app: App,
    name: str,
    identity: str,
    out: str | None,
    force: bool,
    passphrase_file: str | None,
    passphrase_fd: int | None,
) -> None:
    """Make an approver's key and card, on the approver's own machine.

    An existing key file is kept and used.

    \b
    Example:
      tpmhsm approver create alice -i alice.key
    """
    from tpmhsm.cli.people import make_approver

    ask = passphrase_source(passphrase_file, passphrase_fd, confirm=True)
    target = out or f"{name}.card"
    card = make_approver(app, name, identity, ask, target, force=force)
    app.emit(
        {**card_json(card), "file": target},
        f"wrote {identity} and {target}: hand {target} to the CA host and to all other approvers",
    )


@approver.command()
@click.argument("files", nargs=-1, required=True, metavar="CARD…")
@pass_app
def add(app: App, files: tuple[str, ...]) -> None:
    """On the host: take in approvers' cards."""
    from tpmhsm.cli.people import add_approvers

    cards = add_approvers(app, [(file, app.read(file)) for file in files])
    app.emit(
        {"items": [card_json(card) for card in cards]},
        "\n".join(f"added {card.name}" for card in cards),
    )


@approver.command("list")
@pass_app
def list_(app: App) -> None:
    """All approvers that this host knows."""
    from tpmhsm.approval.cards import parse_card

    with app.store.transaction() as tx:
        rows = tx.approvers.all()
    found = [{**card_json(parse_card(row.card)), "added": row.added} for row in rows]
    app.emit(
        {"items": found},
        lambda: table(
            ("NAME", "KEY", "KIND", "ADDED"),
            [(f["name"], str(f["key"]), str(f["kind"]), f["added"]) for f in found],
            empty="no approvers; tpmhsm approver add alice.card",
        ),
    )


@approver.command()
@click.argument("name")
@pass_app
def show(app: App, name: str) -> None:
    """One approver's card."""
    from tpmhsm.approval.cards import parse_card

    with app.store.transaction() as tx:
        row = tx.approvers.get(name)
    found = card_json(parse_card(row.card))
    app.emit(found, card_text(found))
