"""Salts for sessions: a secret for one key in the chip.

TCG TPM 2.0 Library Part 1 §19.6.13 and the annexes on RSA (B.10.2) and ECC (C.6.1).

The key's Name must be known from somewhere better than the chip's own word at that moment: who
stands between us and the chip could show a key of theirs and read everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.wire.constants import ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.sealing import secret_for

_LABEL = b"SECRET"


@dataclass(frozen=True)
class SaltKey:
    """A decryption key of the chip: its handle, the public area shown there, its known Name.

    Raises VerificationError when the public area is not that of the Name, UsageError when the key
    cannot decrypt.
    """

    handle: int
    public: Public
    name: bytes

    def __post_init__(self) -> None:
        if name_of_public(self.public) != self.name or not self.name:
            raise VerificationError(
                "the key that sessions are salted to is not the one that is known",
                details={"handle": f"0x{self.handle:08x}", "name": self.name.hex()},
            )
        if not self.public.attributes & ObjectAttributes.DECRYPT:
            raise UsageError("sessions can be salted to a decryption key only")

    def salt(self) -> tuple[bytes, bytes]:
        """A fresh secret, and the same encrypted for the key (TPM2B_ENCRYPTED_SECRET's content)."""
        return secret_for(self.public, _LABEL)
