"""The ledger: requests as the database has them, kept up to date whenever they are read.

Reading ends what has expired, and renews what was asked for under an older roster. Both are safe
to repeat, so that it does not matter where a process died before.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.request import BACKUP, PEOPLE_KINDS, SIGN_KINDS, Request, parse_request
from tpmhsm.approval.votes import parse_approval, parse_denial
from tpmhsm.errors import DeviceError, UsageError
from tpmhsm.policy.budgets import parse_grant
from tpmhsm.policy.people import needed, still_needed
from tpmhsm.policy.visible import escape
from tpmhsm.policy.windows import describe_seconds, parse_window
from tpmhsm.requests.signer import DeskSigner

if TYPE_CHECKING:
    from datetime import timedelta

    from tpmhsm.errors import WaitingError
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.drafts import Drafts
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.groups import RosterRow
    from tpmhsm.store.requests import ApprovalRow, DenialRow, RequestRow


@dataclass(frozen=True)
class Overtaken:
    """A waiting request that a change of officers overtook: asked anew, or cancelled (`state`).

    `void` are those whose approvals, of the old epoch, count no longer; `words` say it all.
    """

    request: int
    state: str
    void: tuple[str, ...]
    words: str

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object."""
        return {"request": self.request, "state": self.state, "void": list(self.void)}


class Ledger:
    """All requests of a home. `tell` hears of each request that a change of officers overtakes."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        groups: Groups,
        tell: Callable[[Overtaken], None] | None = None,
    ) -> None:
        from tpmhsm.requests.drafts import Drafts

        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._tell = tell
        self.overtaken: list[Overtaken] = []
        self.drafts: Drafts = Drafts(store, keyring, groups)
        self.signer = DeskSigner(store, keyring, self.drafts)

    def all(self, state: str | None = None) -> list[RequestRow]:
        """All requests, or those in one state; what is due expires first."""
        self.expire()
        with self._store.reading() as tx:
            return tx.requests.all(state)

    def of_key(self, kind: str, label: str, *states: str) -> list[RequestRow]:
        """Those of one kind for one key in one of the states; what is due expires first."""
        self.expire()
        with self._store.reading() as tx:
            return [row for row in tx.requests.of_key(kind, label) if row.state in states]

    def get(self, number: int) -> RequestRow:
        """One request, asked anew if the roster has changed meanwhile. Raises NotFoundError."""
        self.expire()
        with self._store.reading() as tx:
            row = tx.requests.get(number)
            stale = row.state == "waiting" and is_stale(tx, row)
        return self.renew(row) if stale else row

    def look(self, number: int) -> RequestRow:
        """The same to be shown only: without a chip, as it was last asked."""
        try:
            return self.get(number)
        except DeviceError:
            with self._store.reading() as tx:
                return tx.requests.get(number)

    def approvals(self, number: int) -> list[ApprovalRow]:
        """The approvals that came in."""
        with self._store.reading() as tx:
            return tx.requests.approvals(number)

    def denials(self, number: int) -> list[DenialRow]:
        """The denials that came in."""
        with self._store.reading() as tx:
            return tx.requests.denials(number)

    def missing(self, row: RequestRow) -> int:
        """How many approvals are still needed; none for a request that has ended."""
        if row.state != "waiting":
            return 0
        with self._store.reading() as tx:
            return _missing(tx, row)

    def group_name(self, row: RequestRow) -> str | None:
        """The name of the group that is asked."""
        with self._store.reading() as tx:
            found = tx.groups.find_by_id(row.group_id) if row.group_id else None
        return found.name if found else None

    def request(self, number: int) -> Request:
        """One request as an approver gets it, with the approvals so far."""
        row = self.get(number)
        with self._store.reading() as tx:
            approvals = tx.requests.approvals(number)
            denials = tx.requests.denials(number)
        return replace(
            parse_request(row.document),
            approvals=tuple(parse_approval(a.document) for a in approvals),
            denials=tuple(parse_denial(d.document) for d in denials),
        )

    def export(self, number: int) -> bytes:
        """The file for an approver."""
        return self.request(number).data

    def waiting(self, number: int) -> WaitingError:
        """What to tell people about a waiting request."""
        return self.signer.waiting(number)

    def must_wait(self, number: int) -> RequestRow:
        """The request; UsageError unless it still waits for people."""
        row = self.get(number)
        with self._store.reading() as tx:
            tx.requests.get_waiting(number)
        return row

    def must_go_on(self, number: int) -> RequestRow:
        """The request while it waits, or when it was executed, by another process just now perhaps.

        WaitingError while approvals are missing, UsageError when it ended otherwise.
        """
        if self.missing(self.get(number)):
            raise self.waiting(number)
        with self._store.reading() as tx:
            row = tx.requests.get(number)
            return row if row.state == "executed" else tx.requests.get_waiting(number)

    def expiring(self, within: timedelta) -> list[int]:
        """The ids of waiting requests whose time is over before that has passed."""
        from tpmhsm.policy import moments

        self.expire()
        with self._store.reading() as tx:
            return [row.id for row in tx.requests.due(moments.stamp(moments.now() + within))]

    # ── what time and rosters do to requests ─────────────────────────────────

    def expire(self) -> None:
        """End what is due, but not what the chip may have begun."""
        from tpmhsm.store.schema import now

        with self._store.reading() as tx:
            due = [row.id for row in tx.requests.due(now()) if not begun(tx, row)]
        if not due:
            return
        with self._store.transaction() as tx:
            for number in due:
                row = tx.requests.get(number)
                if row.state == "waiting" and not begun(tx, row):
                    end(tx, row, "expired", "expired")

    def renew(self, row: RequestRow) -> RequestRow:
        """Ask for the same bytes under the roster in force: approvals of another epoch are void.

        A waiting change of the officers was drawn up for an epoch that is gone, and is cancelled;
        so is what the new roster does not let officers be asked for.
        """
        if row.kind not in SIGN_KINDS or row.kind == "window":
            self._cancel(row, "it was drawn up for an epoch that is past")
        elif (fresh := self.drafts.again(parse_request(row.document))).barred:
            self._cancel(row, f"officers can no longer be asked to {fresh.barred}")
        else:
            self._ask_anew(row, fresh)
        with self._store.reading() as tx:
            return tx.requests.get(row.id)

    def _cancel(self, row: RequestRow, why: str) -> None:
        with self._store.transaction() as tx:
            if tx.requests.get(row.id).state != "waiting":
                return
            void = _approvers(tx, row)
            end(tx, row, "cancelled", "the roster changed")
        self._let_go(row)
        self._note(row, "cancelled", void, f"is cancelled: {why}")

    def _let_go(self, row: RequestRow) -> None:
        """Drop the session of the chip in which the approvals would have counted, if there is."""
        content = parse_request(row.document).content
        if row.kind == "window":
            self._keyring.windows.drop(parse_window(content).nonce)
        if row.kind == "budget" and (grant := parse_grant(content)).first:
            self._keyring.budgets.drop(grant)

    def _ask_anew(self, row: RequestRow, fresh: Request) -> None:
        with self._store.transaction() as tx:
            current = tx.requests.get(row.id)
            if current.state != "waiting" or current.document != row.document:
                return
            void = _approvers(tx, row)
            tx.requests.start_over(row.id, fresh.data, needed(rule_of(fresh)))
            tx.audit.append("request-again", {"id": row.id})
        assert fresh.roster is not None  # noqa: S101 - `again` drew it up under one
        self._note(row, "waiting", void, f"is asked anew in epoch {fresh.roster.epoch}")

    def _note(self, row: RequestRow, state: str, void: tuple[str, ...], what: str) -> None:
        lost = f"the approvals of {', '.join(void)} are void" if void else "nobody had approved it"
        words = f"request {row.id} ({title_of(row)}) {what}; {lost}"
        self.overtaken.append(found := Overtaken(row.id, state, void, words))
        if self._tell is not None:
            self._tell(found)

    def renew_all(self, group_id: str) -> None:
        """Renew every waiting request of a group whose roster has just changed."""
        for row in self.all("waiting"):
            if row.group_id == group_id:
                self.get(row.id)


def is_stale(tx: Transaction, row: RequestRow) -> bool:
    """Whether a request was drawn up under another roster than the one in force."""
    if row.kind == "group" or row.group_id is None or begun(tx, row):
        return False
    return is_of_another(row, tx.rosters.in_force(row.group_id))


def is_of_another(row: RequestRow, current: RosterRow | None) -> bool:
    """Whether a request was drawn up under another roster than this one."""
    asked = json.loads(row.document).get("roster") or {}
    return current is not None and asked.get("epoch") != current.epoch


def begun(tx: Transaction, row: RequestRow) -> bool:
    """Whether the chip may have begun to found or change a group: such a request must go on."""
    return row.kind in PEOPLE_KINDS and _missing(tx, row) == 0


def _missing(tx: Transaction, row: RequestRow) -> int:
    """How many approvals are missing, on every ladder: too many on one count for no other."""
    return still_needed(rule_of(parse_request(row.document)), _approvers(tx, row))


def _approvers(tx: Transaction, row: RequestRow) -> tuple[str, ...]:
    return tuple(approval.approver for approval in tx.requests.approvals(row.id))


def end(tx: Transaction, row: RequestRow, state: str, why: str, *, by: str = "") -> None:
    """End a request unexecuted, and what hangs on it; `by` is who denied it. UsageError when it had
    ended already.
    """
    tx.requests.finish(row.id, state)
    tx.audit.append("request-ended", {"id": row.id, "why": why, **({"by": by} if by else {})})
    if row.kind == "group" and row.group_id:
        group = tx.groups.get_by_id(row.group_id)
        tx.groups.save(replace(group, state="failed"))
    if row.kind == "certificate":
        for serial in tx.serials.all(state="reserved"):
            if serial.request_id == row.id:
                tx.serials.abandoned(serial.authority, serial.serial)
    if row.kind == "crl":
        from tpmhsm.ca.crls import abandon_request

        abandon_request(tx, row.id)
    for authority in tx.authorities.all():
        if authority.state == "pending" and (authority.settings or {}).get("request") == row.id:
            tx.authorities.remove_pending(authority.name)


def reason_of(row: RequestRow) -> str:
    """Why it is asked for, in the host's words."""
    return str(json.loads(row.document)["claims"]["reason"])


def title_of(row: RequestRow) -> str:
    """What a request asks for, in a line that is safe to show; read from its bytes."""
    return escape(_title_of(row))


def _title_of(row: RequestRow) -> str:  # noqa: PLR0911 (one for each kind)
    document = json.loads(row.document)
    if row.kind in ("group", "roster"):
        verb = "found" if row.kind == "group" else "change the roster of"
        return f"{verb} group {document['group']['name']}"
    content = b64decode(document["content"])
    if row.kind in ("data", "decrypt"):
        name = document["claims"]["texts"].get("file", "")
        verb = "sign" if row.kind == "data" else "decrypt"
        return f"{verb} {len(content)} bytes {name}".rstrip()
    if row.kind == "budget":
        return f"grant {row.key} {parse_grant(content).total:,} signatures in all"
    if row.kind == BACKUP:
        return f"copy key {row.key} to another chip"
    if row.kind == "window":
        return f"open key {row.key} for {describe_seconds(parse_window(content).seconds)}"
    if row.kind == "crl":
        from tpmhsm.pki.crl import read_tbs_crl
        from tpmhsm.pki.names import format_dn_der

        tbs = read_tbs_crl(content)
        return f"CRL {tbs.number} of {format_dn_der(tbs.issuer)}"
    from tpmhsm.pki.tbs import request_info_facts, tbs_facts

    facts = tbs_facts(content) if row.kind == "certificate" else request_info_facts(content)
    what = "CSR" if row.kind == "csr" else "CA certificate" if facts["ca"] else "certificate"
    return f"{what} {facts['subject'] or ', '.join(facts['sans'])}"


def refuse_execution(row: RequestRow) -> None:
    """UsageError for a decryption or a copy: whoever asked gets what it gives, and nobody keeps
    it.
    """
    if row.kind == "decrypt":
        raise UsageError(
            f"request {row.id} is a decryption: who asked for it gets what it gives",
            code="decryption-request",
            hint=f"tpmhsm key decrypt {row.key} FILE again; or key derive {row.key} PEER",
        )
    if row.kind == BACKUP:
        raise UsageError(
            f"request {row.id} is for a copy of a key: who asked for it gets the file",
            code="backup-request",
            hint=f"tpmhsm key backup {row.key} --to FILE again",
        )
