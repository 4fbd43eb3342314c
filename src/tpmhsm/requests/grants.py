"""Budgets that officers are asked for: proposed, written into the chip, or given up.

A first grant is approved over the nonce of a session that waits in the chip, and is lost with it;
later ones may be approved at any time. Both can be executed again after a failure: what the chip
counts says whether it was done.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from tpmhsm.approval.request import Claims
from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.budgets import MOST, Grant, parse_grant
from tpmhsm.policy.plan import Officers
from tpmhsm.requests.drafts import register
from tpmhsm.requests.execution import finish, give_up, still_waits, votes_by_act

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.errors import WaitingError
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store
    from tpmhsm.store.requests import RequestRow

KIND = "budget"

LIVE = timedelta(days=1)
"""How long a first grant waits for people: the chip keeps its session for so long."""

_OVER = ("live-session-gone", "budget-passed", "budget-gone")
"""Refusals after which the same approvals can never be used."""


class Grants:
    """Grants of one home's keys."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._ledger = ledger

    def propose(self, label: str, units: int, group: str = "", reason: str = "") -> WaitingError:
        """Ask the officers for `units` more signatures; gives what to tell people.

        The same again, while it waits, is the same request. UsageError for a key without a budget
        of that group, for another grant that waits, and for more than a budget can hold.
        """
        row = self._keyring.get(label)
        budget = self._keyring.budgets.prepare(row, group)
        before = budget.counted.total if budget.counted else 0
        total = before + units
        if units < 1 or total > MOST:
            raise UsageError(f"{units:,} more: a budget is from 1 to {MOST:,} signatures in all")
        if (waiting := self._waiting(label, budget.group)) is not None:
            request, grant = waiting
            if grant.total == total and grant.first == (budget.counted is None):
                return self._ledger.waiting(request.id)
            raise UsageError(
                f"request {request.id} asks for a total of {grant.total:,} already",
                code="grant-waits",
                hint=f"tpmhsm request cancel {request.id}, then ask again",
            )
        draft = self._draft(row.label, budget.group, budget.index, total, Claims(reason=reason))
        with self._store.transaction() as tx:
            number = register(tx, draft)
        return self._ledger.waiting(number)

    def _waiting(self, label: str, group: str) -> tuple[RequestRow, Grant] | None:
        for row in self._ledger.of_key(KIND, label, "waiting"):
            request = self._ledger.request(row.id)
            if request.group.name == group:
                return row, parse_grant(request.content)
        return None

    def _draft(self, label: str, group: str, index: int, total: int, claims: Claims) -> Request:
        row = self._keyring.get(label)
        self._groups.must_be_measured(self._groups.active(group))
        name, until = bytes.fromhex(row.name), moments.now() + LIVE
        nonce = self._keyring.budgets.wait(row, group, until)
        grant = Grant(self._groups.active(group).group.id, name, index, total, nonce)
        draft = self._ledger.drafts.of_grant(KIND, row, group, grant.encoded, claims)
        return replace(draft, expires=until) if grant.first else draft

    # ── the chip ─────────────────────────────────────────────────────────────

    def execute(self, row: RequestRow, request: Request) -> None:
        """Have the chip write the limit, or find that it has.

        RefusedError when that can never be done; the request is then cancelled.
        """
        (votes,) = votes_by_act(request)
        grant = parse_grant(request.content)
        key = self._keyring.get(row.key or "")
        assert request.roster is not None  # noqa: S101 - Request's own rule
        officers = Officers(request.group, request.roster, votes)
        try:
            before = self._keyring.budgets.grant(key, officers, grant)
        except RefusedError as error:
            if error.code in _OVER or (grant.first and isinstance(error, ChipRefusedError)):
                give_up(self._store, row, error.message)
                error.hint = f"tpmhsm key grant {row.key} N asks once more"
            raise
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                more = {"granted": grant.total - before, "total": grant.total}
                finish(tx, row, {"key": key.label, **more})

    def withdraw(self, row: RequestRow) -> None:
        """Let go of the session that waits for a first grant."""
        if row.kind != KIND:
            return
        grant = parse_grant(self._ledger.request(row.id).content)
        if grant.first:
            with suppress(DeviceError, RefusedError):
                self._keyring.budgets.drop(grant)
