"""What approvers' commands do in a home: keys, cards, trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.errors import ExistsError, ParseError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.cards import Card
    from tpmhsm.store import Store

Ask = Callable[[str], bytes]


def approver_store(app: App) -> Store:
    """The database of an approver's home; made when it is not there yet."""
    from tpmhsm.store import Store

    if "store" not in app.__dict__:
        app.__dict__["store"] = Store.open(app.db or app.home, create=True)
    return app.store


def make_approver(
    app: App, name: str, identity: str, ask: Ask, target: str, *, force: bool
) -> Card:
    """Make (or open) the key, write the card, and trust it in this home."""
    from tpmhsm.approval.cards import create_card, parse_card
    from tpmhsm.approval.filekey import create_file_key
    from tpmhsm.approval.identity import open_identity
    from tpmhsm.policy.documents import check_label
    from tpmhsm.requests.memory import OWN

    check_label(name, "an approver's name")
    if target != "-" and Path(target).exists() and not force:
        raise ExistsError(f"{target} exists and is kept", hint="--force makes another card")
    if ":" in identity and not Path(identity).exists():
        open_identity(identity, ask)  # says which kinds this version knows
    if Path(identity).exists():
        key = open_identity(identity, ask)
    else:
        key = create_file_key(Path(identity), ask(f"New passphrase for {identity}"))
    card = parse_card(create_card(name, key))
    with approver_store(app).transaction() as tx:
        tx.trusted.add(OWN, name, card.data)
    app.write(target, card.data, force=force)
    return card


def add_approvers(app: App, files: Sequence[tuple[str, bytes]]) -> list[Card]:
    """On the host: keep the cards, all or none."""
    from tpmhsm.approval.cards import parse_card
    from tpmhsm.store.people import ApproverRow

    cards = [_named(file, data, parse_card) for file, data in files]
    with app.store.transaction() as tx:
        for card in cards:
            member = card.member(contribution=False)
            tx.approvers.add(
                ApproverRow(card.name, card.data, card.spki, member.chip_name.hex(), card.kind)
            )
            tx.audit.append("approver-add", {"name": card.name, "digest": card.digest.hex()})
    return cards


def trust_cards(app: App, files: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """On an approver's machine: trust approvers' and devices' cards, all or none."""
    from tpmhsm.approval.cards import DEVICE_CARD, parse_card, parse_device_card
    from tpmhsm.policy.documents import parse_json
    from tpmhsm.requests.memory import APPROVER, DEVICE

    found: list[tuple[str, str, bytes, bytes]] = []
    for file, data in files:
        if parse_json(data, file).get("format") == DEVICE_CARD:
            device = _named(file, data, parse_device_card)
            found.append((DEVICE, device.label, device.data, device.digest))
        else:
            card = _named(file, data, parse_card)
            found.append((APPROVER, card.name, card.data, card.digest))
    with approver_store(app).transaction() as tx:
        for kind, name, data, _ in found:
            tx.trusted.add(kind, name, data)
    return [{"kind": k, "name": n, "digest": d.hex()} for k, n, _, d in found]


def _named(file: str, data: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(data)
    except ParseError as error:
        raise ParseError(f"{file}: {error.message}", hint=error.hint) from error


def open_person(identity: str, ask: Ask) -> Any:
    """An identity of `-i`. Raises UsageError, RefusedError."""
    from tpmhsm.approval.identity import open_identity

    if not identity:
        raise UsageError("an identity is needed", hint="-i alice.key")
    return open_identity(identity, ask)
