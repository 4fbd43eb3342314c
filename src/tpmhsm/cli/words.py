"""Words for a terminal: what others wrote is shown, and does nothing.

Names, reasons, file names and messages of errors come from requests, approvals, cards and files.
Control, bidi and invisible characters in them are printed as their numbers.
"""

from __future__ import annotations

import re
from typing import Any

_PLAIN = re.compile("[ -~→…└├─│·]*")
# What click.style writes; nothing that hides text, and no movement of the cursor.
_STYLE = re.compile(r"(\x1b\[(?:0|1|2|3[1-6]|9[1-6])m)")


def one_line(text: str) -> str:
    r"""Return `text` with control, bidi and invisible characters as \u{1b}; newlines too."""
    if _PLAIN.fullmatch(text):  # nearly always, and without an import
        return text
    from tpmhsm.policy.visible import escape

    return escape(text)


def lines(text: str) -> str:
    """The same for a text whose newlines are the program's own: they are kept."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def screened(text: str) -> str:
    """The same for all that a command prints: its own colours are kept, too."""
    if text.isascii() and "\x1b" not in text and text.replace("\n", "").isprintable():
        return text
    pieces = _STYLE.split(text)
    pieces[::2] = [lines(piece) for piece in pieces[::2]]
    return "".join(pieces)


def json_text(document: Any) -> str:
    r"""JSON for people and programs: what does something on a terminal is written as \u202e."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text
    from tpmhsm.policy.visible import escape

    return "".join(c if c == "\n" or escape(c) == c else _as_json(c) for c in text)


def _as_json(character: str) -> str:
    octets = character.encode("utf-16-be", "surrogatepass")
    units = (octets[i : i + 2] for i in range(0, len(octets), 2))
    return "".join(f"\\u{unit.hex()}" for unit in units)
