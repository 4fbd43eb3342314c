"""aHash: the only thing, beside tagged statements, that an approver's key ever signs.

TCG TPM 2.0 Library Part 3, TPM2_PolicySigned: H(nonceTPM ‖ expiration ‖ cpHashA ‖ policyRef).
It has no lengths inside, so the lengths are fixed here: anything else could be read two ways.
"""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.errors import UsageError

NONCE_SIZE = 16
"""Octets in every nonce. A signed nonceTPM has no length beside it, so it is never another."""


def a_hash_preimage(cp_hash: bytes, policy_ref: bytes) -> bytes:
    """Return the bytes to sign (with SHA-256) for one command, at any time, once per chip state.

    No nonce, expiration 0: the approval can be given offline. 68 bytes. UsageError unless both
    are 32 bytes: an empty cpHash would be a blank cheque for any digest.
    """
    if len(cp_hash) != 32:
        raise UsageError("an approval is bound to one command: its cpHash has 32 bytes")
    if len(policy_ref) != 32:
        raise UsageError("a policyRef has 32 bytes")
    return bytes(4) + cp_hash + policy_ref


def live_preimage(nonce: bytes, expiration: int, cp_hash: bytes, policy_ref: bytes) -> bytes:
    """Return the bytes to sign over a live session's nonceTPM.

    `expiration` in seconds; negative asks the chip for a ticket (a window), and only then may
    `cp_hash` be empty. UsageError for a nonce that is not 16 bytes.
    """
    if len(nonce) != NONCE_SIZE or len(policy_ref) != 32:
        raise UsageError("a live approval is over a 16-byte nonceTPM and a 32-byte policyRef")
    if not -(1 << 31) <= expiration <= 0:
        raise UsageError("expiration is 0, or negative for a window")
    if len(cp_hash) != (0 if expiration else 32):
        raise UsageError("a window leaves cpHash empty; every other approval has 32 bytes of it")
    return nonce + expiration.to_bytes(4, "big", signed=True) + cp_hash + policy_ref


def a_hash(cp_hash: bytes, policy_ref: bytes) -> bytes:
    """Return the aHash of a nonce-less approval of one command (32 bytes)."""
    return sha256(a_hash_preimage(cp_hash, policy_ref)).digest()
