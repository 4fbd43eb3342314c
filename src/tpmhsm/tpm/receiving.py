"""The storage key that takes copies of keys from other chips, and the three things it does.

    parent = objects.receiving_parent(chip)
    made = by_permission(chip, Import(parent.handle, …), CC.Import)

Each takes a policy session (`tpmhsm.policy.receiving`): four commands where a parent with an empty
password takes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tpmhsm.errors import TpmHsmError, VerificationError
from tpmhsm.policy.receiving import receiving_steps
from tpmhsm.tpm.objects import Attestation, Loaded
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import Structure, decode, encode
from tpmhsm.wire.commands import Certify, Load, PolicyCommandCode, PolicyOR
from tpmhsm.wire.constants import CC
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_SCHEME

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.wire.framing import Command

R = TypeVar("R", bound=Structure)


def by_permission(chip: Chip, command: Command[R], code: CC) -> R:
    """Send a command (Load, Import or Certify, by its code) whose first handle is a receiving
    parent. Four commands. ChipRefusedError.
    """
    steps = receiving_steps(code)
    session = start_policy(chip)
    try:
        chip.send(PolicyCommandCode(session.handle, steps[0].code))
        chip.send(PolicyOR(session.handle, steps[1].branches))
        session.last = True
        return chip.send(command, session)
    except TpmHsmError:
        chip.flush(session.handle)
        raise


def load_copy(chip: Chip, parent: Loaded, public: bytes, private: bytes) -> Loaded:
    """Load a key that was imported under a receiving parent; errors as of `objects.load_key`."""
    area = decode(Public, public)
    response = by_permission(chip, Load(parent.handle, private, area), CC.Load)
    name = name_of_public(public)
    if response.name != name:
        raise VerificationError("the chip loaded another key than the one it was given")
    return Loaded(response.object_handle, area, name)


def certify_parent(chip: Chip, ak: Loaded, parent: Loaded, qualifying: bytes) -> Attestation:
    """TPM2_Certify: the AK says that this receiving parent is in its chip. Four commands."""
    command = Certify(parent.handle, ak.handle, qualifying, NULL_SCHEME)
    answer = by_permission(chip, command, CC.Certify)
    return Attestation(answer.certify_info, encode(answer.signature))
