"""What approvers' commands do in a home: keys, cards, trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.files import check_free, naming
from tpmhsm.cli.pins import identity_secret, module_of
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.cards import Card
    from tpmhsm.approval.identity import Identity
    from tpmhsm.approval.yubico import Attestation
    from tpmhsm.cli.secrets import Secret


@dataclass(frozen=True)
class NewKey:
    """How `approver create` makes a key: what `-i` names, its algorithm, who is asked for what."""

    identity: str
    algorithm: str
    secret: Secret
    management: Secret


def make_approver(app: App, name: str, new: NewKey) -> Card:
    """Make (or open) the key and its card, and trust the card in this home.

    Run again, after a failure at any point, it opens the key and gives the same card.
    """
    from tpmhsm.approval.cards import create_card, parse_card
    from tpmhsm.policy.approver import key_identity
    from tpmhsm.policy.documents import check_label
    from tpmhsm.requests.memory import OWN, StoredMemory

    check_label(name, "an approver's name")
    store = app.own_store()
    key, attestation = _make_key(app, name, new)
    with store.reading() as tx:
        own = StoredMemory(tx).own_cards()
    for card in own:
        if card.name == name and key_identity(card.key) == key_identity(key.public_key):
            return card
    card = parse_card(create_card(name, key, attestation=attestation))
    with store.transaction() as tx:
        tx.trusted.add(OWN, name, card.data)
        tx.audit.append("approver-create", {"name": name, "digest": card.digest.hex()})
    return card


def _make_key(app: App, name: str, new: NewKey) -> tuple[Identity, Attestation | None]:
    from tpmhsm.approval.filekey import create_file_key
    from tpmhsm.approval.identity import open_identity, scheme_of

    scheme = scheme_of(new.identity)
    if scheme == "yubikey":
        from tpmhsm.approval.yubikey import Making, create_yubikey_key

        pin = identity_secret(app, new.identity, new.secret)
        making = Making(new.algorithm, pin, new.management.source())
        return create_yubikey_key(new.identity, making, app.note)
    if scheme == "pkcs11":
        return _in_token(app, name, new), None
    if new.algorithm != "p256":
        raise UsageError("a key in a file is P-256", hint="leave out --alg")
    if _is_there(new.identity):
        return open_identity(new.identity, new.secret.source()), None
    check_free(new.identity)
    ask = new.secret.source(confirm=True)
    words = f"New passphrase for {new.identity}"
    return create_file_key(Path(new.identity), ask(words)), None


def _in_token(app: App, name: str, new: NewKey) -> Identity:
    from tpmhsm.approval.pkcs11 import make_pkcs11

    pin = identity_secret(app, new.identity, new.secret)
    module = module_of(app, new.identity)
    key, made = make_pkcs11(new.identity, name, pin, new.algorithm, module)
    app.at_end(key.close)
    app.note(f"{'made' if made else 'using'} {key.description}")
    return key


def _is_there(identity: str) -> bool:
    try:
        return Path(identity).exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"{identity!r} is no name for a file: {error}") from error


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
    from tpmhsm.requests.memory import APPROVER, DEVICE

    found: list[tuple[str, str, bytes, dict[str, Any]]] = []
    for file, data in files:
        if _format_of(file, data) == DEVICE_CARD:
            device = _named(file, data, parse_device_card)
            found.append((DEVICE, device.label, device.data, {"digest": device.digest.hex()}))
        else:
            card = _named(file, data, parse_card)
            proof = {} if card.proof is None else {"proof": card.proof.words}
            facts = {"digest": card.digest.hex(), **proof}
            found.append((APPROVER, card.name, card.data, facts))
    with app.own_store().transaction() as tx:
        for kind, name, data, facts in found:
            tx.trusted.add(kind, name, data)
            told = {"kind": kind, "name": name, "digest": facts["digest"]}
            tx.audit.append("trust-add", told)
    return [{"kind": kind, "name": name, **facts} for kind, name, _, facts in found]


def _named(file: str, data: bytes, parse: Callable[[bytes], Any]) -> Any:
    with naming(file, data, "a card"):
        return parse(data)


def _format_of(file: str, data: bytes) -> Any:
    from tpmhsm.policy.documents import parse_json

    with naming(file, data, "a card"):
        return parse_json(data, "card").get("format")
