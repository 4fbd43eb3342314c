"""The ceremony on the host: from an empty home to a governed CA, with one file for the approvers.

Everything that is to be approved is drawn up before anybody is asked: the group's documents, the
keys, both certificates, the first budget or window. What is kept, and in which transactions:

    begin     what is wanted
    lay       the group, its first roster and the keys
    ask       the requests, with serials and authorities
    go_on     each request when it was approved, in the order of the file

The same again does what is left. The last act counts in a session of the chip and may be over
before the others are: it is then asked for anew, alone, and nothing else is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.ceremony import Ceremony, parse_ceremony_approval
from tpmhsm.approval.request import Claims
from tpmhsm.ca.issuance import reserve
from tpmhsm.errors import RefusedError, StoreError, UsageError, WaitingError
from tpmhsm.keys.births import Wanted
from tpmhsm.keys.firstborn import make_first
from tpmhsm.keys.keyring import keep
from tpmhsm.pki.options import IssueOptions
from tpmhsm.policy import moments
from tpmhsm.policy.budgets import MOST, Grant
from tpmhsm.policy.group import RosterDocument, parse_group, parse_roster
from tpmhsm.policy.windows import WindowDocument, check_seconds
from tpmhsm.requests.drafts import register
from tpmhsm.requests.grants import LIVE
from tpmhsm.store.groups import GroupRow, RosterRow

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.ca.authority import Authorities
    from tpmhsm.ca.issuance import Order
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.desk import Desk
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.requests import RequestRow

SETTING = "ceremony"

ROOT_KEY, ROOT_CA = "root", "root-ca"
ISSUER_KEY = ISSUER_CA = "issuing"

GROUP, ROOT, ISSUER, GRANT = "group", "root", "issuer", "grant"
"""The acts, in their order."""


@dataclass(frozen=True)
class Founding:
    """What a ceremony is to make. Rules name approvers; `issuer` is empty for a root alone;
    `window` is in seconds, 0 for none, as `budget`.
    """

    group: str
    officers: str
    custodians: str
    root: str
    issuer: str = ""
    budget: int = 0
    window: int = 0
    alg: str = "p256"
    permit: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError for what no ceremony can make."""
        from tpmhsm.pki.names import parse_dn

        for subject in filter(None, (self.root, self.issuer)):
            parse_dn(subject)
        if not self.issuer and (self.budget or self.window or self.permit or self.exclude):
            raise UsageError(
                "budget, window and name constraints are the issuer's", hint="--issuer 'CN=…'"
            )
        if self.budget and self.window:
            raise UsageError("the issuer has a budget or a window", hint="leave one out")
        if not 0 <= self.budget <= MOST:
            raise UsageError(f"a budget is from 1 to {MOST:,} signatures")
        if self.window:
            check_seconds(self.window)

    @property
    def issuer_policy(self) -> str:
        """The policy of the issuer's key."""
        kind = "budget" if self.budget else "window" if self.window else "quorum"
        return f"{kind}({self.group})"

    def differences(self, other: Founding) -> list[str]:
        """The names of what is wanted otherwise."""
        return [
            one.name for one in fields(self) if getattr(self, one.name) != getattr(other, one.name)
        ]


@dataclass(frozen=True)
class Held:
    """What is kept of a ceremony. `requests` are ids by act, none before people are asked; `digest`
    is the file's; `anew` is the request that took the place of the last act, 0 for none.
    """

    wanted: Founding
    begun: str
    group: str = ""
    roster: bytes = b""
    requests: Mapping[str, int] | None = None
    digest: str = ""
    anew: int = 0
    folder: str = ""
    written: Mapping[str, str] | None = None
    ended: str = ""

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        wanted = {**asdict(self.wanted), "permit": [*self.wanted.permit]}
        wanted["exclude"] = [*self.wanted.exclude]
        return {**asdict(self), "wanted": wanted, "roster": self.roster.hex()}


def _read(value: Mapping[str, Any]) -> Held:
    try:
        wanted, numbers = dict(value["wanted"]), value["requests"]
        lists = {name: tuple(wanted[name]) for name in ("permit", "exclude")}
        return Held(**{
            **value,
            "wanted": Founding(**{**wanted, **lists}),
            "roster": bytes.fromhex(value["roster"]),
            # the order of the file: ids go up
            "requests": numbers and dict(sorted(numbers.items(), key=lambda one: one[1])),
        })  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "the database says nothing sensible of its ceremony", code="corrupt"
        ) from error


class Ceremonies:
    """The ceremony of a home: there is at most one at a time."""

    def __init__(
        self, store: Store, keyring: Keyring, groups: Groups, authorities: Authorities, desk: Desk
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._authorities = authorities
        self._desk = desk

    # ── what is kept ─────────────────────────────────────────────────────────

    def find(self) -> Held | None:
        """The ceremony, or None when none was begun."""
        return find(self._store)

    def get(self) -> Held:
        """The ceremony. UsageError when none was begun."""
        found = self.find()
        if found is None:
            raise none_begun()
        return found

    def begin(self, wanted: Founding) -> Held:
        """Keep what is wanted. UsageError when another ceremony was begun."""
        wanted.check()
        self._desk.drafts.rules(wanted.officers, wanted.custodians)
        with self._store.transaction() as tx:
            value = tx.settings.get(SETTING)
            if value is not None:
                return _same(_read(value), wanted)
            held = Held(wanted, moments.stamp(moments.now()))
            tx.settings.set(SETTING, held.document())
            tx.audit.append("ceremony-begin", {"group": wanted.group})
        return held

    def note(self, **facts: Any) -> Held:
        """Keep more of the ceremony: where files are written, SHA-256 of those, that it ended."""
        with self._store.transaction() as tx:
            held = replace(_read(tx.settings.get(SETTING)), **facts)
            tx.settings.set(SETTING, held.document())
            if "ended" in facts:
                tx.audit.append("ceremony-end", {"group": held.wanted.group})
        return held

    # ── drawing up ───────────────────────────────────────────────────────────

    def prepare(self) -> Held:
        """Draw up all that is to be approved, or what is left of that."""
        held = self.get()
        if not held.group:
            held = self._lay(held)
        if held.requests is None:
            held = self._ask(held)
        return held

    def _lay(self, held: Held) -> Held:
        wanted, drafts = held.wanted, self._desk.drafts
        draft, words = drafts.of_group(
            wanted.group, *drafts.rules(wanted.officers, wanted.custodians)
        )
        keys = [Wanted(ROOT_KEY, wanted.alg, f"quorum({wanted.group})")]
        if wanted.issuer:
            keys.append(Wanted(ISSUER_KEY, wanted.alg, wanted.issuer_policy))
        made = make_first(self._keyring, draft.group, keys)
        roster = draft.asked_roster
        if wanted.window:
            roster = replace(roster, windows=(bytes.fromhex(made[-1].name),))
        group = draft.group
        row = GroupRow(
            id=group.id.hex(),
            name=group.name,
            document=group.encoded,
            counter_index=group.counter_index,
            roster_index=group.roster_index,
            fingerprint=words,
        )
        with self._store.transaction() as tx:
            held = _unchanged(tx, held)
            tx.groups.add(row)
            tx.rosters.add(RosterRow(row.id, roster.epoch, roster.encoded, roster.hash.hex()))
            for key in made:
                keep(tx, key)
            held = replace(held, group=row.id, roster=roster.encoded)
            tx.settings.set(SETTING, held.document())
        return held

    def _ask(self, held: Held) -> Held:
        wanted, drafts = held.wanted, self._desk.drafts
        with self._store.reading() as tx:
            group = parse_group(tx.groups.get_by_id(held.group).document)
        roster = parse_roster(held.roster)
        orders = self._orders(wanted)
        signed = [
            drafts.of_first(
                "certificate",
                self._keyring.get(order.key),
                wanted.group,
                order.token.tbs,
                order.claims,
            )
            for order in orders
        ]
        founding, grant = drafts.of_founding(group, roster), self._grant(wanted, roster)
        with self._store.transaction() as tx:
            held = _unchanged(tx, held)
            numbers = {GROUP: register(tx, founding)}
            for name, order, draft in zip((ROOT, ISSUER), orders, signed, strict=False):
                numbers[name] = register(tx, draft)
                reserve(tx, order, numbers[name])
            if grant is not None:
                numbers[GRANT] = register(tx, grant)
            acts = (founding, *signed, *([grant] if grant else ()))
            file = Ceremony(
                tuple(replace(a, id=n) for n, a in zip(numbers.values(), acts, strict=True))
            )
            held = replace(held, requests=numbers, digest=file.digest.hex())
            tx.settings.set(SETTING, held.document())
        return held

    def _orders(self, wanted: Founding) -> list[Order]:
        root = self._authorities.draft(ROOT_CA, ROOT_KEY, wanted.root)
        if not wanted.issuer:
            return [root]
        limits = IssueOptions(permitted=wanted.permit, excluded=wanted.exclude)
        below = self._authorities.draft(
            ISSUER_CA, ISSUER_KEY, wanted.issuer, above=root, options=limits
        )
        return [root, below]

    def _grant(self, wanted: Founding, roster: RosterDocument) -> Request | None:
        """The first budget or window, over the nonce of a session that begins to wait now."""
        if not (wanted.budget or wanted.window):
            return None
        row = self._keyring.get(ISSUER_KEY)
        name = bytes.fromhex(row.name)
        now = moments.now()
        if wanted.budget:
            until = now + LIVE
            self._keyring.budgets.make_all(row)
            index = self._keyring.policy(row).budgets[wanted.group]
            nonce = self._keyring.budgets.wait(row, wanted.group, until)
            kind, content = "budget", Grant(roster.group, name, index, wanted.budget, nonce).encoded
        else:
            until = now + timedelta(seconds=wanted.window)
            nonce = self._keyring.windows.wait(until)
            window = WindowDocument(roster.group, roster.epoch, name, nonce, wanted.window)
            kind, content = "window", window.encoded
        draft = self._desk.drafts.of_first(kind, row, wanted.group, content, Claims())
        return replace(draft, expires=until)

    # ── the file, and what comes back ────────────────────────────────────────

    def file(self) -> Ceremony:
        """All acts as approvers get them, with the approvals so far."""
        numbers = self.get().requests or {}
        return Ceremony(tuple(self._desk.request(number) for number in numbers.values()))

    def take(self, data: bytes) -> str:
        """Keep one person's approvals; gives the name. The same again is no error.

        RefusedError for another ceremony, VerificationError when one does not hold.
        """
        held, given = self.get(), parse_ceremony_approval(data)
        if given.ceremony.hex() != held.digest:
            raise RefusedError(
                "these are approvals of another ceremony than the one of this home",
                code="other-ceremony",
                details={"digest": held.digest, "approved": given.ceremony.hex()},
            )
        numbers = (held.requests or {}).values()
        for approval in given.approvals:
            if approval.request not in numbers:
                raise RefusedError(
                    f"request {approval.request} is none of this ceremony", code="other-ceremony"
                )
            before = {one.approver for one in self._desk.approvals(approval.request)}
            closed = self._desk.get(approval.request).state not in ("waiting", "executed")
            if approval.approver not in before and not closed:
                self._desk.keep_approval(approval)
        return given.approvals[0].approver

    # ── going on ─────────────────────────────────────────────────────────────

    def go_on(self) -> None:
        """Have done what was approved, in order. WaitingError at the first act that still waits;
        RefusedError when an act was denied or is otherwise over.
        """
        held = self.get()
        for name, number in (held.requests or {}).items():
            row = self._desk.get(number)
            if name == GRANT:
                self._go_on_grant(held, row)
            elif row.state == "waiting":
                self._execute(row)
            elif row.state != "executed":
                raise _over(row)

    def _execute(self, row: RequestRow) -> None:
        if self._desk.missing(row):
            raise self._desk.waiting(row.id)
        self._desk.execute(row.id)

    def _go_on_grant(self, held: Held, row: RequestRow) -> None:
        """The last act: over with its session, or its day, it is asked for anew."""
        if held.anew:
            row = self._desk.get(held.anew)
        if row.state == "waiting":
            try:
                self._execute(row)
            except RefusedError:
                row = self._desk.get(row.id)
                if row.state != "cancelled":
                    raise
        if row.state == "denied":
            raise _over(row)
        if row.state in ("cancelled", "expired"):
            raise self._anew(held)

    def _anew(self, held: Held) -> WaitingError:
        wanted = held.wanted
        if wanted.budget:
            waiting = self._desk.grants.propose(ISSUER_KEY, wanted.budget, wanted.group)
        else:
            waiting = self._desk.openings.propose(ISSUER_KEY, wanted.window, wanted.group)
        self.note(anew=waiting.request)
        waiting.message = f"its session is over, it is asked for anew: {waiting.message}"
        return waiting

    def cancel(self) -> tuple[Held, bool]:
        """Withdraw what waits and forget the ceremony; its keys, too, unless the group stands.
        Gives what was kept, and whether the group stands.
        """
        held = self.get()
        numbers = [*(held.requests or {}).values(), *([held.anew] if held.anew else ())]
        for number in reversed(numbers):  # what stands on others first
            if self._desk.get(number).state == "waiting":
                self._desk.cancel(number)
        founded = False
        if held.group:
            with self._store.transaction() as tx:
                group = tx.groups.get_by_id(held.group)
                founded = group.state == "active"
                if group.state == "founding":
                    tx.groups.save(replace(group, state="failed"))
            if not founded:
                self._forget_keys(held.group)
        with self._store.transaction() as tx:
            tx.settings.remove(SETTING)
            tx.audit.append("ceremony-cancel", {"group": held.wanted.group})
        return held, founded

    def _forget_keys(self, group: str) -> None:
        for row in self._keyring.all():
            if row.group_id == group:
                self._keyring.delete(row.label, force=True)


def find(store: Store) -> Held | None:
    """The ceremony of a home, from its database alone."""
    with store.reading() as tx:
        value = tx.settings.get(SETTING)
    return None if value is None else _read(value)


def none_begun() -> UsageError:
    """The error to raise where there is no ceremony to go on with."""
    return UsageError(
        "no ceremony was begun here",
        code="no-ceremony",
        hint="tpmhsm ceremony --officers 2:alice.card,bob.card,carol.card "
        "--root 'CN=Example Root' --issuer 'CN=Example Issuing'",
    )


def _same(held: Held, wanted: Founding) -> Held:
    if changed := held.wanted.differences(wanted):
        words = ", ".join(
            f"{name} was {_said(getattr(held.wanted, name))}, now {_said(getattr(wanted, name))}"
            for name in changed
        )
        raise UsageError(
            f"this ceremony was begun with other options: {words}",
            code="ceremony-changed",
            hint="tpmhsm ceremony goes on with it; tpmhsm ceremony --cancel withdraws it",
            details={"changed": changed},
        )
    return held


def _said(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value or "none")


def _unchanged(tx: Transaction, held: Held) -> Held:
    """The ceremony, which no other process has taken further. UsageError."""
    if tx.settings.get(SETTING) != held.document():
        raise UsageError(
            "another process goes on with this ceremony", code="ceremony-busy",
            hint="tpmhsm ceremony shows where it stands",
        )  # fmt: skip
    return held


def _over(row: RequestRow) -> RefusedError:
    return RefusedError(
        f"request {row.id} is {row.state}: the ceremony cannot go on",
        code=f"request-{row.state}",
        hint=f"tpmhsm request show {row.id} says why; tpmhsm ceremony --cancel withdraws the rest",
        details={"request": row.id, "state": row.state},
    )
