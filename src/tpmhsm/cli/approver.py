"""`tpmhsm approver`: the people who approve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.cli.pins import ManagementSecret, pin_options
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import UsageError

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
@click.option("-i", "--identity", required=True, metavar="ID",
              help="The key: a file to be made, yubikey[:SERIAL][/SLOT] or pkcs11:…")  # fmt: skip
@click.option("--slot", metavar="HEX", help="The YubiKey's slot: 9c by default.")
@click.option("--alg", "algorithm", type=click.Choice(("p256", "rsa2048", "rsa3072")),
              default="p256", help="The key's kind; files have p256 alone.")  # fmt: skip
@click.option("--management-key-file", "management", metavar="F",
              help="A YubiKey's management key (hex), unless its PIN opens it.")  # fmt: skip
@out_options("NAME.card by default.")
@passphrase_options
@pin_options
@pass_app
def create(
    app: App,
    name: str,
    identity: str,
    slot: str | None,
    algorithm: str,
    management: str | None,
    out: Out,
    secret: Secret,
) -> None:
    """Make an approver's key and card, on the approver's own machine.

    An existing key file is kept and used, and so is the card that this home made for it. In a
    YubiKey the key is made in an empty slot, with PIN and touch for each signature; a key that
    is there already is used if it is such a key. In a PKCS #11 token the key named by object= is
    used, or made; without object= it is called NAME.

    \b
    Example:
      tpmhsm approver create alice -i alice.key
      tpmhsm approver create bob -i yubikey
      tpmhsm approver create carol -i 'pkcs11:token=work'
    """
    from tpmhsm.cli.people import NewKey, make_approver

    target = out.claim(f"{name}.card")
    where = _in_slot(identity, slot)
    card = make_approver(app, name, NewKey(where, algorithm, secret, ManagementSecret(management)))
    out.write(card.data, target)
    if target != STDIO:
        proof = f"\n{said}" if (said := card_json(card).get("proof")) else ""
        app.done(
            {**card_json(card), "file": target},
            f"wrote {target}: hand it to the CA host and to all other approvers; "
            f"{identity} stays here{proof}",
            made="" if out.out else target,
        )


def _in_slot(identity: str, slot: str | None) -> str:
    from tpmhsm.approval.identity import scheme_of

    if slot is None:
        return identity
    if scheme_of(identity) != "yubikey" or "/" in identity:
        raise UsageError("--slot is that of -i yubikey, once", hint="-i yubikey --slot 9d")
    return f"{identity}/{slot}"


@approver.command(epilog="Example: tpmhsm approver add alice.card bob.card")
@click.argument("files", nargs=-1, required=True, metavar="CARD…")
@pass_app
def add(app: App, files: tuple[str, ...]) -> None:
    """On the host: take in approvers' cards."""
    from tpmhsm.cli.people import add_approvers

    cards = add_approvers(app, [(file, app.read(file)) for file in files])
    app.done(
        {"items": [card_json(card) for card in cards]},
        "\n".join(f"added {card.name}" for card in cards),
    )


@approver.command("list", epilog="Example: tpmhsm approver list")
@pass_app
def list_(app: App) -> None:
    """All approvers that this host knows."""
    from tpmhsm.approval.cards import parse_card

    with app.store.reading() as tx:
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


@approver.command(epilog="Example: tpmhsm approver show alice")
@click.argument("name")
@pass_app
def show(app: App, name: str) -> None:
    """One approver's card."""
    from tpmhsm.approval.cards import parse_card

    with app.store.reading() as tx:
        row = tx.approvers.get(name)
    found = card_json(parse_card(row.card))
    app.emit(found, card_text(found))
