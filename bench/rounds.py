"""Two contestants in alternating rounds on one machine in one run: the ratio of their rates.

Machines are noisy and chips slow down with age, so nothing is compared across runs, and neither
contestant always goes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

Contestant = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Opens its own conversation; what it yields is the act that is counted."""


@dataclass(frozen=True)
class Outcome:
    """Median rates in acts a second, and the median of the rounds' ratios (first : second)."""

    first: float
    second: float
    ratio: float


def rate(contestant: Contestant, seconds: float) -> float:
    """Acts a second. Opening and closing are not counted, nor is the warm-up: the first act, for
    which processes may have to start, and a quarter of the time.
    """
    with contestant() as act:
        act()
        _count(act, seconds / 4)
        return _count(act, seconds)


def _count(act: Callable[[], object], seconds: float) -> float:
    began = time.perf_counter()
    done = 0
    while (elapsed := time.perf_counter() - began) < seconds:
        act()
        done += 1
    return done / elapsed


def alternate(first: Contestant, second: Contestant, rounds: int, seconds: float) -> Outcome:
    """Let both run `rounds` times for `seconds` each, in turns of changing order."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            later = rate(second, seconds)
            pairs.append((rate(first, seconds), later))
        else:
            pairs.append((rate(first, seconds), rate(second, seconds)))
    ours, theirs = zip(*pairs, strict=True)
    return Outcome(median(ours), median(theirs), median(a / b for a, b in pairs))
