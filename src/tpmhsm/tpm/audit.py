"""The chip's audit of TPM2_Sign: switched on, and certified at checkpoints.

What it is good for stands in `tpmhsm.attest.audit_records`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.attest.audit_records import SIGNING
from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.tpm.objects import Attestation, Loaded
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import Certify, GetCommandAuditDigest, SetCommandCodeAuditStatus
from tpmhsm.wire.constants import ALG, CC, RC, RH
from tpmhsm.wire.rc import base_code
from tpmhsm.wire.structures import NULL_SCHEME

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip


def switch_on(chip: Chip) -> None:
    """Have the chip audit TPM2_Sign with SHA-256 (owner hierarchy; Part 3 §21.2).

    The hash and the list cannot be changed by one command. Raises DeviceError `no-audit` for a chip
    that audits no commands, ChipRefusedError without the owner's password.
    """
    try:
        chip.send(SetCommandCodeAuditStatus(RH.OWNER, ALG.SHA256, (), ()))
        mark(chip)
    except ChipRefusedError as error:
        if base_code(error.rc) != RC.COMMAND_CODE:
            raise
        raise DeviceError(
            "this chip audits no commands: nothing can prove that its log is complete",
            code="no-audit",
        ) from error


def mark(chip: Chip) -> None:
    """An audited command that changes nothing: the chip counts it, and audits signatures after it.

    A chip without TPM2_CertifyX509 leaves it out of the list, or refuses the list that has it.
    """
    try:
        chip.send(SetCommandCodeAuditStatus(RH.OWNER, ALG.SHA256, SIGNING, ()))
    except ChipRefusedError as error:
        if base_code(error.rc) not in (RC.VALUE, RC.COMMAND_CODE):
            raise
        chip.send(SetCommandCodeAuditStatus(RH.OWNER, ALG.SHA256, SIGNING[:1], ()))


def take(chip: Chip, ak: Loaded, qualifying: bytes) -> Attestation:
    """TPM2_GetCommandAuditDigest: the chip's word on all since the last time (Part 3 §18.6)."""
    answer = chip.send(GetCommandAuditDigest(RH.ENDORSEMENT, ak.handle, qualifying, NULL_SCHEME))
    return Attestation(answer.audit_info, encode(answer.signature))


def certify(chip: Chip, ak: Loaded, other: Loaded, qualifying: bytes) -> Attestation:
    """TPM2_Certify: the AK says that this object is in its chip (Part 3 §18.2)."""
    answer = chip.send(Certify(other.handle, ak.handle, qualifying, NULL_SCHEME))
    return Attestation(answer.certify_info, encode(answer.signature))


def is_on(chip: Chip) -> bool:
    """Whether the chip audits TPM2_Sign, as it says itself (TPM_CAP_AUDIT_COMMANDS)."""
    from tpmhsm.wire.commands import GetCapability
    from tpmhsm.wire.constants import CAP

    found = chip.send(GetCapability(CAP.AUDIT_COMMANDS, CC.Sign, 1)).data.items
    return CC.Sign in found
