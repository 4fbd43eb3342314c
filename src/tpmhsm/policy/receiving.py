"""What the storage key that takes copies of keys may be used for, and no more.

A copy travels encrypted for its new parent. Whoever may use that parent as he likes (an SRK has an
empty password) has the chip open the copy and close it for a key of his own: TPM2_Rewrap (TCG TPM
2.0 Library Part 3 §13.2) asks for no more. So the parent of copies has no password, and its policy
names three commands, of which Rewrap is none:

    PolicyOR(PolicyCommandCode(Load), PolicyCommandCode(Import), PolicyCommandCode(Certify))

It is the same in every chip, so that whoever approves a copy recomputes it.
"""

from __future__ import annotations

from tpmhsm.policy.steps import CommandCode, Or, digest_of
from tpmhsm.wire.constants import CC, ObjectAttributes

_MAY = (CC.Load, CC.Import, CC.Certify)

_A = ObjectAttributes
RECEIVING_ATTRIBUTES = (
    _A.FIXED_TPM
    | _A.FIXED_PARENT
    | _A.SENSITIVE_DATA_ORIGIN
    | _A.ADMIN_WITH_POLICY
    | _A.NO_DA
    | _A.RESTRICTED
    | _A.DECRYPT
)
"""Exactly these: userWithAuth clear, so that no password lets it act."""


def receiving_steps(code: int) -> tuple[CommandCode, Or]:
    """The steps by which it carries out one of the three commands."""
    return CommandCode(code), Or(tuple(CommandCode(may).extend(bytes(32)) for may in _MAY))


RECEIVING_POLICY = digest_of(receiving_steps(CC.Load))
"""Its authPolicy, 32 bytes."""
