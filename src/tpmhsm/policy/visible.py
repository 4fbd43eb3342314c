"""What others wrote, so that all of it is seen: nothing hidden, nothing reordered or covered."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator

from tpmhsm.policy.documents import INVISIBLE

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me"}
_OVERLAY = 1  # the combining class of strokes through a letter

MOST_MARKS = 3
"""So many accents on one letter are shown; more would cover the lines above and below."""


def in_html(text: str) -> str:
    """Return `text` for an HTML page: what is hidden is shown, and nothing in it is markup."""
    return html.escape(escape(text))


def escape(text: str) -> str:
    r"""Return `text` with control, bidi and invisible characters as \u{202e}; newlines too, and
    marks that strike letters out, enclose them, or are too many on one.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category == "Mn" else 0
        blank = category == "Zs" and character != " "
        covers = marks > MOST_MARKS or unicodedata.combining(character) == _OVERLAY
        if category in _HIDDEN or blank or covers or INVISIBLE.search(character):
            yield f"\\u{{{ord(character):x}}}"
        else:
            yield character
