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
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.people import Member, Thresholds, members_of
from tpmhsm.policy.steps import (
    START,
    AuthorizeNv,
    AuthValue,
    CommandCode,
    Signed,
    Step,
    digest_of,
    walk,
)
from tpmhsm.policy.tree import (
    SIGN,
    Branch,
    branch_prefix,
    check_branch,
    counter_nv,
    epoch_ladders,
    index_policy,
    roster_ladders,
    roster_name,
    roster_tree,
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
    def has_pin(self) -> bool:
        """Whether the command is authorized by the PIN too."""
        return any(isinstance(step, AuthValue) for step in self.steps)

    @property
    def of_roster(self) -> tuple[Step, ...]:
        """The steps that a roster demands: those before AuthorizeNV."""
        ends = [i for i, step in enumerate(self.steps) if isinstance(step, AuthorizeNv)]
        return self.steps[: ends[0]] if ends else ()

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


@dataclass(frozen=True)
class Officers:
    """The officers of a group, and who of them approved."""

    group: GroupDocument
    roster: RosterDocument
    approvals: Approvals


def plan_sign(
    group: GroupDocument,
    roster: RosterDocument,
    public: Public | bytes,
    digest: bytes,
    approvals: Approvals,
) -> Plan:
    """Plan one signature by a key of the policy `quorum(GROUP)`; see `plan_use`."""
    policy = quorum_policy(group)
    officers = Officers(group, roster, approvals)
    return plan_use(policy, policy.alternatives[0], public, digest, officers)


def quorum_policy(group: GroupDocument) -> KeyPolicy:
    """The policy `quorum(GROUP)` of this very group."""
    return KeyPolicy((Alternative(group.name),), {group.name: roster_name(group)})


def plan_use(
    policy: KeyPolicy,
    alternative: Alternative,
    public: Public | bytes,
    digest: bytes,
    officers: Officers | None = None,
) -> Plan:
    """Plan one signature of `digest` by the key with this public area and policy.

    `officers` for an alternative with a group. UsageError for fewer approvals than the roster
    wants (of more, the first are taken), and for an open key, which needs no plan.
    """
    if policy.is_open:
        raise UsageError("an open key signs without a policy")
    way = policy.way(alternative)
    bound = bound_sign(public, digest)
    if not alternative.group:
        return Plan("sign", way, bound, policy.digest)
    if officers is None or officers.group.name != alternative.group:
        raise UsageError(f"nobody of the group {alternative.group!r} approved this")
    return plan_officers("sign", officers, SIGN, way, bound, policy.digest)


def plan_officers(  # noqa: PLR0917 (what, who, by which branch, and then what)
    act: str,
    officers: Officers,
    branch: Branch,
    way: tuple[Step, ...],
    bound: BoundCommand,
    policy: bytes,
) -> Plan:
    """Plan one command that officers approved: through a branch of the roster, and then `way`,
    which begins with AuthorizeNV and leads to `policy`. UsageError for fewer approvals than the
    roster wants, and for a branch that it has not.
    """
    group, roster = officers.group, officers.roster
    given = _given(roster.officers, officers.approvals)
    counter = name_of_nv(counter_nv(group, written=True))
    indices = {counter: group.counter_index, roster_name(group): group.roster_index}
    return Plan(act, climb_branch(officers, branch) + way, bound, policy, given, indices)


def climb_branch(officers: Officers, branch: Branch) -> tuple[Step, ...]:
    """Return the steps of a branch up to the roster's digest: prefix, ladders, PolicyORs."""
    group, roster = officers.group, officers.roster
    check_branch(roster, branch)
    prefix = branch_prefix(group, roster, branch)
    climbed = climb(branch.ladders(roster), roster.officers, officers.approvals, digest_of(prefix))
    steps = [*prefix, *climbed]
    if roster.officers[-1].m < roster.officers[-1].n:
        steps.pop()  # the last PolicyOR of the ladder stands in that of the branches
    return (*steps, *roster_tree(group, roster).ways[digest_of(steps)])


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
