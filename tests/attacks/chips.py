"""Two hosts with a chip each, one group, and custodians who ask the second chip themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.attacks.house import House

from tpmhsm.approval.backup_file import BackupFile, parse_backup
from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.second_chips import Means, check_second_chip
from tpmhsm.attest.credential import make_challenge
from tpmhsm.errors import WaitingError
from tpmhsm.policy import moments
from tpmhsm.requests.certifying import answer_challenge
from tpmhsm.requests.joining import parse_export
from tpmhsm.store.keys import KeyRow


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
