"""Approved requests as they are executed, read several at a time.

Who executes many goes through their numbers in order, and to read one takes the database's library
nearly as long as to read a page of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.requests.ledger import is_of_another

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.store.authorities import SerialRow
    from tpmhsm.store.requests import RequestRow

PAGE = 32

FRESH = 0.2
"""Seconds after which what was read is read again; about as long as a request is on its way."""


@dataclass(frozen=True)
class Asked:
    """A request for a certificate that waits, and is approved by as many as it needs."""

    row: RequestRow
    record: SerialRow
    approvals: tuple[bytes, ...]


class Ahead:
    """Requests by number. Threads may share it: the worst is that one is read twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._page: dict[int, Asked] = {}
        self._read = -FRESH
        self._last = 0

    def get(self, number: int) -> Asked | None:
        """The request of this number; None for what is no certificate, stale or not approved.

        Each is given once: whoever asks again has it read again.
        """
        follows, self._last = number == self._last + 1, number
        if time.monotonic() - self._read >= FRESH or number not in self._page:
            page = self._look(number, number + PAGE - 1 if follows else number)
            self._page, self._read = page, time.monotonic()
        return self._page.pop(number, None)

    def _look(self, first: int, last: int) -> dict[int, Asked]:
        if not 0 < first <= last < 1 << 63:
            return {}
        with self._store.reading() as tx:
            waiting = tx.requests.waiting(first, last)
            records = tx.serials.of_requests(first, last)
            groups = {row.group_id for row, _ in waiting.values()}
            rosters = {one: tx.rosters.in_force(one) for one in groups if one is not None}
        return {
            number: Asked(row, records[number], tuple(one.document for one in approvals))
            for number, (row, approvals) in waiting.items()
            if row.kind == "certificate" and len(approvals) >= row.needed and number in records
            if row.group_id is None or not is_of_another(row, rosters[row.group_id])
        }


__all__ = ["Ahead", "Asked"]
