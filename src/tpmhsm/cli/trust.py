"""`tpmhsm trust`: on an approver's machine, cards that came from outside the CA host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import naming
from tpmhsm.cli.options import Out, out_options
from tpmhsm.cli.words import one_line
from tpmhsm.errors import StoreError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.live import Answer
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


@trust.command(epilog="Example: tpmhsm trust challenge host2.card --out host2.challenge")
@click.argument("card", metavar="[CARD]", required=False)
@out_options("CARD's name with .challenge by default.")
@pass_app
def challenge(app: App, card: str | None, out: Out) -> None:
    """Make a nonce, over which a CA host's chip says which roster is in force now.

    A custodian asks so whether a change is in force; and a home that lost its memory begins anew:
    it abstains for one epoch then. With a device's CARD it is a challenge to another chip of the
    group, before a key is copied there: only that chip can answer it.
    """
    from tpmhsm.requests.memory import StoredMemory

    if card is not None:
        _challenge_chip(app, card, out)
        return
    with app.own_store().transaction() as tx:
        nonce = StoredMemory(tx).challenge().hex()
    app.note(f"on the CA host: tpmhsm group certify GROUP --nonce {nonce}; then here: trust check")
    app.emit({"nonce": nonce}, nonce)


def _challenge_chip(app: App, path: str, out: Out) -> None:
    from tpmhsm.approval.cards import parse_device_card
    from tpmhsm.attest.credential import make_challenge
    from tpmhsm.cli.attest_challenge import keep_challenge
    from tpmhsm.policy import moments
    from tpmhsm.requests.memory import StoredMemory

    data = app.read(path)
    with naming(path, data, "a device's card"):
        card = parse_device_card(data)
        kept = make_challenge(card.ek_public, card.ak_public, moments.now())
    target = out.claim(f"{card.label}.challenge")
    digest = kept.challenge.digest
    with app.own_store().transaction() as tx:
        memory = StoredMemory(tx)
        if card.data not in {one.data for one in memory.device_cards()}:
            raise UsageError(
                f"this home does not trust the card in {path}: it may be anybody's",
                code="card-missing",
                hint=f"if you got it from the device's owner: tpmhsm trust add {path}",
            )
        keep_challenge(app, kept)
        memory.await_answer(digest)
    out.write(kept.challenge.encoded, target)
    app.emit(
        {"file": target, "device": card.label, "challenge": digest.hex()},
        f"{target}: for the chip of {card.label}\n"
        f"on that host: tpmhsm group certify GROUP --challenge {target}; then here: trust check",
    )


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
    if answer.response is not None or answer.device.ak_name != answer.group.device_ak:
        _check_chip(app, answer)
        return
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


def _check_chip(app: App, answer: Answer) -> None:
    """Another chip of a group, asked before a key is copied there."""
    from tpmhsm.approval.second_chips import Means, cautions, check_second_chip
    from tpmhsm.attest.verdicts import CLASS_WORDS
    from tpmhsm.cli.attest_challenge import kept_challenge
    from tpmhsm.cli.vendor_roots import pins_of
    from tpmhsm.policy import moments
    from tpmhsm.policy.people import describe_rule
    from tpmhsm.requests.memory import StoredMemory

    means = Means(kept_challenge(app, answer.nonce), moments.now(), pins_of(app))
    with app.own_store().transaction() as tx:
        memory = StoredMemory(tx)
        entries = check_second_chip(answer, memory, means)
        memory.keep(entries)
        tx.audit.append(
            "trust-chip", {"group": answer.group.name, "ak": answer.device.ak_name.hex()}
        )
    second = entries.second
    assert second is not None  # noqa: S101 - check_second_chip's own rule
    officers = describe_rule(answer.roster.officers)
    kind = second.kind or "unproven"
    item = {
        "group": answer.group.name,
        "id": answer.group.id.hex(),
        "device": second.card.label,
        "ak": answer.device.ak_name.hex(),
        "kind": kind,
        "parent": second.parent_name.hex(),
        "counter": second.counter,
        "officers": officers,
    }
    for flag in cautions(second):
        app.note(f"{flag.head}: {flag.text}")
    parent = second.parent_name.hex()
    rows = [
        ("Chip", f"{second.card.label}: answered your challenge (activation)"),
        ("Kind", CLASS_WORDS[kind]),  # type: ignore[index]
        ("Group", f"{answer.group.name}, epoch {second.counter} in force there"),
        ("Officers", officers),
        ("Takes copies", f"under the storage key {parent[4:12]} {parent[12:20]}, which keeps them"),
        ("You approve", "copies of keys to this chip, and requests from it"),
    ]
    app.emit(item, lambda: facts(rows))
