"""From facts to findings: what a check is, and how all of them are run.

    @check("disk")
    def disk(facts: Facts) -> Judged:
        if facts.home.free < LITTLE:
            yield broken("the disk is full", where=…, why=…, next="…")
        return "12 GB free"

A check yields what is wrong and returns, in a few words, what it saw; "" where the thing is of no
concern to this home. `Unseen` says that it could not look. A new check is one such function.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Literal

from tpmhsm.doctor.facts import Chip, Facts, Records, Trouble

State = Literal["well", "attention", "broken", "unseen"]


@dataclass(frozen=True)
class Finding:
    """Something that is not well: what and where, why it matters, the command that mends it.

    `broken`: something does not work, or is not safe, now.
    """

    what: str
    where: str
    why: str
    next: str
    broken: bool


@dataclass(frozen=True)
class Verdict:
    """One check: its stable name, what it saw in a few words, its findings."""

    name: str
    state: State
    seen: str
    findings: tuple[Finding, ...] = ()


Judged = Generator[Finding, None, str]
Check = Callable[[Facts], Judged]
Registry = dict[str, Check]


class Unseen(Exception):  # noqa: N818 - no error, and never leaves this room
    """A check could not look; the words say why."""


class Unneeded(Exception):  # noqa: N818 - likewise
    """What a check is for is of no concern to this home."""


def broken(what: str, *, where: str, why: str, next: str) -> Finding:
    """Something that does not work or is not safe now."""
    return Finding(what, where, why, next, broken=True)


def attention(what: str, *, where: str, why: str, next: str) -> Finding:
    """Something that works, and will not for long, or not when it is needed."""
    return Finding(what, where, why, next, broken=False)


def check(registry: Registry, name: str) -> Callable[[Check], Check]:
    """Enter a check into a registry under its stable name."""

    def enter(function: Check) -> Check:
        registry[name] = function
        return function

    return enter


def judge(facts: Facts, checks: Iterable[tuple[str, Check]]) -> list[Verdict]:
    """What each check finds, those left out that are of no concern to this home."""
    verdicts = (_judge(name, one, facts) for name, one in checks)
    return [verdict for verdict in verdicts if verdict is not None]


def _judge(name: str, one: Check, facts: Facts) -> Verdict | None:
    found: list[Finding] = []
    judging = one(facts)
    try:
        while True:
            found.append(next(judging))
    except StopIteration as end:
        seen = str(end.value or "")
    except Unseen as why:
        seen = f"not seen: {why}"
        if not found:
            return Verdict(name, "unseen", seen)
    except Unneeded:
        return None
    if not (found or seen):
        return None
    return Verdict(name, state_of(found), seen, tuple(found))


def state_of(found: Iterable[Finding]) -> State:
    """The state of findings together."""
    grades = {one.broken for one in found}
    return "broken" if True in grades else "attention" if grades else "well"


def must_be_usable(facts: Facts) -> None:
    """Raises Unseen unless this user may use the home: a check of its own says so."""
    if facts.home.directory.state != "there" or not facts.home.directory.usable:
        raise Unseen("the home cannot be used")


def chip_of(facts: Facts) -> Chip:
    """The chip, if it answered. Raises Unseen, or Unneeded where none was ever set up."""
    if facts.chipless:
        raise Unneeded
    if isinstance(facts.chip, Trouble):
        raise Unseen("the chip cannot be asked")
    return facts.chip


def records_of(facts: Facts) -> Records:
    """The database, if it could be read. Raises Unseen."""
    if isinstance(facts.records, Trouble):
        raise Unseen("the database cannot be read")
    return facts.records
