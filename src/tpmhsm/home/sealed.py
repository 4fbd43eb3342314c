"""An encrypted backup: one line that says how, then the archive in pieces.

The key is scrypt's (RFC 7914; N=2^14, r=8, p=8, as for approvers' keys). Each piece of 64 KiB is
AES-256-GCM (NIST SP 800-38D) under a nonce of 7 random bytes, the piece's number (u32) and whether
it is the last (u8), with the first line as associated data: pieces cannot be changed, exchanged,
left out or cut off (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import scrypt
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ParseError, RefusedError, UsageError
from tpmhsm.home.container import FAMILY, FORMAT, Sink, Source, damaged

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PIECE = 1 << 16
_TAG = 16
_N, _R, _P = 1 << 14, 8, 8
_HOW = f"scrypt N={_N} r={_R} p={_P}, AES-256-GCM in pieces of {_PIECE} bytes"
_LONGEST_HEAD = 1024


@dataclass(frozen=True)
class Head:
    """The first line: when it was made (RFC 3339), scrypt's salt, the nonces' first part."""

    made: str
    salt: bytes
    prefix: bytes

    def encode(self) -> bytes:
        """The line."""
        document = {
            "format": FORMAT,
            "encrypted": _HOW,
            "made": self.made,
            "salt": self.salt.hex(),
            "prefix": self.prefix.hex(),
        }
        return json.dumps(document).encode() + b"\n"

    def nonce(self, number: int, *, last: bool) -> bytes:
        """Of one piece."""
        return self.prefix + number.to_bytes(4, "big") + bytes([last])

    def cipher(self, passphrase: bytes) -> AESGCM:
        """The cipher under a passphrase."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = scrypt(passphrase, salt=self.salt, n=_N, r=_R, p=_P, dklen=32, maxmem=64 << 20)
        return AESGCM(key)


def is_sealed(beginning: bytes) -> bool:
    """Whether a file that begins so says that it is an encrypted backup of some version."""
    return beginning[:1] == b"{" and FAMILY.encode() in beginning[:64]


def read_head(source: Source) -> Head:
    """The first line. Raises ParseError."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = source.read(1)
        if not piece or len(line) >= _LONGEST_HEAD:
            raise damaged("its first line does not end")
        line += piece
    try:
        found: dict[str, Any] = json.loads(line)
        if str(found["format"]).startswith(FAMILY) and found["format"] != FORMAT:
            raise ParseError(
                f"this backup is of the format {found['format']!a}; this version knows {FORMAT}",
                code="other-format",
                hint="the version of tpmhsm that made it reads it",
            )
        head = Head(
            str(found["made"]), bytes.fromhex(found["salt"]), bytes.fromhex(found["prefix"])
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged("its first line cannot be read") from error
    if head.encode() != line or (len(head.salt), len(head.prefix)) != (16, 7):
        raise damaged("its first line is not as it was written")
    return head


class Sealer:
    """Encrypts what is written to it; `finish` writes the last piece."""

    def __init__(self, out: Sink, passphrase: bytes, made: str) -> None:
        if not passphrase:
            raise UsageError("the passphrase is empty")
        self._head = Head(made, os.urandom(16), os.urandom(7))
        self._cipher = self._head.cipher(passphrase)
        self._out, self._left, self._number = out, bytearray(), 0
        self._line = self._head.encode()
        out.write(self._line)

    def write(self, data: bytes, /) -> None:
        """Take some bytes."""
        self._left += data
        while len(self._left) > _PIECE:  # the last piece is never empty, nor known before the end
            self._seal(bytes(self._left[:_PIECE]), last=False)
            del self._left[:_PIECE]

    def finish(self) -> None:
        """Nothing more comes."""
        self._seal(bytes(self._left), last=True)

    def _seal(self, piece: bytes, *, last: bool) -> None:
        nonce = self._head.nonce(self._number, last=last)
        self._out.write(self._cipher.encrypt(nonce, piece, self._line))
        self._number += 1


class Opener:
    """Decrypts what is read from it. RefusedError `wrong-passphrase`; ParseError for damage."""

    def __init__(self, source: Source, head: Head, ask: Callable[[str], bytes]) -> None:
        self._source, self._head = source, head
        self._cipher = head.cipher(ask("Passphrase of the backup: "))
        self._line = head.encode()
        self._left, self._number, self._ended = bytearray(), 0, False
        self._next = source.read(_PIECE + _TAG)

    def read(self, size: int, /) -> bytes:
        """So many bytes, fewer at the end alone."""
        while len(self._left) < size and not self._ended:
            self._left += self._open()
        found = bytes(self._left[:size])
        del self._left[:size]
        return found

    def _open(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        piece = self._next
        self._next = self._source.read(_PIECE + _TAG) if len(piece) == _PIECE + _TAG else b""
        self._ended = not self._next
        nonce = self._head.nonce(self._number, last=self._ended)
        try:
            opened = self._cipher.decrypt(nonce, piece, self._line)
        except (InvalidTag, ValueError):
            raise self._refused() from None
        self._number += 1
        return opened

    def _refused(self) -> ParseError | RefusedError:
        if self._number:
            return damaged(f"piece {self._number + 1} is not what was encrypted, or the last")
        return RefusedError(
            "wrong passphrase for the backup",
            code="wrong-passphrase",
            hint="or the file is damaged",
        )
