"""The acts of a request: commands of the chip, recomputed from the content and the documents.

Nothing here is taken from the host: a command's cpHash is H(code ‖ Names ‖ parameters) with Names
recomputed from public areas and parameters from the very bytes that the person sees (TCG TPM 2.0
Library Part 1 §16.7).

An `Act` has no field for a cpHash or an expiration, and an `Opening` (`further_acts`) none for a
purpose: so an empty cpHash (a blank cheque) or a ticket for anything but a window, or SHA-1, cannot
even be written down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from tpmhsm.approval.request import BACKUP, Request
from tpmhsm.attest.statements import signing_key
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.ahash import NONCE_SIZE, a_hash_preimage, live_preimage
from tpmhsm.policy.approver import check_signature, key_identity, tpmt_signature
from tpmhsm.policy.bound import BoundCommand, bound_sign
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Threshold, Thresholds
from tpmhsm.policy.refs import Purpose, policy_ref

if TYPE_CHECKING:
    from tpmhsm.approval.further_acts import AnyAct
    from tpmhsm.approval.identity import Identity
    from tpmhsm.policy.approver import PublicKey


class OfPeople:
    """An act that the people of one ladder may approve."""

    people: Threshold

    def concerns(self, key: PublicKey) -> bool:
        """Whether the person with this key is on the act's ladder."""
        wanted = key_identity(key)
        return any(member.identity == wanted for member in self.people.members)


@dataclass(frozen=True)
class Act(OfPeople):
    """One command of the chip and the people of one ladder who may approve it.

    `what` in words; `epoch` is None for custodians' purposes; `ladder` counts from 1. `nonce` is
    empty, or the 16 bytes of nonceTPM of the one session in which the approval counts.
    """

    what: str
    bound: BoundCommand
    purpose: Purpose
    group_id: bytes
    epoch: int | None
    ladder: int
    people: Threshold
    nonce: bytes = b""

    def __post_init__(self) -> None:
        if len(self.nonce) not in (0, NONCE_SIZE):
            raise UsageError("a nonceTPM that people sign has 16 bytes", code="nonce-length")

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
        """What is signed with SHA-256: 68 bytes, with a nonce 84; their hash is the aHash."""
        if self.nonce:
            return live_preimage(self.nonce, 0, self.cp_hash, self.policy_ref)
        return a_hash_preimage(self.cp_hash, self.policy_ref)

    @property
    def a_hash(self) -> bytes:
        """H([nonceTPM] ‖ expiration 0 ‖ cpHash ‖ policyRef), 32 bytes."""
        return hashlib.sha256(self.preimage).digest()


def sign_ahash(identity: Identity, act: AnyAct) -> bytes:
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


def acts_of(request: Request) -> tuple[AnyAct, ...]:
    """Return the acts that a request asks for. ParseError for a content that is not of its kind.

    group: first increment, further increments, first roster write. roster: one increment and one
    write. backup: one copy. window: one opening. certificate, crl, csr, data: one signature.
    decrypt: one decryption. Each once for every ladder of the rule.
    """
    from tpmhsm.approval.further_acts import FURTHER

    try:
        return FURTHER.get(request.kind, _signature)(request)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"request: {e.message}") from None


_bound_sign = lru_cache(8)(bound_sign)  # asked for again with each approval of a request


def _signature(request: Request) -> tuple[Act, ...]:
    assert request.key is not None and request.roster is not None  # noqa: S101 - Request's own rule
    key = signing_key(request.key.public)
    digest = hashlib.new(key.hash_name, request.content).digest()
    bound = _bound_sign(key.public, digest)
    what = f"sign {len(request.content):,} bytes"
    return officers(request.roster, what, "sign", bound)


def officers(
    roster: RosterDocument, what: str, purpose: Purpose, bound: BoundCommand, nonce: bytes = b""
) -> tuple[Act, ...]:
    """One command, once for each ladder of the officers."""
    return tuple(
        Act(what, bound, purpose, roster.group, roster.epoch, number, threshold, nonce)
        for number, threshold in enumerate(roster.officers, 1)
    )


def rule_of(request: Request) -> Thresholds:
    """Return whose approvals a request needs: the custodians', or the officers' in force."""
    if request.roster is None or request.kind in ("roster", BACKUP):
        return request.group.custodians
    return request.roster.officers
