"""The chip's hierarchies: how each stands, and the lockout hierarchy sealed and used.

TCG TPM 2.0 Library Part 1 §13 (hierarchies) and §19.8 (dictionary attack protection), Part 3 §24
and §25. Whoever holds the lockout hierarchy may set the count of wrong PINs back; with an empty
password that is everybody with the machine. The owner hierarchy is left alone: other programs make
their keys with its empty password, and what root does by it gives no signature.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, TpmHsmError, UsageError
from tpmhsm.tpm import capabilities
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.pins import deadline, duration
from tpmhsm.tpm.probe import Lockout, lockout
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import start_hmac, start_trial
from tpmhsm.wire.commands import (
    DictionaryAttackLockReset,
    DictionaryAttackParameters,
    HierarchyChangeAuth,
    HierarchyControl,
    PolicySecret,
    SetPrimaryPolicy,
    Shutdown,
)
from tpmhsm.wire.constants import ALG, PT, RC, RH, SU
from tpmhsm.wire.rc import base_code

SECRET_SIZE = 32
"""Bytes of a hierarchy's password; more the chip does not take (Part 3 §24.8)."""

# TPMA_PERMANENT and TPMA_STARTUP_CLEAR (Part 2 §8.6, §8.7)
_OWNER_SET, _ENDORSEMENT_SET, _NO_CLEAR = 1 << 0, 1 << 1, 1 << 8
_PLATFORM_ON, _OWNER_ON, _ENDORSEMENT_ON = 1 << 0, 1 << 1, 1 << 2


@dataclass(frozen=True)
class Limits:
    """Dictionary attack protection: wrong tries until PINs are refused, seconds of running time
    for one try to come back, and seconds that the lockout hierarchy itself is closed after one
    wrong password.

    UsageError for what would switch it off, or lock for more than a month.
    """

    tries: int = 10
    recovery: int = 3600
    lockout_recovery: int = 3600

    def __post_init__(self) -> None:
        if not 1 <= self.tries <= 1000:
            raise UsageError(f"{self.tries} tries: from 1 to 1000 can be had")
        for seconds in (self.recovery, self.lockout_recovery):
            if not 60 <= seconds <= 31 * 86400:
                raise UsageError(f"{seconds} seconds: a try comes back in a minute to a month")


@dataclass(frozen=True)
class Hierarchies:
    """How the four stand. `…_set`: has a password; `…_on`: can be used at all. `platform_open`: the
    platform hierarchy takes the empty password, so nobody closed it after the start.
    """

    owner_on: bool
    owner_set: bool
    endorsement_on: bool
    endorsement_set: bool
    lockout_set: bool
    clear_disabled: bool
    platform_on: bool
    platform_open: bool


def hierarchies(chip: Chip) -> Hierarchies:
    """Ask the chip, and try the platform hierarchy's empty password: nothing counts that."""
    found = capabilities.properties(chip)
    permanent, startup = found.get(PT.PERMANENT, 0), found.get(PT.STARTUP_CLEAR, 0)
    platform_on = bool(startup & _PLATFORM_ON)
    return Hierarchies(
        owner_on=bool(startup & _OWNER_ON),
        owner_set=bool(permanent & _OWNER_SET),
        endorsement_on=bool(startup & _ENDORSEMENT_ON),
        endorsement_set=bool(permanent & _ENDORSEMENT_SET),
        lockout_set=lockout(chip).lockout_auth_set,
        clear_disabled=bool(permanent & _NO_CLEAR),
        platform_on=platform_on,
        platform_open=platform_on and _takes_empty(chip, RH.PLATFORM),
    )


def _takes_empty(chip: Chip, hierarchy: RH) -> bool:
    """TPM2_PolicySecret in a trial session: it authorizes nothing, and the chip checks it."""
    session = start_trial(chip)
    try:
        chip.send(PolicySecret(hierarchy, session.handle, b"", b"", b"", 0))
    except ChipRefusedError:
        return False
    finally:
        chip.flush(session.handle)
    return True


def new_secret() -> bytes:
    """A random password for a hierarchy. The chip would strip a zero at its end."""
    while (secret := os.urandom(SECRET_SIZE))[-1] == 0:
        pass
    return secret


def seal_lockout(
    chip: Chip, salt: SaltKey, secret: bytes, limits: Limits, current: bytes = b""
) -> None:
    """Set the limits, remove the lockout hierarchy's policy, give it the password `secret`.

    `current` is its password until now. Nobody between us and the chip learns either. Raises
    RefusedError `already-sealed`, or what `lift` raises. Power may fail between any two steps: it
    is sealed after the last one.
    """
    must_be_open(chip, current)
    close_platform(chip)
    with_value = _Authorized(chip, salt, current)
    timing = (limits.tries, limits.recovery, limits.lockout_recovery)
    with_value.send(DictionaryAttackParameters(RH.LOCKOUT, *timing))
    with_value.send(SetPrimaryPolicy(RH.LOCKOUT, b"", ALG.NULL))
    with_value.send(HierarchyChangeAuth(RH.LOCKOUT, secret))


def must_be_open(chip: Chip, current: bytes = b"") -> None:
    """Raise RefusedError `already-sealed` for a lockout hierarchy whose password is not given."""
    if not current and lockout(chip).lockout_auth_set:
        raise RefusedError(
            "the lockout hierarchy of this chip has a password already",
            code="already-sealed",
            hint="tpmhsm device seal … --old FILE, or --auth-file F if another program set it;"
            " where nobody kept it (init of a software TPM) it stays as it is: lockouts just end",
        )


def close_platform(chip: Chip) -> None:
    """Switch the platform hierarchy off until the next start, if nobody else closed it."""
    if hierarchies(chip).platform_open:
        chip.send(HierarchyControl(RH.PLATFORM, RH.PLATFORM, False))


def lift(chip: Chip, salt: SaltKey, secret: bytes = b"") -> Lockout:
    """Set the count of wrong tries back to 0; gives the state after it.

    RefusedError `sealed` when there is a password and none is given: the chip is not asked, for a
    wrong one closes the lockout hierarchy for a while. DeviceError when it is closed.
    """
    if not secret and lockout(chip).lockout_auth_set:
        raise RefusedError(
            "the lockout hierarchy has a password, and it is not on this machine",
            code="sealed",
            hint="tpmhsm device unlock --recovery FILE; or wait: tpmhsm device show says how long",
        )
    _Authorized(chip, salt, secret).send(DictionaryAttackLockReset(RH.LOCKOUT))
    return lockout(chip)


def prepare_stop(chip: Chip) -> None:
    """TPM2_Shutdown(CLEAR): the next start counts no failed try, and clock and orderly NV go on.

    Any command after it takes that back, so it must be the last one.
    """
    chip.send(Shutdown(SU.CLEAR))


class _Authorized:
    """Commands of the lockout hierarchy, each in a salted session of its own."""

    def __init__(self, chip: Chip, salt: SaltKey, value: bytes) -> None:
        self._chip = chip
        self._salt = salt
        self._value = value

    def send(self, command: Any) -> None:
        session = start_hmac(self._chip, salt_key=self._salt, encrypt=True)
        session.auth_value = self._value
        session.last = True
        try:
            self._chip.send(command, session)
        except (ChipRefusedError, DeviceError) as error:
            self._chip.flush(session.handle)
            raise _explained(error, lockout(self._chip)) from error


def _explained(error: TpmHsmError, state: Lockout) -> TpmHsmError:
    """The lockout hierarchy's own refusals in words."""
    closed = state.lockout_recovery
    until = f"{duration(closed)} ({deadline(closed)})" if closed else "the chip's next start"
    if isinstance(error, DeviceError) and error.code == "chip-lockout":
        return DeviceError(
            "the chip takes no password of the lockout hierarchy now: somebody gave a wrong one",
            code="lockout-closed",
            hint=f"try again after {until} at the latest",
            details=error.details,
        )
    if isinstance(error, ChipRefusedError) and base_code(error.rc) in (RC.AUTH_FAIL, RC.BAD_AUTH):
        return ChipRefusedError(
            "refused by the chip: this is not the password of its lockout hierarchy",
            rc=error.rc,
            command=error.command,
            code="wrong-secret",
            hint=f"the next password is taken after {until}",
        )
    return error
