"""Windows cabinets, as Microsoft's TrustedTpm.cab is one: the files in them ([MS-CAB], 2.2).

Folders that are stored, or packed with MSZIP ([MS-MCI]) or LZX, are read. The cabinet's own
signature is not checked: on Windows, Get-AuthenticodeSignature does that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from tpmhsm.attest.lzx import Lzx
from tpmhsm.errors import ParseError

MAX_CABINET = 1 << 25
MAX_FILES = 5_000
MAX_CONTENT = 1 << 26
"""Octets of all that is in it, unpacked."""

_BLOCK = 1 << 15
_HEADER = 36
_HAS_PREVIOUS, _HAS_NEXT, _HAS_RESERVE = 1, 2, 4


class CabinetFile(NamedTuple):
    """One file: its name with slashes, its bytes."""

    name: str
    data: bytes


class _Folder(NamedTuple):
    offset: int
    blocks: int
    kind: int


def is_cabinet(data: bytes) -> bool:
    """Whether bytes begin as a cabinet does."""
    return data[:4] == b"MSCF"


def read_cabinet(data: bytes) -> list[CabinetFile]:
    """The files of a cabinet. ParseError when it is damaged, or goes on in another one."""
    if not is_cabinet(data):
        raise ParseError("this is no cabinet: it does not begin with MSCF")
    if len(data) > MAX_CABINET:
        raise ParseError(f"a cabinet of {len(data):,} bytes: {MAX_CABINET:,} are the most")
    try:
        return list(_Cabinet(data).files())
    except IndexError as error:
        raise ParseError("the cabinet is cut off") from error


class _Cabinet:
    """Reads one cabinet. Numbers are little endian; IndexError where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._count = self._number(28, 2)
        self._flags = self._number(30, 2)
        if self._flags & (_HAS_PREVIOUS | _HAS_NEXT):
            raise ParseError("this cabinet is a part of several; only whole ones are read")
        if self._count > MAX_FILES:
            raise ParseError(f"a cabinet of {self._count:,} files: {MAX_FILES:,} are the most")
        self._reserved = (0, 0, 0)
        if self._flags & _HAS_RESERVE:
            self._reserved = (self._number(36, 2), self._number(38, 1), self._number(39, 1))
        self._folders = list(self._read_folders())
        self._left = MAX_CONTENT

    def files(self) -> Iterator[CabinetFile]:
        """CFFILE entries (2.2.4), each with its piece of its folder."""
        contents = [self._content(folder) for folder in self._folders]
        at = self._number(16, 4)
        for _ in range(self._count):
            size, begin = self._number(at, 4), self._number(at + 4, 4)
            folder = self._number(at + 8, 2)
            utf8 = self._number(at + 14, 2) & 0x80
            end = self._data.find(b"\0", at + 16, at + 16 + 257)
            if end < 0:
                raise ParseError("the cabinet has a file whose name does not end")
            raw = self._data[at + 16 : end]
            name = raw.decode("utf-8" if utf8 else "cp1252", "replace").replace("\\", "/")
            if folder >= len(contents) or begin + size > len(contents[folder]):
                raise ParseError(f"{name[:80]!r} in the cabinet goes beyond its folder")
            yield CabinetFile(name, contents[folder][begin : begin + size])
            at = end + 1

    def _read_folders(self) -> Iterator[_Folder]:
        """CFFOLDER entries (2.2.3)."""
        extra, each, _ = self._reserved
        at = _HEADER + (4 + extra if self._flags & _HAS_RESERVE else 0)
        for _ in range(self._number(26, 2)):
            yield _Folder(self._number(at, 4), self._number(at + 4, 2), self._number(at + 6, 2))
            at += 8 + each

    def _content(self, folder: _Folder) -> bytes:
        """All blocks of a folder, unpacked."""
        unpack = _unpacker(folder.kind)
        found = bytearray()
        for packed, size in self._blocks(folder):
            self._left -= size
            if size > _BLOCK or self._left < 0:
                raise ParseError(f"a cabinet with more than {MAX_CONTENT:,} bytes in it")
            block = unpack.block(packed, size)
            if len(block) != size:
                raise ParseError("a block of the cabinet does not unpack to its size")
            found += block
        return bytes(found)

    def _blocks(self, folder: _Folder) -> Iterator[tuple[bytes, int]]:
        """CFDATA entries (2.2.5): packed bytes and how many they unpack to."""
        at = folder.offset
        for _ in range(folder.blocks):
            checksum, packed, size = (self._number(at + i, n) for i, n in ((0, 4), (4, 2), (6, 2)))
            begin = at + 8 + self._reserved[2]
            block = self._data[begin : begin + packed]
            if len(block) != packed:
                raise ParseError("the cabinet is cut off")
            if checksum and checksum != _checksum(self._data[at + 4 : begin], _checksum(block)):
                raise ParseError(f"the cabinet is damaged: a block at byte {at} has a wrong sum")
            yield block, size
            at = begin + packed

    def _number(self, at: int, size: int) -> int:
        if at + size > len(self._data):
            raise IndexError(at)
        return int.from_bytes(self._data[at : at + size], "little")


def _checksum(data: bytes, seed: int = 0) -> int:
    """Exclusive or of all words; what is left over counts backwards (3.1)."""
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        seed ^= int.from_bytes(data[at : at + 4], "little")
    return seed ^ int.from_bytes(data[whole:], "big")


class _Stored:
    """Not packed at all."""

    def block(self, packed: bytes, size: int) -> bytes:
        return packed


class _Mszip:
    """Deflate (RFC 1951) with two letters before each block, which sees the last 32 KiB."""

    def __init__(self) -> None:
        self._before = b""

    def block(self, packed: bytes, size: int) -> bytes:
        if packed[:2] != b"CK":
            raise ParseError("a block of the cabinet is not MSZIP, as its folder says")
        unpack = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._before)
        try:
            found = unpack.decompress(packed[2:], size)
        except zlib.error as error:
            raise ParseError(f"a block of the cabinet does not unpack: {error}") from error
        self._before = (self._before + found)[-_BLOCK:]
        return found


def _unpacker(kind: int) -> _Stored | _Mszip | Lzx:
    """That of a folder's kind (typeCompress)."""
    match kind & 0xF:
        case 0:
            return _Stored()
        case 1:
            return _Mszip()
        case 3:
            return Lzx(kind >> 8 & 0x1F)
    raise ParseError(
        f"the cabinet is packed in a way that is not read here ({kind:#06x})",
        hint="unpack it (cabextract, or expand.exe on Windows) and name its directory",
    )
