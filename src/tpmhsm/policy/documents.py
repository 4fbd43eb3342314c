"""Documents: JSON with one encoding, so that a document's hash means its content.

Canonical: keys sorted, no spaces, UTF-8, no floats. Parsing refuses duplicate keys, unknown or
missing fields, and text that is not the canonical encoding of what it says.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from unicodedata import category, combining, is_normalized

from tpmhsm.errors import ParseError, UsageError

MAX_DOCUMENT = 1 << 20

_FORBIDDEN = re.compile(r"""[,:;/\\()"'<>|*?$`%\x00-\x1f\x7f]""")

INVISIBLE = re.compile(
    "[\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff]"
)
"""Characters that a font may show as nothing: Default_Ignorable_Code_Point (Unicode, chapter 5.21),
and the Braille blank, though Unicode counts some of them as letters and marks.
"""


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> bytes:
    """Return the one encoding of a JSON value. UsageError for floats and what JSON has not."""
    _no_floats(value)
    return encode_json(value)


def encode_json(value: Any) -> bytes:
    """The same for a value that `parse_json` returned: it has no floats."""
    try:
        return _JSON.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise UsageError(f"not a JSON value: {e}") from None


def document_hash(data: bytes) -> bytes:
    """Return SHA-256 of a document's canonical bytes."""
    return sha256(data).digest()


def parse_json(data: bytes, what: str, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """Return the object in `data`, canonical or not; ParseError naming `what` otherwise.

    Refused: more than `limit` bytes, duplicate keys, floats, anything but an object.
    """
    if len(data) > limit:
        raise ParseError(f"{what}: larger than {limit} bytes")
    try:
        value = _READER.decode(data.decode())
    except (ValueError, RecursionError) as e:
        raise ParseError(f"{what}: not JSON: {e}") from None
    if not isinstance(value, dict):
        raise ParseError(f"{what}: not a JSON object")
    return value


def parse_canonical(data: bytes, what: str, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """Like `parse_json`, and refuse any encoding but the canonical one."""
    value = parse_json(data, what, limit)
    try:
        again = encode_json(value)
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None
    if again != data:
        raise ParseError(f"{what}: not in the canonical encoding")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text[:40]} is not allowed")


_READER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_float=_no_number, parse_constant=_no_number
)


def _no_floats(value: Any) -> None:
    if isinstance(value, float):
        raise UsageError("a document has no floating-point numbers")
    if isinstance(value, dict):
        for item in value.values():
            _no_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _no_floats(item)


class Fields:
    """The fields of one JSON object, read by type; every misfit is a ParseError naming the field.

    Reading a field twice is fine; `done` refuses fields that nobody read.
    """

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ParseError(f"{what}: not a JSON object")
        self._value: dict[str, Any] = value
        self._what = what
        self._read: set[str] = set()

    def _get(self, key: str, kind: type) -> Any:
        self._read.add(key)
        found = self._value.get(key)
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise ParseError(f"{self._what}: field {key!r} is missing or of the wrong type")
        return found

    def has(self, key: str) -> bool:
        """Whether the field is there."""
        return key in self._value

    def text(self, key: str) -> str:
        """A string."""
        return str(self._get(key, str))

    def label(self, key: str) -> str:
        """A label: see `check_label`."""
        return check_label(self.text(key), f"{self._what}: {key}", ParseError)

    def number(self, key: str, low: int = 0, high: int = (1 << 64) - 1) -> int:
        """An integer in a range (both ends allowed)."""
        found = int(self._get(key, int))
        if not low <= found <= high:
            told = str(found) if abs(found) < 1 << 256 else "far too large"
            raise ParseError(f"{self._what}: {key} is {told}, not {low} to {high}")
        return found

    def hex(self, key: str, size: int | None = None) -> bytes:
        """Lowercase hex of `size` bytes."""
        return _from_hex(self.text(key), f"{self._what}: {key}", size)

    def base64(self, key: str) -> bytes:
        """Standard base64 with padding, in its one encoding."""
        text = self.text(key)
        try:
            data = b64decode(text, validate=True)
        except ValueError:
            data = b""
        if to_base64(data) != text:
            raise ParseError(f"{self._what}: {key} is not base64")
        return data

    def list(self, key: str) -> list[Any]:
        """An array."""
        return list(self._get(key, list))

    def fields(self, key: str) -> Fields:
        """An object inside this one."""
        return Fields(self._get(key, dict), f"{self._what}: {key}")

    def hexes(self, key: str, size: int) -> tuple[bytes, ...]:
        """An array of lowercase hex strings of `size` bytes each."""
        items = self.list(key)
        if not all(isinstance(item, str) for item in items):
            raise ParseError(f"{self._what}: {key} is not a list of strings")
        return tuple(_from_hex(item, f"{self._what}: {key}", size) for item in items)

    def expect(self, key: str, value: str) -> None:
        """A string that is known beforehand, such as the format."""
        if self.text(key) != value:
            raise ParseError(f"{self._what}: {key} is not {value!r}")

    def flag(self, key: str) -> bool:
        """True or false."""
        return bool(self._get(key, bool))

    def allow(self, *keys: str) -> None:
        """These were read in another way."""
        self._read.update(keys)

    def done(self) -> None:
        """Refuse fields that were not read: what is not understood is not approved."""
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            told = ", ".join(repr(name[:40]) for name in unknown[:5])
            more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
            raise ParseError(f"{self._what}: unknown fields: {told}{more}")


def to_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return b64encode(data).decode()


def _from_hex(text: str, what: str, size: int | None) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if data.hex() != text or (size is not None and len(data) != size):
        length = "" if size is None else f" of {size} bytes"
        raise ParseError(f"{what} is not lowercase hex{length}")
    return data


def check_label(text: str, what: str, error: type[UsageError] = UsageError) -> str:
    """Return `text` if it may name a person, group or key, else raise `error`.

    1 to 64 visible characters (so no control and no bidi characters), Unicode NFC, no marks that
    cover letters, no separator of the command line, no leading dot or dash, no outer spaces: it
    becomes file names and rules.
    """
    fine = (
        0 < len(text) <= 64
        and text.isprintable()
        and is_normalized("NFC", text)
        and text == text.strip()
        and text[0] not in ".-"
        and not _FORBIDDEN.search(text)
        and not INVISIBLE.search(text)
        and not _is_covered(text)
    )
    if not fine:
        raise error(f"{what}: {text[:80]!a} cannot be a name")
    return text


def _is_covered(text: str) -> bool:
    """Whether marks strike letters out (combining class 1) or enclose them, or four are on one."""
    marks = "".join("m" if category(c) == "Mn" else "." for c in text)
    struck = any(category(c) == "Me" or combining(c) == 1 for c in text)
    return struck or "mmmm" in marks


def sorted_distinct(values: Iterable[bytes], what: str) -> tuple[bytes, ...]:
    """Return `values`; ParseError unless they are sorted and distinct."""
    found = tuple(values)
    if list(found) != sorted(set(found)):
        raise ParseError(f"{what}: not sorted and distinct")
    return found
