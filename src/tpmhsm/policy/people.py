"""People in documents: members with their keys, and how many of them it takes.

A rule is one threshold ("2 of 3") or several that are joined ("2 of these and 1 of those"). Each
becomes a ladder of its own in the chip, with its number in the policyRef. Nobody stands on two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.approver import (
    approver_area,
    check_distinct,
    key_identity,
    load_spki,
)
from tpmhsm.policy.documents import Fields, check_label, to_base64
from tpmhsm.policy.ladder import MAX_APPROVERS, Ladder
from tpmhsm.policy.refs import Purpose, policy_ref
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public

if TYPE_CHECKING:
    from tpmhsm.policy.approver import PublicKey

CONTRIBUTION = 32


@dataclass(frozen=True)
class Member:
    """One approver in a document: label, DER SubjectPublicKeyInfo, and (custodians) randomness.

    `contribution` is the 32 random bytes of the member's card, empty in a roster.
    """

    name: str
    spki: bytes
    contribution: bytes = b""

    @cached_property
    def key(self) -> PublicKey:
        """The public key; ParseError when an approver may not have it."""
        return load_spki(self.spki)

    @cached_property
    def public(self) -> Public:
        """The public area that the chip is given."""
        return approver_area(self.key)

    @cached_property
    def chip_name(self) -> bytes:
        """The Name by which the chip knows this person (34 bytes)."""
        return name_of_public(self.public)

    @cached_property
    def identity(self) -> tuple[str, int, int]:
        """What makes two keys the same key: x and y, or n and e."""
        return key_identity(self.key)

    def encode(self) -> dict[str, Any]:
        """The JSON object that stands in a document."""
        value = {"name": self.name, "spki": to_base64(self.spki)}
        if self.contribution:
            value["contribution"] = self.contribution.hex()
        return value

    @classmethod
    def parse(cls, value: Any, what: str, *, contribution: bool) -> Member:
        """Read a member of a document; ParseError for anything amiss."""
        fields = Fields(value, what)
        extra = fields.hex("contribution", CONTRIBUTION) if contribution else b""
        member = cls(fields.label("name"), fields.base64("spki"), extra)
        fields.done()
        return member


@dataclass(frozen=True)
class Threshold:
    """`m` of these members, in this order. UsageError when that is impossible or two are one."""

    m: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        n = len(self.members)
        if not 1 <= self.m <= n or n > MAX_APPROVERS:
            raise UsageError(f"{self.m} of {n} people is no rule (at most {MAX_APPROVERS} people)")
        for member in self.members:
            check_label(member.name, "a member's name")
        if len({member.name for member in self.members}) != n:
            raise UsageError("two members have the same name")
        check_distinct([(member.name, member.key) for member in self.members])

    @property
    def n(self) -> int:
        """How many members there are."""
        return len(self.members)

    def describe(self) -> str:
        """Words: '2 of 3 (alice, bob, carol)'."""
        return f"{self.m} of {self.n} ({', '.join(member.name for member in self.members)})"

    def ladder(self, ref: bytes) -> Ladder:
        """The chip's rule for this threshold under one policyRef."""
        return Ladder(self.m, tuple(member.chip_name for member in self.members), ref)

    def encode(self) -> dict[str, Any]:
        """The JSON object that stands in a document."""
        return {"m": self.m, "members": [member.encode() for member in self.members]}

    @classmethod
    def parse(cls, value: Any, what: str, *, contributions: bool) -> Threshold:
        """Read a threshold of a document; ParseError for anything amiss."""
        fields = Fields(value, what)
        m = fields.number("m", 1, MAX_APPROVERS)
        members = tuple(
            Member.parse(item, f"{what}: member {i}", contribution=contributions)
            for i, item in enumerate(fields.list("members"), 1)
        )
        fields.done()
        try:
            return cls(m, members)
        except ParseError:
            raise
        except UsageError as e:
            raise ParseError(f"{what}: {e.message}") from None


Thresholds = tuple[Threshold, ...]
"""A rule: every one of these thresholds must be met."""


def check_rule(rule: Thresholds) -> None:
    """Refuse (UsageError) an empty rule, too many people, and one name or key on two ladders:
    that person would count twice.
    """
    members = members_of(rule)
    if not 1 <= len(members) <= MAX_APPROVERS:
        raise UsageError(f"a rule of {len(members)} people (at most {MAX_APPROVERS})")
    ladder: dict[str, int] = {}
    for number, threshold in enumerate(rule, 1):
        for member in threshold.members:
            if (other := ladder.setdefault(member.name, number)) != number:
                raise UsageError(
                    f"{member.name} stands on two ladders of one rule ({other} and {number}): "
                    "one person would count twice",
                    code="two-ladders",
                )
    check_distinct([(member.name, member.key) for member in members])


def parse_thresholds(items: list[Any], what: str, *, contributions: bool) -> Thresholds:
    """Read the rule of a document. The document that it stands in checks it as a whole."""
    return tuple(Threshold.parse(item, what, contributions=contributions) for item in items)


_JOIN = re.compile(r"\+(?=\s*\d+\s*:)")


def read_rule(text: str) -> list[tuple[int, list[str]]]:
    """Read `2:alice,bob,carol` or, joined, `2:alice,bob,carol+1:dave,erin`.

    Gives (M, names) for each ladder; UsageError for what is no rule. A plus joins only before a
    number and a colon, which no name contains.
    """
    found = []
    for part in _JOIN.split(text):
        count, colon, rest = part.partition(":")
        names = [name.strip() for name in rest.split(",") if name.strip()]
        if not colon or not count.strip().isdecimal() or len(count) > 4 or not names:
            raise UsageError(
                f"{part.strip()!r} is no rule",
                hint="M:NAME,NAME,… as in 2:alice,bob,carol; joined: 2:alice,bob,carol+1:dave,erin",
                code="bad-rule",
            )
        found.append((int(count), names))
    return found


def write_rule(ladders: Iterable[tuple[int, Iterable[str]]]) -> str:
    """A rule as it is typed, from what `read_rule` gives."""
    return "+".join(f"{m}:{','.join(names)}" for m, names in ladders)


def rule_text(rule: Thresholds) -> str:
    """A rule as `--officers` takes it: '2:alice,bob,carol'."""
    return write_rule((one.m, (member.name for member in one.members)) for one in rule)


def describe_rule(rule: Thresholds) -> str:
    """Words: '2 of 3 (alice, bob, carol) and 1 of 2 (dave, erin)'."""
    return " and ".join(threshold.describe() for threshold in rule)


def members_of(rule: Thresholds) -> tuple[Member, ...]:
    """All members of a rule, in its order: an approver's index counts along this."""
    return tuple(member for threshold in rule for member in threshold.members)


def needed(rule: Thresholds) -> int:
    """How many approvals a rule takes."""
    return sum(threshold.m for threshold in rule)


def outstanding(rule: Thresholds, approved: Collection[str]) -> tuple[tuple[int, list[str]], ...]:
    """For each ladder that is not satisfied yet: how many more it takes, and of whom.

    `approved` are names of members. More approvals than M on one ladder count for no other.
    """
    found = []
    for threshold in rule:
        rest = [member.name for member in threshold.members if member.name not in approved]
        if (more := threshold.m - (threshold.n - len(rest))) > 0:
            found.append((more, rest))
    return tuple(found)


def still_needed(rule: Thresholds, approved: Collection[str]) -> int:
    """How many approvals are missing when these members (names) have approved."""
    return sum(more for more, _ in outstanding(rule, approved))


def describe_outstanding(rule: Thresholds, approved: Collection[str]) -> str:
    """Words: '1 of (alice, carol) and 1 of (dave, erin)'; empty when nothing is missing."""
    left = outstanding(rule, approved)
    return " and ".join(f"{more} of ({', '.join(names)})" for more, names in left)


def ladders(
    rule: Thresholds,
    purpose: Purpose,
    group_id: bytes,
    epoch: int | None = None,
    subject: bytes = b"",
) -> tuple[Ladder, ...]:
    """The chip's ladders for a rule: each has its own number in its `policy_ref`."""
    return tuple(
        threshold.ladder(policy_ref(purpose, group_id, epoch, number, subject))
        for number, threshold in enumerate(rule, 1)
    )


def find_member(rule: Iterable[Threshold], name: str) -> Member | None:
    """The member with this name, or None."""
    return next((m for threshold in rule for m in threshold.members if m.name == name), None)
