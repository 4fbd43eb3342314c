"""Windows of keys on this host: asked for, opened, used, closed.

The chip ends a window by its own clock; what the database and this machine's clock say of it only
saves a question. The tickets are no secrets: they are of use for one key, with one roster, to this
chip, until the window ends or the chip is started anew.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.policy.people import members_of
from tpmhsm.policy.plan import Held, Opened
from tpmhsm.policy.windows import WindowDocument
from tpmhsm.wire.constants import RC
from tpmhsm.wire.rc import base_code

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups, GroupState
    from tpmhsm.policy.group import RosterDocument
    from tpmhsm.policy.plan import Approvals, Plan
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.windows import WindowRow
    from tpmhsm.tpm.device import Device

_ENDING = ("PolicyTicket", "PolicyNV", "PolicyAuthorizeNV")
"""Where the chip refuses a window that is over: the ticket, the epoch, the roster."""

SOON = 0.1
"""A window ends soon when less than a tenth of it remains, or a minute."""


@dataclass(frozen=True)
class OpenKey:
    """A key that is open: `label`, by whom, since and until when by this machine's clock."""

    label: str
    group: str
    request: int
    seconds: int
    opened: str
    ends: str

    @property
    def left(self) -> int:
        """Seconds that remain."""
        return max(0, int(_seconds(self.ends) - datetime.now(UTC).timestamp()))

    @property
    def ends_soon(self) -> bool:
        """Whether it is time to ask for another."""
        return self.left < max(60, self.seconds * SOON)


class Windows:
    """The windows of one home's keys."""

    def __init__(self, store: Store, device: Device, groups: Groups) -> None:
        self._store = store
        self._device = device
        self._groups = groups

    # ── opening ──────────────────────────────────────────────────────────────

    def wait(self, until: datetime) -> bytes:
        """Start the session that officers approve; gives its nonceTPM (16 bytes)."""
        from tpmhsm.tpm import live

        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            return live.begin(chip, until.timestamp())

    def drop(self, nonce: bytes) -> None:
        """Let go of a session that waits, as far as the chip can be asked."""
        from tpmhsm.tpm import live

        with suppress(DeviceError, RefusedError), self._device.transaction() as chip:
            live.drop(chip, nonce)

    def open(
        self, window: WindowDocument, roster: RosterDocument, approvals: Approvals, until: datetime
    ) -> dict[int, Held]:
        """Have the chip give tickets for the approvals; `until` by this machine's clock.

        RefusedError `live-session-gone` when the session is gone; ChipRefusedError.
        """
        from tpmhsm.tpm import live, windows

        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            session = live.resume(chip, window.nonce)
            tickets = windows.open_window(chip, session, window, roster, approvals)
            live.keep_awake(chip, _note(window.key_name.hex()), until.timestamp())
        return tickets

    # ── use ──────────────────────────────────────────────────────────────────

    def current(self, row: KeyRow, label: str) -> Opened | None:
        """The window by which the group of this label has opened a key; None when there is none, or
        it is known to have ended.
        """
        with self._store.reading() as tx:
            found = tx.windows.find(row.name)
        if found is None:
            return None
        state = self._groups.state(label)
        if not self._lasts(found, state):
            return None
        members = members_of(state.roster.officers)
        tickets = {
            one["index"]: Held(
                members[one["index"]],
                bytes.fromhex(one["timeout"]),
                bytes.fromhex(one["ticket"]),
            )
            for one in found.tickets
        }
        return Opened(state.group, state.roster, bytes.fromhex(row.name), tickets)

    def _lasts(self, found: WindowRow, state: GroupState) -> bool:
        from tpmhsm.tpm.live import is_awake

        return (
            (found.group_id, found.epoch) == (state.row.id, state.roster.epoch)
            and _seconds(found.ends) > datetime.now(UTC).timestamp()
            and is_awake(self._device.shelf, _note(found.key_name))
        )

    def all(self) -> list[OpenKey]:
        """All keys that are open now, as far as is known without asking the chip."""
        with self._store.reading() as tx:
            rows = tx.windows.all()
            names = {row.group_id: tx.groups.get_by_id(row.group_id).name for row in rows}
        return [
            OpenKey(
                row.label, names[row.group_id], row.request_id, row.seconds, row.opened, row.ends
            )
            for row in rows
            if self._lasts(row, self._groups.state(names[row.group_id]))
        ]

    def of(self, row: KeyRow) -> OpenKey | None:
        """The window of one key, if it is open now."""
        return next((one for one in self.all() if one.label == row.label), None)

    def note_end(self, row: KeyRow, plan: Plan | None, error: Exception) -> None:
        """After the chip refused a use: when that says that the window is over, forget it, and say
        in the error what is next.
        """
        if plan is None or not plan.in_window or not isinstance(error, ChipRefusedError):
            return
        if error.command in _ENDING or base_code(error.rc) == RC.EXPIRED:
            self.close(row, error.message)
            error.code = "window-closed"
            error.hint = f"tpmhsm key open {row.label} --for 15m asks the officers to open it again"

    def close(self, row: KeyRow, why: str = "") -> bool:
        """Forget a key's tickets; True when there were any. Whoever has copied them can use them
        until the window ends.
        """
        from tpmhsm.tpm import live

        with self._store.transaction() as tx:
            found = tx.windows.remove(row.name)
            if found:
                tx.audit.append(
                    "window-closed", {"key": row.label, **({"why": why} if why else {})}
                )
        if self._device.shelf is not None:
            live.let_sleep(self._device.shelf, _note(row.name))
        return found


def _note(key_name: str) -> str:
    return f"{key_name}.window"


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
