"""Whether an approval is one: the host's check on import, and the tool's before it counts others'.

Only the signatures count. What the file says of itself is used for one thing: when it approves
something else, to say what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import acts_of, rule_of
from tpmhsm.approval.content import short_facts
from tpmhsm.approval.further_acts import AnyAct
from tpmhsm.approval.request import SIGN_KINDS, Request
from tpmhsm.approval.screen import readable
from tpmhsm.approval.votes import ActSignature, Approval, Denial
from tpmhsm.attest.statements import key_for
from tpmhsm.errors import VerificationError
from tpmhsm.policy.approver import check_signature, key_identity
from tpmhsm.policy.people import Member, members_of

if TYPE_CHECKING:
    from tpmhsm.policy.approver import PublicKey


@dataclass(frozen=True)
class Verified:
    """An approval that holds: whose, their index along the rule, and a TPMT_SIGNATURE per act."""

    member: Member
    index: int
    signatures: tuple[tuple[AnyAct, bytes], ...]


def verify_approval(
    request: Request, approval: Approval, acts: tuple[AnyAct, ...] = ()
) -> Verified:
    """Return who approved, with a TPMT_SIGNATURE for each act on whose ladder they are.

    VerificationError in words ("bob approved other bytes: not_after differs …") unless every one
    of those acts, recomputed from the request, is signed by that member's key. ParseError when
    the request itself is bad. `acts` are those of the request, where they are known already.
    """
    index, member = _member_of(request, approval)
    _check_same(request, approval)
    given = {(one.cp_hash, one.policy_ref): one for one in approval.signatures}
    mine = [act for act in acts or acts_of(request) if act.concerns(member.key)]
    pairs = tuple((act, _signature(member, act, given)) for act in mine)
    if len(approval.signatures) != len(pairs):
        raise VerificationError(f"{member.name} approved more than this", code="other-act")
    return Verified(member, index, pairs)


def check_act_signature(key: PublicKey, act: AnyAct, signature: bytes) -> None:
    """VerificationError unless a TPMT_SIGNATURE by `key` approves exactly this act."""
    check_signature(key, act.preimage, signature)


def _signature(
    member: Member, act: AnyAct, given: dict[tuple[bytes, bytes], ActSignature]
) -> bytes:
    found = given.get((act.cp_hash, act.policy_ref))
    if found is None:
        raise VerificationError(f"{member.name} did not approve this: {act.what}", code="other-act")
    try:
        check_act_signature(member.key, act, found.signature)
    except VerificationError:
        raise VerificationError(
            f"{member.name}'s signature does not hold: {act.what}", code="bad-signature"
        ) from None
    return found.signature


def _member_of(request: Request, approval: Approval) -> tuple[int, Member]:
    rule = rule_of(request)
    wanted = key_identity(approval.key)
    for index, member in enumerate(members_of(rule)):
        if member.identity == wanted:
            if member.name != approval.approver:
                raise VerificationError(
                    f"the approval says {approval.approver}, but the key is {member.name}'s"
                )
            return index, member
    role = "officers" if request.kind in SIGN_KINDS else "custodians"
    raise VerificationError(
        f"{approval.approver} is not among the {role} with this key", code="not-a-member"
    )


def _check_same(request: Request, approval: Approval) -> None:
    """Say what differs, if the file admits it; if it lies, the signatures do not hold anyway."""
    who = approval.approver
    if approval.group != request.group.id:
        raise VerificationError(f"{who} approved for another group", code="other-group")
    if approval.kind != request.kind:
        raise VerificationError(f"{who} approved a {approval.kind}, not a {request.kind}")
    if approval.digest != request.digest:
        raise VerificationError(
            f"{who} approved other bytes{_what_differs(request, approval)}",
            code="other-bytes",
            details={"approved": approval.digest.hex(), "asked": request.digest.hex()},
        )
    wanted = None if request.key is None else key_for(request.kind, request.key.public).name
    if wanted is not None and approval.key_name != wanted:
        raise VerificationError(f"{who} approved for another key", code="other-key")
    if request.roster is not None and request.kind != "roster":
        epoch = request.roster.epoch
        if approval.epoch != epoch:
            raise VerificationError(
                f"{who} approved in epoch {approval.epoch}, the roster is of epoch {epoch}",
                code="other-epoch",
                hint=f"officers changed: tpmhsm request export {request.id} --force",
            )


def _what_differs(request: Request, approval: Approval) -> str:
    here, there = short_facts(request), approval.facts
    odd = [key for key in here if key in there and here[key] != there[key]]
    if not odd:
        return ""
    if len(odd) == 1 and len(there[odd[0]]) + len(here[odd[0]]) <= 120:
        key = odd[0]
        return f", {key} differs: {readable(there[key])} there, {readable(here[key])} here"
    return f", {', '.join(odd)} {'differs' if len(odd) == 1 else 'differ'}"


def verify_denial(request: Request, denial: Denial) -> Member:
    """Return who denied (the file's signature was checked when it was read).

    VerificationError unless it is somebody who may approve this very request.
    """
    wanted = key_identity(denial.key)
    for member in members_of(rule_of(request)):
        if key_identity(member.key) == wanted and member.name == denial.approver:
            break
    else:
        raise VerificationError(f"{denial.approver} has no say in this request")
    about = (denial.request, denial.digest, denial.group)
    if about != (request.id, request.digest, request.group.id):
        raise VerificationError(f"{denial.approver} denied another request")
    return member
