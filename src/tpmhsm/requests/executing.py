"""Many approved requests at a time: certificates whose approvals are all there.

    with desk.executing() as executing:
        rows = [future.result() for future in [executing.execute(number) for number in numbers]]

Each goes the way of `tpmhsm.requests.execution`, and what overlaps is different requests: approvals
are verified in a process beside this one, the chip has the next plan at hand, and what several of
them write goes to the disk in one transaction.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.request import parse_request
from tpmhsm.approval.votes import parse_approval
from tpmhsm.ca.batches import keep_all
from tpmhsm.ca.line import FRESH, Line
from tpmhsm.ca.records import certificate_facts, issued_row
from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.keys.turns import Turns
from tpmhsm.pki.issue import assemble_der, restore
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.profiles import get_profile
from tpmhsm.policy.group import GroupDocument, RosterDocument, parse_group, parse_roster
from tpmhsm.policy.plan import Plan, plan_sign
from tpmhsm.requests.ahead import Ahead, Asked
from tpmhsm.requests.execution import votes_by_act
from tpmhsm.store.schema import now

if TYPE_CHECKING:
    from tpmhsm.ca.workshop import Worker
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.execution import Execution
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.certificates import CertificateRow
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow


# ── what workers do ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ready:
    """What the chip is asked: the digest to be signed, and by whose approvals.

    `group` and `roster` are documents, `votes` TPMT_SIGNATUREs by place in the rule.
    """

    digest: bytes
    group: bytes
    roster: bytes
    votes: dict[int, bytes]

    def plan(self, public: bytes) -> Plan:
        """The policy session of the key with this public area."""
        group, roster = _documents(self.group, self.roster)
        return plan_sign(group, roster, public, self.digest, self.votes)


@lru_cache(8)
def _documents(group: bytes, roster: bytes) -> tuple[GroupDocument, RosterDocument]:
    return parse_group(group), parse_roster(roster)


def ready(document: bytes, approvals: tuple[bytes, ...], hash_name: str) -> Ready:
    """Verify the approvals of a request."""
    parts = tuple(parse_approval(one) for one in approvals)
    request = replace(parse_request(document), approvals=parts)
    if request.roster is None:
        raise ParseError("a request for a signature names no roster")
    (votes,) = votes_by_act(request)
    digest = hashlib.new(hash_name, request.content).digest()
    return Ready(digest, request.group.encoded, request.roster.encoded, votes)


def certify(
    prepared: dict[str, Any], spki: bytes, signature: bytes, authority: str
) -> tuple[CertificateRow, dict[str, Any]]:
    """Check the prepared bytes again, verify the signature over them, and put both together."""
    token = restore(prepared, load_spki(spki))
    certificate = assemble_der(token, signature)
    return issued_row(token, certificate, authority), certificate_facts(certificate)


# ── the line ─────────────────────────────────────────────────────────────────


class Executing(Line[Turns]):
    """Executes approved requests. Threads may share it; close it (or use `with`) when done.

    `workers` is how many processes verify and plan (`Line`); 0: whoever asks does so himself.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        ledger: Ledger,
        execution: Execution,
        workers: int | None = None,
    ) -> None:
        super().__init__(store, keyring.turns(), workers)
        self.ledger = ledger
        self.execution = execution
        self._store = store
        self._keyring = keyring
        self._tidied = -FRESH
        self._keys: dict[str, tuple[float, KeyRow | None]] = {}
        self._ahead = Ahead(store)

    def execute(self, number: int) -> Future[RequestRow]:
        """Have the chip do what was approved. The future raises what `Execution.execute` does.

        Anything but a certificate for others is executed at once, by the caller's thread.
        """
        future: Future[RequestRow] = Future()
        flight = self._flight(number, future)
        if flight is None:
            try:
                future.set_result(self.execution.execute(number))
            except TpmHsmError as error:
                future.set_exception(error)
            return future
        self._room.acquire()  # given back when the future is done
        flight.begin()
        return future

    def _flight(self, number: int, future: Future[RequestRow]) -> _Flight | None:
        """None for what goes the plain way: no certificate for others, stale, not approved."""
        now = time.monotonic()
        if now - self._tidied > FRESH:
            self.ledger.expire()
            self._tidied = now
        asked = self._ahead.get(number)
        if asked is None or get_profile(asked.record.prepared["profile"]).ca:
            return None
        key = self._key(asked.row, now)
        if key is None:
            return None
        return _Flight(self, self._worker(), asked, key, future)

    def _key(self, row: RequestRow, now: float) -> KeyRow | None:
        """The key, if a plain quorum is all it asks; looked up once a second."""
        label = row.key or ""
        at, key = self._keys.get(label, (-FRESH, None))
        if now - at >= FRESH:
            key = self._keyring.get(label)
            with self._store.reading() as tx:
                group = tx.groups.find_by_id(row.group_id or "")
            plain = group is not None and key.policy == f"quorum({group.name})"
            if not plain or key.policy_document:
                key = None
            self._keys[label] = (now, key)
        return key


class _Flight:
    """One request on its way: each method is told what the step before it came to."""

    def __init__(
        self,
        executing: Executing,
        worker: Worker,
        asked: Asked,
        key: KeyRow,
        future: Future[RequestRow],
    ) -> None:
        self._executing = executing
        self._worker = worker
        self._asked = asked
        self._key = key
        self._future = future

    def begin(self) -> None:
        asked = self._asked
        arguments = (asked.row.document, asked.approvals, self._key.hash)
        self._worker.put(ready, arguments, self._planned)

    def _planned(self, found: Ready, error: BaseException | None) -> None:
        if error:
            self._end(error)
            return
        key = self._key
        try:
            self._executing._turns.put(key, found.digest, self._signed, found.plan(key.public))
        except TpmHsmError as refused:
            self._end(refused)

    def _signed(self, signature: bytes | None, error: BaseException | None) -> None:
        if error:
            self._end(error)
            return
        asked = self._asked
        arguments = (asked.record.prepared, self._key.spki, signature, asked.record.authority)
        self._worker.put(certify, arguments, self._certified)

    def _certified(
        self, found: tuple[CertificateRow, dict[str, Any]], error: BaseException | None
    ) -> None:
        if error:
            self._end(error)
            return
        self._executing._commits.put(finish_all, (self._asked.row, *found), self._finished)

    def _finished(self, row: RequestRow, error: BaseException | None) -> None:
        if getattr(error, "code", "") == "request-closed":  # another process may have been faster
            try:
                row, error = self._executing.execution.execute(self._asked.row.id), None
            except TpmHsmError as closed:
                error = closed
        if error:
            self._end(error)
            return
        self._executing._room.release()
        self._future.set_result(row)

    def _end(self, error: BaseException) -> None:
        self._executing._room.release()
        self._future.set_exception(error)


def finish_all(
    tx: Transaction, items: Sequence[tuple[RequestRow, CertificateRow, dict[str, Any]]]
) -> list[RequestRow]:
    """Certificates are kept, their serials issued, their requests executed: all or none.

    Raises UsageError when another process was faster, or the request has ended otherwise.
    """
    at = now()
    rows = [replace(row, state="executed", executed_at=at, result=facts) for row, _, facts in items]
    tx.requests.execute_all(rows)
    keep_all(tx, [row for _, row, _ in items])
    tx.audit.append_all([
        ("executed", {"request": row.id, "kind": row.kind}) for row in rows
    ])  # fmt: skip
    return rows


__all__ = ["Executing", "Ready", "certify", "finish_all", "ready"]
