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
from tpmhsm.approval.review import Review
from tpmhsm.approval.screen import escape, groups_of, width_of, wrap
from tpmhsm.errors import UsageError

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
    later = [(f.head, f.text) for f in (*now.flags, *now.content.flags)]
    return tuple(f"{head}: {text}" for head, text in later if (head, text) not in before)


def render(batch: Batch, width: int = display.WIDTH) -> str:
    """Everything there is to see, in lines of at most `width` columns."""
    return "\n".join(_lines(batch, width))


def pages(batch: Batch, height: int = display.HEIGHT, width: int = display.WIDTH) -> list[str]:
    """The same in pages of at most `height` lines."""
    lines = list(_lines(batch, width))
    return ["\n".join(lines[i : i + height]) for i in range(0, len(lines), height)]


def _lines(batch: Batch, width: int) -> Iterator[str]:
    first = batch.reviews[0]
    ids = ", ".join(str(r.request.id) for r in batch.reviews)
    left = f"APPROVE {len(batch.reviews)} × {first.request.kind} · {ids}"
    right = f"{escape(first.approver.name)}, {escape(first.identity)}"
    yield from display.two_sides(left, right, width)
    content = [
        [display.noted(row, review) for row in review.content.rows] for review in batch.reviews
    ]
    yield display.rule_line("decoded here, from the bytes you sign: the same in all", width)
    for row in _shared(content):
        yield from display.row_lines(row, width)
    yield display.rule_line("decoded here: what differs", width)
    yield from _differences(batch, content, width)
    yield from _flags(batch, width)
    for review in batch.reviews:
        for listing in review.content.listings:
            titled = replace(listing, title=f"{review.request.id}: {listing.title}")
            yield from display.listing_lines(titled, width)
    yield from _said(batch, width)
    yield from _signatures(batch, width)


def _said(batch: Batch, width: int) -> Iterator[str]:
    claims = [list(display.claim_rows(review)) for review in batch.reviews]
    yield display.rule_line("the host claims (unchecked): the same in all", width)
    for row in _shared(claims):
        yield from display.row_lines(row, width)
    if any(set(rows) - set(_shared(claims)) for rows in claims):
        yield display.rule_line("the host claims (unchecked): what differs", width)
        yield from _differences(batch, claims, width)


def _signatures(batch: Batch, width: int) -> Iterator[str]:
    first = next((r for r in batch.reviews if r.first_use), batch.reviews[0])
    yield display.rule_line("your signatures", width)
    yield from display.compare_lines(first, width)
    rows = [
        [
            Row("Allows", display.allows_words(r)),
            Row("Count", display.count_words(r)),
            Row("SHA-256", groups_of(r.request.digest.hex())),
        ]
        for r in batch.reviews
    ]
    for row in _shared(rows):
        yield from display.row_lines(row, width)
    yield from _differences(batch, rows, width)


def _shared(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows that all have, in the order of the first."""
    return [row for row in tables[0] if all(row in table for table in tables)]


def _differences(batch: Batch, tables: Sequence[Sequence[Row]], width: int) -> Iterator[str]:
    """What the rows do not share: a line a request and as many columns beside each other as fit;
    further ones below. Nothing is cut.
    """
    shared = _shared(tables)
    own = [[row for row in table if row not in shared] for table in tables]
    ids = ["", *(str(review.request.id) for review in batch.reviews)]
    band = [ids]
    for label in dict.fromkeys(row.label for table in own for row in table):
        column = [label, *(_cell(table, label) for table in own)]
        if len(band) > 1 and _width(band) + _GAP + _width([column]) > width:
            yield from _band(band, width)
            band = [ids]
        band.append(column)
    if len(band) > 1:
        yield from _band(band, width)


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
    for flag, numbers in found.items():
        everywhere = len(set(numbers)) == len(batch.reviews)
        where = "all" if everywhere else ", ".join(dict.fromkeys(numbers))
        yield from display.flag_lines(Flag(flag.head, f"[{where}] {flag.text}", flag.mark), width)
    keys = Counter(c.spki_sha256 for r in batch.reviews for c in r.content.certified)
    for digest, times in keys.items():
        if times > 1:
            text = f"{times} of these are for the same key {digest.hex()[:16]}"
            yield from display.flag_lines(Flag("KEY TWICE", text), width)
