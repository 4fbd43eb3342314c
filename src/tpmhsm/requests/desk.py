"""The desk: where requests are kept, votes come in, and the chip is asked when enough agree.

Executing is safe to repeat: the chip or the database may fail at any point, and the next attempt
looks at what is there and does the rest. Nothing that was executed is executed again.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.acts import acts_of, rule_of
from tpmhsm.approval.request import SIGN_KINDS, Claims, Request, parse_request
from tpmhsm.approval.votes import Approval, Denial, is_approval, parse_approval, parse_denial
from tpmhsm.errors import RefusedError, WaitingError
from tpmhsm.requests.drafts import Drafts, register
from tpmhsm.requests.signer import DeskSigner

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.policy.group import RosterDocument
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.requests import ApprovalRow, DenialRow, RequestRow


class Desk:
    """All requests of a home."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self.drafts = Drafts(store, keyring, groups)
        self.signer = DeskSigner(store, keyring, self.drafts)

    # ── reading ──────────────────────────────────────────────────────────────

    def all(self, state: str | None = None) -> list[RequestRow]:
        """All requests, or those in one state; what is due expires first."""
        self._expire()
        with self._store.reading() as tx:
            return tx.requests.all(state)

    def get(self, number: int) -> RequestRow:
        """One request. Raises NotFoundError."""
        self._expire()
        with self._store.reading() as tx:
            return tx.requests.get(number)

    def _expire(self) -> None:
        from tpmhsm.store.schema import now

        with self._store.reading() as tx:
            due = [r for r in tx.requests.all("waiting") if r.expires and r.expires <= now()]
        if due:
            with self._store.transaction() as tx:
                for row in tx.requests.expire():
                    _given_up(tx, row, "expired")

    def approvals(self, number: int) -> list[ApprovalRow]:
        """The approvals that came in."""
        with self._store.reading() as tx:
            return tx.requests.approvals(number)

    def denials(self, number: int) -> list[DenialRow]:
        """The denials that came in."""
        with self._store.reading() as tx:
            return tx.requests.denials(number)

    def group_name(self, row: RequestRow) -> str | None:
        """The name of the group that is asked."""
        with self._store.reading() as tx:
            found = tx.groups.find_by_id(row.group_id) if row.group_id else None
        return found.name if found else None

    def title(self, row: RequestRow) -> str:
        """What is asked for, in a line."""
        return title_of(row)

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

    # ── proposing ────────────────────────────────────────────────────────────

    def propose_group(self, name: str, officers: str, custodians: str) -> WaitingError:
        """Ask the custodians to found a group; gives what to tell people."""
        from tpmhsm.store.groups import GroupRow

        draft, words = self.drafts.of_group(name, officers, custodians)
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

    def propose_roster(self, name: str, officers: str, reason: str = "") -> WaitingError:
        """Ask the custodians to change the officers."""
        draft = self.drafts.of_roster(name, officers, Claims(reason=reason))
        with self._store.transaction() as tx:
            tx.rosters.add(_roster_row(draft.asked_roster))
            number = register(tx, draft)
        return self.waiting(number)

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

        Refused: to-be-signed certificates, CRLs and the like, and anything by an authority's key.
        """
        from tpmhsm.requests.signer import refuse_structures

        row = self._keyring.get(label)
        with self._store.reading() as tx:
            authorities = [a.name for a in tx.authorities.all() if a.key_label == label]
        if authorities:
            raise RefusedError(
                f"key {label!r} is that of the authority {authorities[0]!r}: it signs "
                "certificates and CRLs, not files",
                code="authority-key",
                hint="tpmhsm key create LABEL makes a key for files",
            )
        refuse_structures(data)
        if self._keyring.people(row) is None:
            return self.signer.sign(label, data)
        return self.propose(label, "data", data, Claims(reason=reason, texts={"file": name}))

    def make_csr(self, label: str, content: CsrContent) -> bytes:
        """A CSR (DER) by a chip key. Raises WaitingError when people must approve it first."""
        from tpmhsm.pki.csr import prepare_csr
        from tpmhsm.pki.names import format_dn

        row = self._keyring.get(label)
        unsigned = prepare_csr(self._keyring.public_key(row), content, row.hash)
        if self._keyring.people(row) is None:
            return unsigned.complete(self.signer.sign(label, unsigned.tbs))
        claims = Claims(texts={"subject": format_dn(content.subject)})
        return unsigned.complete(self.propose(label, "csr", unsigned.tbs, claims))

    def waiting(self, number: int) -> WaitingError:
        """What to tell people about a waiting request."""
        return self.signer.waiting(number)

    # ── votes ────────────────────────────────────────────────────────────────

    def take(self, data: bytes) -> RequestRow:
        """Take in an approval or denial file; the last approval needed executes the request.

        Raises VerificationError in words when it is not for what was asked.
        """
        if is_approval(data):
            return self.add_approval(parse_approval(data))
        return self.add_denial(parse_denial(data))

    def add_approval(self, approval: Approval) -> RequestRow:
        """Check an approval, keep it, and execute the request if it was the last one needed."""
        from tpmhsm.approval.verify import verify_approval
        from tpmhsm.store.requests import ApprovalRow

        row = self.get(approval.request)
        request = parse_request(row.document)
        verify_approval(request, approval)
        with self._store.transaction() as tx:
            tx.requests.approve(
                ApprovalRow(row.id, approval.approver, approval.key_kind, approval.data)
            )
            tx.audit.append("approval", {"request": row.id, "approver": approval.approver})
            enough = len(tx.requests.approvals(row.id)) >= row.needed
        return self.execute(row.id) if enough else self.get(row.id)

    def add_denial(self, denial: Denial) -> RequestRow:
        """Check a denial and keep it; an honest host then stops the request."""
        from tpmhsm.approval.verify import verify_denial
        from tpmhsm.store.requests import DenialRow

        row = self.get(denial.request)
        verify_denial(parse_request(row.document), denial)
        with self._store.transaction() as tx:
            tx.requests.deny(DenialRow(row.id, denial.approver, denial.reason, denial.data))
            ended = tx.requests.finish(row.id, "denied")
            _given_up(tx, ended, "denied")
        return self.get(row.id)

    def must_wait(self, number: int) -> None:
        """Raise UsageError unless the request still waits for people."""
        self.get(number)
        with self._store.reading() as tx:
            tx.requests.get_waiting(number)

    def cancel(self, number: int) -> RequestRow:
        """Withdraw a waiting request."""
        self.get(number)
        with self._store.transaction() as tx:
            _given_up(tx, tx.requests.finish(number, "cancelled"), "cancelled")
        return self.get(number)

    # ── executing ────────────────────────────────────────────────────────────

    def execute(self, number: int) -> RequestRow:
        """Have the chip do what was approved. Raises WaitingError while approvals are missing,
        ChipRefusedError when the chip does not accept them; approvals are never lost."""
        row = self.get(number)
        if row.state == "executed":
            return row
        if len(self.approvals(number)) < row.needed:
            raise self.waiting(number)
        self.must_wait(number)
        request = self.request(number)
        if request.kind == "group":
            self._found(row, request)
        elif request.kind == "roster":
            self._change(row, request)
        else:
            self._sign(row, request)
        return self.get(number)

    def _found(self, row: RequestRow, request: Request) -> None:
        roster, votes = request.asked_roster, votes_by_act(request)
        try:
            self._groups.found(request.group, roster, votes)
        except RefusedError as error:
            if error.code == "epoch-passed":
                with self._store.transaction() as tx:
                    _given_up(tx, tx.requests.finish(row.id, "cancelled"), error.message)
            raise
        with self._store.transaction() as tx:
            group = tx.groups.get_by_id(request.group.id.hex())
            tx.groups.save(replace(group, state="active"))
            tx.rosters.put_in_force(group.id, roster.epoch, roster.hash.hex())
            self._finish(tx, row, {"group": group.name, "epoch": roster.epoch})

    def _change(self, row: RequestRow, request: Request) -> None:
        roster, votes = request.asked_roster, votes_by_act(request)
        self._groups.put_in_force(request.group, roster, votes)
        group_id = request.group.id.hex()
        with self._store.transaction() as tx:
            tx.rosters.put_in_force(group_id, roster.epoch, roster.hash.hex())
            self._finish(tx, row, {"group": request.group.name, "epoch": roster.epoch})
        self._ask_again(group_id)

    def _ask_again(self, group_id: str) -> None:
        """Approvals of the old epoch are void: waiting signatures are asked for anew."""
        for row in self.all("waiting"):
            if row.group_id != group_id:
                continue
            if row.kind not in SIGN_KINDS:
                with self._store.transaction() as tx:
                    _given_up(tx, tx.requests.finish(row.id, "cancelled"), "the roster changed")
                continue
            fresh = self.drafts.again(parse_request(row.document))
            with self._store.transaction() as tx:
                tx.requests.start_over(row.id, fresh.data, _needed(fresh))
                tx.audit.append("request-again", {"id": row.id})

    def _sign(self, row: RequestRow, request: Request) -> None:
        key = self._keyring.get(row.key or "")
        (votes,) = votes_by_act(request)
        digest = hashlib.new(key.hash, request.content).digest()
        signature = self._keyring.sign_digest(key, digest, votes)
        with self._store.transaction() as tx:
            current = tx.requests.get(row.id)
            if current.state != "waiting":
                return  # another process was faster; its signature stands
            self._finish(tx, row, self.signer.complete(tx, row, key, request.content, signature))

    def _finish(self, tx: Transaction, row: RequestRow, result: Mapping[str, Any]) -> None:
        tx.requests.finish(row.id, "executed", dict(result))
        tx.audit.append("executed", {"request": row.id, "kind": row.kind})


def _needed(request: Request) -> int:
    from tpmhsm.policy.people import needed

    return needed(rule_of(request))


def _roster_row(roster: RosterDocument) -> Any:
    from tpmhsm.store.groups import RosterRow

    return RosterRow(roster.group.hex(), roster.epoch, roster.encoded, roster.hash.hex())


def votes_by_act(request: Request) -> list[dict[int, bytes]]:
    """For each command of the request: TPMT_SIGNATUREs by the approver's place in the rule."""
    from tpmhsm.approval.verify import verify_approval

    found: dict[bytes, dict[int, bytes]] = {act.cp_hash: {} for act in acts_of(request)}
    for approval in request.approvals:
        verified = verify_approval(request, approval)
        for act, signature in verified.signatures:
            found[act.cp_hash][verified.index] = signature
    return list(found.values())


def title_of(row: RequestRow) -> str:
    """What a request asks for, in a line; read from its bytes."""
    document = json.loads(row.document)
    if row.kind in ("group", "roster"):
        verb = "found" if row.kind == "group" else "change the officers of"
        return f"{verb} group {document['group']['name']}"
    content = b64decode(document["content"])
    if row.kind == "data":
        name = document["claims"]["texts"].get("file", "")
        return f"sign {len(content)} bytes {name}".rstrip()
    from tpmhsm.pki.tbs import request_info_facts, tbs_facts

    facts = tbs_facts(content) if row.kind == "certificate" else request_info_facts(content)
    what = "CSR" if row.kind == "csr" else "CA certificate" if facts["ca"] else "certificate"
    return f"{what} {facts['subject'] or ', '.join(facts['sans'])}"


def _given_up(tx: Transaction, row: RequestRow, why: str) -> None:
    """What else ends when a request ends unexecuted."""
    tx.audit.append("request-ended", {"id": row.id, "why": why})
    if row.kind == "group" and row.group_id:
        group = tx.groups.get_by_id(row.group_id)
        tx.groups.save(replace(group, state="failed"))
    if row.kind == "certificate":
        for serial in tx.serials.all(state="reserved"):
            if serial.request_id == row.id:
                tx.serials.abandoned(serial.authority, serial.serial)
    for authority in tx.authorities.all():
        if authority.state == "pending" and (authority.settings or {}).get("request") == row.id:
            tx.authorities.remove_pending(authority.name)
