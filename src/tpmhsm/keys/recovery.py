"""A recovery file: the password of a chip's lockout hierarchy, to be kept away from the chip.

The host keeps no copy: root there could set the count of wrong PINs back with it. The file is
encrypted under a passphrase (scrypt, RFC 7914; AES-256-GCM, the rest of the file authenticated)
and says whose chip it is for; what it says is JSON.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tpmhsm.errors import ParseError, RefusedError, UsageError

FORMAT = "tpmhsm/recovery/1"

_N, _R, _P = 1 << 14, 8, 8
"""scrypt: the work of N=2^17, p=1, as for approvers' keys."""

_SIZES = {"ak_name": 34, "salt": 16, "nonce": 12, "sealed": 48}


@dataclass(frozen=True)
class RecoveryFile:
    """What stands in the file. `device` in words, `ak_name` the Name of the chip's attestation
    key (34 bytes), `made` RFC 3339 in UTC; `sealed` 48 bytes.
    """

    device: str
    ak_name: bytes
    made: str
    salt: bytes
    nonce: bytes
    sealed: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The file."""
        return (json.dumps({**self._head(), "sealed": self.sealed.hex()}, indent=2) + "\n").encode()

    def _head(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "what": "password of the lockout hierarchy",
            "device": self.device,
            "ak_name": self.ak_name.hex(),
            "made": self.made,
            "salt": self.salt.hex(),
            "nonce": self.nonce.hex(),
        }

    def _bound(self) -> bytes:
        return json.dumps(self._head(), sort_keys=True).encode()

    def open(self, passphrase: bytes, ak_name: bytes) -> bytes:
        """The password. RefusedError for another chip's file, or a wrong passphrase; the chip,
        which would count a wrong password, is not asked.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if ak_name != self.ak_name:
            raise RefusedError(
                f"the recovery file of {self.made} is for another chip",
                code="other-chip",
                hint="tpmhsm show FILE and tpmhsm device show say which attestation key it has",
            )
        try:
            cipher = AESGCM(_stretched(passphrase, self.salt))
            return cipher.decrypt(self.nonce, self.sealed, self._bound())
        except InvalidTag:
            raise RefusedError(
                "wrong passphrase for the recovery file",
                code="wrong-passphrase",
                hint="or the file is damaged; nothing was asked of the chip",
            ) from None


def make_recovery(secret: bytes, device: str, ak_name: bytes, passphrase: bytes) -> RecoveryFile:
    """Encrypt a password (32 bytes). UsageError for an empty passphrase."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not passphrase:
        raise UsageError("a recovery file needs a passphrase")
    made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    file = RecoveryFile(device, ak_name, made, os.urandom(16), os.urandom(12), b"")
    cipher = AESGCM(_stretched(passphrase, file.salt))
    sealed = cipher.encrypt(file.nonce, secret, file._bound())
    return RecoveryFile(device, ak_name, made, file.salt, file.nonce, sealed)


def is_recovery(data: bytes) -> bool:
    """Whether it says that it is such a file."""
    return FORMAT.encode() in data[:200]


def parse_recovery(data: bytes) -> RecoveryFile:
    """Read a file. Raises ParseError; nothing is decrypted."""
    try:
        found: dict[str, Any] = json.loads(data)
        if found["format"] != FORMAT:
            raise ValueError(f"the format {found['format']!a}")
        values = {name: bytes.fromhex(found[name]) for name in _SIZES}
        file = RecoveryFile(device=str(found["device"]), made=str(found["made"]), **values)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ParseError(f"not a recovery file: {error}") from error
    for name, size in _SIZES.items():
        if len(values[name]) != size:
            raise ParseError(f"not a recovery file: {name} has {len(values[name])} bytes")
    return file


def _stretched(passphrase: bytes, salt: bytes) -> bytes:
    import hashlib

    return hashlib.scrypt(passphrase, salt=salt, n=_N, r=_R, p=_P, dklen=32, maxmem=64 << 20)
