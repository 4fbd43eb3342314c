"""Sealing a chip's lockout hierarchy, and lifting a lockout with what was kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpmhsm.tpm import hierarchies
from tpmhsm.tpm.hierarchies import Limits
from tpmhsm.tpm.objects import storage_parent
from tpmhsm.tpm.salts import SaltKey

if TYPE_CHECKING:
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.store import Store
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.probe import Lockout


@dataclass(frozen=True)
class Sealing:
    """How to seal. `keep` is given the new password and has it kept elsewhere, for good, before
    the chip gets it; None: nobody keeps it. `current` is the password until now.
    """

    limits: Limits = field(default_factory=Limits)
    keep: Callable[[bytes], None] | None = None
    current: bytes = b""


def seal(device: Device, host: HostDevice, sealing: Sealing) -> Lockout:
    """Give the lockout hierarchy a password that this machine does not know.

    If power fails after `keep` and before the chip is sealed, what was kept opens nothing. Raises
    RefusedError `already-sealed`, what `keep` raises, what the chip raises.
    """
    from tpmhsm.tpm.probe import lockout

    secret = hierarchies.new_secret()
    if sealing.keep is not None:  # this may take a person's time, so not while the chip is held
        with device.transaction() as chip:
            _salt(chip, host)
            hierarchies.must_be_open(chip, sealing.current)
        sealing.keep(secret)
    with device.transaction() as chip:
        salt = _salt(chip, host)
        hierarchies.must_be_open(chip, sealing.current)
        hierarchies.seal_lockout(chip, salt, secret, sealing.limits, sealing.current)
        return lockout(chip)


def lift(device: Device, host: HostDevice, secret: bytes = b"") -> Lockout:
    """Set the count of wrong PINs back; see `hierarchies.lift`."""
    with device.transaction() as chip:
        return hierarchies.lift(chip, _salt(chip, host), secret)


def record(store: Store, state: Lockout, *, kept: bool) -> None:
    """Say in the log that the chip was sealed, and whether somebody has the password."""
    facts = {"kept": kept, "tries": state.max_tries, "recovery": state.recovery}
    with store.transaction() as tx:
        tx.audit.append("device-seal", facts)


def _salt(chip: Chip, host: HostDevice) -> SaltKey:
    from tpmhsm.keys.host import must_be

    must_be(chip, host)
    parent = storage_parent(chip, host.parent_name)
    return SaltKey(parent.handle, parent.public, parent.name)
