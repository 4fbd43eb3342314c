"""A key copied from one chip to another: TPM2_Duplicate here, TPM2_Import there.

TCG TPM 2.0 Library Part 1 §23, Part 3 §13.1 and §13.3. The sensitive area travels in two wrappers.
The outer one is for the new parent alone: a seed encrypted for it, and an HMAC that covers the
Name. The inner one is AES under a key that the chip gives to whoever asked for the copy: it
protects nothing against the host, so people look at the parent, and at nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpmhsm.policy.copying import copy_command
from tpmhsm.tpm import policies
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.receiving import by_permission
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import Import, LoadExternal
from tpmhsm.wire.constants import CC, RH
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import AES128_CFB

if TYPE_CHECKING:
    from tpmhsm.policy.plan import Plan
    from tpmhsm.tpm.chip import Chip


@dataclass(frozen=True)
class Wrapped:
    """A copy on its way: the contents of TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET and TPM2B_DATA that
    TPM2_Duplicate answers. `inner` is the key of the inner wrapper, 16 bytes.
    """

    duplicate: bytes = field(repr=False)
    seed: bytes
    inner: bytes = field(repr=False)


def duplicate(
    chip: Chip, plan: Plan, key: Loaded, parent: bytes, salt: SaltKey, *, has_pin: bool = False
) -> Wrapped:
    """Have the chip wrap a loaded key for a storage key of another chip (its TPMT_PUBLIC).

    `plan` of `plan_copy`; the answer comes back encrypted in a session that is salted to `salt`.
    Raises ChipRefusedError.
    """
    target = chip.send(LoadExternal(None, decode(Public, parent), RH.NULL)).object_handle
    try:
        command = copy_command(key.handle, target)
        secret = policies.Secrecy(salt, has_pin)
        made = policies.execute(chip, plan, command, secret=secret)
    finally:
        chip.flush(target)
    return Wrapped(made.duplicate, made.out_sym_seed, made.encryption_key_out)


def take(chip: Chip, parent: Loaded, public: bytes, wrapped: Wrapped) -> bytes:
    """Bring a copy under the storage key that it was wrapped for: the content of TPM2B_PRIVATE.

    Raises ChipRefusedError: TPM_RC_INTEGRITY for a file that was changed, or is for another chip.
    """
    command = Import(
        parent.handle,
        wrapped.inner,
        decode(Public, public),
        wrapped.duplicate,
        wrapped.seed,
        AES128_CFB,
    )
    return by_permission(chip, command, CC.Import).out_private
