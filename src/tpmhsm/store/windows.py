"""Windows: keys that are open now, with the tickets that the chip gave for officers' approvals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Table, Text, delete

from tpmhsm.store.schema import CanonicalJson, Repository, metadata


@dataclass(frozen=True)
class WindowRow:
    """One open key, by its Name (hexadecimal). `ends` is when the window ends by this machine's
    clock; the chip has its own. `tickets`: a list of objects with the officer's `index` in the
    roster's rule, and in hexadecimal `timeout` and `ticket`. They are no secrets.
    """

    key_name: str
    label: str
    group_id: str
    epoch: int
    request_id: int
    seconds: int
    ends: str
    tickets: Any
    opened: str = ""


windows = Table(
    "windows",
    metadata,
    Column("key_name", Text, primary_key=True),
    Column("label", Text, nullable=False),
    Column("group_id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("request_id", BigInteger, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("ends", Text, nullable=False),
    Column("tickets", CanonicalJson, nullable=False),
    Column("opened", Text, nullable=False),
)


class Windows(Repository[WindowRow]):
    """At most one for each key: a new one stands in the place of the old."""

    table = windows
    row = WindowRow
    stamp = "opened"

    def put(self, window: WindowRow) -> WindowRow:
        """Keep a window in the place of the key's old one."""
        self.remove(window.key_name)
        return self._insert(window)

    def find(self, key_name: str) -> WindowRow | None:
        """The window of the key with this Name, whether or not it has ended."""
        return self._first(windows.c.key_name == key_name)

    def all(self) -> list[WindowRow]:
        """All, by the time they end."""
        return self._select(order=windows.c.ends)

    def remove(self, key_name: str) -> bool:
        """Forget one; True when there was one."""
        gone = self._connection.execute(delete(windows).where(windows.c.key_name == key_name))
        return gone.rowcount == 1
