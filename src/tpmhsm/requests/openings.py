"""Windows that officers are asked for: proposed, opened in the chip, or given up.

They are approved over the nonce of a session that waits in the chip, and are lost with it. The
chip counts the seconds from the start of that session, so the request expires when the window
would end. A window whose tickets were not kept before a power failure has to be asked for again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from tpmhsm.approval.request import Claims
from tpmhsm.errors import ChipRefusedError, RefusedError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.tree import check_branch, must_change
from tpmhsm.policy.tree import window as branch_of
from tpmhsm.policy.windows import WindowDocument, check_seconds, parse_window
from tpmhsm.requests.drafts import register
from tpmhsm.requests.execution import finish, give_up, still_waits, votes_by_act
from tpmhsm.store.windows import WindowRow

if TYPE_CHECKING:
    from datetime import datetime

    from tpmhsm.approval.request import Request
    from tpmhsm.errors import WaitingError
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.policy.plan import Held
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow

KIND = "window"


class Openings:
    """Windows of one home's keys."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._ledger = ledger

    def propose(self, label: str, seconds: int, group: str = "", reason: str = "") -> WaitingError:
        """Ask the officers to open a key for `seconds` from now; gives what to tell people.

        The same again, while it waits, is the same request. UsageError for a length that no window
        has, a key that decrypts or has no officers, one that the custodians have not allowed to be
        opened, and for another window of it that waits.
        """
        row = self._keyring.signing(label)
        check_seconds(seconds)
        label_of_group = self._officers_of(row, group)
        if (waiting := self._waiting(label)) is not None:
            request, window = waiting
            if window.seconds == seconds:
                return self._ledger.waiting(request.id)
            raise UsageError(
                f"request {request.id} asks to open key {label!r} already, for another time",
                code="window-waits",
                hint=f"tpmhsm request cancel {request.id}, then ask again",
            )
        draft = self._draft(row, label_of_group, seconds, Claims(reason=reason))
        with self._store.transaction() as tx:
            number = register(tx, draft)
        return self._ledger.waiting(number)

    def _officers_of(self, row: KeyRow, wanted: str) -> str:
        """The group whose officers are asked. UsageError when its roster has no window for it."""
        groups = self._keyring.policy(row).groups
        if not groups or (wanted and wanted not in groups):
            raise UsageError(
                f"no officers{f' of {wanted!r}' if wanted else ''} open key {row.label!r}: "
                f"it signs by {row.policy}",
                code="no-window",
                hint="tpmhsm key create LABEL --policy 'window(GROUP)' makes a key that they open",
            )
        state = self._groups.active(wanted or groups[0])
        must_change(state.group)
        try:
            check_branch(state.roster, branch_of(bytes.fromhex(row.name)))
        except UsageError as error:
            error.message = f"key {row.label!r}: {error.message}"
            error.hint = (
                f"tpmhsm group change {state.row.name} --open {row.label} asks its custodians"
            )
            raise
        return state.row.name

    def _waiting(self, label: str) -> tuple[RequestRow, WindowDocument] | None:
        for row in self._ledger.of_key(KIND, label, "waiting"):
            return row, parse_window(self._ledger.request(row.id).content)
        return None

    def _draft(self, row: KeyRow, group: str, seconds: int, claims: Claims) -> Request:
        state = self._groups.active(group)
        self._groups.must_be_measured(state)
        until = moments.now() + timedelta(seconds=seconds)
        nonce = self._keyring.windows.wait(until)
        name = bytes.fromhex(row.name)
        window = WindowDocument(state.group.id, state.roster.epoch, name, nonce, seconds)
        draft = self._ledger.drafts.of_grant(KIND, row, group, window.encoded, claims)
        return replace(draft, expires=until)

    # ── the chip ─────────────────────────────────────────────────────────────

    def execute(self, row: RequestRow, request: Request) -> None:
        """Have the chip give tickets, and keep them.

        RefusedError when that can never be done; the request is then cancelled.
        """
        (votes,) = votes_by_act(request)
        window, until = parse_window(request.content), request.expires
        assert request.roster is not None  # noqa: S101 - Request's own rule
        try:
            tickets = self._keyring.windows.open(window, request.roster, votes, until)
        except RefusedError as error:
            if error.code == "live-session-gone" or isinstance(error, ChipRefusedError):
                give_up(self._store, row, error.message)
                error.hint = f"tpmhsm key open {row.key} --for … asks once more"
            raise
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                tx.windows.put(_window_row(row, window, tickets, until))
                facts = {"key": row.key, "ends": moments.stamp(until), "seconds": window.seconds}
                tx.audit.append("window-opened", {"request": row.id, **facts})
                finish(tx, row, facts)

    def withdraw(self, row: RequestRow) -> None:
        """Let go of the session that waits."""
        if row.kind == KIND:
            self._keyring.windows.drop(parse_window(self._ledger.request(row.id).content).nonce)


def _window_row(
    row: RequestRow, window: WindowDocument, tickets: dict[int, Held], until: datetime
) -> WindowRow:
    return WindowRow(
        key_name=window.key_name.hex(),
        label=row.key or "",
        group_id=window.group.hex(),
        epoch=window.epoch,
        request_id=row.id,
        seconds=window.seconds,
        ends=moments.stamp(until),
        tickets=[
            {"index": index, "timeout": held.timeout.hex(), "ticket": held.ticket.hex()}
            for index, held in sorted(tickets.items())
        ],
    )
