"""From documents and approvals to the exact policy commands of one session.

A plan is checked here before the chip sees it: its steps must end at the digest that the key or
index demands. `commands` is how many TPM commands it takes: the session, the steps (three for an
approval: load the approver's key, verify, flush), and the command itself, which ends the session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.bound import (
    BoundCommand,
    bound_increment,
    bound_roster_write,
    bound_use,
)
from tpmhsm.policy.budgets import Grant, write_steps
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.copying import CopyDocument, copy_ladders
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair
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
    BUDGET,
    ECDH_ZGEN,
    RSA_DECRYPT,
    SIGN,
    Branch,
    anchor,
    branch_prefix,
    check_branch,
    counter_nv,
    epoch_ladders,
    index_policy,
    must_change,
    roster_ladders,
    roster_name,
    roster_tree,
    static_ladders,
    window,
)
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import CC
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import Signature, Ticket

_BY_COMMAND = {branch.code: branch for branch in (SIGN, RSA_DECRYPT, ECDH_ZGEN)}
"""The branch of the roster by which officers approve a key's command."""

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
class Held:
    """One approver's ticket as the chip takes it, and as it gave it: `timeout` in the chip's own
    form, `ticket` a TPMT_TK_AUTH. It stands for the approval until a window ends.
    """

    member: Member
    timeout: bytes
    ticket: bytes

    @cached_property
    def parsed(self) -> Ticket:
        """The ticket; ParseError when it is none."""
        try:
            return decode(Ticket, self.ticket)
        except ParseError as e:
            raise ParseError(f"{self.member.name}'s ticket is no TPMT_TK_AUTH: {e}") from e


@dataclass(frozen=True)
class Spend:
    """What uses up a unit of a budget: the authorisation value of its index; in words, the key's
    label and the group that grants it.
    """

    auth: bytes = field(repr=False)
    key: str = "KEY"
    group: str = ""


@dataclass(frozen=True)
class Plan:
    """The commands of one policy session.

    `given` finds approvals or tickets by the approver's Name, `indices` NV handles by the index's.
    `act` says in words what it is for; `spend` is for a plan that uses up a unit of a budget;
    `nonce` is that of the one live session in which the approvals count, else empty.
    """

    act: str
    steps: tuple[Step, ...]
    bound: BoundCommand
    policy: bytes
    given: Mapping[bytes, Given | Held] = field(default_factory=dict)
    indices: Mapping[bytes, int] = field(default_factory=dict)
    spend: Spend | None = None
    nonce: bytes = b""

    def __post_init__(self) -> None:
        if walk(self.steps) != self.policy:
            raise UsageError(f"{self.act}: these steps do not lead to the policy")
        for given in self.given.values():
            _ = given.parsed  # bad ones are refused before the chip is asked

    @property
    def commands(self) -> int:
        """How many TPM commands the plan takes, its own command included."""
        return 2 + sum(3 if self._is_shown(step) else 1 for step in self.steps)

    def _is_shown(self, step: Step) -> bool:
        """Whether a step is an approval that the chip verifies, rather than a ticket."""
        return isinstance(step, Signed) and isinstance(self.given[step.approver], Given)

    @property
    def in_window(self) -> bool:
        """Whether tickets stand for the approvals."""
        return any(isinstance(one, Held) for one in self.given.values())

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
    ladders: tuple[Ladder, ...], rule: Thresholds, approvals: Collection[int], start: bytes = START
) -> tuple[Step, ...]:
    """Return the steps of a rule's ladders with the approvals of these indices. UsageError when
    too few.
    """
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


@dataclass(frozen=True)
class Opened:
    """A window: whose officers opened the key with this Name (34 bytes), and what the chip gave for
    their approvals, by the approver's index in the rule.
    """

    group: GroupDocument
    roster: RosterDocument
    key_name: bytes
    approvals: Mapping[int, Held]


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


def quorum_policy(group: GroupDocument, command: CC = CC.Sign) -> KeyPolicy:
    """The policy `quorum(GROUP)` of this very group, for keys of one command."""
    indices = {group.name: anchor(group, command)}
    return KeyPolicy((Alternative(group.name),), indices, command=command)


def plan_use(  # noqa: PLR0917 (a key, how it is used, for what, by whom)
    policy: KeyPolicy,
    alternative: Alternative,
    public: Public | bytes,
    content: bytes,
    officers: Officers | Opened | None = None,
    spend: Spend | None = None,
) -> Plan:
    """Plan one signature or decryption by the key with this public area and policy.

    `content` is the digest, or what is to be decrypted (`bound_use`); `officers` for an alternative
    with a group, or the window that they opened; `spend` for one with a budget. UsageError for
    fewer approvals than the roster wants (of more, the first are taken), and for an open key, which
    needs no plan.
    """
    if policy.is_open:
        raise UsageError("an open key is used without a policy")
    way = policy.way(alternative)
    bound = bound_use(public, content)
    act = "sign" if bound.code == CC.Sign else "decrypt"
    budget = alternative.budget
    counted = {policy.budget_name(budget): policy.budgets[budget]} if budget else {}
    if not alternative.group:
        return Plan(act, way, bound, policy.digest, indices=counted, spend=spend)
    if officers is None or officers.group.name != alternative.group:
        raise UsageError(f"nobody of the group {alternative.group!r} approved this")
    branch = _BY_COMMAND[bound.code]
    if isinstance(officers, Opened):
        branch = window(officers.key_name)
    plan = plan_officers(act, officers, branch, way, bound, policy.digest)
    return replace(plan, indices={**plan.indices, **counted}, spend=spend) if budget else plan


def plan_officers(  # noqa: PLR0917 (what, who, by which branch, and then what)
    act: str,
    officers: Officers | Opened,
    branch: Branch,
    way: tuple[Step, ...],
    bound: BoundCommand,
    policy: bytes,
) -> Plan:
    """Plan one command that officers approved: through a branch of the roster, and then `way`,
    which begins with AuthorizeNV and leads to `policy`. A static group's ladders stand in the
    place of both. UsageError for fewer approvals than the roster wants, and for a branch that it
    has not.
    """
    group, roster = officers.group, officers.roster
    given: Mapping[bytes, Given | Held]
    if isinstance(officers, Opened):
        given = {held.member.chip_name: held for held in officers.approvals.values()}
    else:
        given = _given(roster.officers, officers.approvals)
    if group.static:
        return Plan(act, climb_static(officers, branch) + way[1:], bound, policy, given)
    steps = climb_branch(officers, branch) + way
    return Plan(act, steps, bound, policy, given, _indices(group))


@lru_cache(32)
def _indices(group: GroupDocument) -> Mapping[bytes, int]:
    counter = name_of_nv(counter_nv(group, written=True))
    return {counter: group.counter_index, roster_name(group): group.roster_index}


def plan_grant(officers: Officers, grant: Grant) -> Plan:
    """Plan the write of a budget's limit: officers of the group that grants it approve."""
    roster = roster_name(officers.group)
    way, bound = write_steps(roster), grant.bound(roster)
    plan = plan_officers("grant a budget", officers, BUDGET, way, bound, digest_of(way))
    return replace(plan, nonce=grant.nonce)


def climb_static(officers: Officers | Opened, branch: Branch) -> tuple[Step, ...]:
    """Return the steps of a static group's ladders. UsageError for what it cannot be asked for."""
    group, roster = officers.group, officers.roster
    check_pair(group, roster)
    if branch not in _BY_COMMAND.values():
        must_change(group)
    rule = static_ladders(group, branch.code)
    return climb(rule, roster.officers, officers.approvals)


def climb_branch(officers: Officers | Opened, branch: Branch) -> tuple[Step, ...]:
    """Return the steps of a branch up to the roster's digest: prefix, ladders, PolicyORs."""
    return _branch(officers.group, officers.roster, branch, frozenset(officers.approvals))


@lru_cache(64)  # the same few people approve one request after another
def _branch(
    group: GroupDocument, roster: RosterDocument, branch: Branch, approvals: frozenset[int]
) -> tuple[Step, ...]:
    check_branch(roster, branch)
    prefix = branch_prefix(group, roster, branch)
    climbed = climb(branch.ladders(roster), roster.officers, approvals, digest_of(prefix))
    steps = [*prefix, *climbed]
    if roster.officers[-1].m < roster.officers[-1].n:
        steps.pop()  # the last PolicyOR of the ladder stands in that of the branches
    return (*steps, *roster_tree(group, roster).ways[digest_of(steps)])


def plan_copy(
    group: GroupDocument, policy: KeyPolicy, document: CopyDocument, approvals: Approvals
) -> Plan:
    """Plan one copy of a key with this policy to another chip: custodians approve. UsageError for a
    key that is not copied.
    """
    ladders = copy_ladders(group)
    steps = (*climb(ladders, group.custodians, approvals), *policy.copy_way())
    given = _given(group.custodians, approvals)
    return Plan("copy a key", steps, document.bound, policy.digest, given)


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
