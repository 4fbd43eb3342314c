"""How a request is born: everything an approver's tool will want to check, in one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.cards import Card, DeviceCard, create_device_card, parse_card
from tpmhsm.approval.request import KEY_CLAIM, Claims, KeyPart, Request, parse_request
from tpmhsm.attest.statements import BudgetState, ChipState
from tpmhsm.errors import RefusedError, UsageError
from tpmhsm.keys.groups import Wanted
from tpmhsm.policy import moments
from tpmhsm.policy.budgets import parse_grant
from tpmhsm.policy.group import USES
from tpmhsm.policy.model import Pcr
from tpmhsm.policy.normal import normal_form
from tpmhsm.policy.people import (
    Threshold,
    Thresholds,
    check_rule,
    members_of,
    needed,
    read_rule,
)
from tpmhsm.policy.text import parse_policy
from tpmhsm.policy.tree import RSA_DECRYPT, SIGN, check_branch

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups, GroupState
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.policy.group import GroupDocument, RosterDocument
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow

LIFETIME = timedelta(days=30)
"""How long a request waits for people."""


def device_card(host: HostDevice, created: datetime | None = None) -> DeviceCard:
    """The card of this home's chip."""
    return create_device_card(
        host.facts.get("label", "host"),
        host.kind,
        host.ek_certificates,
        host.ek_public,
        host.ak_public,
        created=created,
    )


def rule(cards: dict[str, Card], text: str, *, contribution: bool) -> Thresholds:
    """Read `2:alice,bob,carol`, or joined, `2:alice,bob,carol+1:dave,erin`.

    Raises UsageError; names must be those of added approvers, each on one ladder.
    """
    ladders = read_rule(text)
    unknown = sorted({name for _, names in ladders for name in names if name not in cards})
    if unknown:
        raise UsageError(
            f"no approver is called {', '.join(unknown)}",
            hint=f"tpmhsm approver add {' '.join(f'{name}.card' for name in unknown)}",
            code="not-found",
        )
    found = tuple(
        Threshold(m, tuple(cards[name].member(contribution=contribution) for name in names))
        for m, names in ladders
    )
    check_rule(found)
    return found


@dataclass(frozen=True)
class Edits:
    """What a change of a roster is to change, as it is typed. `officers` and `uses`: empty leaves
    them. `pcrs`: None leaves them, () wants none.
    """

    officers: str = ""
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    pcrs: tuple[str, ...] | None = None
    uses: str = ""


def read_uses(text: str) -> tuple[str, ...]:
    """Read `sign,budget`, in any order. What is no use, the roster refuses."""
    named = [word.strip() for word in text.split(",")]
    return (*(use for use in USES if use in named), *sorted(set(named) - set(USES)))


def _pcrs(text: str) -> Pcr:
    """Read `sha256:0,2,7`. Raises ParseError."""
    found = parse_policy(f"pcr({text})")
    if not isinstance(found, Pcr):
        raise UsageError(f"{text!r} names no PCRs", hint="BANK:N,… as in sha256:0,2,7")
    normal_form(found)  # refuses PCRs that protect nothing
    return found


class Drafts:
    """Requests that are not kept yet."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups

    def cards(self) -> dict[str, Card]:
        """The added approvers' cards by name."""
        with self._store.reading() as tx:
            return {row.name: parse_card(row.card) for row in tx.approvers.all()}

    def rules(self, officers: str, custodians: str) -> tuple[Thresholds, Thresholds]:
        """The rules of a group that is asked for. Raises UsageError."""
        cards = self.cards()
        return (
            rule(cards, officers, contribution=False),
            rule(cards, custodians, contribution=True),
        )

    def of_group(
        self, name: str, officers: Thresholds, custodians: Thresholds
    ) -> tuple[Request, str]:
        """The founding of a group, and its fingerprint."""
        cards = self.cards()
        founders = {m.name for m in (*members_of(officers), *members_of(custodians))}
        document, first, words = self._groups.plan_founding(
            name, officers, custodians, [cards[founder].contribution for founder in founders]
        )
        return self.of_founding(document, first), words

    def of_founding(self, group: GroupDocument, first: RosterDocument) -> Request:
        """The founding of a group whose documents are there."""
        from tpmhsm.keys.host import load_host

        now = moments.now()
        return Request(
            id=1,
            kind="group",
            created=now,
            expires=now + LIFETIME,
            group=group,
            roster=None,
            content=first.encoded,
            device=device_card(load_host(self._store)),
            cards=self._members(group, first.officers),
            claims=Claims(texts=self._keys_of(first.windows)),
        )

    def of_roster(self, name: str, edits: Edits, claims: Claims) -> Request:
        """A change of the roster. Raises UsageError."""
        officers = (
            rule(self.cards(), edits.officers, contribution=False) if edits.officers else None
        )
        windows = self._groups.active(name).roster.windows
        wanted = Wanted(
            officers,
            tuple(self._opened(name, label) for label in edits.opened),
            tuple(self._closed(label, windows) for label in edits.closed),
            None if edits.pcrs is None else tuple(map(_pcrs, edits.pcrs)),
            read_uses(edits.uses) if edits.uses else None,
        )
        state, roster = self._groups.plan_roster(name, wanted)
        texts = self._keys_of({*state.roster.windows, *roster.windows})
        claims = replace(claims, texts={**claims.texts, **texts})
        return self._request("roster", state, roster.encoded, claims)

    def _opened(self, group: str, label: str) -> bytes:
        row = self._keyring.signing(label)
        if group not in self._keyring.policy(row).groups:
            raise UsageError(
                f"key {label!r} is not under the roster of group {group!r}",
                code="not-of-this-group",
                hint=f"tpmhsm key show {label}",
            )
        return bytes.fromhex(row.name)

    def _closed(self, label: str, windows: tuple[bytes, ...]) -> bytes:
        """A key that may be opened now, by its label or, when it is gone, its Name in hex."""
        found = [name for name in windows if label in (self._groups.key_label(name), name.hex())]
        if not found:
            raise UsageError(
                f"key {label!r} may not be opened anyway",
                code="window-not-allowed",
                hint="tpmhsm group show NAME says which keys may",
            )
        return found[0]

    def _keys_of(self, names: Iterable[bytes]) -> dict[str, str]:
        """What this host calls these keys, and their public areas, by Name."""
        with self._store.reading() as tx:
            rows = {bytes.fromhex(row.name): row for row in tx.keys.all()}
        known = [(name, rows[name]) for name in names if name in rows]
        return {
            f"{KEY_CLAIM}{name.hex()}": f"{row.public.hex()} {row.label}" for name, row in known
        }

    def of_signature(self, row: KeyRow, kind: str, content: bytes, claims: Claims) -> Request:
        """A signature or decryption by a key with a quorum, over these very bytes. UsageError when
        the roster in force has no branch for it: approvals could never be used.
        """
        quorum = self._keyring.people(row)
        if quorum is None:
            raise RefusedError(f"key {row.label!r} signs without people")
        state = self._groups.active(quorum.group)
        try:
            check_branch(state.roster, RSA_DECRYPT if row.use == "decrypt" else SIGN)
        except UsageError as error:
            error.hint = error.hint.replace("GROUP", state.row.name)
            raise
        self._groups.must_be_measured(state)
        return self._request(kind, state, content, claims, _part(row))

    def of_grant(
        self, kind: str, row: KeyRow, group: str, content: bytes, claims: Claims
    ) -> Request:
        """A budget or a window that a group is to grant a key."""
        return self._request(kind, self._groups.active(group), content, claims, _part(row))

    def of_first(
        self, kind: str, row: KeyRow, group: str, content: bytes, claims: Claims
    ) -> Request:
        """What the officers of a group that is still to be founded are asked along with that. The
        chip can certify nothing of the group yet.
        """
        return self._request(kind, self._groups.state(group), content, claims, _part(row))

    def again(self, old: Request) -> Request:
        """The same bytes for the roster that is in force now; nobody has approved it yet."""
        state = self._groups.by_id(old.group.id.hex())
        fresh = self._request(old.kind, state, old.content, old.claims, old.key)
        return replace(fresh, id=old.id, expires=old.expires)

    def _request(
        self,
        kind: str,
        state: GroupState,
        content: bytes,
        claims: Claims,
        key: KeyPart | None = None,
    ) -> Request:
        now = moments.now()
        draft = Request(
            id=1,
            kind=kind,
            created=now,
            expires=now + LIFETIME,
            group=state.group,
            roster=state.roster,
            content=content,
            device=self.own_card(),
            key=key,
            cards=self._members(state.group, state.roster.officers),
            claims=claims,
            origin=self._origin(state.group),
        )
        if state.group.static or not state.in_force:
            return draft
        held = self._groups.certify(state.group, draft.digest)
        draft = replace(draft, state=ChipState(*held.counter, *held.roster))
        return self._with_budget(draft) if kind == "budget" else draft

    def own_card(self) -> DeviceCard:
        """The card of this home's chip."""
        from tpmhsm.keys.host import load_host

        return device_card(load_host(self._store))

    def _origin(self, group: GroupDocument) -> DeviceCard | None:
        """The card of the group's own device, where this home's chip joined the group later: it
        came with the founding.
        """
        from tpmhsm.keys.host import load_host

        if group.static or load_host(self._store).ak_name == group.device_ak:
            return None
        with self._store.reading() as tx:
            founding = tx.requests.of_group("group", group.id.hex())
        return parse_request(founding[0].document).device if founding else None

    def _with_budget(self, draft: Request) -> Request:
        """With what the chip certifies of a budget that was granted before."""
        grant = parse_grant(draft.content)
        if grant.first:
            return draft
        held = self._keyring.budgets.certify(grant.index, draft.digest)
        return replace(draft, budget=BudgetState(*held))

    def _members(self, group: GroupDocument, officers: Thresholds) -> tuple[Card, ...]:
        cards = self.cards()
        names = {m.name for m in (*members_of(group.custodians), *members_of(officers))}
        return tuple(cards[name] for name in sorted(names) if name in cards)


def _part(row: KeyRow) -> KeyPart:
    policy = row.policy_document or row.policy
    said = (row.creation_attest, row.creation_signature)
    place = (row.creation_data, row.creation_parent) if row.creation_parent else ()
    return KeyPart(row.label, row.public, policy, *said, *place)


def register(tx: Transaction, draft: Request) -> int:
    """Keep a draft; gives its id, which its file then carries."""
    from tpmhsm.store.requests import RequestRow

    row = tx.requests.add(
        RequestRow(
            kind=draft.kind,
            needed=needed(rule_of(draft)),
            digest=draft.digest.hex(),
            key=draft.key.label if draft.key else None,
            group_id=draft.group.id.hex(),
            created=moments.stamp(draft.created),
            expires=moments.stamp(draft.expires),
        )
    )
    tx.requests.set_document(row.id, replace(draft, id=row.id).data)
    tx.audit.append(
        "request", {"id": row.id, "kind": draft.kind, "digest": row.digest, "key": row.key}
    )
    return row.id
