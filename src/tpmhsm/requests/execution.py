"""Having the chip do what people approved.

Every execution can be run again after a failure at any point: it looks at what chip and database
hold and does the rest. Approvals are never lost, and nothing that was executed is executed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.acts import acts_of
from tpmhsm.approval.verify import verify_approval
from tpmhsm.errors import RefusedError, UsageError
from tpmhsm.requests.ledger import begun, end, refuse_execution

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.requests import RequestRow


class Execution:
    """Executes requests of one ledger."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._ledger = ledger

    def execute(self, number: int) -> RequestRow:
        """Have the chip do what was approved, or what is left of it.

        Raises WaitingError while approvals are missing, UsageError for a request that ended
        otherwise, RefusedError when chip or verifier do not accept the approvals.
        """
        refuse_execution(self._ledger.get(number))
        row = self._ledger.must_go_on(number)
        if row.state == "executed":
            return row
        request = self._ledger.request(number)
        if request.kind == "group":
            self._found(row, request)
        elif request.kind == "roster":
            self._change(row, request)
        elif request.kind == "window":
            from tpmhsm.requests.openings import Openings

            Openings(self._store, self._keyring, self._groups, self._ledger).execute(row, request)
        elif request.kind == "budget":
            from tpmhsm.requests.grants import Grants

            Grants(self._store, self._keyring, self._groups, self._ledger).execute(row, request)
        else:
            self._sign(row, request)
        return self._ledger.get(number)

    def _found(self, row: RequestRow, request: Request) -> None:
        roster = request.asked_roster
        try:
            self._groups.found(request.group, roster, votes_by_act(request))
        except RefusedError as error:
            self._give_up_if_passed(row, error)
            raise
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                group = tx.groups.get_by_id(request.group.id.hex())
                tx.groups.save(replace(group, state="active"))
                tx.rosters.put_in_force(group.id, roster.epoch, roster.hash.hex())
                finish(tx, row, {"group": group.name, "epoch": roster.epoch})

    def _change(self, row: RequestRow, request: Request) -> None:
        roster, group_id = request.asked_roster, request.group.id.hex()
        try:
            self._groups.put_in_force(request.group, roster, votes_by_act(request))
        except RefusedError as error:
            self._give_up_if_passed(row, error)
            raise
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                tx.rosters.put_in_force(group_id, roster.epoch, roster.hash.hex())
                finish(tx, row, {"group": request.group.name, "epoch": roster.epoch})
        self._ledger.renew_all(group_id)

    def _give_up_if_passed(self, row: RequestRow, error: RefusedError) -> None:
        """What was approved for an epoch that is gone can never be executed."""
        if error.code == "epoch-passed":
            give_up(self._store, row, error.message)

    def _sign(self, row: RequestRow, request: Request) -> None:
        key = self._keyring.get(row.key or "")
        (votes,) = votes_by_act(request)
        digest = hashlib.new(key.hash, request.content).digest()
        signature = self._keyring.sign_digest(key, digest, votes, request.group.name)
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                complete = self._ledger.signer.complete
                finish(tx, row, complete(tx, row, key, request.content, signature))

    # ── ending without executing ─────────────────────────────────────────────

    def withdraw(self, row: RequestRow) -> None:
        """Undo what the chip may have begun for a request that is now given up.

        Raises UsageError when the chip has done it already: then the request is executed.
        """
        with self._store.reading() as tx:
            if not begun(tx, row):
                return
        request = self._ledger.request(row.id)
        if self._groups.holds(request.group, request.asked_roster):
            raise UsageError(
                f"the chip has done what request {row.id} asks for",
                code="request-done",
                hint=f"tpmhsm request execute {row.id} puts it on record",
            )
        if request.kind == "group":
            self._groups.unmake(request.group)


def still_waits(tx: Transaction, row: RequestRow) -> bool:
    """False when another process was faster: what it did stands."""
    return tx.requests.get(row.id).state == "waiting"


def give_up(store: Store, row: RequestRow, why: str) -> None:
    """Cancel a request that can never be executed, unless another process was faster."""
    with store.transaction() as tx:
        if still_waits(tx, row):
            end(tx, row, "cancelled", why)


def finish(tx: Transaction, row: RequestRow, result: Mapping[str, Any]) -> None:
    """Put on record that a request was executed, and what came of it."""
    tx.requests.finish(row.id, "executed", dict(result))
    tx.audit.append("executed", {"request": row.id, "kind": row.kind})


def votes_by_act(request: Request) -> list[dict[int, bytes]]:
    """For each command of the request: TPMT_SIGNATUREs by the approver's place in the rule."""
    acts = acts_of(request)
    found: dict[bytes, dict[int, bytes]] = {act.cp_hash: {} for act in acts}
    for approval in request.approvals:
        verified = verify_approval(request, approval, acts)
        for act, signature in verified.signatures:
            found[act.cp_hash][verified.index] = signature
    return list(found.values())
