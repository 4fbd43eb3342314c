"""The desk: where requests are made, votes come in, and the chip is asked when enough agree."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING

from tpmhsm.approval.request import GIVEN, Claims, parse_request
from tpmhsm.approval.votes import Approval, Denial, is_approval, parse_approval, parse_denial
from tpmhsm.errors import ExistsError, RefusedError, TpmHsmError, WaitingError
from tpmhsm.policy.changes import Change
from tpmhsm.policy.group import parse_group, parse_roster
from tpmhsm.policy.rosters import roster_differences
from tpmhsm.requests.copying import Copies
from tpmhsm.requests.decryption import Decryptions
from tpmhsm.requests.drafts import Edits, register
from tpmhsm.requests.execution import Execution, votes_by_act
from tpmhsm.requests.grants import Grants
from tpmhsm.requests.joining import Joining
from tpmhsm.requests.ledger import Ledger, Overtaken, end, reason_of, title_of
from tpmhsm.requests.openings import Openings
from tpmhsm.requests.recovery import Recovery
from tpmhsm.store.groups import GroupRow, RosterRow
from tpmhsm.store.requests import ApprovalRow, DenialRow

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.policy.group import RosterDocument
    from tpmhsm.policy.people import Thresholds
    from tpmhsm.requests.executing import Executing
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow


class Desk(Ledger):
    """All requests of a home, and all that can be done with them."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        groups: Groups,
        tell: Callable[[Overtaken], None] | None = None,
    ) -> None:
        super().__init__(store, keyring, groups, tell)
        self._execution = Execution(store, keyring, groups, self)
        self._recovery = Recovery(store, groups, self)
        self.decryptions = Decryptions(store, keyring, groups, self)
        self.copies = Copies(store, keyring, groups, self)
        self.joining = Joining(store, groups, self, self._recovery)
        self.grants = Grants(store, keyring, groups, self)
        self.openings = Openings(store, keyring, groups, self)

    # ── proposing ────────────────────────────────────────────────────────────

    def propose_group(self, name: str, officers: str, custodians: str) -> WaitingError:
        """Ask the custodians to found a group; gives what to tell people.

        The same again, while it waits, is the same request. Raises ExistsError for a taken name.
        """
        approve, govern = self.drafts.rules(officers, custodians)
        if (known := self._founding(name, approve, govern)) is not None:
            return self.waiting(known)
        draft, words = self.drafts.of_group(name, approve, govern)
        group, roster = draft.group, draft.asked_roster
        row = GroupRow(
            id=group.id.hex(),
            name=name,
            document=group.encoded,
            counter_index=group.counter_index,
            roster_index=group.roster_index,
            fingerprint=words,
        )
        with self._store.transaction() as tx:
            tx.groups.add(row)
            tx.rosters.add(_roster_row(roster))
            number = register(tx, draft)
        return self.waiting(number)

    def _founding(self, name: str, officers: Thresholds, custodians: Thresholds) -> int | None:
        """The request that waits to found exactly this group. ExistsError for another of the name.

        What the members contributed differs from card to card and does not count here.
        """
        waiting = self.all("waiting")
        with self._store.reading() as tx:
            row = tx.groups.find(name)
            rosters = tx.rosters.all(row.id) if row else []
        if row is None:
            return None
        number = next((r.id for r in waiting if (r.group_id, r.kind) == (row.id, "group")), None)
        same = (parse_group(row.document).custodians, parse_roster(rosters[0].document).officers)
        if number is not None and same == (custodians, officers):
            return number
        raise ExistsError(
            f"a group named {name!r} exists already",
            hint=f"it waits for its custodians: tpmhsm request show {number}"
            if number
            else f"tpmhsm group show {name}; tpmhsm group change {name} changes its officers",
        )

    def propose_roster(self, name: str, edits: Edits | str, reason: str = "") -> WaitingError:
        """Ask the custodians to change the roster; again, while it waits, is the same request.
        Text for `edits` is the officers' rule.

        If the chip's owner meddled with the group's indices, they are put back first.
        """
        self._recovery.restore(name)
        wanted = Edits(edits) if isinstance(edits, str) else edits
        draft = self.drafts.of_roster(name, wanted, Claims(reason=reason))
        waiting = self.waiting(self._register_roster(draft))
        assert draft.roster is not None  # noqa: S101 - a change has a roster in force
        change = Change(draft.roster.officers, draft.asked_roster.officers)
        others = roster_differences(draft.roster, draft.asked_roster, self._groups.key_label)
        people = [] if change.same and others else [change.words()]
        same = change.same and not others
        waiting.details |= {"change": "; ".join([*people, *others]), "same": same}
        return waiting

    def _register_roster(self, draft: Request) -> int:
        for row in self.all("waiting"):
            if (row.kind, row.digest) == ("roster", draft.digest.hex()):
                return row.id
        with self._store.transaction() as tx:
            tx.rosters.add(_roster_row(draft.asked_roster))
            return register(tx, draft)

    def propose(self, label: str, kind: str, content: bytes, claims: Claims) -> bytes:
        """The signature over a CSR or file that people must approve.

        The same bytes again find the same request: it gives the signature once it was executed,
        and raises WaitingError until then.
        """
        digest = hashlib.sha256(content).hexdigest()
        for row in self.all():
            if (row.kind, row.key, row.digest) == (kind, label, digest):
                if row.state == "executed":
                    return b64decode(row.result["signature"])
                if row.state == "waiting":
                    raise self.waiting(row.id)
        draft = self.signer.draft(label, kind, content, claims)
        with self._store.transaction() as tx:
            number = register(tx, draft)
        raise self.waiting(number)

    def sign_file(self, label: str, data: bytes, *, name: str, reason: str = "") -> bytes:
        """A signature over a file. Raises WaitingError when people must approve it first.

        Refused: to-be-signed certificates, CRLs and the like, anything by an authority's key, and
        where people are asked, what their tools refuse.
        """
        from tpmhsm.approval.plain import check_plain
        from tpmhsm.requests.signer import refuse_structures

        row = self._keyring.signing(label)
        with self._store.reading() as tx:
            authorities = [a.name for a in tx.authorities.all() if a.key_label == label]
        if authorities:
            raise RefusedError(
                f"key {label!r} is that of the authority {authorities[0]!r}: it signs "
                "certificates and CRLs, not files",
                code="authority-key",
                hint="tpmhsm key create LABEL makes a key for files",
            )
        refuse_structures(data, people=self._keyring.people(row) is not None)
        if self._keyring.people(row) is None:
            signature = self.signer.sign(label, data)
            self._log("signed", row, data, {"file": name})
            return signature
        check_plain(data)
        return self.propose(label, "data", data, Claims(reason=reason, texts={"file": name}))

    def _log(self, act: str, row: KeyRow, data: bytes, more: dict[str, str]) -> None:
        digest = hashlib.new(row.hash, data).hexdigest()
        with self._store.transaction() as tx:
            tx.audit.append(act, {"key": row.label, "digest": digest, **more})

    def make_csr(
        self, label: str, content: CsrContent, reason: str = "", evidence: bytes = b""
    ) -> bytes:
        """A CSR (DER) by a chip key, with `evidence` (an AttestationBundle, DER) if there is any.
        Raises WaitingError when people must approve it first.
        """
        from tpmhsm.attest.csr_bundle import ATTRIBUTE
        from tpmhsm.pki.csr import prepare_csr, with_attribute
        from tpmhsm.pki.names import format_dn

        row = self._keyring.signing(label)
        unsigned = prepare_csr(self._keyring.public_key(row), content, row.hash)
        if evidence:
            unsigned = with_attribute(unsigned, ATTRIBUTE, evidence)
        if self._keyring.people(row) is None:
            made = unsigned.complete(self.signer.sign(label, unsigned.tbs))
            self._log("csr", row, unsigned.tbs, {"sha256": hashlib.sha256(made).hexdigest()})
            return made
        claims = Claims(reason=reason, texts={"subject": format_dn(content.subject)})
        return unsigned.complete(self.propose(label, "csr", unsigned.tbs, claims))

    # ── votes ────────────────────────────────────────────────────────────────

    def take(self, data: bytes) -> RequestRow:
        """Take in an approval or denial file; the last approval needed executes the request.

        Raises VerificationError in words when it is not for what was asked.
        """
        if is_approval(data):
            return self.add_approval(parse_approval(data))
        return self.add_denial(parse_denial(data))

    def add_approval(self, approval: Approval) -> RequestRow:
        """Check an approval, keep it, and execute the request if it was the last one needed.

        One that comes after the request was executed is checked, and changes nothing.
        """
        row = self.keep_approval(approval)
        if row.state == "executed":
            return row
        if self.missing(row) or row.kind in GIVEN or self._follows_a_founding(row):
            return self.get(row.id)
        try:
            return self.execute(row.id)
        except TpmHsmError as error:
            error.details.setdefault("request", row.id)
            error.details["approval"] = "kept"
            again = f"the approval is kept; tpmhsm request execute {row.id} tries again"
            error.hint = f"{error.hint}; {again}" if error.hint else again
            raise

    def keep_approval(self, approval: Approval) -> RequestRow:
        """The same without the chip: whatever was approved waits to be executed."""
        from tpmhsm.approval.verify import verify_approval

        row = self.get(approval.request)
        verify_approval(parse_request(row.document), approval)
        if row.state != "executed":
            with self._store.transaction() as tx:
                tx.requests.approve(
                    ApprovalRow(row.id, approval.approver, approval.key_kind, approval.data)
                )
                tx.audit.append("approval", {"request": row.id, "approver": approval.approver})
        return row

    def _follows_a_founding(self, row: RequestRow) -> bool:
        """Whether it is an act of officers of a group that is not founded yet."""
        if row.kind == "group" or row.group_id is None:
            return False
        with self._store.reading() as tx:
            return tx.groups.get_by_id(row.group_id).state == "founding"

    def add_denial(self, denial: Denial) -> RequestRow:
        """Check a denial and keep it; an honest host then stops the request."""
        from tpmhsm.approval.verify import verify_denial

        row = self.must_wait(denial.request)
        verify_denial(parse_request(row.document), denial)
        self._execution.withdraw(row)
        self.grants.withdraw(row)
        self.openings.withdraw(row)
        with self._store.transaction() as tx:
            tx.requests.deny(DenialRow(row.id, denial.approver, denial.reason, denial.data))
            end(tx, row, "denied", "denied", by=denial.approver)
        return self.get(row.id)

    def cancel(self, number: int) -> RequestRow:
        """Withdraw a waiting request."""
        row = self.must_wait(number)
        self._execution.withdraw(row)
        self.grants.withdraw(row)
        self.openings.withdraw(row)
        with self._store.transaction() as tx:
            end(tx, row, "cancelled", "cancelled")
        return self.get(number)

    def execute(self, number: int) -> RequestRow:
        """Have the chip do what was approved; see `Execution.execute`."""
        return self._execution.execute(number)

    def executing(self, workers: int | None = None) -> Executing:
        """Begin to execute many; close it when done. See `tpmhsm.requests.executing`."""
        from tpmhsm.requests.executing import Executing

        return Executing(self._store, self._keyring, self, self._execution, workers)

    def title(self, row: RequestRow) -> str:
        """What is asked for, in a line."""
        return title_of(row)

    def content(self, row: RequestRow) -> dict[str, str]:
        """What the bytes to be signed say, in short: subject, names, dates, officers …"""
        from tpmhsm.approval.content import short_facts

        return short_facts(parse_request(row.document))

    def reason(self, row: RequestRow) -> str:
        """Why, in the host's words; empty when it gave none."""
        return reason_of(row)


def _roster_row(roster: RosterDocument) -> RosterRow:
    return RosterRow(roster.group.hex(), roster.epoch, roster.encoded, roster.hash.hex())


__all__ = ["Desk", "title_of", "votes_by_act"]
