"""Reading and writing DER one element at a time (ITU-T X.690).

`cryptography` decodes whole certificates strictly and gives nothing where a real certificate
breaks one rule. This reader finds the fields of a structure without judging their content, so
that what can be read is shown. `lenient` also takes BER (indefinite and padded lengths): used only
to recognise what some other parser might accept, never to sign it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from tpmhsm.errors import ParseError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_MAX_DEPTH = 64
_END = b"\0\0"  # of an indefinite length


class Element(NamedTuple):
    """One tag-length-value: `tag` is the identifier octet (BER: or octets), `raw` the encoding."""

    tag: int
    content: bytes
    raw: bytes


_new = tuple.__new__  # Element(…) is a call more, and these are the most frequent objects here


@contextmanager
def complete(what: str) -> Iterator[None]:
    """Readers that take parts by their position: a missing one is a ParseError, too."""
    try:
        yield
    except IndexError as error:
        raise ParseError(f"this is not {what}: a part of it is missing") from error


def read(data: bytes, offset: int = 0, *, lenient: bool = False) -> tuple[Element, int]:
    """The element at `offset` and the offset after it. ParseError says where it breaks."""
    return _read(data, offset, lenient)


def _read(data: bytes, start: int, lenient: bool) -> tuple[Element, int]:
    size = len(data)
    if start + 2 > size:
        raise ParseError(f"the data ends inside an ASN.1 element, at byte {start}")
    tag, at = data[start], start + 1
    if tag & 0x1F != 0x1F and data[at] < 0x83:  # nearly every element; all others below
        body, end = _small(data, at)
        if end <= size:
            return _new(Element, (tag, data[body:end], data[start:end])), end
    constructed = bool(tag & 0x20)
    if tag & 0x1F == 0x1F:
        if not lenient:
            raise ParseError(f"an ASN.1 tag that X.509 does not use, at byte {start}")
        tag, at = _read_long_tag(data, start)
    if constructed and lenient and data[at : at + 1] == b"\x80":
        end = _skip(data, start, at + 1)
        return Element(tag, data[at + 1 : end - 2], data[start:end]), end
    body, length = _read_length(data, at, lenient)
    end = body + length
    if end > len(data):
        raise ParseError(
            f"the data is truncated: the element at byte {start} needs {end - len(data)} more bytes"
        )
    return Element(tag, data[body:end], data[start:end]), end


def _small(data: bytes, at: int) -> tuple[int, int]:
    """Begin and end of a content whose length is in its shortest form, of up to three octets.

    For any other the end lies beyond the data.
    """
    first = data[at]
    if first < 0x80:
        return at + 1, at + 1 + first
    if first == 0x81 and (two := data[at + 1 : at + 2]) > b"\x7f":
        return at + 2, at + 2 + two[0]
    if first == 0x82 and len(two := data[at + 1 : at + 3]) == 2 and two[0]:
        return at + 3, at + 3 + (two[0] << 8 | two[1])
    return at, len(data) + 1


def span(data: bytes, start: int = 0) -> tuple[int, int, int]:
    """Tag, begin of the content and end of a (BER) element, without a copy of it.

    ParseError for an indefinite length, and where there is no header. The end may lie beyond the
    data.
    """
    if start + 2 > len(data):
        raise ParseError(f"the data ends inside an ASN.1 element, at byte {start}")
    tag, at = data[start], start + 1
    if tag & 0x1F == 0x1F:
        tag, at = _read_long_tag(data, start)
    body, length = _read_length(data, at, True)
    return tag, body, body + length


def _read_long_tag(data: bytes, start: int) -> tuple[int, int]:
    """A tag of several octets, as one number, and the offset after it (X.690, 8.1.2.4).

    Numbers below 31 are not to be written so; OpenSSL reads them, and so are they read here.
    """
    number = 0
    for end in range(start + 2, min(start + 6, len(data) + 1)):
        number = number << 7 | data[end - 1] & 0x7F
        if not data[end - 1] & 0x80:
            small = data[start] & 0xE0 | number
            return small if number < 0x1F else int.from_bytes(data[start:end], "big"), end
    raise ParseError(f"an ASN.1 tag without an end, at byte {start}")


def _read_length(data: bytes, at: int, lenient: bool) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0x80
    if first < 0x80:
        return at + 1, first
    count = first & 0x7F
    octets = data[at + 1 : at + 1 + count]
    if not 1 <= count <= (126 if lenient else 8) or len(octets) < count:
        raise ParseError(f"a length that is not DER, at byte {at}")
    length = int.from_bytes(octets, "big")
    if not lenient and (octets[0] == 0 or length < 0x80):
        raise ParseError(f"a length that is not in its shortest form (not DER), at byte {at}")
    return at + 1 + count, length


def _skip(data: bytes, start: int, position: int) -> int:
    """The offset after an element of indefinite length whose content begins at `position`."""
    depth = 1
    while depth:
        if position + 2 > len(data):
            raise ParseError(f"the data ends inside an ASN.1 element, at byte {start}")
        tag, first = data[position], data[position + 1]
        if not tag | first:  # end-of-contents
            depth -= 1
            position += 2
        elif first < 0x80 and tag & 0x1F != 0x1F:
            position += 2 + first
        else:
            _, body, end = _any_header(data, position)
            depth += end is None
            position = body if end is None else end
        if depth > _MAX_DEPTH:
            raise ParseError(f"ASN.1 elements are nested too deeply, at byte {position}")
    return position


def read_whole(data: bytes, *, lenient: bool = False) -> Element:
    """The one element that fills `data`; ParseError when bytes follow it."""
    if len(data) > 1 and (tag := data[0]) & 0x1F != 0x1F:  # nearly every element, as below
        body, end = _small(data, 1)
        if end == len(data):
            return _new(Element, (tag, data[body:], data))
    element, end = _read(data, 0, lenient)
    if end != len(data):
        raise ParseError(f"{len(data) - end} bytes follow the end of the structure, at byte {end}")
    return element


def children(content: bytes, *, lenient: bool = False) -> list[Element]:
    """The elements that fill the content of a constructed element."""
    elements, position, size = [], 0, len(content)
    while position < size:
        body = position + 2
        if body <= size and (tag := content[position]) & 0x1F != 0x1F:
            length = content[position + 1]
            if length < 0x80 and (end := body + length) <= size:  # nearly every element
                elements.append(_new(Element, (tag, content[body:end], content[position:end])))
                position = end
                continue
        element, position = _read(content, position, lenient)
        elements.append(element)
    return elements


def definite(data: bytes) -> bytes:
    """A BER element with all lengths definite and shortest; strings in pieces stay so.

    One pass, so that deep nesting costs no more than its size. ParseError.
    """
    open_: list[tuple[int, list[bytes], int | None]] = [(0, [], len(data))]
    position = 0
    while True:
        tag, parts, end = open_[-1]
        if position == end or (end is None and data[position : position + 2] == _END):
            open_.pop()
            if not open_:
                return b"".join(parts)
            open_[-1][1].append(encode(tag, *parts))
            position += 2 if end is None else 0
            continue
        tag, body, stop = _any_header(data, position)
        limit = next(end for _, _, end in reversed(open_) if end is not None)
        if stop is not None and stop > limit:
            raise ParseError(f"the data ends inside an ASN.1 element, at byte {position}")
        if _is_constructed(tag):
            if len(open_) > _MAX_DEPTH:
                raise ParseError(f"ASN.1 elements are nested too deeply, at byte {position}")
            open_.append((tag, [], stop))
            position = body
        else:
            parts.append(encode(tag, data[body:stop]))
            position = stop or body


def _is_constructed(tag: int) -> bool:
    while tag > 0xFF:
        tag >>= 8
    return bool(tag & 0x20)


def _any_header(data: bytes, start: int) -> tuple[int, int, int | None]:
    """As `span`, with no end for an indefinite length."""
    at = start + 1
    tag = data[start] if start < len(data) else 0
    if tag & 0x1F == 0x1F:
        tag, at = _read_long_tag(data, start)
    if data[at : at + 1] == b"\x80" and _is_constructed(tag):
        return tag, at + 1, None
    return span(data, start)


def octets(element: Element, depth: int = 0) -> bytes:
    """The content of a string, which BER may have cut into pieces (X.690, 8.7). ParseError."""
    if not element.tag & 0x20:
        return element.content
    if depth > _MAX_DEPTH:
        raise ParseError("a string in pieces that are nested too deeply")
    pieces = children(element.content, lenient=True)
    if any(piece.tag & ~0x20 != OCTET_STRING for piece in pieces):
        raise ParseError("a string in pieces that are no strings")
    return b"".join(octets(piece, depth + 1) for piece in pieces)


def header(tag: int, size: int) -> bytes:
    """Identifier and length octets of an element with `size` octets of content."""
    if size < 0x80 and tag <= 0xFF:
        return bytes((tag, size))
    if tag > 0xFF:  # a tag of several octets
        return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + header(0, size)[1:]
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


def encode(tag: int, *parts: bytes) -> bytes:
    """An element of the given identifier octet whose content is `parts` joined."""
    content = b"".join(parts)
    if (size := len(content)) < 0x80 and tag <= 0xFF:
        return bytes((tag, size)) + content
    return header(tag, size) + content


def encode_integer(value: int) -> bytes:
    """INTEGER, two's complement in the fewest octets."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


@lru_cache(1024)
def decode_oid(content: bytes) -> str:
    """Content octets of an OBJECT IDENTIFIER as dotted text (X.690, 8.19)."""
    if not content or content[-1] & 0x80 or len(content) > 128:
        raise ParseError("an OBJECT IDENTIFIER that is cut off")
    arcs, value = [], 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


@lru_cache(1024)
def encode_oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from dotted text. ParseError if it is none."""
    try:
        arcs = [int(part) for part in dotted.split(".") if part.isascii() and part.isdigit()]
    except ValueError:
        arcs = []
    if len(arcs) != dotted.count(".") + 1 or len(arcs) < 2 or arcs[0] > 2:
        raise ParseError(f"{dotted!r} is no object identifier")
    if arcs[0] < 2 and arcs[1] > 39:
        raise ParseError(f"{dotted!r} is no object identifier: its second number exceeds 39")
    octets = b"".join(_base128(arc) for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]))
    return encode(OID, octets)


def _base128(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(0x80 | value & 0x7F)
    return bytes(reversed(octets))


@lru_cache(64)  # certificates of one second have the same times
def encode_time(moment: datetime) -> bytes:
    """UTCTime from 1950 through 2049, else GeneralizedTime (RFC 5280, 4.1.2.5)."""
    moment = moment.astimezone(UTC)
    if 1950 <= moment.year < 2050:
        return encode(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return generalized_time(moment)


def generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime, whole seconds, UTC."""
    text = moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    return encode(GENERALIZED_TIME, text.zfill(15).encode())


def encode_extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """DER of one Extension."""
    mark = encode(BOOLEAN, b"\xff") if critical else b""
    return encode(SEQUENCE, encode_oid(oid), mark, encode(OCTET_STRING, value))
