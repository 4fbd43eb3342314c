"""Text that is safe on a terminal: nothing hidden, nothing reordered, nothing too wide."""

from __future__ import annotations

import re
import unicodedata

from tpmhsm.pki.scripts import disguise
from tpmhsm.policy.documents import INVISIBLE

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_ESCAPED_OCTETS = re.compile(r"\\\\|(?:\\[0-9A-F]{2})+")
_PYTHON_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")
_MARK = re.compile(r"\\u\{[0-9a-f]+\}")


def escape(text: str) -> str:
    r"""Return `text` with control, bidi and invisible characters as \u{202e}; newlines too."""
    return "".join(_escaped(c) for c in text)


def _escaped(character: str) -> str:
    category = unicodedata.category(character)
    blank = category == "Zs" and character != " "
    if category in _HIDDEN or blank or INVISIBLE.search(character):
        return f"\\u{{{ord(character):x}}}"
    return character


def readable(text: str) -> str:
    r"""Return a name as `tpmhsm.pki` writes it, its escapes of hidden characters as \u{202e}.

    Names come with RFC 4514's \E2\80\AE and with Python's \u202e; a person sees one form.
    """
    octets = _ESCAPED_OCTETS.sub(_decode_octets, text)
    plain = _PYTHON_ESCAPE.sub(
        lambda m: f"\\u{{{int(next(g for g in m.groups() if g), 16):x}}}", octets
    )
    return escape(plain)


def _decode_octets(match: re.Match[str]) -> str:
    text = match[0]
    if text == r"\\":
        return text
    try:
        return escape(bytes.fromhex(text.replace("\\", "")).decode())
    except UnicodeDecodeError:
        return text


def suspicions(text: str) -> list[str]:
    r"""Return what is odd about a name (as `readable` gives it), in words; usually nothing."""
    if text.isascii() and "\\u{" not in text and "xn--" not in text.lower():
        return []
    found = []
    if hidden := sorted(set(_MARK.findall(text))):
        found.append(f"hidden characters {' '.join(hidden[:5])}")
    visible = _MARK.sub("", text)
    for word in re.split(r"[^\w]+", visible):
        if words := disguise(word):
            found.append(words)
    found += [f"{label} is '{shown}'" for label, shown in _punycode(visible)]
    return found


def _punycode(text: str) -> list[tuple[str, str]]:
    found = []
    for label in re.findall(r"xn--[A-Za-z0-9-]+", text, re.IGNORECASE):
        try:
            shown = escape(label[4:].encode("ascii").decode("punycode"))
        except (UnicodeError, OverflowError):
            shown = "?"
        found.append((label[:63], shown[:63]))
    return found


def width_of(text: str) -> int:
    """Return how many columns a text takes."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, width: int) -> list[str]:
    """Cut a text into lines of at most `width` columns, at spaces and commas where possible."""
    lines, line, used = [], "", 0
    for piece in re.findall(r"[^ ,]*[ ,]|[^ ,]+", text):
        if used + width_of(piece.rstrip()) > width and line:
            lines.append(line.rstrip())
            line, used = "", 0
        for character in piece:
            if used + _columns(character) > width and character != " ":
                lines.append(line.rstrip())
                line, used = "", 0
            line += character
            used += _columns(character)
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def groups_of(digits: str, size: int = 8) -> str:
    """Return hex digits in groups: '4f1c9b07 52aae310'."""
    return " ".join(digits[i : i + size] for i in range(0, len(digits), size))
