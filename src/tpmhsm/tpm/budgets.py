"""Budget indices in the chip: made, read, and written with people's approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, NotFoundError, RefusedError
from tpmhsm.policy.budgets import Counted, Grant, budget_nv
from tpmhsm.policy.plan import Officers, plan_grant
from tpmhsm.policy.tree import as_written
from tpmhsm.tpm import nv, policies
from tpmhsm.wire.constants import RC
from tpmhsm.wire.rc import base_code

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.sessions import PolicySession
    from tpmhsm.wire.structures import NvPublic

_UNKNOWN_TYPE = (RC.ATTRIBUTES, RC.RESERVED_BITS, RC.VALUE)
"""How chips refuse an index of a type that they do not know."""


def make(chip: Chip, index: int, roster_name: bytes, auth: bytes) -> bool:
    """Make a budget index unless it is there; says whether it has been written.

    RefusedError `index-taken` when something else stands there, `no-pin-pass` for a chip that
    counts no budgets.
    """
    wanted = budget_nv(index, roster_name)
    try:
        present = nv.read_public(chip, index).public
    except NotFoundError:
        _define(chip, wanted, auth)
        return False
    if present not in (wanted, as_written(wanted)):
        raise RefusedError(
            f"NV index 0x{index:08x} holds something else than this key's budget",
            code="index-taken",
            hint=f"tpm2_nvundefine 0x{index:x} removes it if nobody needs it; then try again",
        )
    return present != wanted


def _define(chip: Chip, wanted: NvPublic, auth: bytes) -> None:
    try:
        nv.define(chip, wanted, auth)
    except ChipRefusedError as error:
        if base_code(error.rc) not in _UNKNOWN_TYPE:
            raise
        raise RefusedError(
            "this chip has no PIN_PASS indices, which count budgets (tpmhsm device probe)",
            code="no-pin-pass",
            hint="quorum(GROUP) asks people for each signature, window(GROUP) for some seconds; "
            "pin and pcr(…) ask nobody",
            details={"rc": f"0x{error.rc:03x}"},
        ) from error


def present(chip: Chip, index: int, roster_name: bytes) -> bool:
    """Whether this very index is there, written or not."""
    wanted = budget_nv(index, roster_name)
    try:
        return nv.read_public(chip, index).public in (wanted, as_written(wanted))
    except NotFoundError:
        return False


def count(chip: Chip, index: int, roster_name: bytes) -> Counted | None:
    """What a budget index holds; None while it is missing, unwritten, or not this one."""
    try:
        present = nv.read_public(chip, index).public
    except NotFoundError:
        return None
    if present != budget_nv(index, roster_name, written=True):
        return None
    return Counted.read(nv.read(chip, index))


def remove(chip: Chip, index: int, roster_name: bytes) -> bool:
    """Remove a budget index if it is there and is this one; says whether it was."""
    if found := present(chip, index, roster_name):
        nv.undefine(chip, index)
    return found


def run_grant(
    chip: Chip, officers: Officers, grant: Grant, live: PolicySession | None = None
) -> None:
    """Write a budget's limit with the officers' approvals; errors as `policies.execute`.

    `live` for a first write: the session whose nonce the grant has.
    """
    policies.execute(chip, plan_grant(officers, grant), grant.command(), live=live)
