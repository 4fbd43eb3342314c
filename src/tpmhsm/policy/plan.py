"""From documents and approvals to the exact policy commands of one session.

A plan is checked here before the chip sees it: its steps must end at the digest that the key or
index demands. `commands` is how many TPM commands it takes: the session, the steps (three for an
approval: load the approver's key, verify, flush), and the command itself, which ends the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.bound import (
    BoundCommand,
    bound_increment,
    bound_roster_write,
    bound_sign,
)
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.people import Member, Thresholds, members_of
from tpmhsm.policy.steps import START, CommandCode, Signed, Step, digest_of, walk
from tpmhsm.policy.tree import (
    counter_nv,
    epoch_ladders,
    index_policy,
    key_policy,
    key_steps,
    roster_ladders,
    roster_nv,
    roster_prefix,
    sign_ladders,
)
from tpmhsm.wire.codec import decode
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import Signature

Approvals = Mapping[int, bytes]
"""TPMT_SIGNATUREs by the approver's index in the rule (from 0, along all its thresholds)."""


@dataclass(frozen=True)
class Given:
    """One approval as the chip takes it: whose, and the TPMT_SIGNATURE over the aHash."""

    member: Member
    signature: bytes

    @cached_property
    def parsed(self) -> Signature:
        """The TPMT_SIGNATURE; ParseError when it is none."""
        try:
            return decode(Signature, self.signature)
        except ParseError as e:
            raise ParseError(f"{self.member.name}'s approval is no TPMT_SIGNATURE: {e}") from e


@dataclass(frozen=True)
class Plan:
    """The commands of one policy session.

    `given` finds approvals by the approver's Name, `indices` NV handles by the index's Name.
    `act` says in words what it is for.
    """

    act: str
    steps: tuple[Step, ...]
    bound: BoundCommand
    policy: bytes
    given: Mapping[bytes, Given] = field(default_factory=dict)
    indices: Mapping[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if walk(self.steps) != self.policy:
            raise UsageError(f"{self.act}: these steps do not lead to the policy")
        for given in self.given.values():
            _ = given.parsed  # bad ones are refused before the chip is asked

    @property
    def commands(self) -> int:
        """How many TPM commands the plan takes, its own command included."""
        return 2 + sum(3 if isinstance(step, Signed) else 1 for step in self.steps)

    @property
    def people(self) -> tuple[str, ...]:
        """Whose approvals are used, in order."""
        signed = (step.approver for step in self.steps if isinstance(step, Signed))
        return tuple(self.given[name].member.name for name in signed)


def climb(
    ladders: tuple[Ladder, ...], rule: Thresholds, approvals: Approvals, start: bytes = START
) -> tuple[Step, ...]:
    """Return the steps of a rule's ladders with these approvals. UsageError when too few."""
    steps: list[Step] = []
    first = 0
    for ladder, threshold in zip(ladders, rule, strict=True):
        own = {i - first for i in approvals if first <= i < first + threshold.n}
        part = ladder.plan(own, start)
        start = digest_of(part, start)
        steps += part
        first += threshold.n
    return tuple(steps)


def _given(rule: Thresholds, approvals: Approvals) -> dict[bytes, Given]:
    members = members_of(rule)
    if not all(0 <= i < len(members) for i in approvals):
        raise UsageError("an approval by somebody who is not in the rule")
    return {members[i].chip_name: Given(members[i], s) for i, s in approvals.items()}


def plan_sign(
    group: GroupDocument,
    roster: RosterDocument,
    public: Public | bytes,
    digest: bytes,
    approvals: Approvals,
) -> Plan:
    """Plan one signature: officers approve `digest` under the key with this public area.

    UsageError for fewer approvals than the roster wants; of more, the first are taken.
    """
    given = _given(roster.officers, approvals)
    prefix = roster_prefix(group, roster)
    ladders = sign_ladders(roster)
    steps = climb(ladders, roster.officers, approvals, digest_of(prefix))
    counter = name_of_nv(counter_nv(group, written=True))
    index = name_of_nv(roster_nv(group, written=True))
    return Plan(
        act="sign",
        steps=prefix + steps + key_steps(group),
        bound=bound_sign(public, digest),
        policy=key_policy(group),
        given=given,
        indices={counter: group.counter_index, index: group.roster_index},
    )


def _plan_custodians(
    act: str,
    group: GroupDocument,
    ladders: tuple[Ladder, ...],
    bound: BoundCommand,
    approvals: Approvals,
) -> Plan:
    given = _given(group.custodians, approvals)
    steps = climb(ladders, group.custodians, approvals)
    policy = index_policy(ladders, bound.code)
    return Plan(act, (*steps, CommandCode(bound.code)), bound, policy, given)


def plan_increment(group: GroupDocument, approvals: Approvals, *, written: bool) -> Plan:
    """Plan one step of the epoch: custodians approve. `written`: not the counter's first."""
    bound = bound_increment(group, written=written)
    return _plan_custodians("move the epoch", group, epoch_ladders(group), bound, approvals)


def plan_roster_write(
    group: GroupDocument, roster: RosterDocument, approvals: Approvals, *, written: bool
) -> Plan:
    """Plan the writing of a roster: custodians approve. `written`: it is not the first."""
    bound = bound_roster_write(group, roster, written=written)
    return _plan_custodians("write the roster", group, roster_ladders(group), bound, approvals)
