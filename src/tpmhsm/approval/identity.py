"""Whose key signs: one method, and what may pass through it.

An approver's key signs two kinds of messages. `acts.sign_ahash` builds the first, an aHash
preimage: nonceTPM (16 bytes or none) ‖ expiration (4) ‖ cpHash (32; for a window none) ‖ policyRef
(32); so 68, 84 or 52 bytes (TCG TPM 2.0 Library Part 3, TPM2_PolicySigned). `sign_statement` of
`statements` builds the second, a tagged document longer than 128 bytes: no statement can ever be
read as a preimage, nor the other way round.
`check_signable` holds that rule a second time, at the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.policy.tagged import SHORTEST_STATEMENT, STATEMENT_TAGS
from tpmhsm.policy.windows import LONGEST, SHORTEST

if TYPE_CHECKING:
    from tpmhsm.approval.tokens import TokenInfo
    from tpmhsm.policy.approver import PublicKey

A_HASH_SIZE = 68
"""expiration (4 bytes, zero) ‖ cpHash (32) ‖ policyRef (32); no nonce."""

LONGEST_A_HASH = 84
"""nonceTPM (16) before the same."""

WINDOW_SIZE = 52
"""nonceTPM (16) ‖ expiration (4 bytes, minus the window's seconds) ‖ policyRef (32)."""

Passphrase = Callable[[str], bytes]
"""Asked once, with a prompt in words, when an identity needs a secret."""

Tell = Callable[[str], None]
"""Told what a person has to do now, such as to touch a card."""


class Identity(Protocol):
    """One approver's private key, wherever it lives.

    `sign` takes the message, not its hash: SHA-256 with DER ECDSA, or RSASSA-PKCS1-v1_5. It
    refuses (ApprovalRefusedError) what `check_signable` refuses. Call it through the two doors.
    """

    @property
    def kind(self) -> str:
        """'file', 'yubikey' or 'pkcs11'."""
        ...

    @property
    def description(self) -> str:
        """Words for a person: 'file alice.key'."""
        ...

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        ...

    @property
    def token(self) -> TokenInfo | None:
        """What a token says of itself, where nothing proves it; None for files and YubiKeys."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message that came through one of the two doors."""
        ...

    def close(self) -> None:
        """Log out of a token, so that no other program finds it open; it signs no more."""
        ...


def check_signable(message: bytes) -> None:
    """Refuse (ApprovalRefusedError) anything but an aHash preimage or a statement."""
    if len(message) == A_HASH_SIZE and message[:4] == bytes(4):
        return
    if len(message) == LONGEST_A_HASH and message[16:20] == bytes(4):
        return
    if len(message) == WINDOW_SIZE:
        seconds = -int.from_bytes(message[16:20], "big", signed=True)
        if SHORTEST <= seconds <= LONGEST:
            return
    tagged = any(message.startswith(tag.encode() + b"\0") for tag in STATEMENT_TAGS)
    if len(message) < SHORTEST_STATEMENT or not tagged:
        raise ApprovalRefusedError(
            f"an approver's key does not sign {len(message)} bytes of this shape",
            code="not-signable",
            hint="it signs approvals that this tool computed, and tagged statements, nothing else",
        )


def scheme_of(spec: str) -> str:
    """Where the key that `-i` names lives: 'yubikey', 'pkcs11' or 'file'."""
    match = re.fullmatch("(yubikey|pkcs11)(?::.*|/..)?", spec, re.DOTALL)
    return match[1] if match else "file"


def open_identity(
    spec: str, passphrase: Passphrase, tell: Tell | None = None, module: str = ""
) -> Identity:
    """Open the identity that `-i` names. `passphrase` is called when, and only when, needed.

    `module`: the PKCS #11 module for URIs that name none. For errors see `filekey.open_file_key`,
    `yubikey.open_yubikey` and `pkcs11.open_pkcs11`.
    """
    scheme = scheme_of(spec)
    if scheme == "yubikey":
        from tpmhsm.approval.yubikey import open_yubikey

        return open_yubikey(spec, passphrase, tell)
    if scheme == "pkcs11":
        from tpmhsm.approval.pkcs11 import open_pkcs11

        return open_pkcs11(spec, passphrase, module)
    from tpmhsm.approval.filekey import open_file_key

    return open_file_key(Path(spec), passphrase)
