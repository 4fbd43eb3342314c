"""Group commit: what many want written goes to the disk together, in one transaction.

A commit that survives a power failure takes as long for a hundred rows as for one. While one is
under way, more work gathers for the next. Nobody is answered before the commit that holds what he
asked for; if a transaction fails, each of its works is tried in one of its own, so that one bad
work fails nobody else's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import StoreError

if TYPE_CHECKING:
    from tpmhsm.store.database import Store, Transaction

Act = Callable[["Transaction", Sequence[Any]], Sequence[Any]]
"""What is done with all items of one kind in a transaction: a result for each."""

Then = Callable[[Any, BaseException | None], None]
"""Told the result, or the error, when it is final. It must not raise, nor take long."""

GATHER = 0.008
"""Seconds between the beginnings of two transactions while several callers are at work."""

_Work = tuple[Act, Any, Then]


class Commits:
    """Group commits of one store, by a thread of their own. Close it (or use `with`) when done."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    def put(self, act: Act, item: Any, then: Then) -> None:
        """Have `act` done with `item`, among others. Raises StoreError after `close`."""
        if self._closed:
            raise StoreError("these commits are closed", code="closed")
        self._queue.put((act, item, then))

    def close(self) -> None:
        """Write what still waits, then end. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def __enter__(self) -> Commits:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        going, begun, size = True, 0.0, 0
        while going:
            work = self._queue.get()
            if size > 1 and work is not None and not self._closed:
                time.sleep(max(0.0, begun + GATHER - time.monotonic()))
            begun, batch = time.monotonic(), []
            while work is not None:
                batch.append(work)
                if self._queue.empty():
                    break
                work = self._queue.get()
            going, size = work is not None, len(batch)
            if batch:
                self._write(batch)

    def _write(self, batch: list[_Work]) -> None:
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and not lost
            if len(batch) > 1:
                for work in batch:
                    self._write([work])
            else:
                batch[0][2](None, error)
            return
        for (_, _, then), result in zip(batch, results, strict=True):
            then(result, None)

    def _transact(self, batch: list[_Work]) -> list[Any]:
        """One transaction; works of one kind together, each kind where it first appears."""
        kinds: dict[Act, list[int]] = {}
        for place, (act, _, _) in enumerate(batch):
            kinds.setdefault(act, []).append(place)
        results: list[Any] = [None] * len(batch)
        with self._store.transaction() as tx:
            for act, places in kinds.items():
                found = act(tx, [batch[place][1] for place in places])
                for place, result in zip(places, found, strict=True):
                    results[place] = result
        return results
