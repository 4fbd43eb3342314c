"""The acts of a request: commands of the chip, recomputed from the content and the documents.

Nothing here is taken from the host: a command's cpHash is H(code ‖ Names ‖ parameters) with Names
recomputed from public areas and parameters from the very bytes that the person sees (TCG TPM 2.0
Library Part 1 §16.7). An `Act` has no field for a cpHash, a nonce or an expiration, so an empty
cpHash (a blank cheque), a ticket, or SHA-1 cannot even be written down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from tpmhsm.approval.evidence import signing_key
from tpmhsm.approval.request import Request
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import check_signature, key_identity, tpmt_signature
from tpmhsm.policy.bound import BoundCommand, bound_increment, bound_roster_write, bound_sign
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Threshold, Thresholds
from tpmhsm.policy.refs import Purpose, policy_ref

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity
    from tpmhsm.policy.approver import PublicKey


@dataclass(frozen=True)
class Act:
    """One command of the chip and the people of one ladder who may approve it.

    `what` in words; `epoch` is None for custodians' purposes; `ladder` counts from 1.
    """

    what: str
    bound: BoundCommand
    purpose: Purpose
    group_id: bytes
    epoch: int | None
    ladder: int
    people: Threshold

    @property
    def cp_hash(self) -> bytes:
        """H(code ‖ Names ‖ parameters), 32 bytes."""
        return self.bound.cp_hash

    @cached_property
    def policy_ref(self) -> bytes:
        """What the approval is for, 32 bytes."""
        return policy_ref(self.purpose, self.group_id, self.epoch, self.ladder)

    @property
    def preimage(self) -> bytes:
        """The 68 bytes that are signed with SHA-256; their hash is the aHash."""
        return a_hash_preimage(self.cp_hash, self.policy_ref)

    @property
    def a_hash(self) -> bytes:
        """H(expiration 0 ‖ cpHash ‖ policyRef), 32 bytes."""
        return hashlib.sha256(self.preimage).digest()

    def concerns(self, key: PublicKey) -> bool:
        """Whether the person with this key is on the act's ladder."""
        wanted = key_identity(key)
        return any(key_identity(member.key) == wanted for member in self.people.members)


def sign_ahash(identity: Identity, act: Act) -> bytes:
    """Return `identity`'s approval of one act: a TPMT_SIGNATURE over its aHash.

    The second of the two doors to an approver's key (the other: `statements.sign_statement`). The
    signature is checked before it is returned. ApprovalRefusedError if the key is not on the act's
    ladder.
    """
    key = identity.public_key
    if not act.concerns(key):
        raise ApprovalRefusedError(f"this key has no part in: {act.what}", code="not-a-member")
    message = act.preimage
    signature = tpmt_signature(key, identity.sign(message))
    check_signature(key, message, signature)
    return signature


def check_act_signature(key: PublicKey, act: Act, signature: bytes) -> None:
    """VerificationError unless a TPMT_SIGNATURE by `key` approves exactly this act."""
    check_signature(key, act.preimage, signature)


def acts_of(request: Request) -> tuple[Act, ...]:
    """Return the acts that a request asks for. ParseError for a content that is not of its kind.

    group: first increment, further increments, first roster write. roster: one increment and one
    write. certificate, crl, csr, data: one signature. Each once for every ladder of the rule.
    """
    try:
        if request.kind == "group":
            return _founding(request)
        if request.kind == "roster":
            return _change(request)
        return _signature(request)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"request: {e.message}") from None


def _founding(request: Request) -> tuple[Act, ...]:
    group, roster = request.group, request.asked_roster
    return (
        *_custodians(request, "start the epoch counter", "epoch",
                     bound_increment(group, written=False)),
        *_custodians(request, "move the epoch counter", "epoch",
                     bound_increment(group, written=True)),
        *_custodians(request, f"write the roster of epoch {roster.epoch}", "roster",
                     bound_roster_write(group, roster, written=False)),
    )  # fmt: skip


def _change(request: Request) -> tuple[Act, ...]:
    group, roster = request.group, request.asked_roster
    return (
        *_custodians(request, "move the epoch counter", "epoch",
                     bound_increment(group, written=True)),
        *_custodians(request, f"write the roster of epoch {roster.epoch}", "roster",
                     bound_roster_write(group, roster, written=True)),
    )  # fmt: skip


def _custodians(
    request: Request, what: str, purpose: Purpose, bound: BoundCommand
) -> tuple[Act, ...]:
    group = request.group
    return tuple(
        Act(what, bound, purpose, group.id, None, number, threshold)
        for number, threshold in enumerate(group.custodians, 1)
    )


_bound_sign = lru_cache(8)(bound_sign)  # asked for again with each approval of a request


def _signature(request: Request) -> tuple[Act, ...]:
    assert request.key is not None and request.roster is not None  # noqa: S101 - Request's own rule
    key = signing_key(request.key.public)
    digest = hashlib.new(key.hash_name, request.content).digest()
    bound = _bound_sign(key.public, digest)
    what = f"sign {len(request.content):,} bytes"
    roster: RosterDocument = request.roster
    return tuple(
        Act(what, bound, "sign", roster.group, roster.epoch, number, threshold)
        for number, threshold in enumerate(roster.officers, 1)
    )


def rule_of(request: Request) -> Thresholds:
    """Return whose approvals a request needs: the custodians', or the officers' in force."""
    if request.roster is None or request.kind == "roster":
        return request.group.custodians
    return request.roster.officers
