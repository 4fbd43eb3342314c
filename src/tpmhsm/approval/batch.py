"""Many requests as one table: what is the same in all is said once, then what differs in each.

    batch_of     the reviews of requests that can be looked at together
    render       the screen: each warning with the ids of its requests, each digest in full
    unseen       what a later look would show that this one did not

The decision is one: the digits that are typed are of a hash over the kinds and digests of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from tpmhsm.approval import display
from tpmhsm.approval.content import Flag, Row
from tpmhsm.approval.paging import Page, Part, paged
from tpmhsm.approval.review import Review
from tpmhsm.approval.screen import groups_of, width_of, wrap
from tpmhsm.errors import UsageError
from tpmhsm.policy.visible import escape

TAG = b"tpmhsm/batch/1\0"
_GAP = 2


@dataclass(frozen=True)
class Batch:
    """Reviews by one approver of requests of one kind, group and key. At least two."""

    reviews: tuple[Review, ...]

    @property
    def code(self) -> str:
        """The hex digits that a person types to approve all."""
        parts = [f"{r.request.kind}:{r.request.digest.hex()}\n".encode() for r in self.reviews]
        return sha256(TAG + b"".join(parts)).hexdigest()[: display.DIGITS]

    @property
    def question(self) -> str:
        """The prompt."""
        then = ", then touch the key for each" if self.reviews[0].touch else ""
        return f"Type {self.code} to sign all {len(self.reviews)}{then}: "


def batch_of(reviews: Sequence[Review]) -> Batch:
    """Put reviews together. UsageError unless all ask one group, for one kind of act by one key."""
    alike = {(r.request.kind, r.request.group.id, r.key_words, _key(r)) for r in reviews}
    numbers = [r.request.id for r in reviews]
    if len(reviews) < 2 or len(alike) != 1 or len(set(numbers)) != len(numbers):
        raise UsageError(
            "only several requests of one kind, for one key of one group, can be decided together",
            code="not-alike",
            hint="leave --together out: each is shown and asked for alone",
        )
    return Batch(tuple(reviews))


def _key(review: Review) -> bytes:
    """The public area: what it is called is the host's word."""
    return review.request.key.public if review.request.key else b""


def unseen(shown: Review, now: Review) -> tuple[str, ...]:
    """Warnings of a later review of the same request that the one that was shown had not."""
    before = {(f.head, f.text) for f in (*shown.flags, *shown.content.flags)}
    later = [(f.head, f.text) for f in (*now.flags, *now.content.flags) if f.mark == "!"]
    return tuple(f"{head}: {text}" for head, text in later if (head, text) not in before)


def render(batch: Batch, width: int = display.WIDTH) -> str:
    """Everything there is to see, in lines of at most `width` columns."""
    return "\n".join(line for part in _parts(batch, width) for line in part.lines)


def pages(batch: Batch, height: int = display.HEIGHT, width: int = display.WIDTH) -> list[Page]:
    """The same in pages of at most `height` lines."""
    return paged(_parts(batch, width), height)


def _parts(batch: Batch, width: int) -> list[Part]:
    content = [
        [display.noted(row, review) for row in review.content.rows] for review in batch.reviews
    ]
    bands = [tuple(band) for band in _differences(batch, content, width)]
    if bands:
        bands[0] = (display.rule_line("decoded here: what differs", width), *bands[0])
    return [
        Part("what is the same in all", tuple(_same(batch, content, width)), whole=True),
        *(Part("what differs", band, whole=True) for band in bands),
        Part("warnings", tuple(_flags(batch, width))),
        *_listings(batch, width),
        *_said(batch, width),
        *_signatures(batch, width),
    ]


def _same(batch: Batch, content: Sequence[Sequence[Row]], width: int) -> Iterator[str]:
    first = batch.reviews[0]
    ids = ", ".join(str(r.request.id) for r in batch.reviews)
    left = f"APPROVE {len(batch.reviews)} × {first.request.kind} · {ids}"
    right = f"{escape(first.approver.name)}, {escape(first.identity)}"
    yield from display.two_sides(left, right, width)
    yield display.rule_line("decoded here, from the bytes you sign: the same in all", width)
    for row in _shared(content):
        yield from display.row_lines(row, width)


def _listings(batch: Batch, width: int) -> Iterator[Part]:
    for review in batch.reviews:
        for listing in review.content.listings:
            titled = replace(listing, title=f"{review.request.id}: {listing.title}")
            yield Part(titled.title, tuple(display.listing_lines(titled, width)))


def _said(batch: Batch, width: int) -> Iterator[Part]:
    claims = [list(display.claim_rows(review)) for review in batch.reviews]
    yield _part("the host's claims", "the host claims (unchecked): the same in all", claims, width)
    rule: tuple[str, ...] = (display.rule_line("the host claims (unchecked): what differs", width),)
    for band in _differences(batch, claims, width):
        yield Part("the host's claims", (*rule, *band), whole=True)
        rule = ()


def _signatures(batch: Batch, width: int) -> Iterator[Part]:
    first = next((r for r in batch.reviews if r.first_use), batch.reviews[0])
    rows = [
        [*display.signature_rows(r), Row("SHA-256", groups_of(r.request.digest.hex()))]
        for r in batch.reviews
    ]
    compared = tuple(display.compare_lines(first, width))
    yield _part("your signatures", "your signatures", rows, width, compared)
    for band in _differences(batch, rows, width):
        yield Part("your signatures", tuple(band), whole=True)


def _part(
    name: str,
    title: str,
    tables: Sequence[Sequence[Row]],
    width: int,
    before: tuple[str, ...] = (),
) -> Part:
    """A rule, `before`, and the rows that all have."""
    rows = (line for row in _shared(tables) for line in display.row_lines(row, width))
    return Part(name, (display.rule_line(title, width), *before, *rows), whole=True)


def _shared(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows that all have, in the order of the first."""
    return [row for row in tables[0] if all(row in table for table in tables)]


def _differences(
    batch: Batch, tables: Sequence[Sequence[Row]], width: int
) -> Iterator[Iterator[str]]:
    """What the rows do not share, in bands: a line a request, and as many columns beside each
    other as fit. Nothing is cut.
    """
    shared = _shared(tables)
    own = [[row for row in table if row not in shared] for table in tables]
    ids = ["", *(str(review.request.id) for review in batch.reviews)]
    band = [ids]
    for label in dict.fromkeys(row.label for table in own for row in table):
        column = [label, *(_cell(table, label) for table in own)]
        if len(band) > 1 and _width(band) + _GAP + _width([column]) > width:
            yield _band(band, width)
            band = [ids]
        band.append(column)
    if len(band) > 1:
        yield _band(band, width)


def _width(columns: Sequence[Sequence[str]]) -> int:
    widest = [max(map(width_of, column)) for column in columns]
    return sum(widest) + _GAP * (len(columns) - 1)


def _band(columns: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Columns side by side; a single one that is too wide is broken into lines."""
    widths = [max(map(width_of, column)) for column in columns]
    if _width(columns) <= width:
        yield from (_padded(line, widths) for line in zip(*columns, strict=True))
        return
    indent = widths[0] + _GAP
    for number, text in zip(*columns, strict=True):
        first, *rest = wrap(text, width - indent) or [""]
        yield _padded([number, first], [widths[0], 0])
        yield from (" " * indent + line for line in rest)


def _cell(rows: Sequence[Row], label: str) -> str:
    found = [f"{row.text} {row.note}".rstrip() for row in rows if row.label == label]
    return escape("; ".join(found))


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (c + " " * (w - width_of(c) + _GAP) for c, w in zip(cells, widths, strict=True))
    return "".join(padded).rstrip()


def _flags(batch: Batch, width: int) -> Iterator[str]:
    """Each warning once, with the requests that it is about; and keys that are there twice."""
    found: dict[Flag, list[str]] = {}
    for review in batch.reviews:
        for flag in (*review.flags, *review.content.flags):
            found.setdefault(flag, []).append(str(review.request.id))
    told = []
    for flag, numbers in found.items():
        everywhere = len(set(numbers)) == len(batch.reviews)
        where = "all" if everywhere else ", ".join(dict.fromkeys(numbers))
        told.append(Flag(flag.head, f"[{where}] {flag.text}", flag.mark))
    keys = Counter(c.spki_sha256 for r in batch.reviews for c in r.content.certified)
    for digest, times in keys.items():
        if times > 1:
            text = f"{times} of these are for the same key {digest.hex()[:16]}"
            told.append(Flag("KEY TWICE", text))
    yield from display.flags_lines(told, width)
