"""The digests of a group: its NV indices, its roster, its keys.

    epoch counter  = ladder(custodians, ref epoch)  ∧ CC(NV_Increment)
    roster index   = ladder(custodians, ref roster) ∧ CC(NV_Write)
    signing key    = AuthorizeNV(roster index) ∧ CC(Sign)
    roster         = PolicyNV(epoch == e) ∧ [PolicyPCR] ∧ any of, as far as the roster has them
        CC(Sign)                                ∧ ladder(officers, ref sign)
        CC(Sign) ∧ PolicyNameHash(H(Name(key))) ∧ ladder(officers, ref window, key)
        CC(RSA_Decrypt), and CC(ECDH_ZGen)      ∧ ladder(officers, ref decrypt)
        CC(NV_Write)                            ∧ ladder(officers, ref budget)
    key of a static group = ladder(officers, ref sign, epoch 1) ∧ CC(Sign); or decrypt, and its CC

There is no circle: a Name never contains what an index holds. Policies use the *written* Names;
approvals of a first write or increment use the unwritten one in their cpHash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tpmhsm.errors import UsageError
from tpmhsm.policy.group import (
    STATIC_EPOCH,
    GroupDocument,
    RosterDocument,
    check_pair,
    static_roster,
)
from tpmhsm.policy.ladder import Ladder, end_of
from tpmhsm.policy.merging import Merged, first_direct
from tpmhsm.policy.pcrs import demanded, encode_selection, pcr_digest
from tpmhsm.policy.people import ladders
from tpmhsm.policy.refs import Purpose
from tpmhsm.policy.steps import (
    AuthorizeNv,
    Climbed,
    CommandCode,
    NameHash,
    Nv,
    Pcr,
    Step,
    digest_of,
)
from tpmhsm.wire.constants import ALG, CC, NT, NvAttributes
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.structures import NvPublic

READABLE = NvAttributes.AUTHREAD | NvAttributes.OWNERREAD | NvAttributes.NO_DA
COUNTER_ATTRIBUTES = READABLE | NvAttributes.POLICYWRITE | NT.COUNTER << 4
ROSTER_ATTRIBUTES = READABLE | NvAttributes.POLICYWRITE

NAME_SIZE = 34
"""Bytes of a Name: the algorithm's number and a SHA-256. A digest alone has 32."""

COUNTER_SIZE = 8
ROSTER_SIZE = 2 + 32 + 8 + 32
"""TPMT_HA(roster policy) ‖ epoch (u64) ‖ SHA-256(roster document)."""


def epoch_ladders(group: GroupDocument) -> tuple[Ladder, ...]:
    """The custodians' rule for moving the epoch."""
    return ladders(group.custodians, "epoch", group.id)


def roster_ladders(group: GroupDocument) -> tuple[Ladder, ...]:
    """The custodians' rule for writing a roster."""
    return ladders(group.custodians, "roster", group.id)


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
    must_change(group)
    policy = index_policy(epoch_ladders(group), CC.NV_Increment)
    return _nv(group.counter_index, COUNTER_ATTRIBUTES, policy, COUNTER_SIZE)


@lru_cache(maxsize=32)
def _roster_index(group: GroupDocument) -> NvPublic:
    must_change(group)
    policy = index_policy(roster_ladders(group), CC.NV_Write)
    return _nv(group.roster_index, ROSTER_ATTRIBUTES, policy, ROSTER_SIZE)


def must_change(group: GroupDocument) -> None:
    """Raise UsageError (`static-group`) for what takes a roster that can change."""
    if group.static:
        raise UsageError(
            f'the group "{group.name}" is static: its people never change, and it grants no '
            "budgets and opens no keys",
            code="static-group",
            hint="other people: another group, and new keys",
        )


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


# ── the roster ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Branch:
    """One thing that officers may be asked for: the purpose in their policyRef, the command, and
    for a window the Name of the key (34 bytes), to which the chip then holds them.
    """

    purpose: Purpose
    code: CC
    subject: bytes = b""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What stands before the officers' ladder. The CommandCode stays inside every branch: with
        it only in the key's policy, other branches' approvals would authorise other commands.
        """
        code = CommandCode(self.code)
        return (code, NameHash.of(self.subject)) if self.subject else (code,)

    def ladders(self, roster: RosterDocument) -> tuple[Ladder, ...]:
        """The officers' rule for it."""
        return ladders(roster.officers, self.purpose, roster.group, roster.epoch, self.subject)


SIGN = Branch("sign", CC.Sign)
RSA_DECRYPT = Branch("decrypt", CC.RSA_Decrypt)
ECDH_ZGEN = Branch("decrypt", CC.ECDH_ZGen)
BUDGET = Branch("budget", CC.NV_Write)

_BRANCHES = {"sign": (SIGN,), "decrypt": (RSA_DECRYPT, ECDH_ZGEN), "budget": (BUDGET,)}


def window(key_name: bytes) -> Branch:
    """The branch by which officers open the key of this Name for some seconds."""
    return Branch("window", CC.Sign, key_name)


def branches_of(roster: RosterDocument) -> tuple[Branch, ...]:
    """All branches, in the order in which they stand in the roster's tree: signing, and windows,
    which sign too, come first, for those are used often.
    """
    sign, *others = (_BRANCHES[use] if use in roster.uses else () for use in _BRANCHES)
    windows = tuple(map(window, roster.windows))
    return (*sign, *windows, *(branch for use in others for branch in use))


def check_branch(roster: RosterDocument, branch: Branch) -> None:
    """UsageError, with the next step, unless the roster has the branch."""
    if branch in branches_of(roster):
        return
    if branch.subject:
        raise UsageError(
            "the custodians have not allowed that this key is opened",
            code="window-not-allowed",
            hint="tpmhsm group change GROUP --open KEY",
        )
    raise UsageError(
        f"officers of this roster cannot be asked to {branch.purpose}",
        code="use-not-in-roster",
        hint=f"tpmhsm group change GROUP --uses {','.join([*roster.uses, branch.purpose])}",
    )


def branch_prefix(
    group: GroupDocument, roster: RosterDocument, branch: Branch = SIGN
) -> tuple[Step, ...]:
    """The steps before the officers' ladder: the epoch, the machine's state where the roster
    demands one, then the branch's own. UsageError when the documents do not belong together.
    """
    check_pair(group, roster)
    counter = name_of_nv(counter_nv(group, written=True))
    steps: list[Step] = [Nv(counter, roster.epoch.to_bytes(8, "big"))]
    if pcrs := demanded(roster.measured):
        steps.append(Pcr(encode_selection(pcrs), pcr_digest(pcrs, roster.measured)))
    return (*steps, *branch.steps)


@lru_cache(maxsize=32)
def roster_tree(group: GroupDocument, roster: RosterDocument) -> Merged:
    """The last alternatives of all branches' ladders, merged: what the roster index holds, and the
    way there. So the PolicyOR of the branches is also the last of each ladder.
    """
    ends = []
    for branch in branches_of(roster):
        *before, last = branch.ladders(roster)
        ends.append(last.ends(end_of(before, digest_of(branch_prefix(group, roster, branch)))))
    return first_direct([digest for pair in ends for digest in pair], len(ends[0]))


def roster_policy(group: GroupDocument, roster: RosterDocument) -> bytes:
    """Return the digest that the roster index holds. UsageError when the two do not belong."""
    return roster_tree(group, roster).digest


def roster_content(group: GroupDocument, roster: RosterDocument) -> bytes:
    """Return the 74 bytes of the roster index; PolicyAuthorizeNV reads the first 34 (TPMT_HA)."""
    algorithm = int(ALG.SHA256).to_bytes(2, "big")
    policy = roster_policy(group, roster)
    return algorithm + policy + roster.epoch.to_bytes(8, "big") + roster.hash


def roster_name(group: GroupDocument) -> bytes:
    """Return the Name of the roster index once it was written, 34 bytes: what keys refer to."""
    return name_of_nv(roster_nv(group, written=True))


def static_ladders(group: GroupDocument, command: CC) -> tuple[Ladder, ...]:
    """The officers' rule of a static group, as it stands in each key for this command."""
    purpose: Purpose = "sign" if command == CC.Sign else "decrypt"
    return ladders(static_roster(group).officers, purpose, group.id, STATIC_EPOCH)


@lru_cache(maxsize=32)
def anchor(group: GroupDocument, command: CC = CC.Sign) -> bytes:
    """Return what keys for this command refer to when they demand approvals of the group: the Name
    of its roster index (34 bytes), or for a static group the digest after its ladders (32 bytes).
    """
    return end_of(static_ladders(group, command)) if group.static else roster_name(group)


def people_step(at: bytes) -> Step:
    """Return the step by which a key demands a group's approvals, given its `anchor`."""
    return AuthorizeNv(at) if len(at) == NAME_SIZE else Climbed(at)


def key_policy(group: GroupDocument) -> bytes:
    """Return the authPolicy of a key of the policy `quorum(GROUP)`. What else keys may demand is
    compiled in `tpmhsm.policy.compile`.
    """
    return digest_of((people_step(anchor(group)), CommandCode(CC.Sign)))
