"""The picture of a report: vendor root → EK → AK → key → certificates, as SVG without script."""

from __future__ import annotations

from collections.abc import Sequence
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


def picture(links: Sequence[Link]) -> str:
    """A tree from top to bottom, each link a box on its parent's right lower side.

    Beside each stands what binds it to its parent, or what is missing; a mark and a dashed frame
    say so without colours.
    """
    drawn, more = _in_order(links)
    if not drawn:
        return "<p>Nothing in this file leads from a chip to a key.</p>"
    places: dict[int, tuple[int, int]] = {}
    holds: dict[int, Answer] = {}
    parts: list[str] = []
    for row, (number, depth) in enumerate(drawn):
        x, y = depth * _STEP, row * (_HEIGHT + _GAP)
        places[number] = (x, y)
        link = links[number]
        holds[number] = link.holds
        if link.parent in places:
            parts.append(_line(*places[link.parent], x, y))
            holds[number] = max(link.holds, holds[link.parent], key=_WEAKEST.index)
        parts += _box(link, holds[number], x, y)
    deepest = max(depth for _, depth in drawn)
    width = deepest * _STEP + _WIDTH + _BESIDE + 7 * _COLUMNS
    height = len(drawn) * (_HEIGHT + _GAP)
    title = "From the maker of the chip to the certificates"
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width} {height}" '
        f'width="100%" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    )
    left = f"<figcaption>{more} more are in the file.</figcaption>" if more else ""
    return f"<figure>{drawing}{left}</figure>"


def _in_order(links: Sequence[Link]) -> tuple[list[tuple[int, int]], int]:
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


def _box(link: Link, holds: Answer, x: int, y: int) -> list[str]:
    label = link.label if len(link.label) <= _LABEL else f"{link.label[: _LABEL - 1]}…"
    kind = f"{MARKS[holds]} {KINDS[link.kind]}"
    beside = x + _WIDTH + _BESIDE
    told = wrap(link.how, _COLUMNS)[:3]
    first = y + _HEIGHT // 2 + 4 - 7 * (len(told) - 1)
    return [
        f'<rect class="{holds}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="how" x="{x + 12}" y="{y + 18}">{in_html(kind)}</text>',
        f'<text x="{x + 12}" y="{y + 36}">{in_html(label)}</text>',
        *(
            f'<text class="how" x="{beside}" y="{first + 14 * n}">{in_html(line)}</text>'
            for n, line in enumerate(told)
        ),
    ]
