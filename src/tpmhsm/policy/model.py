"""What a policy can say, as values.

open                     anyone with this machine
quorum(GROUP)            M officers of the group, over these very bytes
budget(GROUP)            unattended, as many times as the officers granted
window(GROUP)            unattended, for the seconds that M officers opened
pin                      a PIN
pcr(BANK:N,…)            this machine, in the state measured at the key's birth
all(…, …)  any(…, …)     combinations
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Open:
    """Anyone with this machine."""

    kind: ClassVar[str] = "open"


@dataclass(frozen=True)
class Pin:
    """Whoever knows the PIN."""

    kind: ClassVar[str] = "pin"


@dataclass(frozen=True)
class Pcr:
    """The machine's state: PCRs of one bank, sorted."""

    bank: str
    pcrs: tuple[int, ...]
    kind: ClassVar[str] = "pcr"


@dataclass(frozen=True)
class Quorum:
    """M officers of a group approve each use, over the very bytes."""

    group: str
    kind: ClassVar[str] = "quorum"


@dataclass(frozen=True)
class Budget:
    """Uses granted in advance by a group."""

    group: str
    kind: ClassVar[str] = "budget"


@dataclass(frozen=True)
class Window:
    """Seconds granted by a group."""

    group: str
    kind: ClassVar[str] = "window"


@dataclass(frozen=True)
class All:
    """Every one of the parts."""

    parts: tuple[Policy, ...]
    kind: ClassVar[str] = "all"


@dataclass(frozen=True)
class Any:
    """One of the parts."""

    parts: tuple[Policy, ...]
    kind: ClassVar[str] = "any"


Policy = Open | Pin | Pcr | Quorum | Budget | Window | All | Any


def parts_of(policy: Policy) -> Iterator[Policy]:
    """Yield the policy and everything inside it."""
    yield policy
    if isinstance(policy, All | Any):
        for part in policy.parts:
            yield from parts_of(part)


def groups_of(policy: Policy) -> tuple[str, ...]:
    """Return the labels of all groups that the policy names, each once, in order."""
    named = (p.group for p in parts_of(policy) if isinstance(p, Quorum | Budget | Window))
    return tuple(dict.fromkeys(named))
