"""The audit log: a chain in which each entry hashes all before it.

Entries are appended in the transaction of the act they record. The database refuses to change or
remove an entry; whoever can write its file can still rewrite the whole chain or cut its end, so
the head is what has to be remembered elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from sqlalchemy import BigInteger, Column, Table, Text, func, insert, select
from sqlalchemy.engine import Connection

from tpmhsm.errors import VerificationError
from tpmhsm.store.schema import Compiled, canonical, metadata, now

GENESIS = "0" * 64
"""The previous hash of the first entry."""


_STREAM = {"yield_per": 1000}  # rows in memory at a time


@dataclass(frozen=True)
class AuditRow:
    """One entry. `facts` is JSON-ready; `prev` and `hash` are SHA-256, hexadecimal."""

    seq: int
    at: str
    actor: str
    act: str
    facts: Any
    prev: str
    hash: str


@dataclass(frozen=True)
class AuditHead:
    """How far a chain reaches: the last entry's number (0: empty) and its hash."""

    seq: int
    hash: str


audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    # plain text, so that verification sees what is there and not what a parser made of it
    Column("facts", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
)


_INSERT = Compiled(insert(audit))
_LAST = Compiled(
    select(audit.c.seq, audit.c.hash).where(
        audit.c.seq == select(func.max(audit.c.seq)).scalar_subquery()
    )
)


def entry_hash(entry: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of an entry without its own hash.

    `facts` are canonical JSON already: they stand between `at` and what comes after them.
    """
    first = _beginning(entry["act"], entry["actor"], entry["at"])
    prev, seq = canonical(entry["prev"]), canonical(entry["seq"])
    text = f'{first},"facts":{entry["facts"]},"prev":{prev},"seq":{seq}}}'
    return sha256(text.encode()).hexdigest()


@lru_cache(8)
def _beginning(act: str, actor: str, at: str) -> str:
    return canonical({"act": act, "actor": actor, "at": at})[:-1]


def os_user() -> str:
    """The name of the user this process runs as, `uid:N` when the system knows no name."""
    return _name_of(os.getuid())


@lru_cache(8)
def _name_of(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"uid:{uid}"


class Audit:
    """Append, read, verify."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.appended: list[tuple[str, Mapping[str, Any]]] = []

    def append(
        self, act: str, facts: Mapping[str, Any] | None = None, *, actor: str | None = None
    ) -> AuditRow:
        """Add an entry; `facts` must be JSON-ready, `actor` is the OS user when not given."""
        return _row(self.append_all([(act, facts or {})], actor=actor)[0])

    def append_all(
        self, entries: Sequence[tuple[str, Mapping[str, Any]]], *, actor: str | None = None
    ) -> list[dict[str, Any]]:
        """Add several entries, (act, facts) each, in their order; returns them as written."""
        head, at, who = self.head(), now(), actor or os_user()
        seq, prev, values = head.seq, head.hash, []
        for act, facts in entries:
            seq += 1
            entry = {"seq": seq, "at": at, "actor": who, "act": act, "prev": prev}
            entry["facts"] = canonical(dict(facts))
            entry["hash"] = prev = entry_hash(entry)
            values.append(entry)
        if values:
            _INSERT.run(self._connection, values)
            self.appended += entries
        return values

    def head(self) -> AuditHead:
        """The end of the chain as written, unverified."""
        last = _LAST.run(self._connection, {}).fetchone()
        return AuditHead(0, GENESIS) if last is None else AuditHead(*last)

    def all(self, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
        """Entries after a number, oldest first."""
        statement = select(audit).where(audit.c.seq > after).order_by(audit.c.seq)
        if limit is not None:
            statement = statement.limit(limit)
        rows = self._connection.execute(statement)
        return [_row(row._mapping) for row in rows]

    def written(self, *, until: int) -> list[AuditRow]:
        """Entries up to a number as they stand there: `facts` is the text, whatever it is."""
        statement = select(audit).where(audit.c.seq <= until).order_by(audit.c.seq)
        return [AuditRow(**row._mapping) for row in self._connection.execute(statement)]

    def each(self, act: str = "") -> Iterator[AuditRow]:
        """Entries, or those of one act, oldest first; few of them in memory at a time."""
        statement = select(audit).order_by(audit.c.seq)
        if act:
            statement = statement.where(audit.c.act == act)
        with self._connection.execute(statement, execution_options=_STREAM) as rows:
            for row in rows:
                yield _row(row._mapping)

    def counts(self, since: str) -> dict[str, int]:
        """How many entries of each act there are from a moment on (RFC 3339).

        Where they begin is found by halving, for the times rise with the numbers; after a clock
        that went back, some of before may be left out.
        """
        low, high = 0, self.head().seq
        while low < high:
            middle = (low + high + 1) // 2
            at = self._connection.execute(select(audit.c.at).where(audit.c.seq == middle)).scalar()
            low, high = (middle, high) if at is not None and at < since else (low, middle - 1)
        c = audit.c
        query = select(c.act, func.count()).where(c.seq > low, c.at >= since).group_by(c.act)
        return {act: int(count) for act, count in self._connection.execute(query)}

    def verify_chain(
        self, expected: AuditHead | None = None, *, last: int | None = None
    ) -> AuditHead:
        """Recompute every hash, or those of the `last` so many entries. Returns the head.

        `expected` is a head remembered elsewhere: the chain must pass through it. Raises
        VerificationError naming the first entry that does not hold.
        """
        head = AuditHead(0, GENESIS) if last is None else self._before(last)
        met = expected is None or expected == head
        statement = select(audit).where(audit.c.seq > head.seq).order_by(audit.c.seq)
        with self._connection.execute(statement, execution_options=_STREAM) as rows:
            for row in rows:
                _verify_entry(row, head)
                head = AuditHead(row.seq, row.hash)
                met = met or head == expected
        if not met and expected is not None:
            raise VerificationError(
                f"the audit log does not contain the remembered entry {expected.seq}: "
                "it was cut or rewritten",
                code="audit-chain",
                details={"seq": expected.seq, "head": head.seq},
            )
        return head

    def _before(self, last: int) -> AuditHead:
        """Where the last so many entries go on from."""
        seq = self.head().seq - last
        query = select(audit.c.hash).where(audit.c.seq == seq)
        known = self._connection.execute(query).scalar_one_or_none()
        return AuditHead(0, GENESIS) if known is None else AuditHead(seq, known)


def _row(entry: Mapping[Any, Any]) -> AuditRow:
    """With the facts as values; as the text that somebody put there, if it is no JSON."""
    try:
        facts = json.loads(entry["facts"])
    except (ValueError, RecursionError):
        facts = entry["facts"]
    return AuditRow(**{**entry, "facts": facts})


def _verify_entry(row: Any, head: AuditHead) -> None:
    for problem in _problems(row, head):
        raise VerificationError(
            f"the audit log is broken at entry {row.seq}: {problem}",
            code="audit-chain",
            details={"seq": row.seq},
        )


def _problems(row: Any, head: AuditHead) -> Iterator[str]:
    if row.seq != head.seq + 1:
        yield f"entry {head.seq + 1} is missing"
    if row.prev != head.hash:
        yield "it does not continue the entry before it"
    try:
        same = canonical(json.loads(row.facts)) == row.facts
    except ValueError:
        same = False
    if not same:
        yield "its facts are not canonical JSON"
        return
    if entry_hash(row._mapping) != row.hash:
        yield "its content was changed"
