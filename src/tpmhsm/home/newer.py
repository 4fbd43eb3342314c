"""What the chip knows that a restored database does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.store import Store
    from tpmhsm.tpm.device import Device


@dataclass(frozen=True)
class Newer:
    """One difference: what, and the next step (may be empty)."""

    what: str
    next: str = ""


def newer_in_chip(store: Store, device: Device, groups: Groups) -> list[Newer]:
    """Epochs that came after the backup, and what is left of budgets.

    Raises DeviceError for a chip that fails; nothing for another chip: the proof says that.
    """
    from tpmhsm.keys.host import find_host, must_be

    host = find_host(store)
    if host is None:
        return []
    with device.transaction() as chip:
        try:
            must_be(chip, host)
        except TpmHsmError:
            return []
    return [*_epochs(device, groups), *_budgets(store, device, groups), *_log(store, device)]


def _epochs(device: Device, groups: Groups) -> list[Newer]:
    from tpmhsm.tpm import nv

    found = []
    for row in groups.all():
        try:
            state = groups.state(row.name)
            if not state.in_force or state.group.static:
                continue
            with device.transaction() as chip:
                epoch = nv.read_counter(chip, state.group.counter_index)
        except TpmHsmError:  # the proof of groups says what is wrong
            continue
        if epoch > state.roster.epoch:
            found.append(
                Newer(
                    f"group {row.name}: the chip is in epoch {epoch}, the backup in"
                    f" {state.roster.epoch}: its people changed since, and the chip accepts the"
                    " people of now alone",
                    f"tpmhsm group change {row.name} --officers … asks the custodians to say once"
                    " more who they are",
                )
            )
    return found


def _budgets(store: Store, device: Device, groups: Groups) -> list[Newer]:
    from tpmhsm.keys.budgets import Budgets

    with store.reading() as tx:
        rows = tx.keys.all()
    try:
        found = Budgets(store, device, groups).of(rows)
    except TpmHsmError:
        return []
    return [
        Newer(f"budget of {one.key}: the chip counts on: {one.words}")
        for one in found
        if one.counted is not None
    ]


def _log(store: Store, device: Device) -> list[Newer]:
    """The log goes on from here: what was signed since the backup is not in it."""
    from tpmhsm.keys.auditing import Auditing

    auditing = Auditing(store, device)
    if not auditing.is_on():
        return []
    try:
        auditing.checkpoint()
    except TpmHsmError as error:
        return [Newer(f"the log: no checkpoint could be made: {error.message}")]
    return [
        Newer(
            "the log: nothing proves what was signed between the backup and now; from now on it"
            " can be complete again",
            "tpmhsm audit prove -o log.proof, then tpmhsm audit verify log.proof, says so",
        )
    ]
