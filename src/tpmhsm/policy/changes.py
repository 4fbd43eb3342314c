"""What a change of officers changes, in words, and whether it makes the rule weaker.

People are compared by their keys. Ladders of the old and the new rule belong together when they
share most people; what is left over is new, or dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tpmhsm.policy.people import Member, Threshold, Thresholds, members_of

Pair = tuple[Threshold | None, Threshold | None]
"""A ladder as it was and as it is to be; None where there is none."""


@dataclass(frozen=True)
class Change:
    """From one rule to another."""

    before: Thresholds
    after: Thresholds

    @cached_property
    def added(self) -> tuple[Member, ...]:
        """Members with a key that was not there."""
        return _minus(self.after, self.before)

    @cached_property
    def removed(self) -> tuple[Member, ...]:
        """Members whose key is there no longer."""
        return _minus(self.before, self.after)

    @cached_property
    def renamed(self) -> tuple[tuple[Member, Member], ...]:
        """Keys that stay and get another name: as it was, as it is to be."""
        later = {member.chip_name: member for member in members_of(self.after)}
        both = ((was, later.get(was.chip_name)) for was in members_of(self.before))
        return tuple((was, is_) for was, is_ in both if is_ and is_.name != was.name)

    @cached_property
    def rekeyed(self) -> tuple[str, ...]:
        """Names that stay and get another key."""
        return tuple(sorted({m.name for m in self.added} & {m.name for m in self.removed}))

    @cached_property
    def ladders(self) -> tuple[Pair, ...]:
        """The ladders side by side: first those that stay or are new, then those dropped."""
        shared = sorted(
            (-len(_keys(was) & _keys(is_)), j, i)
            for i, was in enumerate(self.before)
            for j, is_ in enumerate(self.after)
            if _keys(was) & _keys(is_)
        )
        origin: dict[int, int] = {}
        for _, j, i in shared:
            if j not in origin and i not in origin.values():
                origin[j] = i
        kept: list[Pair] = [
            (self.before[origin[j]] if j in origin else None, is_)
            for j, is_ in enumerate(self.after)
        ]
        dropped = [was for i, was in enumerate(self.before) if i not in origin.values()]
        return (*kept, *((was, None) for was in dropped))

    @cached_property
    def moved(self) -> tuple[tuple[Member, Threshold], ...]:
        """Members who stay and stand on another ladder, with that ladder."""
        found = []
        for was, is_ in self.ladders:
            if is_ is not None:
                others = _keys(*self.before) - (_keys(was) if was else set())
                found += [(m, is_) for m in is_.members if m.chip_name in others]
        return tuple(found)

    @property
    def same(self) -> bool:
        """Whether people and numbers stay as they are: such a change only moves the epoch."""
        numbers = all(was and is_ and was.m == is_.m for was, is_ in self.ladders)
        return numbers and not (self.added or self.removed or self.moved or self.renamed)

    def words(self) -> str:
        """'adds dave (officer), removes bob; needs 2 of 3 → 3 of 4; new ladder: 1 of (erin)'."""
        if self.same:
            return "the same people and numbers"
        people = [
            _clause("adds", [m.name for m in self.added], " (officer)", " (officers)"),
            _clause("removes", [m.name for m in self.removed]),
            *(f"moves {m.name} to ({_names(ladder)})" for m, ladder in self.moved),
            *(f"renames {was.name} to {is_.name}" for was, is_ in self.renamed),
            *(f"gives {name} another key" for name in self.rekeyed),
        ]
        numbers = [self._ladder_words(was, is_) for was, is_ in self.ladders]
        return "; ".join(filter(None, [", ".join(filter(None, people)), *numbers]))

    def _ladder_words(self, was: Threshold | None, is_: Threshold | None) -> str:
        if was is None and is_ is not None:
            return f"new ladder: {is_.m} of ({_names(is_)})"
        if is_ is None and was is not None:
            return f"no longer: {was.m} of ({_names(was)})"
        if was is None or is_ is None or (was.m, was.n) == (is_.m, is_.n):
            return ""
        where = f" ({_names(is_)})" if len(self.after) > 1 else ""
        return f"needs {was.m} of {was.n} → {is_.m} of {is_.n}{where}"

    # ── weaker? ──────────────────────────────────────────────────────────────

    @cached_property
    def weaker(self) -> tuple[tuple[Threshold, int], ...]:
        """Old ladders of which those who stay now need fewer people, and how many: they can
        approve in ways in which they could not before.
        """
        stay = _keys(*self.before) & _keys(*self.after)
        if _fewest(self.after, stay) > 0:
            return ()
        fewest = ((was, _fewest(self.after, stay - _keys(was))) for was in self.before)
        return tuple((was, count) for was, count in fewest if count < was.m)

    @property
    def newcomers_suffice(self) -> bool:
        """Whether those who are added need nobody of those who were there."""
        return _fewest(self.after, {member.chip_name for member in self.added}) == 0


def _fewest(rule: Thresholds, people: set[bytes]) -> int:
    """How many others a rule needs beside all of these people (Names)."""
    return sum(max(0, t.m - len(_keys(t) & people)) for t in rule)


def _keys(*ladders: Threshold) -> set[bytes]:
    return {member.chip_name for ladder in ladders for member in ladder.members}


def _minus(rule: Thresholds, other: Thresholds) -> tuple[Member, ...]:
    known = _keys(*other)
    return tuple(member for member in members_of(rule) if member.chip_name not in known)


def _names(ladder: Threshold) -> str:
    return ", ".join(member.name for member in ladder.members)


def _clause(verb: str, names: list[str], one: str = "", many: str = "") -> str:
    return f"{verb} {', '.join(names)}{one if len(names) == 1 else many}" if names else ""
