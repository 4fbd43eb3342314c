"""Text that is safe on a terminal: nothing hidden, nothing reordered, nothing too wide."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from tpmhsm.pki.scripts import disguise
from tpmhsm.policy.visible import escape

_ESCAPED_OCTETS = re.compile(r"\\\\|(?:\\[0-9A-F]{2})+")
_PYTHON_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")
_MARK = re.compile(r"\\u\{[0-9a-f]+\}")
_RIGHT_TO_LEFT = {"R", "AL", "AN"}


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
    found += _spellings(visible)
    found += [f"{label} is '{shown}'{_and_odd(shown)}" for label, shown in _punycode(visible)]
    return found


def _spellings(text: str) -> Iterator[str]:
    """What of a name another name may look the same as, or in which order."""
    if not unicodedata.is_normalized("NFC", text):
        yield "accents apart from their letters (not NFC): another name looks the same"
    for word in re.split(r"[\s,=:@/]+", text):
        plain = unicodedata.normalize("NFKC", word)
        if plain.isascii() and not word.isascii():
            yield f"'{word[:40]}' is no '{plain[:40]}', and looks like it"
    if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text):
        yield "letters from right to left: terminals may show parts of it in another order"


def _and_odd(shown: str) -> str:
    words = "; ".join(found for word in re.split(r"[^\w]+", shown) if (found := disguise(word)))
    return f": {words}" if words else ""


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
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if character.isascii():
        return 1
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
        if piece.isascii() and used + len(piece) <= width:
            line, used = line + piece, used + len(piece)
            continue
        for character in piece:
            columns = _columns(character)
            if used + columns > width and character != " ":
                lines.append(line.rstrip())
                line, used = "", 0
            line += character
            used += columns
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def groups_of(digits: str, size: int = 8) -> str:
    """Return hex digits in groups: '4f1c9b07 52aae310'."""
    return " ".join(digits[i : i + size] for i in range(0, len(digits), size))
