"""Settings of this home: facts that are found once and must stay the same (the AK's Name, …)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, Text, delete, insert, select, update
from sqlalchemy.engine import Connection

from tpmhsm.store.schema import CanonicalJson, metadata

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", CanonicalJson, nullable=False),
)


class Settings:
    """Any JSON-ready value by a text key; bytes go in as hexadecimal or base64 text."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` when there is none."""
        row = self._connection.execute(
            select(settings.c.value).where(settings.c.key == key)
        ).one_or_none()
        return default if row is None else row[0]

    def set(self, key: str, value: Any) -> None:
        """Write or replace a value; None is refused by the table, use `remove`."""
        changed = self._connection.execute(
            update(settings).where(settings.c.key == key).values(value=value)
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(settings).values(key=key, value=value))

    def remove(self, key: str) -> bool:
        """Forget a value; True when there was one."""
        return self._connection.execute(delete(settings).where(settings.c.key == key)).rowcount == 1

    def all(self) -> dict[str, Any]:
        """Everything, ordered by key."""
        found = self._connection.execute(select(settings).order_by(settings.c.key))
        return {row.key: row.value for row in found}
