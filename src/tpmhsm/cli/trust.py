"""`tpmhsm trust`: on an approver's machine, cards that came from outside the CA host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import naming
from tpmhsm.cli.words import one_line
from tpmhsm.errors import StoreError

if TYPE_CHECKING:
    from tpmhsm.store.memory import PinnedGroupRow
    from tpmhsm.store.people import TrustedCardRow


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
    proofs = [f", {c['proof']}" if "proof" in c else "" for c in found]
    app.done(
        {"items": found},
        "\n".join(
            f"trusted: {c['kind']} {c['name']}{p}" for c, p in zip(found, proofs, strict=True)
        ),
    )


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
    app.emit({"items": _items(cards, groups)}, lambda: _trusted(cards, groups))


def _items(
    cards: Sequence[TrustedCardRow], groups: Sequence[PinnedGroupRow]
) -> list[dict[str, str]]:
    return [
        {"kind": c.kind, "name": c.name, "digest": c.digest, "added": c.added} for c in cards
    ] + [
        {"kind": "group", "name": g.fingerprint, "digest": g.group_id, "added": g.pinned}
        for g in groups
    ]


def _trusted(cards: Sequence[TrustedCardRow], groups: Sequence[PinnedGroupRow]) -> str:
    """A table that fits a terminal, and each group's words in full: people compare them."""
    from tpmhsm.policy.group import parse_group

    names = [parse_group(group.document).name for group in groups]
    rows = [(c.kind, c.name, c.digest[:16], c.added) for c in cards]
    rows += [("group", n, g.group_id[:16], g.pinned) for n, g in zip(names, groups, strict=True)]
    shown = table(("KIND", "NAME", "SHA-256 OR ID", "ADDED"), rows,
                  empty="nothing is trusted; tpmhsm trust add CARD…")  # fmt: skip
    words = [f"{n}: {g.fingerprint}" for n, g in zip(names, groups, strict=True)]
    return "\n".join([shown, *([""] if words else []), *map(one_line, words)])


@trust.command(epilog="Example: tpmhsm trust remove bob")
@click.argument("reference", metavar="NAME|DIGEST")
@pass_app
def remove(app: App, reference: str) -> None:
    """Stop trusting a card."""
    with app.store.transaction() as tx:
        gone = tx.trusted.remove(reference)
        for card in gone:
            told = {"kind": card.kind, "name": card.name, "digest": card.digest}
            tx.audit.append("trust-remove", told)
    app.done(
        {"items": [{"kind": c.kind, "name": c.name, "digest": c.digest} for c in gone]},
        "\n".join(f"no longer trusted: {c.kind} {c.name}" for c in gone),
    )


@trust.command(epilog="Example: tpmhsm trust challenge")
@pass_app
def challenge(app: App) -> None:
    """Make a nonce, over which a CA host's chip says which roster is in force now.

    A custodian asks so whether a change is in force; and a home that lost its memory begins anew:
    it abstains for one epoch then.
    """
    from tpmhsm.requests.memory import StoredMemory

    with app.own_store().transaction() as tx:
        nonce = StoredMemory(tx).challenge().hex()
    app.note(f"on the CA host: tpmhsm group certify GROUP --nonce {nonce}; then here: trust check")
    app.emit({"nonce": nonce}, nonce)


@trust.command(epilog="Example: tpmhsm trust check officers.certified")
@click.argument("file", metavar="FILE")
@pass_app
def check(app: App, file: str) -> None:
    """Check a host's answer to `trust challenge`, and remember what the chip certified."""
    from tpmhsm.approval.live import check_answer, parse_answer
    from tpmhsm.policy.fingerprint import fingerprint
    from tpmhsm.policy.people import describe_rule
    from tpmhsm.requests.memory import StoredMemory

    data = app.read(file)
    with naming(file, data, "an answer of group certify"):
        answer = parse_answer(data)
    with app.own_store().transaction() as tx:
        memory = StoredMemory(tx)
        found = check_answer(answer, memory)
        memory.keep(found.entries)
        tx.audit.append("trust-check", {"group": answer.group.name})
        pinned = memory.pinned_group(answer.group.id)
    ek = answer.device.find_ek(answer.group.device_ek)
    eight = pinned.fingerprint if pinned else fingerprint(answer.group, ek or b"")
    officers = describe_rule(answer.roster.officers)
    state = "in force" if found.in_force else f"not in force: the counter is at {found.counter}"
    item = {
        "group": answer.group.name,
        "id": answer.group.id.hex(),
        "known": pinned is not None,
        "fingerprint": " ".join(eight),
        "counter": found.counter,
        "epoch": answer.roster.epoch,
        "in_force": found.in_force,
        "officers": officers,
        "approves_from": found.approves_from,
    }
    rows = [
        ("Group", f"{answer.group.name}  id {answer.group.id.hex()[:16]}…"),
        ("Epoch", f"{answer.roster.epoch}, {state}; certified over your nonce"),
        ("Officers", officers),
        ("You approve", f"changes for epoch {found.approves_from} and later"),
        ("Compare", "" if pinned else " ".join(eight)),
        ("", "" if pinned else "aloud with the other members: this home does not know the group"),
    ]
    app.emit(item, lambda: facts(rows))
