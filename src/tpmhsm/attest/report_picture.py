"""The picture of a report as SVG without script: vendor root → EK → AK → key → certificates, or
whatever else is a tree of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from tpmhsm.policy.visible import in_html

if TYPE_CHECKING:
    from tpmhsm.attest.verdicts import Answer, Link

KINDS = {
    "root": "vendor root",
    "intermediate": "intermediate CA",
    "ek": "endorsement key: the chip",
    "ak": "attestation key: its voice",
    "key": "key",
    "certificate": "certificate",
}
MARKS = {"proven": "✓", "refuted": "✗", "not-proven": "?"}

_WEAKEST: tuple[Answer, ...] = ("proven", "not-proven", "refuted")

MOST = 64
"""Links that are drawn."""

_WIDTH, _HEIGHT, _GAP, _STEP = 400, 46, 16, 32
_BESIDE = 20  # units between a box and the words on its right
_COLUMNS = 52  # characters of these words in a line
_LABEL = 50  # characters of a label


@dataclass(frozen=True)
class Box:
    """A box of another picture: like a `Link`, but its `kind` is in words of its own."""

    kind: str
    label: str
    parent: int
    holds: Answer
    how: str


@dataclass(frozen=True)
class Placed:
    """A link as it is drawn: in its row, `depth` steps to the right, as good as its weakest
    ancestor; `above` is the row of its parent, -1 for none.
    """

    link: Link | Box
    depth: int
    above: int
    holds: Answer

    @property
    def words(self) -> str:
        """Its mark and what it is."""
        return f"{MARKS[self.holds]} {KINDS.get(self.link.kind, self.link.kind)}"


def arranged(links: Sequence[Link | Box]) -> tuple[tuple[Placed, ...], int]:
    """The rows of a picture, and how many links are left out."""
    drawn, more = _in_order(links)
    rows: list[Placed] = []
    at: dict[int, int] = {}
    for row, (number, depth) in enumerate(drawn):
        link = links[number]
        above = at.get(link.parent, -1) if link.parent != -1 else -1
        inherited = rows[above].holds if above >= 0 else link.holds
        holds = max(link.holds, inherited, key=_WEAKEST.index)
        rows.append(Placed(link, depth, above, holds))
        at[number] = row
    return tuple(rows), more


def picture(
    links: Sequence[Link | Box], title: str = "From the maker of the chip to the certificates"
) -> str:
    """A tree from top to bottom, each link a box on its parent's right lower side.

    Beside each stands what binds it to its parent, or what is missing; a mark and a dashed frame
    say so without colours.
    """
    rows, more = arranged(links)
    if not rows:
        return "<p>Nothing in this file leads from a chip to a key.</p>"
    parts: list[str] = []
    for number, row in enumerate(rows):
        x, y = row.depth * _STEP, number * (_HEIGHT + _GAP)
        if row.above >= 0:
            parts.append(_line(rows[row.above].depth * _STEP, row.above * (_HEIGHT + _GAP), x, y))
        parts += _box(row, x, y)
    width = max(row.depth for row in rows) * _STEP + _WIDTH + _BESIDE + 7 * _COLUMNS
    height = len(rows) * (_HEIGHT + _GAP)
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width} {height}" '
        f'width="100%" role="img" aria-label="{in_html(title)}">{"".join(parts)}</svg>'
    )
    left = f"<figcaption>{more} more are in the file.</figcaption>" if more else ""
    return f"<figure>{drawing}{left}</figure>"


def _in_order(links: Sequence[Link | Box]) -> tuple[list[tuple[int, int]], int]:
    """The links with their depths, each after its parent, and how many are left out."""
    children: dict[int, list[int]] = {}
    for number, link in enumerate(links):
        parent = link.parent if -1 <= link.parent < number else -1
        children.setdefault(parent, []).append(number)
    found: list[tuple[int, int]] = []
    waiting = [(number, 0) for number in reversed(children.get(-1, []))]
    while waiting:
        number, depth = waiting.pop()
        found.append((number, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(number, []))]
    return found[:MOST], max(0, len(found) - MOST)


def _line(x: int, y: int, to_x: int, to_y: int) -> str:
    down, across = to_y + _HEIGHT // 2 - (y + _HEIGHT), to_x - (x + _STEP // 2)
    return f'<path d="M{x + _STEP // 2} {y + _HEIGHT} v{down} h{across}"/>'


def _box(row: Placed, x: int, y: int) -> list[str]:
    link = row.link
    label = link.label if len(link.label) <= _LABEL else f"{link.label[: _LABEL - 1]}…"
    beside = x + _WIDTH + _BESIDE
    told = wrap(link.how, _COLUMNS)[:3]
    first = y + _HEIGHT // 2 + 4 - 7 * (len(told) - 1)
    return [
        f'<rect class="{row.holds}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="how" x="{x + 12}" y="{y + 18}">{in_html(row.words)}</text>',
        f'<text x="{x + 12}" y="{y + 36}">{in_html(label)}</text>',
        *(
            f'<text class="how" x="{beside}" y="{first + 14 * n}">{in_html(line)}</text>'
            for n, line in enumerate(told)
        ),
    ]
