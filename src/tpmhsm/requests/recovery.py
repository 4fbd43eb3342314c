"""After somebody meddled with the chip: a group's indices are put back by the approvals of then.

The owner of a chip, root on this machine, can remove indices and replay old rosters. Nothing new is
decided by undoing that, so nobody is asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.errors import RefusedError
from tpmhsm.keys.founding import Origin
from tpmhsm.requests.execution import votes_by_act
from tpmhsm.requests.ledger import begun

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.policy.group import RosterDocument
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store


@dataclass(frozen=True)
class History:
    """The executed requests, with their approvals, by which a group stands: its founding, and the
    change that brought the roster in force; None when that is the first one.
    """

    founding: Request
    change: Request | None

    @property
    def roster(self) -> RosterDocument:
        """The roster that they bring into force."""
        return (self.change or self.founding).asked_roster

    @property
    def origin(self) -> Origin:
        """The same for the chip. VerificationError for an approval that does not hold."""
        return Origin(
            first=self.founding.asked_roster,
            founding=votes_by_act(self.founding),
            roster=self.roster,
            write=votes_by_act(self.change)[1] if self.change else None,
        )


class Recovery:
    """Puts back what the requests of one ledger had brought into force."""

    def __init__(self, store: Store, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._groups = groups
        self._ledger = ledger

    def restore(self, name: str) -> None:
        """Put back a group's indices and the roster in force, if somebody removed or replayed them.

        Left alone while a change is under way, whose roster the chip may hold already.
        """
        state = self._groups.active(name)
        group_id = state.group.id.hex()
        if self._under_way(group_id) or self._groups.stands(state.group, state.roster):
            return
        self._groups.restore(state.group, self.history(group_id, state.roster).origin)
        with self._store.transaction() as tx:
            tx.audit.append("group-restored", {"group": name, "epoch": state.roster.epoch})

    def _under_way(self, group_id: str) -> bool:
        waiting = [row for row in self._ledger.all("waiting") if row.group_id == group_id]
        with self._store.reading() as tx:
            return any(begun(tx, row) for row in waiting)

    def history(self, group_id: str, roster: RosterDocument) -> History:
        """How a roster came into force. RefusedError `roster-lost` when the database cannot say."""
        done = [row for row in self._ledger.all("executed") if row.group_id == group_id]
        (founding,) = (self._ledger.request(row.id) for row in done if row.kind == "group")
        changes = [self._ledger.request(row.id) for row in done if row.kind == "roster"]
        found = [one for one in changes if one.asked_roster == roster]
        if not found and roster != founding.asked_roster:
            raise RefusedError(
                f"group {founding.group.name!r}: the chip does not hold the roster in force, and"
                " the approvals of that roster are not in the database",
                code="roster-lost",
                hint="somebody changed chip or database: a backup of the database may have them",
            )
        return History(founding, found[-1] if found else None)
