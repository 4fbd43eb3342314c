"""The copies of keys that custodians approved and the chip made, for evidence."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from tpmhsm.attest.format import CopyApproval, CopyEvidence

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.requests.desk import Desk
    from tpmhsm.store import Store
    from tpmhsm.store.requests import RequestRow


def copies_of(store: Store, desk: Desk, labels: Collection[str] = ()) -> tuple[CopyEvidence, ...]:
    """All copies of these keys (none: of all keys), with the custodians' approvals."""
    with store.reading() as tx:
        # a key that may be copied has a policy document; of others nothing is looked for
        names = [key.label for key in tx.keys.all() if key.policy_document]
        wanted = [label for label in names if not labels or label in labels]
        rows = [row for label in wanted for row in tx.requests.of_key("backup", label)]
    done = [row for row in rows if row.state == "executed"]
    return tuple(_copy(row, desk.request(row.id)) for row in done)


def _copy(row: RequestRow, request: Request) -> CopyEvidence:
    votes = [
        CopyApproval(vote.approver, one.policy_ref, one.signature)
        for vote in request.approvals
        for one in vote.signatures
    ]
    return CopyEvidence(datetime.fromisoformat(row.executed_at), request.content, tuple(votes))
