"""ISO 7816-4: commands with chaining and extended lengths, and BER-TLV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command APDU. `room`: how many bytes may come back at once."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    room: int


def parse(apdu: bytes) -> Command:
    """Cases 1 to 4, short and extended."""
    cla, ins, p1, p2 = apdu[:4]
    body = apdu[4:]
    if len(body) > 2 and body[0] == 0:  # extended
        size = int.from_bytes(body[1:3], "big")
        if len(body) == 3:
            return Command(cla, ins, p1, p2, b"", size or 65536)
        return Command(cla, ins, p1, p2, body[3 : 3 + size], 65536)
    if len(body) > 1:
        end = 1 + body[0]
        return Command(cla, ins, p1, p2, body[1:end], _room(body[end:]))
    return Command(cla, ins, p1, p2, b"", _room(body))


def _room(le: bytes) -> int:
    return le[0] if le and le[0] else 256


def tlv(tag: int, value: bytes) -> bytes:
    """One BER-TLV."""
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big") + length + value


def tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The TLVs that stand beside each other in `data`."""
    at = 0
    while at < len(data):
        tag, at = data[at], at + 1
        if tag & 0x1F == 0x1F:
            tag, at = tag << 8 | data[at], at + 1
        size, at = data[at], at + 1
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        yield tag, data[at : at + size]
        at += size
