"""A group in words: who can sign, who can replace whom, what happens if one is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpmhsm.errors import NotFoundError
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.people import (
    Threshold,
    Thresholds,
    describe_rule,
    find_member,
    needed,
    write_rule,
)

Groups = Mapping[str, tuple[GroupDocument, RosterDocument]]
"""By label: the founding document and the roster in force."""

Left = tuple[int, tuple[str, ...]]
"""One ladder: how many it takes, and who is left."""


STATIC = (
    "its people can never be changed: one who leaves or is dismissed, or whose key is stolen, "
    "counts as long as its keys live",
    "a lost quorum ends its keys for good; nobody governs it, and it grants no budgets and opens "
    "no keys",
)
"""What is lost with a static group."""


@dataclass(frozen=True)
class Standing:
    """How one rule stands when somebody is lost: who is left on each ladder, and how many more
    may be lost, whoever they are.
    """

    ladders: tuple[Left, ...]

    @property
    def reachable(self) -> bool:
        """Whether the rule can still be met."""
        return all(len(names) >= m for m, names in self.ladders)

    @property
    def spare(self) -> int:
        """How many more may be lost."""
        return max(0, min(len(names) - m for m, names in self.ladders))


def standing(rule: Thresholds, without: Sequence[str] = ()) -> Standing:
    """Return how a rule stands when the named people are lost."""
    return Standing(
        tuple((t.m, tuple(m.name for m in t.members if m.name not in without)) for t in rule)
    )


def explain_group(
    group: GroupDocument, roster: RosterDocument, without: Sequence[str] = ()
) -> list[str]:
    """Return sentences about who can sign and who can replace whom; with `without`, if these people
    are lost, all of them.

    NotFoundError when nobody of one of the names is in the group.
    """
    if not without and group.static:
        return _static(group, roster)
    if not without:
        return [*_who(group, roster), *_loss(group, roster), *_warnings(group, roster)]
    lost = list(dict.fromkeys(without))
    for name in lost:
        if not _roles(group, roster, name):
            raise NotFoundError(
                f'nobody called {name!r} is in the group "{group.name}"',
                hint=f"tpmhsm group show {group.name}; several are --without A --without B",
            )
    if group.static:
        return _static_without(group, roster, lost)
    return _without(group, roster, lost)


def _roles(group: GroupDocument, roster: RosterDocument, name: str) -> list[str]:
    """What somebody is in the group. Nobody governs a static one."""
    rules = [("officer", roster.officers)]
    rules += [] if group.static else [("custodian", group.custodians)]
    return [role for role, rule in rules if find_member(rule, name)]


def _static(group: GroupDocument, roster: RosterDocument) -> list[str]:
    spare = standing(roster.officers).spare
    return [
        f'Group "{group.name}" is static: it stands in the policy of each of its keys.',
        f"Who can sign: officers, {describe_rule(roster.officers)}.",
        "Who can replace officers: nobody. New people mean a new group and new keys.",
        f"May be lost: {_number(spare, 'officer')} before the keys can never sign again.",
        *(f"! {line[0].upper()}{line[1:]}." for line in STATIC),
    ]


def _static_without(group: GroupDocument, roster: RosterDocument, lost: list[str]) -> list[str]:
    left, names = standing(roster.officers, lost), _and(lost)
    role = "officer" if len(lost) == 1 else "officers"
    return [
        f'Without {names} ({role} of "{group.name}", which is static):',
        f"Signing: {_left(left, 'officer')}."
        + ("" if left.reachable else " The keys can never sign again."),
        f"{names} cannot be replaced, and a stolen key of theirs counts on: plan a new group and "
        "new keys.",
    ]


def _who(group: GroupDocument, roster: RosterDocument) -> list[str]:
    return [
        f'Group "{group.name}", epoch {roster.epoch}.',
        f"Who can sign: officers, {describe_rule(roster.officers)}.",
        f"Who can replace officers: custodians, {describe_rule(group.custodians)}.",
        "Who can replace custodians: nobody; they are fixed for the life of the group. "
        "New custodians mean a new group and new keys.",
        "A quorum of custodians can make itself officers: count them among those who can sign.",
    ]


def _loss(group: GroupDocument, roster: RosterDocument) -> list[str]:
    officers, custodians = standing(roster.officers), standing(group.custodians)
    return [
        f"May be lost: {_number(officers.spare, 'officer')} before signing stops (until the "
        "custodians appoint others);",
        f"  {_number(custodians.spare, 'custodian')} before officers can never be changed again.",
    ]


def _warnings(group: GroupDocument, roster: RosterDocument) -> list[str]:
    lines = []
    if _keys(group.custodians) == _keys(roster.officers):
        lines.append(
            "! Custodians and officers are the same people: whoever is lost is lost in both roles, "
            "and custodians cannot be replaced."
        )
    for role, rule in (("officer", roster.officers), ("custodian", group.custodians)):
        if needed(rule) == 1:
            lines.append(f"! One {role} alone is enough: a single stolen key decides.")
        lines += [
            f"! Every {role}{_of(threshold, rule)} is needed: one who is lost stops them all."
            for threshold in rule
            if threshold.m == threshold.n and needed(rule) > 1
        ]
    return lines


def _of(threshold: Threshold, rule: Thresholds) -> str:
    """' of (dave, erin)' where a rule has several ladders."""
    names = ", ".join(member.name for member in threshold.members)
    return f" of ({names})" if len(rule) > 1 else ""


def _keys(rule: Sequence[Threshold]) -> set[bytes]:
    return {member.chip_name for threshold in rule for member in threshold.members}


def _number(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _without(group: GroupDocument, roster: RosterDocument, lost: list[str]) -> list[str]:
    roles = {name: _roles(group, roster, name) for name in lost}
    who = _and([f"{name} ({' and '.join(roles[name])})" for name in lost])
    signing, governing = standing(roster.officers, lost), standing(group.custodians, lost)
    lines = [f'Without {who} of "{group.name}":']
    lines.append(
        f"Signing: {_left(signing, 'officer')}."
        + ("" if signing.reachable or governing.reachable else " The keys can never sign again.")
    )
    lines.append(
        f"Replacing officers: {_left(governing, 'custodian')}."
        + ("" if governing.reachable else " The officers can never be changed again.")
    )
    if governing.reachable and any("officer" in found for found in roles.values()):
        lines.append(
            f"Next: tpmhsm group change {group.name} --officers {_refilled(roster, signing)}"
        )
    for name in lost:
        if "custodian" in roles[name]:
            lines.append(
                f"{name} stays a custodian on paper: if the key is stolen rather than lost, it "
                "still counts as one. Plan a new group and new keys."
            )
    return lines


def _refilled(roster: RosterDocument, left: Standing) -> str:
    """The rule with somebody new in each place that is empty: '2:alice,NEW,NEW'."""
    pairs = zip(roster.officers, left.ladders, strict=True)
    return write_rule((m, (*names, *["NEW"] * (was.n - len(names)))) for was, (m, names) in pairs)


def _and(words: Sequence[str]) -> str:
    """'alice', 'alice and bob', 'alice, bob and carol'."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _left(state: Standing, role: str) -> str:
    """'still possible with alice, carol: 2 needed, no officers to spare'."""
    joint = len(state.ladders) > 1
    short = [
        f"{m} needed, {len(names)} left" + (f" ({', '.join(names) or 'nobody'})" if joint else "")
        for m, names in state.ladders
        if len(names) < m
    ]
    if short:
        return f"impossible: {' and '.join(short)}"
    spare = f"{_number(state.spare, role)} to spare"
    if joint:
        words = " and ".join(f"{m} of ({', '.join(names)})" for m, names in state.ladders)
        return f"still possible with {words}, {spare}"
    m, names = state.ladders[0]
    return f"still possible with {', '.join(names)}: {m} needed, {spare}"
