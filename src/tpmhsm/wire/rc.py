"""Return codes in words, and as errors (TCG TPM 2.0 Library Part 2 §6.6).

A code has one of two formats. Format one (bit 7 set) carries the number of the handle, parameter
or session that was wrong; format zero does not. `base_code` takes those numbers off. A resource
manager or transport may answer instead of the chip; it then sets bits above the twelve.
"""

from __future__ import annotations

from typing import NamedTuple

from tpmhsm.errors import ChipRefusedError, DeviceError, TpmHsmError
from tpmhsm.wire.constants import RC


class Reason(NamedTuple):
    """What a code means: a stable word for programs, a sentence, what to do next."""

    code: str
    words: str
    hint: str = ""


_REASONS: dict[int, Reason] = {
    RC.LOCKOUT: Reason(
        "chip-lockout",
        "the chip is locked out after too many wrong authorizations",
        "it unlocks by itself with time ('tpmhsm device show' says when); "
        "'tpmhsm device unlock' ends it now",
    ),
    RC.AUTH_FAIL: Reason("chip-auth", "the PIN or password is wrong, and the chip counted the try"),
    RC.BAD_AUTH: Reason("chip-auth", "the PIN or password is wrong"),
    RC.POLICY_FAIL: Reason("chip-policy", "what the key's policy demands was not satisfied"),
    RC.POLICY: Reason(
        "chip-comparison",
        "a comparison that the policy demands does not hold: "
        "the epoch or the content of an NV index is another",
        "approvals of an older epoch are void after a change of the group",
    ),
    RC.POLICY_CC: Reason("chip-policy-command", "the policy does not allow this command"),
    RC.EXPIRED: Reason("chip-expired", "an approval or ticket has expired"),
    RC.PCR_CHANGED: Reason("chip-pcr", "the PCRs changed since the policy was checked"),
    RC.AUTH_UNAVAILABLE: Reason(
        "chip-unavailable", "the PIN or budget is used up, or not available for this"
    ),
    RC.AUTH_TYPE: Reason("chip-auth", "this kind of authorization is not allowed here"),
    RC.NV_UNINITIALIZED: Reason("chip-nv-unwritten", "the NV index was never written"),
    RC.NV_AUTHORIZATION: Reason(
        "chip-nv-auth", "this authorization may not read or write the NV index"
    ),
    RC.NV_DEFINED: Reason("chip-nv-exists", "the NV index or persistent handle is taken"),
    RC.NV_RANGE: Reason("chip-nv-range", "outside the NV index"),
    RC.NV_LOCKED: Reason("chip-nv-locked", "the NV index is locked"),
    RC.NV_SPACE: Reason("chip-nv-space", "the chip has no NV space left"),
    RC.NONCE: Reason("chip-nonce", "a nonce is not the one the chip gave"),
    RC.CPHASH: Reason(
        "chip-cphash", "the approvals are bound to other bytes, or the policy was bound before"
    ),
    RC.INTEGRITY: Reason("chip-integrity", "the data were altered, or belong to another chip"),
    RC.SIGNATURE: Reason("chip-signature", "the signature is not valid for these bytes"),
    RC.TICKET: Reason("chip-ticket", "the ticket was altered, or made for something else"),
    RC.SYMMETRIC: Reason(
        "chip-symmetric", "encryption is required, or this symmetric algorithm is not supported"
    ),
    RC.ATTRIBUTES: Reason("chip-attributes", "the attributes do not go together, or forbid this"),
    RC.SCHEME: Reason("chip-scheme", "the scheme is not supported, or not the key's"),
    RC.HANDLE: Reason("chip-handle", "there is nothing at this handle"),
    RC.REFERENCE_H0: Reason("chip-handle", "the handle names nothing that is loaded"),
    RC.REFERENCE_S0: Reason("chip-session", "the session is not loaded"),
    RC.HIERARCHY: Reason("chip-hierarchy", "the hierarchy is disabled, or the wrong one"),
    RC.DISABLED: Reason("chip-disabled", "the command is disabled"),
    RC.TYPE: Reason("chip-type", "the wrong type of object"),
    RC.KEY: Reason("chip-key", "the key does not fit"),
    RC.KEY_SIZE: Reason("chip-key-size", "the key size is not supported"),
    RC.CURVE: Reason("chip-curve", "the curve is not supported"),
    RC.HASH: Reason("chip-hash", "the hash algorithm is not supported, or does not fit"),
    RC.BINDING: Reason("chip-binding", "the public and private parts do not belong together"),
    RC.ECC_POINT: Reason("chip-point", "the point is not on the curve"),
    RC.VALUE: Reason("chip-value", "a value is out of range or not allowed here"),
    RC.SIZE: Reason("chip-size", "a size is wrong"),
    RC.RANGE: Reason("chip-range", "a value is out of range"),
    RC.INSUFFICIENT: Reason("chip-short", "the command is shorter than it says"),
    RC.TAG: Reason("chip-tag", "a structure has the wrong tag"),
    RC.RESERVED_BITS: Reason("chip-bits", "reserved bits are set"),
    RC.COMMAND_CODE: Reason("chip-command", "the chip does not know this command"),
    RC.AUTH_MISSING: Reason("chip-auth", "an authorization is missing"),
    RC.AUTH_CONTEXT: Reason("chip-auth", "an authorization where none belongs"),
    RC.AUTHSIZE: Reason("chip-auth", "the authorization area has a wrong size"),
    RC.FAILURE: Reason(
        "chip-failure",
        "the chip is in failure mode",
        "restart the machine (or the software TPM with 'tpmhsm device stop')",
    ),
    RC.INITIALIZE: Reason("chip-not-started", "the chip was not started"),
    RC.UPGRADE: Reason("chip-upgrade", "the chip is waiting for a firmware upgrade"),
    RC.REBOOT: Reason("chip-reboot", "the chip needs a restart of the machine"),
    RC.OBJECT_MEMORY: Reason("chip-full", "the chip has no room for another object"),
    RC.SESSION_MEMORY: Reason("chip-full", "the chip has no room for another session"),
    RC.MEMORY: Reason("chip-full", "the chip is out of memory"),
    RC.SESSION_HANDLES: Reason("chip-full", "the chip has no session handle left"),
    RC.OBJECT_HANDLES: Reason("chip-full", "the chip has no object handle left"),
    RC.CONTEXT_GAP: Reason(
        "chip-context-gap", "another process holds a session that is too old for the chip to go on"
    ),
    RC.TOO_MANY_CONTEXTS: Reason("chip-full", "the chip can save no more contexts"),
    RC.LOCALITY: Reason("chip-locality", "not allowed at this locality"),
    RC.CANCELED: Reason("chip-canceled", "the command was cancelled"),
    RC.RETRY: Reason("chip-busy", "the chip is busy"),
    RC.YIELDED: Reason("chip-busy", "the chip gave way to something else"),
    RC.TESTING: Reason("chip-busy", "the chip is testing itself"),
    RC.NV_RATE: Reason("chip-busy", "the chip slows NV writes down to spare its memory"),
    RC.NV_UNAVAILABLE: Reason("chip-nv", "the chip's NV memory is not available"),
}

_INCOMPLETE = "the quorum is incomplete, or approvals are of another policy"
_STALE = "the roster in the chip is not the one that was used, or the quorum is incomplete"
NOT_FOR_THIS_KEY = "not-for-this-key"
"""The code of the error for a ciphertext or point that is for another key, or for none."""

_NOT_FOR_IT = Reason(
    NOT_FOR_THIS_KEY,
    "this was not encrypted for this key by OAEP with the key's hash and an empty label",
    "senders use OAEP with the hash that tpmhsm key show names, and MGF1 with the same",
)
_FOR_COMMAND: dict[tuple[str, int], Reason] = {
    ("PolicyOR", RC.VALUE): Reason("chip-quorum", _INCOMPLETE),
    ("PolicyAuthorizeNV", RC.VALUE): Reason("chip-quorum", _STALE),
    ("ActivateCredential", RC.FAILURE): Reason(
        "chip-credential", "the credential was made for another endorsement key"
    ),
    ("ActivateCredential", RC.INTEGRITY): Reason(
        "chip-credential", "the credential was made for another key, or altered"
    ),
    **dict.fromkeys((("RSA_Decrypt", rc) for rc in (RC.FAILURE, RC.VALUE, RC.SIZE)), _NOT_FOR_IT),
    ("ECDH_ZGen", RC.ECC_POINT): Reason(
        NOT_FOR_THIS_KEY, "what was given is no point of this key's curve"
    ),
    ("Clear", RC.DISABLED): Reason("chip-disabled", "TPM2_Clear is disabled"),
}

_RETRY = frozenset({RC.RETRY, RC.YIELDED, RC.TESTING, RC.NV_RATE})
_DEVICE = frozenset(
    {
        *_RETRY,
        *(RC.LOCKOUT, RC.FAILURE, RC.INITIALIZE, RC.UPGRADE, RC.REBOOT, RC.NV_UNAVAILABLE),
        *(RC.NV_SPACE, RC.OBJECT_MEMORY, RC.SESSION_MEMORY, RC.MEMORY, RC.SESSION_HANDLES),
        *(RC.OBJECT_HANDLES, RC.CONTEXT_GAP, RC.TOO_MANY_CONTEXTS, RC.CANCELED),
    }
)
_FORMAT_ONE = 0x080
_PARAMETER = 0x040
_LAYER = 0xFFFFF000


def base_code(rc: int) -> int:
    """The code without the number of a handle, parameter or session."""
    rc &= 0xFFF
    if rc & _FORMAT_ONE:
        return rc & 0x0BF
    if RC.REFERENCE_H0 <= rc <= RC.REFERENCE_H0 + 6:
        return RC.REFERENCE_H0
    if RC.REFERENCE_S0 <= rc <= RC.REFERENCE_S0 + 6:
        return RC.REFERENCE_S0
    return rc


def place(rc: int) -> str:
    """Where the fault is, as "parameter 2", "handle 1", "session 1", or empty."""
    rc &= 0xFFF
    if not rc & _FORMAT_ONE:
        for start, what in ((RC.REFERENCE_H0, "handle"), (RC.REFERENCE_S0, "session")):
            if start <= rc <= start + 6:
                return f"{what} {rc - start + 1}"
        return ""
    number = rc >> 8
    if rc & _PARAMETER:
        return f"parameter {number}" if number else ""
    if number & 8:
        return f"session {number & 7}" if number & 7 else ""
    return f"handle {number}" if number else ""


def _name(base: int) -> str:
    try:
        return f"TPM_RC_{RC(base).name}"
    except ValueError:
        return "unknown code"


def _reason(rc: int, command: str) -> Reason:
    base = base_code(rc)
    found = _FOR_COMMAND.get((command, base)) or _REASONS.get(base)
    return found or Reason("chip-refused", "it gives a reason without words")


def describe(rc: int, command: str = "") -> str:
    """A return code in words, with the number; `command` sharpens some of them.

    >>> describe(0x9A2)
    'the PIN or password is wrong (TPM_RC_BAD_AUTH, session 1, 0x9a2)'
    """
    if rc == 0:
        return "success"
    facts = [_name(base_code(rc)), place(rc), f"0x{rc:03x}"]
    if rc & _LAYER:
        facts.append("not said by the chip but on the way to it")
    return f"{_reason(rc, command).words} ({', '.join(f for f in facts if f)})"


def is_retry(rc: int) -> bool:
    """Whether the same command may be sent again after a while."""
    return rc in _RETRY


def rc_error(rc: int, command: str) -> TpmHsmError:
    """The error for a code: DeviceError when the chip cannot, ChipRefusedError when it refuses.

    `command` is the name of the command without "TPM2_", as "Sign".
    """
    reason = _reason(rc, command)
    message = f"refused by the chip at {command}: {describe(rc, command)}"
    credential = (command, base_code(rc)) in _FOR_COMMAND
    if base_code(rc) in _DEVICE and not credential:
        facts = {"rc": f"0x{rc:03x}", "command": command}
        return DeviceError(
            f"the chip failed at {command}: {describe(rc, command)}",
            hint=reason.hint,
            code=reason.code,
            details=facts,
        )
    return ChipRefusedError(message, rc=rc, command=command, hint=reason.hint, code=reason.code)
