"""The CA that is attacked, set up honestly: a host with a software TPM and a 2-of-3 group, and
people who approve on machines of their own. Root has the host.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.filekey import create_file_key
from tpmhsm.approval.request import parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.cli.app import App
from tpmhsm.cli.attacks.root import Loot, Root, loot_of
from tpmhsm.cli.attacks.watching import Heard, Names, WatchedDoor
from tpmhsm.cli.people import trust_cards
from tpmhsm.errors import ChipRefusedError, NotFoundError, TpmHsmError
from tpmhsm.keys.budgets import Budget
from tpmhsm.keys.host import load_host
from tpmhsm.policy import moments
from tpmhsm.policy.people import members_of
from tpmhsm.requests.desk import votes_by_act
from tpmhsm.requests.memory import OWN, StoredMemory
from tpmhsm.wire.commands import NV_UndefineSpace
from tpmhsm.wire.constants import RH

if TYPE_CHECKING:
    from tpmhsm.approval.votes import Approval
    from tpmhsm.cli.stage import Stage
    from tpmhsm.keys.groups import GroupState
    from tpmhsm.policy.plan import Opened
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.door import Door

PEOPLE = ("alice", "bob", "carol", "dave")
GROUP = "officers"
BEFORE, NOW = "2:alice,bob,carol", "2:alice,dave,carol"
"""The officers of the first epoch, and since bob was removed. Custodians are those of the first."""
CUSTODIANS = ("alice", "carol")
OFFICERS = ("alice", "dave")
UNITS = 4


class Person:
    """Somebody who approves, at a machine of their own: a key in a file, and a memory."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.app = App(home=stage.directory / name)
        self.key = create_file_key(Path(stage.path(f"{name}.key")), stage.passphrase.encode())
        self.card = parse_card(create_card(name, self.key))
        with self.app.own_store().transaction() as tx:
            tx.trusted.add(OWN, name, self.card.data)

    def look(self, data: bytes) -> Review:
        """Every check of this person's tool over a request's file. Raises ApprovalRefusedError."""
        with self.app.own_store().reading() as tx:
            return self._review(data, StoredMemory(tx))

    def approve(self, data: bytes) -> Approval:
        """Look at it, approve it, remember it."""
        with self.app.own_store().transaction() as tx:
            memory = StoredMemory(tx)
            found = self._review(data, memory)
            memory.keep(found.entries)
            tx.audit.append("approve", {"digest": found.request.digest.hex()})
        return make_approval(found, self.key)

    def _review(self, data: bytes, memory: StoredMemory) -> Review:
        return review(parse_request(data), memory, self.key, self.name, moments.now())


class House:
    """The host and the people. `app` is the host's home, in which root reads and writes."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.app = App(home=stage.home, tpm="software")
        self.people: dict[str, Person] = {}
        self._past: Loot | None = None
        self._granted: list[int] = []

    # ── how it came to be ────────────────────────────────────────────────────

    def build(self) -> None:
        """From nothing to a CA that issues within a budget, in its second epoch."""
        stage = self.stage
        stage.say("A CA host with a software TPM, and four people with keys of their own")
        stage.run("init")
        self.people = {name: Person(stage, name) for name in PEOPLE}
        self._hand_cards_around()
        stage.say("Two of alice, bob and carol must agree, and the chip will insist")
        self.settle(stage.ask("group", "create", GROUP, "--officers", BEFORE)[0], "alice", "bob")
        quorum = ("--policy", f"quorum({GROUP})")
        for label in ("root", "papers"):
            stage.run("key", "create", label, *quorum)
        stage.run("key", "create", "issuing", "--policy", f"budget({GROUP})")
        for label in ("night", "dawn"):
            stage.run("key", "create", label, "--policy", f"window({GROUP})")
        asked, _ = stage.ask(
            *("ca", "create", "root-ca", "--key", "root", "--profile", "root"),
            *("--subject", "CN=Example Root,O=Example"),
        )
        self._past = self.loot_of(self.settle(asked, "alice", "bob"))
        stage.say("The custodians put dave in bob's place: a new epoch")
        asked, _ = stage.ask(
            *("group", "change", GROUP, "--officers", NOW, "--open", "night", "--open", "dawn")
        )
        self.settle(asked, *CUSTODIANS)
        asked, _ = stage.ask(
            *("ca", "create", "issuing-ca", "--key", "issuing", "--issuer", "root-ca"),
            *("--subject", "CN=Example Issuing,O=Example", "--permit", "dns:example.com"),
        )
        self.fresh = self.loot_of(self.settle(asked, *OFFICERS))
        stage.say("A budget for the issuing CA, and a certificate out of it")
        self.grant(UNITS)
        stage.run("ca", "issue", "issuing-ca", "--host", "www.example.com")

    def _hand_cards_around(self) -> None:
        cards = []
        for name, person in self.people.items():
            path = self.stage.directory / f"{name}.card"
            path.write_bytes(person.card.data)
            cards.append((str(path), person.card.data))
        self.stage.run("approver", "add", *(path for path, _ in cards))
        self.stage.run("device", "export", "--out", self.stage.path("host.card"))
        device = (self.stage.directory / "host.card").read_bytes()
        for name, person in self.people.items():
            others = [card for card in cards if card[0] != self.stage.path(f"{name}.card")]
            trust_cards(person.app, [*others, ("host.card", device)])

    # ── what people do ───────────────────────────────────────────────────────

    def settle(self, number: int, *people: str) -> int:
        """People get the request's file, look, approve, and hand the approval back. Returns it."""
        for name in people:
            approval = self.people[name].approve(self.app.desk.export(number))
            row = self.app.desk.take(approval.data)
            self.stage.show(f"  {name} approved on their own machine; request {number} is "
                            f"{row.state}")  # fmt: skip
        return number

    def grant(self, units: int) -> None:
        """Officers grant the issuing key some units; root keeps what they signed."""
        asked, _ = self.stage.ask("key", "grant", "issuing", str(units))
        self._granted.append(self.settle(asked, *OFFICERS))

    @property
    def grants(self) -> list[int]:
        """The requests by which units were granted, in order."""
        return self._granted

    def forget_grants(self) -> None:
        """The index that they were for is gone."""
        self._granted.clear()

    def grants_of_now(self) -> None:
        """A first grant and a later one, both of the epoch that is in force: it is not the epoch
        that is to refuse them.
        """
        requests = [self.app.desk.request(number) for number in self._granted]
        epochs = {request.roster.epoch for request in requests if request.roster}
        if epochs != {self.group.roster.epoch}:
            index = self.budget.index
            with self.app.device.transaction() as chip, suppress(ChipRefusedError):
                chip.send(NV_UndefineSpace(RH.OWNER, index))
            self.forget_grants()
            self.grant(UNITS)
        if len(self._granted) < 2:
            self.grant(1)

    def other_budget(self) -> Budget:
        """The budget of another key, which is harmless; made when it is first asked for."""
        label = "harmless"
        if label not in [row.label for row in self.app.keyring.all()]:
            self.stage.run("key", "create", label, "--policy", f"budget({GROUP})")
        (found,) = self.app.keyring.budgets.of([self.row(label)])
        if found.left < 1:
            asked, _ = self.stage.ask("key", "grant", label, "100")
            self.settle(asked, *OFFICERS)
        return found

    def change(self) -> None:
        """The custodians move on to another epoch, with the same officers."""
        asked, _ = self.stage.ask("group", "change", GROUP, "--officers", NOW)
        self.settle(asked, *CUSTODIANS)
        self.__dict__.pop("fresh", None)

    def opened(self, length: str = "10m") -> Opened:
        """Officers open the key "night" for some time; root finds the tickets in the database."""
        self.close_window()
        asked, _ = self.stage.ask("key", "open", "night", "--for", length)
        self.settle(asked, *OFFICERS)
        found = self.app.keyring.windows.current(self.row("night"), GROUP)
        if found is None:
            raise NotFoundError("the window was over before root came to it")
        return found

    def close_window(self) -> None:
        """The window is closed, if there is one: one key has one at a time."""
        self.app.keyring.windows.close(self.row("night"))

    @cached_property
    def mallory(self) -> Person:
        """Somebody who is with root, and whom nobody else knows."""
        return Person(self.stage, "mallory")

    # ── what root finds ──────────────────────────────────────────────────────

    @property
    def group(self) -> GroupState:
        """The group as it is in force, says the database."""
        return self.app.groups.active(GROUP)

    def row(self, label: str) -> KeyRow:
        """A key of the database."""
        return self.app.keyring.get(label)

    @property
    def past(self) -> Loot:
        """The root's certificate, approved by alice and bob in the first epoch."""
        assert self._past is not None  # noqa: S101 - `build` came first
        return self._past

    @cached_property
    def fresh(self) -> Loot:
        """A signature by the root's key that officers approved in the epoch that is in force."""
        return self.loot_of(self.settle(self.ask_csr("Again"), *OFFICERS))

    def ask_csr(self, name: str) -> int:
        """A CSR that waits for the officers: other bytes each time."""
        word = secrets.token_hex(4)
        out = self.stage.path(f"{name}-{word}.csr")
        subject = f"CN={name} {word}"
        asked, _ = self.stage.ask("csr", "create", "root", "--subject", subject, "--out", out)
        return asked

    def loot_of(self, number: int) -> Loot:
        """The approvals of an executed signature, out of the database."""
        return loot_of(self.app, number)

    def asked(self, kind: str) -> RequestRow:
        """The last executed request of a kind."""
        return max((r for r in self.app.desk.all("executed") if r.kind == kind), key=_number)

    def votes(self, row: RequestRow) -> list[dict[int, bytes]]:
        """Its approvals, act by act."""
        return votes_by_act(self.app.desk.request(row.id))

    @property
    def budget(self) -> Budget:
        """The issuing key's budget, as the chip has it."""
        (found,) = self.app.keyring.budgets.of([self.row("issuing")])
        return found

    @contextmanager
    def at_chip(self, hear: Callable[[Heard], None]) -> Iterator[Chip]:
        """Root's conversation with the chip. All of it is heard, and nothing is left behind."""
        device, names = self.app.device, self._names()

        def connect() -> Door:
            return WatchedDoor(device.connect(), names, hear)

        watched = replace(device, connect=connect)
        with watched.transaction() as chip:
            yield chip
            chip.flush_all()

    @contextmanager
    def root(self, hear: Callable[[Heard], None], loot: Loot | None = None) -> Iterator[Root]:
        """The same, with the approvals of a signature."""
        with self.at_chip(hear) as chip:
            yield Root(chip, loot or self.fresh)

    def _names(self) -> Names:
        rows = self.app.keyring.all()
        known = {bytes.fromhex(row.name): f'key "{row.label}"' for row in rows}
        host = load_host(self.app.store)
        known |= {host.parent_name: "storage parent", host.ak_name: "attestation key"}
        state = self.group
        for rule in (state.group.custodians, state.roster.officers, self.past.roster.officers):
            known.update({m.chip_name: f"{m.name}'s key" for m in members_of(rule)})
        indices = {state.group.counter_index: "epoch counter",
                   state.group.roster_index: "roster index",
                   self.budget.index: "budget of issuing"}  # fmt: skip
        return Names(known, indices)

    # ── afterwards ───────────────────────────────────────────────────────────

    def repair(self) -> bool:
        """The people go on with what an attack stopped. Returns whether they had to."""
        state, moved = self.group, False
        if not self._stands(state):
            self.stage.show("  service stopped; the custodians go on:")
            self.change()
            moved = True
        if self.budget.left < 1:
            self.stage.show("  the budget is used up; the officers grant another:")
            self.grant(UNITS)
            moved = True
        return moved

    def _stands(self, state: GroupState) -> bool:
        try:
            return self.app.groups.holds(state.group, state.roster)
        except TpmHsmError:  # removed, or another in its place
            return False

    def state(self) -> dict[str, Any]:
        """What the CA is worth now, in JSON-ready facts."""
        with self.app.store.reading() as tx:
            issued = len(tx.certificates.all())
        budget, state = self.budget, self.group
        return {
            "certificates": issued,
            "epoch": state.roster.epoch,
            "officers": [member.name for member in members_of(state.roster.officers)],
            "in_force": self._stands(state),
            "budget_left": budget.left,
            "budget_total": budget.counted.total if budget.counted else 0,
            "window_open": any(one.label == "night" for one in self.app.keyring.windows.all()),
        }

    def close(self) -> None:
        """Close the databases."""
        for app in (self.app, *(person.app for person in self.people.values())):
            app.close()


def _number(row: RequestRow) -> int:
    return row.id
