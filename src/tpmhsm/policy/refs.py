"""policyRef: what an approval is for, as 32 bytes inside the thing that is signed.

Without it one signature would count for another purpose, group, epoch or ladder with the same
people. The chip mixes it into the policy digest (TPM2_PolicySigned), so it cannot be swapped.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from tpmhsm.errors import UsageError

TAG = b"tpmhsm/policyRef/1"

Purpose = Literal["sign", "window", "budget", "decrypt", "roster", "epoch", "duplicate"]

OFFICERS: tuple[Purpose, ...] = ("sign", "window", "budget", "decrypt")
CUSTODIANS: tuple[Purpose, ...] = ("roster", "epoch", "duplicate")


def policy_ref(
    purpose: Purpose,
    group_id: bytes,
    epoch: int | None = None,
    ladder: int = 1,
    subject: bytes = b"",
) -> bytes:
    """Return SHA-256 over six fields, each preceded by its length as u16.

    Officers' purposes have an epoch (u64), custodians' have none: their ladder never changes.
    `ladder` counts from 1; `subject` is the key's Name for windows, else empty. UsageError for
    anything else.
    """
    if (epoch is None) != (purpose in CUSTODIANS) or purpose not in OFFICERS + CUSTODIANS:
        raise UsageError(f"purpose {purpose!r} with epoch {epoch}")
    if len(group_id) != 32 or not 1 <= ladder <= 255 or not 0 <= (epoch or 0) < 1 << 64:
        raise UsageError("a policyRef needs a 32-byte group id, a ladder 1-255 and a u64 epoch")
    if bool(subject) != (purpose == "window"):
        raise UsageError("a window, and nothing else, has a subject: the key's Name")
    epoch_field = b"" if epoch is None else epoch.to_bytes(8, "big")
    fields = (TAG, purpose.encode(), group_id, epoch_field, bytes([ladder]), subject)
    return sha256(b"".join(len(f).to_bytes(2, "big") + f for f in fields)).digest()
