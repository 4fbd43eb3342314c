"""Approval requests, and the approvals and denials that came in for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    text,
)

from tpmhsm.errors import ExistsError, UsageError
from tpmhsm.store.schema import (
    CanonicalJson,
    Compiled,
    Repository,
    canonical,
    identity,
    metadata,
    now,
    one_or_missing,
)

WAITING = "waiting"
CLOSED = ("executed", "denied", "expired", "cancelled")


@dataclass(frozen=True)
class RequestRow:
    """A request. `digest` is SHA-256 (hexadecimal) of the bytes to be signed, `document` the
    request file as it is handed to approvers, `needed` how many approvals execute it.

    State: waiting, then one of executed, denied, expired, cancelled, for ever.
    """

    kind: str
    needed: int
    digest: str
    document: bytes = b""
    key: str | None = None
    group_id: str | None = None
    state: str = WAITING
    created: str = ""
    expires: str = ""
    executed_at: str = ""
    result: Any = None
    id: int = 0


requests = Table(
    "requests",
    metadata,
    identity(),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("key", Text),
    Column("group_id", Text, index=True),
    Column("needed", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("executed_at", Text, nullable=False),
    Column("result", CanonicalJson),
)


@dataclass(frozen=True)
class ApprovalRow:
    """One approver's approval of one request, as its file. `kind` is the kind of the key."""

    request_id: int
    approver: str
    kind: str
    document: bytes
    at: str = ""
    id: int = 0


@dataclass(frozen=True)
class DenialRow:
    """One approver's denial of one request, as its file."""

    request_id: int
    approver: str
    reason: str
    document: bytes
    at: str = ""
    id: int = 0


approvals = Table(
    "approvals",
    metadata,
    identity(),
    Column("request_id", BigInteger, ForeignKey("requests.id"), nullable=False),
    Column("approver", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("at", Text, nullable=False),
    UniqueConstraint("request_id", "approver"),
)
denials = Table(
    "denials",
    metadata,
    identity(),
    Column("request_id", BigInteger, ForeignKey("requests.id"), nullable=False),
    Column("approver", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("at", Text, nullable=False),
    UniqueConstraint("request_id", "approver"),
)


_EXECUTED = Compiled(
    requests.update()
    .where(requests.c.id == bindparam("number"), requests.c.state == bindparam("before"))
    .values(
        state=bindparam("after"),
        executed_at=bindparam("at"),
        result=bindparam("text"),
    )
)


class _Approvals(Repository[ApprovalRow]):
    table = approvals
    row = ApprovalRow
    stamp = "at"


class _Denials(Repository[DenialRow]):
    table = denials
    row = DenialRow
    stamp = "at"


class Requests(Repository[RequestRow]):
    """Requests by increasing id. Only a waiting one can change."""

    table = requests
    row = RequestRow
    stamp = "created"

    def add(self, request: RequestRow) -> RequestRow:
        """Keep a request and give it its id.

        The document usually names the id: add with an empty one, then `set_document`.
        """
        return self._insert(request)

    def skip(self, many: int) -> None:
        """Never give out the next so many ids (SQLite); nothing where there was no request yet."""
        self._connection.execute(
            text("UPDATE sqlite_sequence SET seq = seq + :many WHERE name = 'requests'"),
            {"many": many},
        )

    def set_document(self, request_id: int, document: bytes) -> RequestRow:
        """Replace the request file of a waiting request. Raises NotFoundError, UsageError."""
        request = self.get_waiting(request_id)
        self._change(requests.c.id == request_id, document=document)
        return replace(request, document=document)

    def start_over(self, request_id: int, document: bytes, needed: int) -> None:
        """Ask for the same bytes anew: another request file, and no approvals yet."""
        self.set_document(request_id, document)
        self._change(requests.c.id == request_id, needed=needed)
        self._connection.execute(delete(approvals).where(approvals.c.request_id == request_id))

    def find(self, request_id: int) -> RequestRow | None:
        """The request of this id."""
        # ids come from people: a number beyond 63 bits is no request, not a failed database
        if not 0 < request_id < 1 << 63:
            return None
        return self._first(requests.c.id == request_id)

    def get(self, request_id: int) -> RequestRow:
        """The request of this id. Raises NotFoundError."""
        return one_or_missing(
            self.find(request_id),
            f"there is no request {request_id}",
            "tpmhsm request list shows all requests",
        )

    def get_waiting(self, request_id: int) -> RequestRow:
        """The request of this id. Raises NotFoundError; UsageError when it waits no more."""
        request = self.get(request_id)
        if request.state != WAITING:
            raise UsageError(
                f"request {request_id} is {request.state} already",
                code="request-closed",
                details={"request": request_id, "state": request.state},
            )
        return request

    def waiting(self, first: int, last: int) -> dict[int, tuple[RequestRow, list[ApprovalRow]]]:
        """Those between two ids (both included) that wait, with their approvals, by id."""
        rows = self._select(requests.c.state == WAITING, requests.c.id.between(first, last))
        found: dict[int, tuple[RequestRow, list[ApprovalRow]]] = {row.id: (row, []) for row in rows}
        given = approvals.c.request_id
        for one in _Approvals(self._connection)._select(given.between(first, last)):
            if one.request_id in found:
                found[one.request_id][1].append(one)
        return found

    def all(self, state: str | None = None) -> list[RequestRow]:
        """All requests, or those in one state, by id."""
        return self._select(*([] if state is None else [requests.c.state == state]))

    def of_key(self, kind: str, key: str) -> list[RequestRow]:
        """All of one kind for the key with this label, by id."""
        return self._select(requests.c.kind == kind, requests.c.key == key)

    def of_group(self, kind: str, group_id: str) -> list[RequestRow]:
        """All of one kind for the group with this id (hexadecimal), by id."""
        return self._select(requests.c.kind == kind, requests.c.group_id == group_id)

    def finish(self, request_id: int, state: str, result: Any = None) -> RequestRow:
        """End a waiting request: executed, denied, expired or cancelled, with a JSON result.

        Raises NotFoundError; UsageError (`request-closed`) when it had ended already.
        """
        if state not in CLOSED:
            raise UsageError(f"a request cannot end as {state!r}")
        request = self.get_waiting(request_id)
        ended = replace(
            request, state=state, result=result, executed_at=now() if state == "executed" else ""
        )
        return self._save(ended, f"there is no request {request_id}")

    def execute_all(self, ended: Sequence[RequestRow]) -> None:
        """Write back waiting requests that were executed, with their JSON results.

        Raises UsageError (`request-closed`) when one of them had ended already.
        """
        values = [
            {"number": row.id, "text": canonical(row.result), "at": row.executed_at}
            | {"before": WAITING, "after": row.state}
            for row in ended
        ]
        if values and _EXECUTED.run(self._connection, values).rowcount != len(values):
            raise UsageError("a request has ended already", code="request-closed")

    def due(self, at: str) -> list[RequestRow]:
        """Waiting requests whose time is over at a moment (RFC 3339)."""
        return self._select(
            requests.c.state == WAITING, requests.c.expires != "", requests.c.expires <= at
        )

    def expire(self, at: str | None = None) -> list[RequestRow]:
        """End as expired every waiting request whose time is over; returns them."""
        return [self.finish(request.id, "expired") for request in self.due(at or now())]

    def approve(self, approval: ApprovalRow) -> ApprovalRow:
        """Keep an approval of a waiting request; the same bytes again are no error.

        Raises ExistsError when this approver has already approved or denied otherwise.
        """
        same = self._answer(approval.request_id, approval.approver)
        if isinstance(same, ApprovalRow) and same.document == approval.document:
            return same
        self._refuse_second(approval.request_id, approval.approver, same)
        return _Approvals(self._connection)._insert(approval)

    def deny(self, denial: DenialRow) -> DenialRow:
        """Keep a denial of a waiting request; as `approve`."""
        same = self._answer(denial.request_id, denial.approver)
        if isinstance(same, DenialRow) and same.document == denial.document:
            return same
        self._refuse_second(denial.request_id, denial.approver, same)
        return _Denials(self._connection)._insert(denial)

    def approvals(self, request_id: int) -> list[ApprovalRow]:
        """Approvals of a request in the order they came."""
        return _Approvals(self._connection)._select(approvals.c.request_id == request_id)

    def denials(self, request_id: int) -> list[DenialRow]:
        """Denials of a request in the order they came."""
        return _Denials(self._connection)._select(denials.c.request_id == request_id)

    def _answer(self, request_id: int, approver: str) -> ApprovalRow | DenialRow | None:
        approval = _Approvals(self._connection)._first(
            approvals.c.request_id == request_id, approvals.c.approver == approver
        )
        return approval or _Denials(self._connection)._first(
            denials.c.request_id == request_id, denials.c.approver == approver
        )

    def _refuse_second(
        self, request_id: int, approver: str, present: ApprovalRow | DenialRow | None
    ) -> None:
        self.get_waiting(request_id)
        if present is not None:
            did = "approved" if isinstance(present, ApprovalRow) else "denied"
            raise ExistsError(f"{approver} has already {did} request {request_id}")
