"""A CA host with a chip and a group, the approvers' own machines, and root, who owns the host.

The honest part goes through the library as the command line does: the desk's requests travel as
files to the approvers' machines, each with a memory of its own, and approvals come back as files.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.approval.doubles import SoftIdentity, card, identity
from tests.attacks.root import Loot, Root, votes_of

from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Claims, Request, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.approval.votes import Approval
from tpmhsm.cli.app import App
from tpmhsm.cli.people import add_approvers
from tpmhsm.errors import WaitingError
from tpmhsm.keys.groups import GroupState
from tpmhsm.keys.host import measure, save_host
from tpmhsm.pki.csr import CsrContent
from tpmhsm.pki.names import parse_dn
from tpmhsm.policy import moments
from tpmhsm.store import Store
from tpmhsm.store.keys import KeyRow
from tpmhsm.store.requests import RequestRow
from tpmhsm.tpm import software

PEOPLE = ("alice", "bob", "carol", "dave")
RULE = "2:alice,bob,carol"


@dataclass
class Machine:
    """An approver's own machine: the key, and a memory that root on the CA host cannot reach."""

    name: str
    memory: InMemory
    identity: SoftIdentity

    @classmethod
    def of(cls, name: str, others: Iterable[str] = PEOPLE) -> Machine:
        """A machine that holds everybody's cards, got from the people themselves."""
        cards = [card(other) for other in others if other != name]
        return cls(name, InMemory(cards=cards, own=[card(name)]), identity(name))

    def copy(self) -> Machine:
        """The same machine, with a memory that can go another way."""
        memory = InMemory(
            cards=list(self.memory.cards),
            own=list(self.memory.own),
            devices=list(self.memory.devices),
            groups=dict(self.memory.groups),
            keys=dict(self.memory.keys),
            rosters={group: dict(known) for group, known in self.memory.rosters.items()},
            known=list(self.memory.known),
            crls=dict(self.memory.crls),
            totals=list(self.memory.totals),
            seconds=dict(self.memory.seconds),
        )
        return replace(self, memory=memory)

    def look(self, data: bytes) -> Review:
        """Everything but the signature, over a request's file."""
        return review(parse_request(data), self.memory, self.identity, self.name, moments.now())

    def approve(self, data: bytes) -> Approval:
        """Look at a request's file, approve it, remember it."""
        found = self.look(data)
        approval = make_approval(found, self.identity)
        self.memory.keep(found.entries)
        return approval


def new_app(home: Path) -> App:
    """A home with a software TPM and a database, as after `init` without auditing."""
    app = App(home, tpm="software")
    app.__dict__["store"] = Store.open(home, create=True)
    software.manufacture(software.directory_of(home))
    save_host(app.store, measure(app.device))
    return app


def copied_app(app: App, home: Path, *files: str) -> App:
    """The same home at another place, with these files besides; it must be closed."""
    home.mkdir()
    source, target = (software.directory_of(h) for h in (app.home, home))
    target.mkdir()
    shutil.copytree(source / "chip", target / "chip")
    for name in ("tpmhsm.db", *files):
        shutil.copy(app.home / name, home)
    copied = App(home, tpm="software")
    copied.__dict__["store"] = Store.open(home)
    return copied


@dataclass
class House:
    """One home on the CA host, and the machines of the people who approve."""

    app: App
    machines: dict[str, Machine]
    loots: dict[str, Loot] = field(default_factory=dict)

    @classmethod
    def build(cls, home: Path) -> House:
        """Set up a chip and a database, make the approvers known."""
        app = new_app(home)
        add_approvers(app, [(name, card(name).data) for name in PEOPLE])
        return cls(app, {name: Machine.of(name) for name in PEOPLE})

    def copy(self, home: Path) -> House:
        """The same house at another place; this one must be closed."""
        app = copied_app(self.app, home)
        machines = {name: machine.copy() for name, machine in self.machines.items()}
        return House(app, machines, dict(self.loots))

    # ── the honest way ───────────────────────────────────────────────────────

    def ask(self, error: WaitingError) -> bytes:
        """The file of a request that a command has just made."""
        return self.app.desk.export(error.request)

    def settle(self, number: int, people: Iterable[str] = ("alice", "bob")) -> RequestRow:
        """Approvers get the file, look, approve on their machines, and send the approval."""
        row = self.app.desk.get(number)
        for name in people:
            row = self.app.desk.take(self.approve(number, name).data)
        return row

    def approve(self, number: int, name: str) -> Approval:
        """One approver's approval, not delivered yet."""
        return self.machines[name].approve(self.app.desk.export(number))

    def found(self, name: str = "officers", officers: str = RULE) -> GroupState:
        """A group whose officers govern it."""
        asked = self.app.desk.propose_group(name, officers, officers)
        assert self.settle(asked.request).state == "executed"
        return self.app.groups.active(name)

    def change(self, officers: str = RULE, people: Iterable[str] = ("alice", "carol")) -> None:
        """Replace the officers, or only move the epoch, as `group change` does."""
        asked = self.app.desk.propose_roster("officers", officers)
        assert self.settle(asked.request, people).state == "executed"

    def key(self, label: str, alg: str = "p256", group: str = "officers") -> None:
        """A key of the group."""
        self.app.keyring.create(label, alg, policy=f"quorum({group})")

    @property
    def open_key(self) -> KeyRow:
        """A key without people."""
        return self.app.keyring.get("open")

    def propose(self, label: str, subject: str, name: str = "") -> int:
        """A root certificate by a key; gives the request that waits."""
        try:
            self.app.authorities.create(name or f"{label}-ca", label, subject, profile="root")
        except WaitingError as waiting:
            return waiting.request
        raise AssertionError("nobody was asked")

    def propose_csr(self, label: str, subject: str) -> int:
        """A CSR by a key; gives the request that waits."""
        try:
            self.app.desk.make_csr(label, CsrContent(parse_dn(subject)))
        except WaitingError as waiting:
            return waiting.request
        raise AssertionError("nobody was asked")

    def draft(self, kind: str, content: bytes, label: str = "root", **claims: Any) -> Request:
        """A request for any bytes, as root makes it: nothing on the host checks them."""
        return self.app.desk.signer.draft(label, kind, content, Claims(**claims))

    def steal(self, number: int, people: Iterable[str] = ("alice", "bob")) -> Loot:
        """Approvals that people gave honestly, in the hands of root before they are used."""
        approvals = tuple(self.approve(number, name) for name in people)
        return self.loot_of(replace(self.app.desk.request(number), approvals=approvals))

    def steal_fresh(
        self, subject: str = "CN=Fresh", people: Iterable[str] = ("alice", "carol")
    ) -> Loot:
        """Approvals of a CSR by the key "root", in the epoch of now."""
        return self.steal(self.propose_csr("root", subject), people)

    def loot_of(self, request: Request) -> Loot:
        """What root finds in a request's file."""
        assert request.key is not None and request.roster is not None
        row = self.app.keyring.get(request.key.label)
        (votes,) = votes_of(request)
        return Loot(request, request.roster, row, sha256(request.content).digest(), votes)

    # ── root ─────────────────────────────────────────────────────────────────

    def rewrite(self, sql: str, *values: object) -> None:
        """Root changes the database behind the product's back."""
        with closing(sqlite3.connect(self.app.home / "tpmhsm.db")) as database, database:
            assert database.execute(sql, values).rowcount == 1

    def substitute(self, name: str, by: str) -> None:
        """The host's own list of approvers gets somebody else's key under a name."""
        member = parse_card(create_card(name, identity(by))).member(contribution=False)
        self.rewrite(
            "update approvers set card = ?, spki = ?, key_name = ? where name = ?",
            create_card(name, identity(by)),
            member.spki,
            member.chip_name.hex(),
            name,
        )

    @property
    def loot(self) -> Loot:
        """The approved signature by the key "root"."""
        return self.loots["root"]

    @contextmanager
    def root(self, label: str = "root") -> Iterator[Root]:
        """Root at the chip, with the approvals of one signature. Must leave as it came."""
        with self.app.device.transaction() as chip:
            yield Root(chip, self.loots[label])
            assert chip.leaks() == []
