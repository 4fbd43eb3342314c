"""Policies, carried out: a plan's steps in one policy session, then its command.

    signature = sign_with_quorum(chip, key, digest, group, roster, {0: …, 2: …})

The chip judges every approval itself. What it refuses is put into words here: which step, and
whose approval.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, UsageError
from tpmhsm.policy.bound import increment_command, roster_write_command
from tpmhsm.policy.plan import (
    Approvals,
    Plan,
    plan_increment,
    plan_roster_write,
    plan_sign,
)
from tpmhsm.policy.steps import (
    AuthorizeNv,
    AuthValue,
    CommandCode,
    NameHash,
    Nv,
    Or,
    Pcr,
    Signed,
    Step,
)
from tpmhsm.tpm import pins
from tpmhsm.tpm.objects import Loaded, plain_signature, sign_command
from tpmhsm.tpm.pcrs import unpack_selection
from tpmhsm.tpm.pins import Pin
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import Structure
from tpmhsm.wire.commands import (
    LoadExternal,
    PolicyAuthorizeNV,
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyNameHash,
    PolicyNV,
    PolicyOR,
    PolicyPCR,
    PolicySigned,
)
from tpmhsm.wire.constants import RC, RH
from tpmhsm.wire.framing import Command
from tpmhsm.wire.rc import base_code, describe

if TYPE_CHECKING:
    from tpmhsm.policy.group import GroupDocument, RosterDocument
    from tpmhsm.tpm.chip import Chip

R = TypeVar("R", bound=Structure)


def sign_with_quorum(  # noqa: PLR0917 (one call in the product, in this order)
    chip: Chip,
    key: Loaded,
    digest: bytes,
    group: GroupDocument,
    roster: RosterDocument,
    approvals: Approvals,
) -> bytes:
    """Sign a digest by the key's own hash with the officers' approvals.

    `approvals`: TPMT_SIGNATUREs by the officer's index in the roster; of more than needed, the
    first are used. Returns DER ECDSA or RSASSA bytes. Raises UsageError for too few,
    ChipRefusedError saying which person or step the chip refused.
    """
    plan = plan_sign(group, roster, key.public, digest, approvals)
    return plain_signature(execute(chip, plan, sign_command(key, digest)).signature)


def run_increment(chip: Chip, group: GroupDocument, approvals: Approvals, *, written: bool) -> None:
    """Move the epoch on by one with the custodians' approvals; errors as above.

    `written`: the counter has been incremented before (it has another Name then).
    """
    execute(chip, plan_increment(group, approvals, written=written), increment_command(group))


def run_roster_write(
    chip: Chip,
    group: GroupDocument,
    roster: RosterDocument,
    approvals: Approvals,
    *,
    written: bool,
) -> None:
    """Put a roster in force with the custodians' approvals; errors as above.

    `written`: the index has been written before (it has another Name then).
    """
    plan = plan_roster_write(group, roster, approvals, written=written)
    execute(chip, plan, roster_write_command(group, roster))


def execute(chip: Chip, plan: Plan, command: Command[R], pin: Pin | None = None) -> R:
    """Run a plan's steps in one policy session, then `command`, which ends the session.

    Takes `plan.commands` commands; `pin` for a plan that has one. Raises ChipRefusedError with the
    step, and the person, in words; nothing is left in the chip then.
    """
    try:
        return _execute(chip, plan, command, pin)
    except (ChipRefusedError, DeviceError) as e:
        if not plan.has_pin or (better := pins.explained(chip, e)) is e:
            raise
        raise better from e


def _execute(chip: Chip, plan: Plan, command: Command[R], pin: Pin | None) -> R:
    session = _start(chip, plan, pin)
    try:
        for number, step in enumerate(plan.steps, 1):
            try:
                run_step(chip, session, plan, step)
            except ChipRefusedError as e:
                raise _explained(e, plan, number, step) from e
        session.last = True
        try:
            return chip.send(command, session)
        except ChipRefusedError as e:
            raise _explained(e, plan, len(plan.steps) + 1, None) from e
    except (RefusedError, UsageError, DeviceError):
        with suppress(DeviceError):
            chip.flush(session.handle)
        raise


def _start(chip: Chip, plan: Plan, pin: Pin | None) -> PolicySession:
    """A session; for a PIN a salted one, which who listens cannot try PINs on.

    It encrypts as well, but not where approvals bound the command's cpHash: that is computed over
    the parameters as they are sent, and approvers approved them in plain (Part 1 §16.7, §21).
    """
    if not plan.has_pin:
        return start_policy(chip)
    if pin is None:
        raise UsageError(f"{plan.act}: the PIN is needed", code="pin-needed")
    session = start_policy(chip, salt_key=pin.salt, encrypt=not plan.given)
    session.auth_value = pin.value
    return session


def run_step(chip: Chip, session: PolicySession, plan: Plan, step: Step) -> None:
    """Send one policy step. UsageError for one that this version cannot carry out."""
    handle = session.handle
    if isinstance(step, Signed):
        _show_approval(chip, handle, plan, step)
    elif isinstance(step, Or):
        chip.send(PolicyOR(handle, step.branches))
    elif isinstance(step, CommandCode):
        chip.send(PolicyCommandCode(handle, step.code))
    elif isinstance(step, NameHash):
        chip.send(PolicyNameHash(handle, step.name_hash))
    elif isinstance(step, Nv):
        index = plan.indices[step.name]
        chip.send(PolicyNV(index, index, handle, step.operand, step.offset, step.operation))
    elif isinstance(step, AuthorizeNv):
        index = plan.indices[step.name]
        chip.send(PolicyAuthorizeNV(index, index, handle))
    elif isinstance(step, Pcr):
        chip.send(PolicyPCR(handle, step.digest, unpack_selection(step.selection)))
    elif isinstance(step, AuthValue):
        chip.send(PolicyAuthValue(handle))
        session.with_value = True
    else:
        raise UsageError(f"policy step {type(step).__name__}: not in this version")


def _show_approval(chip: Chip, session: int, plan: Plan, step: Signed) -> None:
    """LoadExternal, PolicySigned, flush.

    The approver's key is loaded under the NULL hierarchy: tickets of others would come to life
    again when the state of a software TPM is restored.
    """
    given = plan.given[step.approver]
    loaded = chip.send(LoadExternal(None, given.member.public, RH.NULL)).object_handle
    try:
        chip.send(
            PolicySigned(
                auth_object=loaded,
                policy_session=session,
                nonce_tpm=b"",
                cp_hash_a=plan.bound.cp_hash,
                policy_ref=step.policy_ref,
                expiration=0,
                auth=given.parsed,
            )
        )
    finally:
        chip.flush(loaded)


# --- refusals in words ----------------------------------------------------------------------------


def _explained(error: ChipRefusedError, plan: Plan, number: int, step: Step | None) -> Exception:
    """The chip's refusal with the step and the person in it."""
    person = plan.given[step.approver].member.name if isinstance(step, Signed) else ""
    why, hint = _words(error, plan, step, person)
    return ChipRefusedError(
        f"refused by the chip: {why} ({describe(error.rc, error.command)})",
        rc=error.rc,
        command=error.command,
        hint=hint or error.hint,
        code=error.code,
        details={
            "act": plan.act,
            "step": f"{number} of {len(plan.steps) + 1}",
            **({"person": person} if person else {}),
        },
    )


def _words(error: ChipRefusedError, plan: Plan, step: Step | None, person: str) -> tuple[str, str]:
    """Why, and what to do next."""
    base = base_code(error.rc)
    if isinstance(step, Signed):
        return _words_of_person(error, base, person)
    if isinstance(step, Nv):
        return _words_of_epoch(base, int.from_bytes(step.operand, "big"))
    if isinstance(step, AuthorizeNv):
        return _words_of_roster(base)
    if isinstance(step, Pcr) or base == RC.PCR_CHANGED:
        return _words_of_pcrs(base, of_roster=step is not None and step in plan.of_roster)
    if isinstance(step, Or):
        return "the approvals so far do not lead to a quorum", "ask for the missing approvals"
    return (
        "the approvals do not add up to what the key or index demands of this command",
        "another key, another roster, or other bytes than were approved",
    )


def _words_of_person(error: ChipRefusedError, base: int, person: str) -> tuple[str, str]:
    if error.command == "LoadExternal":
        return f"it does not take {person}'s key", ""
    if base == RC.SIGNATURE:
        return f"{person} approved other bytes", f"ask {person} to approve this request"
    return f"it does not accept {person}'s approval", ""


def _words_of_pcrs(base: int, *, of_roster: bool) -> tuple[str, str]:
    if base == RC.PCR_CHANGED:
        return "a PCR moved between the policy and the signature", "try again"
    if of_roster:
        return (
            "the PCRs have other values than the custodians approved: another firmware or boot",
            "start the machine as it was then; after an update the custodians approve the new "
            "state: tpmhsm group change GROUP --pcr BANK:N,…",
        )
    return (
        "the PCRs have other values than at the key's birth: another firmware or boot",
        "start the machine as it was then; after an update this key, or this alternative of its "
        "policy, is of no use any more",
    )


def _words_of_epoch(base: int, epoch: int) -> tuple[str, str]:
    if base == RC.POLICY:
        return (
            f"the approvals are for epoch {epoch}, which is not the group's epoch now",
            "ask the officers of the roster in force to approve again",
        )
    if base == RC.NV_UNINITIALIZED:
        return "the epoch counter was never incremented", "somebody made it anew, or it is new"
    return "the epoch counter is missing or another one", "tpmhsm group show"


def _words_of_roster(base: int) -> tuple[str, str]:
    if base == RC.NV_UNINITIALIZED:
        return (
            "the roster index was never written: somebody removed it and made it anew",
            "the custodians must write the roster again: tpmhsm group change",
        )
    if base == RC.VALUE:
        return (
            "the quorum is incomplete, or the roster in the chip is another one",
            "ask the officers of the roster in force to approve",
        )
    return "the roster index is missing or another one", "tpmhsm group show"
