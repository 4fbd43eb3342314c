"""Notices: a command of the administrator's is told when requests are born, approved, ended.

The command gets one JSON document on its standard input and words in its environment, never
through a shell. It is told once for each kind of event and run of the program, after all is on
disk. It is a courtesy: it has some seconds, what it says is dropped, and whether it fails changes
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.store import Store, Transaction

BORN, APPROVED, EXPIRING = "born", "approved", "expiring"
ENDS = ("executed", "denied", "expired", "cancelled")

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME")
"""What the command sees of this process's environment: no passwords of databases."""

EVENT = "TPMHSM_EVENT"


class Notices:
    """What happened to requests in one run of the program."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._heard: dict[str, dict[int, list[str]]] = {}

    def hear(self, written: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Remember what a transaction wrote into the audit log (`Store.listener`)."""
        for act, facts in written:
            if act == "request":
                self._add(BORN, facts["id"])
            elif act == "approval":
                self._add(APPROVED, facts["request"], facts["approver"])
            elif act == "executed":
                self._add("executed", facts["request"])
            elif act == "request-ended":
                self._add(facts["why"] if facts["why"] in ENDS else "cancelled", facts["id"])

    def _add(self, event: str, number: int, *approvers: str) -> None:
        with self._lock:
            self._heard.setdefault(event, {}).setdefault(number, []).extend(approvers)

    def remind(self, numbers: Sequence[int]) -> None:
        """Remember these waiting requests as such whose time is over soon."""
        for number in numbers:
            self._add(EXPIRING, number)

    @property
    def heard(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._heard)

    def take(self) -> list[dict[str, Any]]:
        """The documents for what was heard since the last time: one for each kind of event."""
        with self._lock:
            heard, self._heard = self._heard, {}
        if not heard:
            return []
        with self._store.reading() as tx:
            return [
                {"event": event, "requests": [_facts(tx, n, who) for n, who in numbers.items()]}
                for event, numbers in heard.items()
            ]


def _facts(tx: Transaction, number: int, approvers: list[str]) -> dict[str, Any]:
    """One request as `tpmhsm request show` has it, in short."""
    from tpmhsm.requests.ledger import reason_of, title_of

    row = tx.requests.get(number)
    group = tx.groups.find_by_id(row.group_id) if row.group_id else None
    found = {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "title": title_of(row),
        "reason": reason_of(row),
        "key": row.key,
        "group": group.name if group else None,
        "needed": row.needed,
        "approvals": [a.approver for a in tx.requests.approvals(number)],
        "denials": [
            {"approver": d.approver, "reason": d.reason} for d in tx.requests.denials(number)
        ],
        "digest": row.digest,
        "created": row.created,
        "expires": row.expires,
    }
    return {**found, "approved_by": approvers} if approvers else found


def run_hook(
    command: Sequence[str], document: Mapping[str, Any], seconds: float, home: Path
) -> None:
    """Run the command with one document. TpmHsmError (`hook-failed`) in words if it fails."""
    import signal
    import subprocess

    numbers = " ".join(str(one["id"]) for one in document["requests"])
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {
        EVENT: document["event"],
        "TPMHSM_REQUESTS": numbers,
        "TPMHSM_HOME": str(home),
    }
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _failed(f"{getattr(error, 'strerror', None) or error}") from None
    try:
        process.communicate(json.dumps(document).encode() + b"\n", timeout=seconds)
    except BaseException as error:
        # its children too; the leader is not reaped yet, so the group is still its own
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise _failed(f"it took longer than {seconds:g} seconds") from None
    if process.returncode:
        raise _failed(f"exit {process.returncode}")


def _failed(why: str) -> TpmHsmError:
    return TpmHsmError(f"the hook for requests failed: {why}", code="hook-failed")
