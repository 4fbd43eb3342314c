"""PINs: how they reach the chip, and its refusals of wrong ones in words.

A PIN is the authValue of a key. At birth it goes to the chip inside an encrypted parameter; at a
use it is only the key of an HMAC, in a session that is salted: who listens can neither read nor try
PINs. The chip counts wrong ones (TCG TPM 2.0 Library Part 1 §19.8, dictionary attack protection).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError, TpmHsmError, UsageError
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.wire.constants import RC
from tpmhsm.wire.rc import base_code, describe

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.objects import Loaded
    from tpmhsm.tpm.probe import Lockout

SHORTEST, LONGEST = 4, 32
"""Bytes of a PIN: fewer can be guessed despite the counting, more the chip does not take."""


@dataclass(frozen=True)
class Pin:
    """A PIN, and the key of the chip, known by its Name, that its sessions are salted to."""

    value: bytes = field(repr=False)
    salt: SaltKey

    @classmethod
    def to(cls, parent: Loaded, value: bytes) -> Pin:
        """A PIN for the chip that has this storage key. UsageError as `check_pin`."""
        return cls(check_pin(value), SaltKey(parent.handle, parent.public, parent.name))


def check_pin(value: bytes) -> bytes:
    """Return a PIN. UsageError for one that is too short or long, or has a NUL byte."""
    if not SHORTEST <= len(value) <= LONGEST:
        raise UsageError(
            f"a PIN has {SHORTEST} to {LONGEST} bytes", code="bad-pin", hint="choose another"
        )
    if 0 in value:
        raise UsageError("a PIN has no NUL byte: the chip strips them", code="bad-pin")
    return value


def explained(chip: Chip, error: TpmHsmError) -> TpmHsmError:
    """The chip's refusal of a PIN, with the tries that are left; other errors as they are.

    Asks the chip: not inside the failed session.
    """
    from tpmhsm.tpm.probe import lockout

    if isinstance(error, DeviceError) and error.code == "chip-lockout":
        return _locked(error, lockout(chip))
    if isinstance(error, ChipRefusedError) and base_code(error.rc) in (RC.AUTH_FAIL, RC.BAD_AUTH):
        return _wrong(error, lockout(chip))
    return error


def _wrong(error: ChipRefusedError, state: Lockout) -> ChipRefusedError:
    left = max(0, state.max_tries - state.tries)
    tries = "1 try is left" if left == 1 else f"{left} tries are left"
    then = f"before the chip locks PINs out for {duration(state.recovery)}"
    if not left:
        tries, then = "the chip locks PINs out", f"for {duration(state.recovery)}"
    return ChipRefusedError(
        f"refused by the chip: the PIN is wrong; {tries} {then} "
        f"({describe(error.rc, error.command)})",
        rc=error.rc,
        command=error.command,
        code="wrong-pin",
        hint=f"one try comes back every {duration(state.recovery)}; an unclean stop costs one too",
        details={"tries_left": left, "recovery_seconds": state.recovery},
    )


def _locked(error: DeviceError, state: Lockout) -> DeviceError:
    return DeviceError(
        f"the chip locked PINs out after {state.tries} wrong tries (unclean stops count): the next "
        f"try is possible in {duration(state.recovery)} at the latest ({deadline(state.recovery)})",
        code=error.code,
        hint="tpmhsm device show; tpmhsm device unlock"
        + (" --recovery FILE" if state.lockout_auth_set else "")
        + " ends it now",
        details={**error.details, "tries": state.tries, "recovery_seconds": state.recovery},
    )


def deadline(seconds: int) -> str:
    """The moment that many seconds from now, RFC 3339 in UTC. The chip counts only while it runs:
    a machine that is off meanwhile is later.
    """
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def duration(seconds: int) -> str:
    """'90 seconds', '17 minutes', '2 hours'."""
    for size, word in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{-(-seconds // size)} {word}"
    return f"{seconds} seconds"
