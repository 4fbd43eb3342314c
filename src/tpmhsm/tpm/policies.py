"""Policies, carried out: a plan's steps in one policy session, then its command.

    signature = sign_with_quorum(chip, key, digest, group, roster, {0: …, 2: …})

The chip judges every approval itself. What it refuses is put into words here: which step, and
whose approval.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, UsageError
from tpmhsm.policy.bound import increment_command, roster_write_command
from tpmhsm.policy.plan import (
    Approvals,
    Held,
    Plan,
    Spend,
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
    Secret,
    Signed,
    Step,
)
from tpmhsm.tpm import pins
from tpmhsm.tpm.objects import Loaded, plain_signature, sign_command
from tpmhsm.tpm.pcrs import unpack_selection
from tpmhsm.tpm.pins import Pin
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import HmacSession, Password, PolicySession, start_hmac, start_policy
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
    PolicySecret,
    PolicySigned,
    PolicyTicket,
)
from tpmhsm.wire.constants import RC, RH
from tpmhsm.wire.framing import Command
from tpmhsm.wire.rc import NOT_FOR_THIS_KEY, base_code, describe

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


def execute(
    chip: Chip,
    plan: Plan,
    command: Command[R],
    pin: Pin | None = None,
    live: PolicySession | None = None,
    *,
    secret: Secrecy | None = None,
) -> R:
    """Run a plan's steps in one policy session, then `command`, which ends the session.

    Takes `plan.commands` commands; `pin` for a plan that has one, `live` the session over whose
    nonce the approvals were given: it has run no step, and after a failure it is its owner's.
    `secret`: a key of the chip, where the answer must come back encrypted; that takes a command
    more where the key has a PIN that the plan does not know (`Secrecy`). Raises ChipRefusedError
    with the step, and the person, in words; nothing is left in the chip then.
    """
    try:
        session = live or _start(chip, plan, pin, secret)
        return _execute(chip, plan, command, session, live, secret)
    except (ChipRefusedError, DeviceError) as e:
        if not plan.has_pin or (better := pins.explained(chip, e)) is e:
            raise
        raise better from e


def _execute(  # noqa: PLR0917 (a plan, and all that it is carried out with)
    chip: Chip,
    plan: Plan,
    command: Command[R],
    session: PolicySession,
    live: PolicySession | None,
    secret: Secrecy | None,
) -> R:
    try:
        for number, step in enumerate(plan.steps, 1):
            try:
                run_step(chip, session, plan, step)
            except ChipRefusedError as e:
                raise _explained(e, plan, number, step) from e
        session.last = True
        try:
            return chip.send(command, session, *_beside(chip, plan, secret))
        except ChipRefusedError as e:
            if e.code == NOT_FOR_THIS_KEY:
                raise
            raise _explained(e, plan, len(plan.steps) + 1, None) from e
    except (RefusedError, UsageError, DeviceError):
        if live is None:
            with suppress(DeviceError):
                chip.flush(session.handle)
        raise


def _start(chip: Chip, plan: Plan, pin: Pin | None, secret: Secrecy | None) -> PolicySession:
    """A session; for a PIN a salted one, which who listens cannot try PINs on.

    It encrypts as well, but not where approvals bound the command's cpHash: that is computed over
    the parameters as they are sent, and approvers approved them in plain (Part 1 §16.7, §21). An
    answer that is secret is encrypted always.
    """
    if plan.has_pin and pin is None:
        raise UsageError(f"{plan.act}: the PIN is needed", code="pin-needed")
    salt = pin.salt if plan.has_pin and pin else secret.salt_of(plan) if secret else None
    if salt is None:
        return start_policy(chip)
    session = start_policy(chip, salt_key=salt, encrypt=secret is not None or not plan.given)
    session.both_ways = not plan.given
    session.auth_value = pin.value if plan.has_pin and pin else b""
    return session


@dataclass(frozen=True)
class Secrecy:
    """What encrypts an answer: the key of the chip that sessions are salted to, and whether the key
    that is used has a PIN.

    A session that stands for a key encrypts with the key's PIN, too, even where the policy does not
    ask for it (Part 1 §21.2): who does not know it needs another session.
    """

    salt: SaltKey
    key_has_pin: bool = False

    def salt_of(self, plan: Plan) -> SaltKey | None:
        """What the plan's own session is salted to."""
        return None if self.key_has_pin and not plan.has_pin else self.salt


def _beside(chip: Chip, plan: Plan, secret: Secrecy | None) -> tuple[HmacSession, ...]:
    """The other session, which ends with the command."""
    if secret is None or secret.salt_of(plan):
        return ()
    session = start_hmac(chip, salt_key=secret.salt, encrypt=True)
    session.both_ways = not plan.given
    session.last = True
    return (session,)


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
    elif isinstance(step, Secret):
        _use_unit(chip, handle, plan, step)
    else:
        raise UsageError(f"policy step {type(step).__name__}: not in this version")


def _use_unit(chip: Chip, session: int, plan: Plan, step: Secret) -> None:
    """PolicySecret over a budget's index, which adds one to pinCount or refuses.

    A password will do: who can listen at the chip could burn units without it.
    """
    auth = Password(plan.spend.auth if plan.spend else b"")
    index = plan.indices[step.entity]
    chip.send(PolicySecret(index, session, b"", b"", step.policy_ref, 0), auth)


def _show_approval(chip: Chip, session: int, plan: Plan, step: Signed) -> None:
    """LoadExternal, PolicySigned, flush; in a window PolicyTicket alone.

    The approver's key is loaded under the NULL hierarchy: tickets of others would come to life
    again when the state of a software TPM is restored.
    """
    given = plan.given[step.approver]
    if isinstance(given, Held):
        ref, name = step.policy_ref, step.approver
        chip.send(PolicyTicket(session, given.timeout, b"", ref, name, given.parsed))
        return
    loaded = chip.send(LoadExternal(None, given.member.public, RH.NULL)).object_handle
    try:
        chip.send(
            PolicySigned(
                auth_object=loaded,
                policy_session=session,
                nonce_tpm=plan.nonce,
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
    if isinstance(step, Signed) or (plan.in_window and base == RC.EXPIRED):
        return _words_of_window(base) if plan.in_window else _words_of_person(error, base, person)
    if isinstance(step, Nv):
        return _words_of_epoch(base, int.from_bytes(step.operand, "big"))
    if isinstance(step, AuthorizeNv):
        return _words_of_roster(base)
    if isinstance(step, Pcr) or base == RC.PCR_CHANGED:
        return _words_of_pcrs(base, of_roster=step is not None and step in plan.of_roster)
    if isinstance(step, Secret):
        return _words_of_budget(base, plan)
    return _words_of_the_whole(step)


def _words_of_the_whole(step: Step | None) -> tuple[str, str]:
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


def _words_of_window(base: int) -> tuple[str, str]:
    more = "tpmhsm key open KEY --for 15m asks the officers to open it again"
    if base == RC.EXPIRED:
        return "the window has ended", more
    return (
        "the tickets of the window are good no more: the chip was started anew or slept, or "
        "they are of another key or altered",
        more,
    )


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


def _words_of_budget(base: int, plan: Plan) -> tuple[str, str]:
    spend = plan.spend or Spend(b"")
    more = f"tpmhsm key grant {spend.key} N asks the officers of {spend.group or 'its group'}"
    if base == RC.AUTH_UNAVAILABLE:
        return f"the budget of {spend.key} is used up, or none was granted", f"{more} for N more"
    if base == RC.HANDLE:
        return (
            f"the NV index that counts the budget of {spend.key} is gone: somebody removed it",
            f"{more} for a new one",
        )
    return (
        f"the NV index that counts the budget of {spend.key} is another one",
        "somebody put it in its place: tpm2_nvundefine removes it; tpmhsm key show",
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
