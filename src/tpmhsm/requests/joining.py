"""A group on a further chip: exported from one host, joined on another.

What travels is the request by which the group was founded and the one by which its roster came
into force, each with its approvals. The commands that they approve name no chip, so joining replays
them, as root could; nobody is asked. Whether anybody trusts that chip is another matter: see
`tpmhsm.approval.second_chips`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.files import read_json
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.errors import ExistsError, ParseError, TpmHsmError, UsageError, VerificationError
from tpmhsm.policy.documents import Fields, canonical, encode_json
from tpmhsm.policy.fingerprint import fingerprint
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair
from tpmhsm.policy.people import still_needed
from tpmhsm.requests.drafts import register
from tpmhsm.requests.recovery import History
from tpmhsm.store.groups import GroupRow, RosterRow
from tpmhsm.store.requests import ApprovalRow

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.requests.recovery import Recovery
    from tpmhsm.store import Store, Transaction

FORMAT = "tpmhsm/group-export/1"
MAX_EXPORT = 4 << 20
_WHAT = "group export"


def format_export(history: History) -> bytes:
    """The file."""
    parts = [history.founding, *([history.change] if history.change else [])]
    requests = [read_json(one.data, "request", MAX_EXPORT) for one in parts]
    return canonical({"format": FORMAT, "requests": requests}) + b"\n"


def is_export(data: bytes) -> bool:
    """Whether a file says that it is a group's export."""
    try:
        return read_json(data, _WHAT, MAX_EXPORT).get("format") == FORMAT
    except TpmHsmError:
        return False


def parse_export(data: bytes) -> History:
    """Read an export. ParseError for anything amiss; approvals are judged by the chip."""
    document = read_json(data, _WHAT, MAX_EXPORT)
    fields = Fields(document, _WHAT)
    fields.expect("format", FORMAT)
    items = fields.list("requests")
    fields.done()
    found = [parse_request(_encoded(item)) for item in items]
    if [one.kind for one in found] not in (["group"], ["group", "roster"]):
        raise ParseError(f"{_WHAT}: a founding, and the change after which the roster is as it is")
    founding, change = found[0], found[1] if len(found) > 1 else None
    try:
        for one in found:
            if one.group != founding.group:
                raise ParseError(f"{_WHAT}: requests of two groups")
            check_pair(one.group, one.asked_roster)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"{_WHAT}: {e.message}") from None
    return History(founding, change)


def _encoded(item: Any) -> bytes:
    try:
        return encode_json(item) + b"\n"
    except UsageError as e:
        raise ParseError(f"{_WHAT}: {e.message}") from None


class Joining:
    """Groups of one home that stand in other chips, too."""

    def __init__(self, store: Store, groups: Groups, ledger: Ledger, recovery: Recovery) -> None:
        self._store = store
        self._groups = groups
        self._ledger = ledger
        self._recovery = recovery

    def export(self, name: str) -> bytes:
        """The file for `group join`. UsageError for a static group, or one that waits."""
        from tpmhsm.policy.tree import must_change

        state = self._groups.active(name)
        must_change(state.group)
        return format_export(self._recovery.history(state.row.id, state.roster))

    def join(self, history: History) -> str:
        """Bring a group into force in this chip, or up to date; gives its name.

        The chip first, then the database: after a failure the same again does what is left. Raises
        VerificationError for approvals that do not hold, ExistsError for another group of the
        name, RefusedError `counter-ahead`, `index-taken`, `older-roster`.
        """
        group = history.founding.group
        _must_be_approved(history)
        with self._store.reading() as tx:
            known = tx.groups.find(group.name)
            current = tx.rosters.in_force(group.id.hex())
        if known is not None and known.id != group.id.hex():
            raise ExistsError(
                f"another group named {group.name!r} exists already",
                hint=f"tpmhsm group show {group.name}; the key's policy needs this very group",
            )
        if known is not None and known.state == "founding":
            raise UsageError(
                f"group {group.name!r} still waits for its custodians on this very host",
                hint="tpmhsm request list",
                code="group-founding",
            )
        if current is not None and current.epoch > history.roster.epoch:
            raise UsageError(
                f"epoch {current.epoch} is in force here; the file is of epoch"
                f" {history.roster.epoch}",
                code="older-roster",
                hint=f"tpmhsm group export {group.name} here, group join on the other host",
            )
        self._groups.join(group, history.origin)
        with self._store.transaction() as tx:
            _keep(tx, history)
        self._ledger.renew_all(group.id.hex())
        return group.name


def _must_be_approved(history: History) -> None:
    for one in (history.founding, history.change):
        if one is None:
            continue
        if missing := still_needed(rule_of(one), [a.approver for a in one.approvals]):
            raise VerificationError(
                f"{missing} approvals of custodians are missing in the file", code="not-approved"
            )


def _keep(tx: Transaction, history: History) -> None:
    group, roster = history.founding.group, history.roster
    group_id = group.id.hex()
    if tx.groups.find_by_id(group_id) is None:
        tx.groups.add(_group_row(history.founding, group))
    for one in (history.founding, history.change):
        if one is not None:
            _keep_cards(tx, one)
            _keep_request(tx, one)
            tx.rosters.add(_roster_row(one.asked_roster))
    tx.rosters.put_in_force(group_id, roster.epoch, roster.hash.hex())
    tx.audit.append("group-join", {"group": group.name, "id": group_id, "epoch": roster.epoch})


def _group_row(founding: Request, group: GroupDocument) -> GroupRow:
    ek = founding.device.find_ek(group.device_ek) or b""
    return GroupRow(
        group.id.hex(),
        group.name,
        group.encoded,
        group.counter_index,
        group.roster_index,
        "active",
        " ".join(fingerprint(group, ek)),
    )


def _keep_cards(tx: Transaction, one: Request) -> None:
    """The people, so that this host can ask them. Who is known here, by name or key, stays."""
    from tpmhsm.store.people import ApproverRow

    known = {key for row in tx.approvers.all() for key in (row.name, row.key_name)}
    for card in one.cards:
        name = card.member(contribution=False).chip_name.hex()
        if not known & {card.name, name}:
            tx.approvers.add(ApproverRow(card.name, card.data, card.spki, name, card.kind))


def _keep_request(tx: Transaction, one: Request) -> None:
    """As if it had been executed here, which it was."""
    digest = one.digest.hex()
    for row in tx.requests.of_group(one.kind, one.group.id.hex()):
        if row.digest == digest and row.state == "executed":
            return
    number = register(tx, replace(one, approvals=(), denials=()))
    for approval in one.approvals:
        kept = ApprovalRow(number, approval.approver, approval.key_kind, approval.data)
        tx.requests.approve(kept)
    epoch = one.asked_roster.epoch
    tx.requests.finish(number, "executed", {"group": one.group.name, "epoch": epoch})


def _roster_row(roster: RosterDocument) -> RosterRow:
    return RosterRow(roster.group.hex(), roster.epoch, roster.encoded, roster.hash.hex())


__all__ = ["Joining", "format_export", "is_export", "parse_export"]
