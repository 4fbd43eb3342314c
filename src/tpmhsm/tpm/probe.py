"""What this chip can and cannot do, asked and tried.

Algorithms, sizes and limits are asked for; what no capability tells (RSA sizes, PIN_PASS indices,
the largest NV index) is tried. Trying makes and removes a few NV indices: it is not for a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.tpm import capabilities, evidence, nv
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import ALGORITHMS, signing_template
from tpmhsm.wire.codec import U16, Select
from tpmhsm.wire.commands import NV_DefineSpace, NV_UndefineSpace
from tpmhsm.wire.constants import ALG, CC, CURVE, HASH_NAMES, NT, PT, RC, RH
from tpmhsm.wire.constants import NvAttributes as Attribute
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.rc import base_code
from tpmhsm.wire.structures import Empty, NvPublic

_PIN_SIZE = 8  # bytes of TPMS_NV_PIN_COUNTER_PARAMETERS
_OWNER_AUTH_SET, _LOCKOUT_AUTH_SET = 1 << 0, 1 << 2  # TPMA_PERMANENT
_IN_LOCKOUT = 1 << 9


@command(CC.TestParms)
class _TestParms(Command[Empty]):
    """Part 3, section 30.3: whether parameters of a key would be accepted."""

    type: U16
    parameters: Annotated[
        RsaParms | EccParms, Select("type", {ALG.RSA: RsaParms, ALG.ECC: EccParms})
    ]


@dataclass(frozen=True)
class Limits:
    """Counts, and bytes. What the chip does not say is 0.

    `transient_objects` and `loaded_sessions` that fit at a time, `active_sessions` that exist at a
    time (saved ones too), `context_gap`: saved sessions older than that many newer ones stop the
    chip, `nv_buffer` bytes one command reads or writes, `nv_index` the largest index allowed,
    `nv_free` the largest that could be made now, `counters_left` and `persistent_left` to be made.
    """

    transient_objects: int
    loaded_sessions: int
    active_sessions: int
    context_gap: int
    nv_buffer: int
    nv_index: int
    nv_free: int
    nv_indices: int
    counters_left: int
    persistent_left: int
    max_command: int
    max_response: int


@dataclass(frozen=True)
class Lockout:
    """Dictionary attack protection. Times in seconds; `active`: authorizations are refused now."""

    active: bool
    tries: int
    max_tries: int
    recovery: int
    lockout_recovery: int
    lockout_auth_set: bool


@dataclass(frozen=True)
class Probe:
    """A chip's abilities; `missing` names in words what this program would use and cannot."""

    facts: evidence.DeviceFacts
    key_algorithms: tuple[str, ...]
    hashes: tuple[str, ...]
    curves: tuple[str, ...]
    pcr_banks: tuple[str, ...]
    policy_authorize_nv: bool
    policy_name_hash: bool
    pin_pass: bool
    command_audit: bool
    certify_x509: bool
    owner_auth_set: bool
    ek_certificates: int
    limits: Limits
    lockout: Lockout
    missing: tuple[str, ...]


def probe(chip: Chip) -> Probe:
    """Ask and try. Raises DeviceError when the chip fails, ChipRefusedError when the owner's
    hierarchy has a password that is not known.
    """
    properties = capabilities.properties(chip)
    codes = capabilities.command_codes(chip)
    permanent = properties.get(PT.PERMANENT, 0)
    keys = tuple(name for name in ALGORITHMS if _accepts(chip, signing_template(name, None)))
    pin_pass = _accepts_index(chip, NT.PIN_PASS, _PIN_SIZE)
    authorize_nv = CC.PolicyAuthorizeNV in codes
    return Probe(
        facts=evidence.device_facts(chip),
        key_algorithms=keys,
        hashes=_hashes(chip),
        curves=tuple(map(_curve, capabilities.curves(chip))),
        pcr_banks=tuple(map(_hash, capabilities.pcr_banks(chip))),
        policy_authorize_nv=authorize_nv,
        policy_name_hash=CC.PolicyNameHash in codes,
        pin_pass=pin_pass,
        command_audit=CC.GetCommandAuditDigest in codes,
        certify_x509=CC.CertifyX509 in codes,
        owner_auth_set=bool(permanent & _OWNER_AUTH_SET),
        ek_certificates=len(evidence.ek_certificates(chip)),
        limits=_limits(chip, properties),
        lockout=lockout(chip),
        missing=tuple(_missing(keys, authorize_nv=authorize_nv, pin_pass=pin_pass)),
    )


def lockout(chip: Chip) -> Lockout:
    """The state of dictionary attack protection."""
    found = capabilities.properties(chip)
    permanent = found.get(PT.PERMANENT, 0)
    return Lockout(
        active=bool(permanent & _IN_LOCKOUT),
        tries=found.get(PT.LOCKOUT_COUNTER, 0),
        max_tries=found.get(PT.MAX_AUTH_FAIL, 0),
        recovery=found.get(PT.LOCKOUT_INTERVAL, 0),
        lockout_recovery=found.get(PT.LOCKOUT_RECOVERY, 0),
        lockout_auth_set=bool(permanent & _LOCKOUT_AUTH_SET),
    )


def room(chip: Chip) -> int:
    """The size in bytes of the largest NV index that could be made now; see `Limits.nv_free`.

    Where there is enough room, one index is made and removed. Raises as `probe`.
    """
    return _largest_index(chip, capabilities.properties(chip).get(PT.NV_INDEX_MAX, 0) or 2048)


def _limits(chip: Chip, found: dict[int, int]) -> Limits:
    largest = found.get(PT.NV_INDEX_MAX, 0)
    return Limits(
        transient_objects=found.get(PT.HR_TRANSIENT_AVAIL, found.get(PT.HR_TRANSIENT_MIN, 0)),
        loaded_sessions=found.get(PT.HR_LOADED_AVAIL, found.get(PT.HR_LOADED_MIN, 0)),
        active_sessions=found.get(PT.ACTIVE_SESSIONS_MAX, 0),
        context_gap=found.get(PT.CONTEXT_GAP_MAX, 0),
        nv_buffer=found.get(PT.NV_BUFFER_MAX, 0),
        nv_index=largest,
        nv_free=_largest_index(chip, largest or 2048),
        nv_indices=len(nv.indices(chip)),
        counters_left=found.get(PT.NV_COUNTERS_AVAIL, 0),
        persistent_left=found.get(PT.HR_PERSISTENT_AVAIL, 0),
        max_command=found.get(PT.MAX_COMMAND_SIZE, 0),
        max_response=found.get(PT.MAX_RESPONSE_SIZE, 0),
    )


def _missing(keys: tuple[str, ...], *, authorize_nv: bool, pin_pass: bool) -> list[str]:
    lost = [f"{name} keys" for name in ALGORITHMS if name not in keys]
    if not authorize_nv:
        lost.append("PolicyAuthorizeNV: static groups alone, whose people never change")
    if not pin_pass:
        lost.append("PIN_PASS indices: no budgets of signatures")
    return lost


def _accepts(chip: Chip, template: Public) -> bool:
    """TPM2_TestParms."""
    if not isinstance(template.parameters, RsaParms | EccParms):
        return False
    try:
        chip.send(_TestParms(template.type, template.parameters))
    except ChipRefusedError:
        return False
    return True


def _accepts_index(chip: Chip, kind: NT, size: int) -> bool:
    """Whether an index of this type and size can be made: make it, and remove it."""
    attributes = kind << 4 | Attribute.OWNERWRITE | Attribute.OWNERREAD | Attribute.AUTHREAD
    public = NvPublic(nv.free_index(chip), ALG.SHA256, attributes | Attribute.NO_DA, b"", size)
    try:
        chip.send(NV_DefineSpace(RH.OWNER, b"", public))
    except (ChipRefusedError, DeviceError) as error:  # TPM_RC_NV_SPACE: a failure of the chip
        if isinstance(error, ChipRefusedError) and base_code(error.rc) == RC.BAD_AUTH:
            raise  # the owner's password: nothing can be tried
        return False
    chip.send(NV_UndefineSpace(RH.OWNER, public.nv_index))
    return True


def _largest_index(chip: Chip, limit: int) -> int:
    """The size in bytes, to 64, of the largest ordinary index that can be made now."""
    if _accepts_index(chip, NT.ORDINARY, limit):
        return limit
    low, high = 0, limit
    while high - low > 64:
        middle = (low + high) // 2
        low, high = (middle, high) if _accepts_index(chip, NT.ORDINARY, middle) else (low, middle)
    return low


def _hashes(chip: Chip) -> tuple[str, ...]:
    found = capabilities.algorithms(chip)
    return tuple(name for alg, name in HASH_NAMES.items() if alg in found)


def _hash(alg: int) -> str:
    return HASH_NAMES.get(alg, f"0x{alg:04x}")


def _curve(number: int) -> str:
    try:
        return CURVE(number).name.removeprefix("NIST_").replace("P", "p", 1).lower()
    except ValueError:
        return f"0x{number:04x}"
