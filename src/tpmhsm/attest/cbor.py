"""CBOR as authenticators write it: the part of RFC 8949 that CTAP2 allows, and nothing else.

Lengths are definite and numbers in their shortest form; there are no tags, floats or undefined
values, and no key stands twice. The order of keys is not demanded: CTAP2 asks for it, and genuine
statements of Windows break it (`authData` before `attStmt`).
"""

from __future__ import annotations

from typing import Any

from tpmhsm.errors import ParseError

MAX_SIZE = 1 << 16
_MAX_DEPTH = 4  # CTAP 2.1, section 8: no more than four levels
_MAX_ITEMS = 256

_SIMPLE = {20: False, 21: True, 22: None}


def decode_cbor(data: bytes, what: str = "the CBOR") -> Any:
    """The one value that fills `data`: int, bytes, str, bool, None, list or dict. ParseError."""
    value, end = read_cbor(data, what=what)
    if end != len(data):
        raise ParseError(f"{what}: {len(data) - end} bytes follow the end, at byte {end}")
    return value


def read_cbor(data: bytes, at: int = 0, *, what: str = "the CBOR") -> tuple[Any, int]:
    """The value at `at`, and the offset after it. ParseError beyond 64 KiB, 4 levels, 256 items."""
    if len(data) > MAX_SIZE:
        raise ParseError(f"{what}: {len(data):,} bytes; at most {MAX_SIZE:,}")
    reader = _Reader(data, what)
    return reader.value(at, 0)


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._items = 0

    def _fail(self, words: str, at: int) -> ParseError:
        return ParseError(f"{self._what}: {words}, at byte {at}")

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        self._items += 1
        if depth > _MAX_DEPTH or self._items > _MAX_ITEMS:
            raise self._fail("nested too deeply or of too many parts", at)
        major, argument, after = self._head(at)
        if major < 2:
            return (-1 - argument if major else argument), after
        if major < 4:
            return (self._text if major == 3 else self._octets)(argument, after)
        if major < 6:
            return (self._map if major == 5 else self._list)(argument, after, depth)
        if major == 7 and argument in _SIMPLE and self._data[at] & 31 == argument:
            return _SIMPLE[argument], after
        raise self._fail("a tag, a float or another value that CTAP2 has not", at)

    def _head(self, at: int) -> tuple[int, int, int]:
        """Major type, argument and the offset after both (RFC 8949, section 3)."""
        if at >= len(self._data):
            raise self._fail("the data ends", at)
        major, short = self._data[at] >> 5, self._data[at] & 31
        if short < 24:
            return major, short, at + 1
        if short > 27:
            raise self._fail("a length that is not definite", at)
        size = 1 << (short - 24)
        octets = self._data[at + 1 : at + 1 + size]
        if len(octets) < size:
            raise self._fail("the data ends", at)
        number = int.from_bytes(octets, "big")
        if number < (24 if size == 1 else 1 << (4 * size)):
            raise self._fail("a number that is not in its shortest form", at)
        return major, number, at + 1 + size

    def _octets(self, size: int, at: int) -> tuple[bytes, int]:
        if at + size > len(self._data):
            raise self._fail(f"the data ends in a string of {size:,} bytes", at)
        return self._data[at : at + size], at + size

    def _text(self, size: int, at: int) -> tuple[str, int]:
        octets, end = self._octets(size, at)
        try:
            return octets.decode("utf-8"), end
        except UnicodeDecodeError:
            raise self._fail("a text that is not UTF-8", at) from None

    def _list(self, count: int, at: int, depth: int) -> tuple[list[Any], int]:
        items = []
        for _ in range(min(count, _MAX_ITEMS + 1)):
            item, at = self.value(at, depth + 1)
            items.append(item)
        return items, at

    def _map(self, count: int, at: int, depth: int) -> tuple[dict[Any, Any], int]:
        found: dict[Any, Any] = {}
        for _ in range(min(count, _MAX_ITEMS + 1)):
            start = at
            key, at = self.value(at, depth + 1)
            if type(key) not in (int, str, bytes):
                raise self._fail("a key that is neither a number nor a string", start)
            if key in found:
                raise self._fail(f"the key {key!r} stands twice", start)
            found[key], at = self.value(at, depth + 1)
        return found, at
