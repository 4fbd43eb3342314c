"""The digests of a group: its NV indices, its roster, its keys.

    epoch counter  = ladder(custodians, ref epoch)  ∧ CC(NV_Increment)
    roster index   = ladder(custodians, ref roster) ∧ CC(NV_Write)
    roster         = PolicyNV(epoch == e) ∧ CC(Sign) ∧ ladder(officers, ref sign)
    signing key    = AuthorizeNV(roster index) ∧ CC(Sign)

There is no circle: a Name never contains what an index holds. Policies use the *written* Names;
approvals of a first write or increment use the unwritten one in their cpHash.
"""

from __future__ import annotations

from functools import lru_cache

from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair
from tpmhsm.policy.ladder import Ladder, end_of
from tpmhsm.policy.people import ladders
from tpmhsm.policy.steps import AuthorizeNv, CommandCode, Nv, Step, digest_of
from tpmhsm.wire.constants import ALG, CC, NT, NvAttributes
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.structures import NvPublic

READABLE = NvAttributes.AUTHREAD | NvAttributes.OWNERREAD | NvAttributes.NO_DA
COUNTER_ATTRIBUTES = READABLE | NvAttributes.POLICYWRITE | NT.COUNTER << 4
ROSTER_ATTRIBUTES = READABLE | NvAttributes.POLICYWRITE

COUNTER_SIZE = 8
ROSTER_SIZE = 2 + 32 + 8 + 32
"""TPMT_HA(roster policy) ‖ epoch (u64) ‖ SHA-256(roster document)."""


def epoch_ladders(group: GroupDocument) -> tuple[Ladder, ...]:
    """The custodians' rule for moving the epoch."""
    return ladders(group.custodians, "epoch", group.id)


def roster_ladders(group: GroupDocument) -> tuple[Ladder, ...]:
    """The custodians' rule for writing a roster."""
    return ladders(group.custodians, "roster", group.id)


def sign_ladders(roster: RosterDocument) -> tuple[Ladder, ...]:
    """The officers' rule for signatures."""
    return ladders(roster.officers, "sign", roster.group, roster.epoch)


def index_policy(rule: tuple[Ladder, ...], code: int) -> bytes:
    """Return ladder ∧ CC(code): the authPolicy of an NV index that people write."""
    return CommandCode(code).extend(end_of(rule))


def counter_nv(group: GroupDocument, *, written: bool = False) -> NvPublic:
    """The public area of the epoch counter, before or after its first increment."""
    index = _counter(group)
    return as_written(index) if written else index


def roster_nv(group: GroupDocument, *, written: bool = False) -> NvPublic:
    """The public area of the roster index, before or after its first write."""
    index = _roster_index(group)
    return as_written(index) if written else index


# Both are asked for several times a signature, and never change.


@lru_cache(maxsize=32)
def _counter(group: GroupDocument) -> NvPublic:
    policy = index_policy(epoch_ladders(group), CC.NV_Increment)
    return _nv(group.counter_index, COUNTER_ATTRIBUTES, policy, COUNTER_SIZE)


@lru_cache(maxsize=32)
def _roster_index(group: GroupDocument) -> NvPublic:
    policy = index_policy(roster_ladders(group), CC.NV_Write)
    return _nv(group.roster_index, ROSTER_ATTRIBUTES, policy, ROSTER_SIZE)


def _nv(index: int, attributes: int, policy: bytes, size: int) -> NvPublic:
    return NvPublic(
        nv_index=index,
        name_alg=ALG.SHA256,
        attributes=attributes,
        auth_policy=policy,
        data_size=size,
    )


def as_written(index: NvPublic) -> NvPublic:
    """The same index once it has been written: another attribute, so another Name."""
    return index.replace(attributes=index.attributes | NvAttributes.WRITTEN)


def roster_prefix(group: GroupDocument, roster: RosterDocument) -> tuple[Step, ...]:
    """The steps before the officers' ladder. The CommandCode stays inside every branch: with it
    only in the key's policy, other branches' approvals would authorise other commands.
    """
    check_pair(group, roster)
    counter = name_of_nv(counter_nv(group, written=True))
    return (Nv(counter, roster.epoch.to_bytes(8, "big")), CommandCode(CC.Sign))


def roster_branches(group: GroupDocument, roster: RosterDocument) -> tuple[bytes, ...]:
    """The alternatives of a roster. This version has one: signing."""
    return (end_of(sign_ladders(roster), digest_of(roster_prefix(group, roster))),)


def roster_policy(group: GroupDocument, roster: RosterDocument) -> bytes:
    """Return the digest that the roster index holds. UsageError when the two do not belong."""
    (only,) = roster_branches(group, roster)
    return only


def roster_content(group: GroupDocument, roster: RosterDocument) -> bytes:
    """Return the 74 bytes of the roster index; PolicyAuthorizeNV reads the first 34 (TPMT_HA)."""
    algorithm = int(ALG.SHA256).to_bytes(2, "big")
    policy = roster_policy(group, roster)
    return algorithm + policy + roster.epoch.to_bytes(8, "big") + roster.hash


def roster_name(group: GroupDocument) -> bytes:
    """Return the Name of the roster index once it was written, 34 bytes: what keys refer to."""
    return name_of_nv(roster_nv(group, written=True))


def key_policy(group: GroupDocument) -> bytes:
    """Return the authPolicy of a key of the policy `quorum(GROUP)`. What else keys may demand is
    compiled in `tpmhsm.policy.compile`.
    """
    return digest_of((AuthorizeNv(roster_name(group)), CommandCode(CC.Sign)))
