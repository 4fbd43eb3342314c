"""What lines of many certificates at a time share: processes, group commits, turns at the chip."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from tpmhsm.ca.workshop import Inline, Process, Worker
from tpmhsm.store.commits import Commits

if TYPE_CHECKING:
    from tpmhsm.store import Store

IN_FLIGHT = 64
"""So many certificates are under way at most; who asks for one more waits."""

FRESH = 1.0
"""Seconds that what was read of authorities, keys and requests is used without reading again."""

HAND_OVER = 0.0005
"""Seconds after which a thread that computes lets another run: while the chip's thread waits for
that, with an answer in its hand, the chip has nothing to do. Python's own 5 ms are ten signatures.
"""


def usual_workers() -> int:
    """One process on two cores: the software TPM and the chip's thread take the rest."""
    return max(1, min(4, len(os.sched_getaffinity(0)) - 2))


class _Turns(Protocol):
    @property
    def commands(self) -> int: ...

    def close(self) -> None: ...


T = TypeVar("T", bound=_Turns)


class Line(Generic[T]):
    """Threads may share it; close it (or use `with`) when done.

    `workers` is how many processes do what needs neither chip nor database, None as many as the
    machine's cores are good for; 0: whoever asks does.
    """

    def __init__(self, store: Store, turns: T, workers: int | None) -> None:
        self._room = threading.BoundedSemaphore(IN_FLIGHT)
        many = usual_workers() if workers is None else workers
        kinds: list[Callable[[], Worker]] = [Process] * many or [Inline]
        self._workers = [kind() for kind in kinds]
        self._commits = Commits(store)
        self._turns = turns
        self._usual = sys.getswitchinterval()
        sys.setswitchinterval(min(HAND_OVER, self._usual))

    @property
    def commands(self) -> int:
        """How many commands the chip was sent."""
        return self._turns.commands

    def _worker(self) -> Worker:
        """The one that has least to do."""
        return min(self._workers, key=lambda one: one.load)

    def close(self) -> None:
        """Finish what is under way, then end."""
        for _ in range(IN_FLIGHT):
            self._room.acquire()
        self._turns.close()
        self._commits.close()
        for worker in self._workers:
            worker.close()
        sys.setswitchinterval(self._usual)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
