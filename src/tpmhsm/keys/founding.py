"""Making a group in the chip: two NV indices, the first epoch, the first roster.

Every act can be run again after a failure at any point: it looks at what the chip holds and does
what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, NotFoundError, RefusedError
from tpmhsm.policy.tree import as_written, counter_nv, roster_content, roster_nv

if TYPE_CHECKING:
    from tpmhsm.policy.group import GroupDocument, RosterDocument
    from tpmhsm.policy.plan import Approvals
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.wire.structures import NvPublic


@dataclass(frozen=True)
class Place:
    """Where a new group will stand in the chip, and the epoch it will begin at."""

    counter: int
    roster: int
    epoch: int


def find_place(chip: Chip, *, after: int, pending: int) -> Place:
    """Free indices above `after`, and the next epoch when `pending` other groups come first.

    RefusedError for a chip that can have static groups alone.
    """
    from tpmhsm.keys.statics import must_authorize_nv
    from tpmhsm.tpm.nv import FIRST_INDEX, free_index, next_counter_value

    must_authorize_nv(chip)
    counter = free_index(chip, max(after, FIRST_INDEX - 1))
    return Place(counter, free_index(chip, counter), next_counter_value(chip) + pending)


def sweep_probes(chip: Chip) -> None:
    """Remove the temporary counters of processes that died while they looked for the next epoch.

    Only on a chip that is ours alone.
    """
    from tpmhsm.tpm import nv
    from tpmhsm.wire.constants import NvAttributes

    for index in nv.indices(chip):
        if nv.FIRST_INDEX <= index <= nv.LAST_INDEX:
            found = nv.read_public(chip, index)
            if found.is_counter and found.public.attributes & NvAttributes.AUTHWRITE:
                nv.undefine(chip, index)


def found(
    chip: Chip, group: GroupDocument, roster: RosterDocument, approvals: Sequence[Approvals]
) -> None:
    """Make the indices, walk the counter to the first epoch, write the first roster.

    `approvals`: for the increment over the unwritten Name, the increment over the written Name,
    and the write. Raises RefusedError `epoch-passed` when the chip's counters have moved on: then
    nothing of the group is left.
    """
    from tpmhsm.tpm import nv, policies

    if not _ensure(chip, counter_nv(group)):
        policies.run_increment(chip, group, approvals[0], written=False)
    while (value := nv.read_counter(chip, group.counter_index)) < roster.epoch:
        policies.run_increment(chip, group, approvals[1], written=True)
    if value > roster.epoch:
        unmake(chip, group)
        raise RefusedError(
            f"the chip's counters moved on to {value}; epoch {roster.epoch} was approved",
            code="epoch-passed",
            hint=f"tpmhsm group create {group.name} … once more",
        )
    if not _ensure(chip, roster_nv(group)):
        policies.run_roster_write(chip, group, roster, approvals[2], written=False)


def unmake(chip: Chip, group: GroupDocument) -> None:
    """Remove a group's indices, as far as they are there. Not for a group that was ever in use."""
    from tpmhsm.tpm import nv

    for wanted in (counter_nv(group), roster_nv(group)):
        with suppress(NotFoundError):
            if nv.read_public(chip, wanted.nv_index).public in (wanted, as_written(wanted)):
                nv.undefine(chip, wanted.nv_index)


def holds(chip: Chip, group: GroupDocument, roster: RosterDocument) -> bool:
    """Whether the chip's roster index holds exactly this roster at this epoch."""
    from tpmhsm.tpm import nv

    try:
        return nv.read_counter(chip, group.counter_index) == roster.epoch and nv.read(
            chip, group.roster_index
        ) == roster_content(group, roster)
    except (NotFoundError, ChipRefusedError):  # not made, or never written
        return False


@dataclass(frozen=True)
class Origin:
    """How a roster came into force, from the requests that were executed.

    `first` is the group's first roster and `founding` its approvals as for `found`; `write` are the
    approvals of the write of `roster`, None when it is the first itself.
    """

    first: RosterDocument
    founding: Sequence[Approvals]
    roster: RosterDocument
    write: Approvals | None


def join(chip: Chip, group: GroupDocument, origin: Origin) -> None:
    """Bring a group of another chip into force here, or further on: the same indices, the counter
    at the epoch of the roster, the roster; by the approvals of then, whose cpHashes name no chip.

    Raises RefusedError `counter-ahead` where this chip's counters have gone further than the
    group's epoch, `index-taken` when something else stands at an index.
    """
    from tpmhsm.tpm import nv, policies

    roster, must = origin.roster, counter_nv(group)
    if not _ensure(chip, must):
        policies.run_increment(chip, group, origin.founding[0], written=False)
    while (value := nv.read_counter(chip, group.counter_index)) < roster.epoch:
        policies.run_increment(chip, group, origin.founding[1], written=True)
    if value > roster.epoch:
        raise RefusedError(
            f"the group's counter is at {value} in this chip, and the roster is of epoch"
            f" {roster.epoch}: counters never go back",
            code="counter-ahead",
            hint=f"on the first host: tpmhsm group change {group.name} --officers …, until the "
            f"epoch is {value} or more; then group export once more",
        )
    if not stands(chip, group, roster):
        restore(chip, group, origin)


def stands(chip: Chip, group: GroupDocument, roster: RosterDocument) -> bool:
    """Whether both indices are as they were made, and this roster stands in its own."""
    from tpmhsm.tpm import nv

    written = all(_is_written(chip, wanted) for wanted in (counter_nv(group), roster_nv(group)))
    return written and nv.read(chip, group.roster_index) == roster_content(group, roster)


def restore(chip: Chip, group: GroupDocument, origin: Origin) -> None:
    """Put back the indices of a group and the roster in force, by the approvals of then.

    The owner of a chip can remove indices and replay old rosters; nothing new is decided by undoing
    that. A counter made anew begins at a higher epoch, from which the custodians go on. Raises
    RefusedError `index-taken` when something else stands at an index.
    """
    from tpmhsm.tpm import nv, policies

    if not _ensure(chip, counter_nv(group)):
        policies.run_increment(chip, group, origin.founding[0], written=False)
    if origin.write is None and _is_written(chip, roster_nv(group)):
        nv.undefine(chip, group.roster_index)  # the first write is approved for an unwritten index
    if not _ensure(chip, roster_nv(group)):
        policies.run_roster_write(chip, group, origin.first, origin.founding[2], written=False)
    if origin.write is not None:
        policies.run_roster_write(chip, group, origin.roster, origin.write, written=True)


def _is_written(chip: Chip, wanted: NvPublic) -> bool:
    from tpmhsm.tpm import nv

    try:
        return nv.read_public(chip, wanted.nv_index).public == as_written(wanted)
    except NotFoundError:
        return False


def _ensure(chip: Chip, wanted: NvPublic) -> bool:
    """Make an index unless it is there; says whether it has been written."""
    from tpmhsm.tpm import nv

    try:
        present = nv.read_public(chip, wanted.nv_index).public
    except NotFoundError:
        nv.define(chip, wanted)
        return False
    if present not in (wanted, as_written(wanted)):
        raise RefusedError(
            f"NV index 0x{wanted.nv_index:08x} holds something else",
            code="index-taken",
            hint="tpm2_nvundefine removes it if nobody needs it; or found the group anew",
        )
    return present != wanted
