"""Two hosts with a chip each, one group, and custodians who ask the second chip themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from tests.approval.doubles import identity
from tests.attacks.house import House

from tpmhsm.approval.backup_file import BackupFile, parse_backup
from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.second_chips import Means, check_second_chip
from tpmhsm.attest.credential import make_challenge
from tpmhsm.errors import WaitingError
from tpmhsm.policy import moments
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.copying import CopyDocument, copy_ladders
from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.people import members_of
from tpmhsm.policy.plan import Approvals, Given, Plan
from tpmhsm.policy.published import read_policy
from tpmhsm.requests.certifying import answer_challenge
from tpmhsm.requests.joining import parse_export
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects
from tpmhsm.tpm.objects import Loaded


@dataclass(frozen=True)
class Copying:
    """TPM2_Duplicate of a key with custodians' signatures for it: TPMT_SIGNATUREs by place."""

    key: KeyRow
    group: GroupDocument
    bound: BoundCommand
    votes: Approvals
    document: CopyDocument | None = None

    @property
    def policy(self) -> KeyPolicy:
        """The key's policy."""
        return read_policy(self.key.policy_document)

    @cached_property
    def plan(self) -> Plan:
        """The honest steps; of too few approvals, those that one can take."""
        (ladder,) = copy_ladders(self.group)
        members = members_of(self.group.custodians)
        given = {members[i].chip_name: Given(members[i], vote) for i, vote in self.votes.items()}
        steps = (*ladder.plan(self.votes), *self.policy.copy_way())
        return Plan("copy", steps, self.bound, self.policy.digest, given)


@dataclass
class Pair:
    """`first` founded the group, `second` joined it. The approvers' machines are the first's."""

    first: House
    second: House

    @classmethod
    def build(cls, folder: Path) -> Pair:
        """Two hosts, and a group that stands on the first."""
        pair = cls(House.build(folder / "one"), House.build(folder / "two"))
        pair.first.found()
        return pair

    def copy(self, folder: Path) -> Pair:
        """The same pair at another place; this one must be closed."""
        folder.mkdir()
        return Pair(self.first.copy(folder / "one"), self.second.copy(folder / "two"))

    def join(self, house: House | None = None) -> None:
        """The group as it is on the first host, in another chip, too."""
        history = parse_export(self.first.app.desk.joining.export("officers"))
        (house or self.second).app.desk.joining.join(history)

    def answer(self, name: str, house: House | None = None) -> bytes:
        """One custodian's challenge to a chip, its answer, checked and remembered."""
        app, memory = (house or self.second).app, self.first.machines[name].memory
        card = app.desk.drafts.own_card()
        memory.devices = [one for one in memory.devices if one != card] + [card]
        kept = make_challenge(card.ek_public, card.ak_public, moments.now())
        memory.nonces.add(kept.challenge.digest)
        asked = kept.challenge.encoded
        data = answer_challenge(app.store, app.device, app.groups, "officers", asked)
        answer = parse_answer(data)
        now = moments.now() + timedelta(seconds=1)
        memory.keep(check_second_chip(answer, memory, Means(kept, now)))
        return data

    @property
    def target(self) -> Loaded:
        """What is approved as the new parent: the second chip's storage key for copies."""
        with self.second.app.device.transaction() as chip:
            return objects.receiving_parent(chip)

    def stolen(
        self, parent: bytes, label: str = "root", people: Iterable[str] = ("alice", "bob")
    ) -> Copying:
        """A copy for any parent (TPMT_PUBLIC), signed by people whose tools were not asked: what
        custodians' approvals would be worth if they looked at nothing.
        """
        app = self.first.app
        row, group = app.keyring.get(label), app.groups.active("officers").group
        document = CopyDocument(group.id, bytes.fromhex(row.name), parent, bytes(32), bytes(34))
        return self.sign(document.bound, label, people, document)

    def sign(
        self,
        bound: BoundCommand,
        label: str = "root",
        people: Iterable[str] = ("alice", "bob"),
        document: CopyDocument | None = None,
    ) -> Copying:
        """The same of any command."""
        app = self.first.app
        group = app.groups.active("officers").group
        (ladder,) = copy_ladders(group)
        names = [member.name for member in members_of(group.custodians)]
        message = a_hash_preimage(bound.cp_hash, ladder.policy_ref)
        votes = {}
        for name in people:
            key = identity(name)
            votes[names.index(name)] = tpmt_signature(key.public_key, key.sign(message))
        return Copying(app.keyring.get(label), group, bound, votes, document)

    def ask(self, label: str, evidence: bytes) -> int:
        """The request for a copy."""
        try:
            self.first.app.desk.copies.backup(label, evidence)
        except WaitingError as waiting:
            return waiting.request
        raise AssertionError("nobody was asked")

    def backup(self, label: str = "root", people: Iterable[str] = ("alice", "bob")) -> BackupFile:
        """A copy for the second chip, approved honestly."""
        people = tuple(people)
        evidence = [self.answer(name) for name in people][-1]
        self.first.settle(self.ask(label, evidence), people)
        return parse_backup(self.first.app.desk.copies.backup(label, evidence))

    def key(self, label: str = "root", policy: str = "quorum(officers)") -> KeyRow:
        """A key that may be copied."""
        return self.first.app.keyring.create(label, "p256", policy=policy, backup_to="officers")
