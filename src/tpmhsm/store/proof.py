"""What a database proves by itself: its file, its schema, its log. Nothing is changed.

A check looks at many things of one kind and notes what is wrong; see `tpmhsm.requests.proof`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.store.database import Store

_BACKUP = "restore the database from a backup"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: what and where, and the next step."""

    what: str
    next: str = ""


@dataclass
class Check:
    """One kind of things: what they are called, how many were looked at, what was found."""

    name: str
    seen: int = 0
    findings: list[Finding] = field(default_factory=list)

    def found(self, what: str, then: str = "") -> None:
        """Note something wrong."""
        self.findings.append(Finding(what, then))


def check_file(store: Store) -> Check:
    """SQLite's own check of its file, and that every row refers to rows that exist."""
    check = Check("file", seen=1)
    what = "file" if store.kind == "sqlite" else "database"
    for said in store.damage():
        check.found(f"the {what} is damaged: {said}", _BACKUP)
    return check


def check_schema(store: Store) -> Check:
    """Tables, indices and triggers are those of this version: the log's guards, above all."""
    check = Check("schema")
    if store.kind != "sqlite":
        return _structure(store, check)
    there = store.schema()
    check.seen = len(there)
    with tempfile.TemporaryDirectory(prefix="tpmhsm-") as folder:
        from tpmhsm.store.database import Store

        with Store.create(Path(folder)) as fresh:
            wanted = fresh.schema()
    for name in sorted(wanted.keys() - there.keys()):
        check.found(f"{name} is missing", _BACKUP)
    for name in sorted(there.keys() - wanted.keys()):
        check.found(f"{name} is not of this program", "somebody made it: find out who and why")
    for name in sorted(there.keys() & wanted.keys()):
        if there[name] != wanted[name]:
            check.found(f"{name} is not as this program made it", _BACKUP)
    return check


def _structure(store: Store, check: Check) -> Check:
    """As SQLAlchemy tells it, against what the same migrations make of an SQLite database."""
    from tpmhsm.store.structure import POSTGRESQL_TRIGGERS

    there, guards = store.structure()
    check.seen = len(there) + len(guards)
    with tempfile.TemporaryDirectory(prefix="tpmhsm-") as folder:
        from tpmhsm.store.database import Store

        with Store.create(Path(folder)) as fresh:
            wanted, _ = fresh.structure()
    wanted, there = wanted | POSTGRESQL_TRIGGERS, there | guards
    for line in sorted(wanted - there):
        check.found(f"{line} is missing", _BACKUP)
    for line in sorted(there - wanted):
        check.found(f"{line} is not of this program", "somebody made it: find out who and why")
    return check


def check_log(store: Store) -> Check:
    """The audit log is whole: every entry continues the one before it."""
    check = Check("log")
    try:
        with store.reading() as tx:
            check.seen = tx.audit.verify_chain().seq
    except TpmHsmError as error:
        check.found(error.message, f"somebody changed the log; {_BACKUP}, and compare")
    return check
