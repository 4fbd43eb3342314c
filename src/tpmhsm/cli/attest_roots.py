"""`tpmhsm attest roots`: which makers of chips a verifier believes, and as what hardware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import naming, read_input
from tpmhsm.cli.vendor_roots import changing, keep, pins_of
from tpmhsm.errors import ParseError, UsageError

if TYPE_CHECKING:
    from tpmhsm.attest.bundles import Offer, Offered
    from tpmhsm.attest.roots import PinnedRoot

_KINDS = ("discrete", "firmware", "virtual", "emulator")
_MOST_FILES = 5_000
_MANY = 20


@click.group(epilog="Example: tpmhsm attest roots add tpm-ca-certificates.pem --by-maker")
def roots() -> None:
    """Vendor roots: which makers' EK certificates are believed, and as what hardware.

    Only a pinned root tells a chip from an emulator. They are kept in this home; no chip and no
    database is needed.
    """


@roots.command(epilog="Example: tpmhsm attest roots add OptigaRsaRootCA.crt --as discrete")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIRECTORY…")
@click.option("--as", "kind", type=click.Choice(_KINDS), help="What these roots stand for.")
@click.option("--by-maker", is_flag=True, help="What each maker's usually do; the others stay out.")
@click.option("--maker", default="", metavar="NAME", help="Whose they are, if they do not say.")
@click.option("--anchors", is_flag=True, help="Pin CAs, too, that do not sign themselves.")
@pass_app
def add(
    app: App, files: Sequence[str], kind: str | None, by_maker: bool, maker: str, anchors: bool
) -> None:
    """Pin roots from bundles: PEM, DER, PKCS#7, directories, TrustedTpm.cab, in any mixture.

    Intermediates are kept to build chains with, and are believed by nobody. Say what the roots
    stand for: a chip of its own (discrete), a part of the processor (firmware), a virtual machine's
    (virtual), software (emulator).
    """
    if kind and by_maker:
        raise UsageError("--as says it of all, --by-maker of each by its maker: give one of them")
    offer = _gather(files)
    offered = [*offer.roots, *(offer.intermediates if anchors else ())]
    pinned, left = _labelled(offered, kind, by_maker, maker)
    if offered and not pinned:
        _refuse(app, offered)
    if kind and not offered:
        _refuse_intermediates(offer.intermediates)
    taken = {root.der for root in pinned} | {one.der for one in left}
    others = [one.der for one in offer.intermediates if one.der not in taken]
    with changing(app) as path:
        before = pins_of(app)
        keep(path, before.with_more(pinned, others))
    known = {root.sha256: root.kind for root in before.roots}
    items = [{**_item(root), "was": known.get(root.sha256)} for root in pinned]
    new = len(set(others) - set(before.intermediates))
    app.done(_answer(items, new, left, offer), lambda: _words(items, len(others), left, offer))


def _gather(files: Sequence[str]) -> Offer:
    from tpmhsm.attest.bundles import MAX_FILE, Offer, read_offer

    offer = Offer()
    for file in files:
        folder = file != "-" and Path(file).is_dir()
        for path in _within(Path(file)) if folder else (file,):
            with naming(path):
                read_offer(path, read_input(path, limit=MAX_FILE), offer, strict=not folder)
    if not offer.certificates:
        first = offer.troubles[0] if offer.troubles else None
        why = f"; {first.where}: {first.reason}" if first else ""
        raise ParseError(f"there is no CA certificate in {', '.join(files)}{why}")
    return offer


def _within(folder: Path) -> Iterator[str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(found) > _MOST_FILES:
        raise UsageError(f"{folder} has {len(found):,} files; {_MOST_FILES:,} are the most")
    yield from map(str, found)


def _labelled(
    offered: Sequence[Offered], kind: str | None, by_maker: bool, maker: str
) -> tuple[list[PinnedRoot], list[Offered]]:
    """The roots with their kinds, and those for which there is none."""
    from tpmhsm.attest.roots import PinnedRoot

    pinned, left = [], []
    for one in offered:
        chosen = kind or (one.kind if by_maker or one.labelled else "")
        if chosen:
            pinned.append(PinnedRoot.of(one.der, maker or one.maker, chosen))
        else:
            left.append(one)
    return pinned, left


def _refuse(app: App, offered: Sequence[Offered]) -> None:
    """A person says what roots stand for. UsageError, after what is offered was shown."""
    rows = [(one.subject, one.maker, one.kind or "?", one.sha256[:16]) for one in offered]
    app.note(table(("SUBJECT", "MAKER", "USUALLY", "SHA-256"), rows, empty=""), styled=True)
    raise UsageError(
        f"nothing is pinned: say what these {len(offered)} roots stand for",
        code="kind-missing",
        hint=f"--as {'|'.join(_KINDS)} for all of them, or --by-maker for the column USUALLY",
        details={"items": [_offered(one) for one in offered]},
    )


def _refuse_intermediates(others: Sequence[Offered]) -> None:
    """Who says `--as` means to pin. UsageError, but for bundles of nothing else than these."""
    single = next((one for one in others if not one.declared), None)
    if single is not None:
        raise UsageError(
            f"nothing is pinned: {single.subject} does not sign itself, so it is no root",
            code="no-root",
            hint="pin the root above it; --anchors pins it by itself; without --as it is kept, "
            "to build chains with",
        )


def _offered(one: Offered) -> dict[str, Any]:
    return {"subject": one.subject, "maker": one.maker, "kind": one.kind, "sha256": one.sha256}


def _answer(
    items: list[dict[str, Any]], new: int, left: Sequence[Offered], offer: Offer
) -> dict[str, Any]:
    return {
        "items": items,
        "intermediates": new,
        "left_out": [_offered(one) for one in left],
        "troubles": [one._asdict() for one in offer.troubles],
    }


def _words(
    items: Sequence[dict[str, Any]], others: int, left: Sequence[Offered], offer: Offer
) -> str:
    lines = [_table(items)] if items else []
    lines.append(f"roots pinned: {len(items)}; intermediates kept: {others}")
    lines += [f"left out, as what does it stand? {one.subject}" for one in left]
    lines += [f"left out: {one.where}: {one.reason}" for one in offer.troubles[:_MANY]]
    if more := len(offer.troubles) - _MANY:
        lines += [f"left out: {more} more"] if more > 0 else []
    return "\n".join(lines)


def _item(root: PinnedRoot) -> dict[str, Any]:
    from tpmhsm.attest.ek_certificates import in_words_until
    from tpmhsm.attest.makers import MAKERS
    from tpmhsm.pki.names import show_dn
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely

    found = read_path_certificate_loosely(root.der)
    return {
        "sha256": root.sha256,
        "kind": root.kind,
        "maker": root.maker,
        "maker_name": MAKERS.get(root.maker, root.maker),
        "subject": show_dn(found.subject),
        "not_after": in_words_until(found.not_after),
    }


def _table(items: Sequence[dict[str, Any]]) -> str:
    return table(
        ("KIND", "MAKER", "SUBJECT", "UNTIL", "SHA-256"),
        [
            (i["kind"], i["maker_name"], i["subject"], i["not_after"][:10], i["sha256"][:16])
            for i in items
        ],
        empty="no vendor root is pinned: without one, no chip is told from an emulator; "
        "tpmhsm attest roots add FILE --as KIND",
    )


@roots.command("list", epilog="Example: tpmhsm attest roots list")
@pass_app
def list_(app: App) -> None:
    """All pinned roots, and how many intermediates are kept."""
    from tpmhsm.attest.roots import Pins

    pins = pins_of(app)
    items = [_item(root) for root in pins.roots]
    found = {"items": items, "intermediates": len(pins.intermediates)}
    kept = f"\nintermediates kept: {len(pins.intermediates)}" if pins != Pins() else ""
    app.emit(found, lambda: _table(items) + kept)


@roots.command(epilog="Example: tpmhsm attest roots show beb40bb7")
@click.argument("digest", metavar="SHA256")
@pass_app
def show(app: App, digest: str) -> None:
    """One pinned root: what it stands for, and its certificate."""
    from tpmhsm.attest.roots import KINDS
    from tpmhsm.pki.describe import certificate_lines, describe_certificate
    from tpmhsm.pki.load import to_pem

    root = pins_of(app).find(digest)
    certificate = describe_certificate(root.der)
    rows = [("Stands for", f"{root.kind}: {KINDS[root.kind]}"), ("Maker", root.maker)]
    app.emit(
        {**_item(root), "certificate": certificate, "pem": to_pem(root.der).decode()},
        lambda: facts([*rows, *certificate_lines(certificate)]),
    )


@roots.command(epilog="Example: tpmhsm attest roots remove beb40bb7")
@click.argument("digest", metavar="SHA256")
@pass_app
def remove(app: App, digest: str) -> None:
    """Believe a root no more."""
    with changing(app) as path:
        pins = pins_of(app)
        root = pins.find(digest)
        keep(path, pins.without(root))
    item = _item(root)
    app.done(item, f"no longer believed: {item['subject']} {root.sha256[:16]}")
