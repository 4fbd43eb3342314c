"""Saying yes or no: the signatures, each checked before it leaves this module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.approval.acts import sign_ahash
from tpmhsm.approval.request import Request
from tpmhsm.approval.review import Review
from tpmhsm.approval.statements import sign_statement
from tpmhsm.approval.verify import Verified, verify_approval, verify_denial
from tpmhsm.approval.votes import MAX_REASON, ActSignature, Approval, Denial, parse_denial
from tpmhsm.attest.statements import key_for
from tpmhsm.errors import ApprovalRefusedError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.approver import key_identity, spki_of
from tpmhsm.policy.documents import to_base64
from tpmhsm.policy.tagged import DENIAL

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity

__all__ = ["Verified", "make_approval", "make_denial", "verify_approval", "verify_denial"]


def make_approval(review: Review, identity: Identity) -> Approval:
    """Sign every act of a reviewed request on whose ladder the approver is.

    Keep `review.entries` in the approver's memory afterwards. ApprovalRefusedError if `identity`
    is not the reviewed approver's; the finished approval is verified as the host will do it.
    """
    review.check()
    if key_identity(identity.public_key) != key_identity(review.approver.key):
        raise ApprovalRefusedError("the review was made for another key", code="not-a-member")
    if not review.acts:
        raise ApprovalRefusedError(f"{review.approver.name} has no part in this request")
    request = review.request
    approval = Approval(
        request=request.id,
        kind=request.kind,
        digest=request.digest,
        group=request.group.id,
        epoch=_epoch(request),
        key_name=b"" if request.key is None else key_for(request.kind, request.key.public).name,
        approver=review.approver.name,
        spki=review.approver.spki,
        key_kind=identity.kind,
        created=moments.now(),
        facts=review.content.facts,
        signatures=tuple(
            ActSignature(act.cp_hash, act.policy_ref, sign_ahash(identity, act))
            for act in review.acts
        ),
    )
    verify_approval(request, approval)
    return approval


def _epoch(request: Request) -> int:
    roster = request.roster
    return request.asked_roster.epoch if roster is None else roster.epoch


def make_denial(request: Request, identity: Identity, name: str, reason: str) -> Denial:
    """Return a signed refusal of a request; a denial needs no review.

    UsageError without a reason or with one beyond 1,000 characters.
    """
    if not reason.strip() or len(reason) > MAX_REASON:
        raise UsageError(f"a denial has a reason of 1 to {MAX_REASON} characters")
    data = sign_statement(
        identity,
        DENIAL,
        {
            "request": request.id,
            "digest": request.digest.hex(),
            "group": request.group.id.hex(),
            "approver": name,
            "spki": to_base64(spki_of(identity.public_key)),
            "reason": reason,
            "created": moments.stamp(moments.now()),
        },
    )
    denial = parse_denial(data)
    verify_denial(request, denial)
    return denial
