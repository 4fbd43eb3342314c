"""Cabinets made by hand ([MS-CAB])."""

from __future__ import annotations

import zlib
from collections.abc import Mapping


def u(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def checksum(data: bytes, seed: int = 0) -> int:
    for at in range(0, len(data) - len(data) % 4, 4):
        seed ^= int.from_bytes(data[at : at + 4], "little")
    rest = data[len(data) - len(data) % 4 :]
    return seed ^ int.from_bytes(rest, "big")


def mszip(content: bytes) -> list[tuple[bytes, int]]:
    blocks, before = [], b""
    for at in range(0, len(content), 1 << 15):
        piece = content[at : at + (1 << 15)]
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=before)
        blocks.append((b"CK" + packer.compress(piece) + packer.flush(), len(piece)))
        before = piece
    return blocks


def stored(content: bytes) -> list[tuple[bytes, int]]:
    pieces = (content[at : at + (1 << 15)] for at in range(0, len(content), 1 << 15))
    return [(piece, len(piece)) for piece in pieces]


def cabinet(
    files: Mapping[str, bytes],
    blocks: list[tuple[bytes, int]] | None = None,
    kind: int = 1,
    *,
    reserve: tuple[int, int, int] | None = None,
    flags: int = 0,
) -> bytes:
    """One folder with all files; MSZIP unless `blocks` are given. Names with backslashes."""
    content = b"".join(files.values())
    blocks = mszip(content) if blocks is None else blocks
    head, each, per_data = reserve or (0, 0, 0)
    extra = u(head, 2) + u(each, 1) + u(per_data, 1) + bytes(head) if reserve else b""
    entries, at = b"", 0
    for name, data in files.items():
        coded = name.encode()
        attributes = 0x20 | (0 if name.isascii() else 0x80)
        entries += (
            u(len(data), 4) + u(at, 4) + u(0, 2) + bytes(4) + u(attributes, 2) + coded + b"\0"
        )
        at += len(data)
    folder_at = 36 + len(extra)
    files_at = folder_at + 8 + each
    data_at = files_at + len(entries)
    packed = b""
    for block, size in blocks:
        rest = u(len(block), 2) + u(size, 2) + bytes(per_data)
        packed += u(checksum(rest, checksum(block)), 4) + rest + block
    header = b"MSCF" + bytes(4) + u(data_at + len(packed), 4) + bytes(4) + u(files_at, 4) + bytes(4)
    header += bytes((3, 1)) + u(1, 2) + u(len(files), 2) + u(flags | (4 if reserve else 0), 2)
    header += bytes(4) + extra
    folder = u(data_at, 4) + u(len(blocks), 2) + u(kind, 2) + bytes(each)
    return header + folder + entries + packed
