"""Pages of a screen: nothing is dropped, and what is still to come has a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_TOGETHER = 3
"""A part does not begin at the end of a page with fewer lines than these."""


@dataclass(frozen=True)
class Part:
    """Lines that belong together, and what they are called when they are still to come. `whole`:
    kept on one page if a page has room for them.
    """

    name: str
    lines: tuple[str, ...]
    whole: bool = False


@dataclass(frozen=True)
class Page:
    """What is shown at once, and the names of what comes after it."""

    text: str
    to_come: tuple[str, ...] = ()

    def prompt(self, number: int, count: int, width: int) -> str:
        """What stands below a page that others follow, on one line of at most `width` columns."""
        start = f"(page {number} of {count}"
        several = f"{len(self.to_come)} parts, then {self.to_come[-1]}" if self.to_come else ""
        for names in (", ".join(self.to_come), several):
            words = f"{start}; to come: {names}; Enter shows the next)"
            if names and len(words) < width:
                return words
        return f"{start}; Enter shows the next)"


def paged(parts: Sequence[Part], height: int) -> list[Page]:
    """Parts on pages of at most `height` lines, in their order; none of their lines is left out."""
    pages: list[list[tuple[str, str]]] = [[]]
    for part in parts:
        lines = [(part.name, line) for line in part.lines]
        room = height - len(pages[-1])
        whole = part.whole and len(lines) <= height
        if pages[-1] and room < (len(lines) if whole else min(_TOGETHER, len(lines))):
            pages.append([])
        while lines:
            room = height - len(pages[-1])
            pages[-1] += lines[:room]
            if lines := lines[room:]:
                pages.append([])
    found: list[Page] = []
    to_come: tuple[str, ...] = ()
    for page in reversed(pages):
        found.append(Page("\n".join(line for _, line in page), to_come))
        to_come = tuple(dict.fromkeys([*(name for name, _ in page), *to_come]))
    return found[::-1]
