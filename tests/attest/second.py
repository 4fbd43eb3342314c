"""A second chip of a house's group: the approvals of its founding, replayed there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.approval.doubles import identity
from tests.attacks.house import House, Machine
from tests.attacks.root import votes_of
from tests.attest.collecting import MADE, NONCE, Collector
from tests.tpm.conftest import end

from tpmhsm.approval.cards import DeviceCard
from tpmhsm.approval.live import Answer, qualifying
from tpmhsm.approval.memory import Entries, InMemory
from tpmhsm.approval.second_chips import Means, check_second_chip
from tpmhsm.attest.credential import Kept, answer_of, make_challenge
from tpmhsm.attest.format import (
    CopyApproval,
    CopyEvidence,
    Evidence,
    KeyEvidence,
    ParentEvidence,
    Statement,
)
from tpmhsm.attest.parents import ParentProof, parent_qualifying
from tpmhsm.attest.roots import PinnedRoot, Pins
from tpmhsm.attest.statements import ChipState
from tpmhsm.keys import founding
from tpmhsm.keys.host import HostDevice, measure
from tpmhsm.policy import moments
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.copying import CopyDocument
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.refs import policy_ref
from tpmhsm.requests.drafts import device_card
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import activation, nv, objects, receiving, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import Device, open_device
from tpmhsm.tpm.objects import Loaded
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.public import Public


@dataclass
class Second:
    """A second machine: its chip, what it says it is, the group's documents that it has."""

    home: Path
    device: Device
    host: HostDevice
    group: GroupDocument
    roster: RosterDocument

    @property
    def card(self) -> DeviceCard:
        return device_card(replace(self.host, facts={**self.host.facts, "label": "host2"}))

    def join(self, house: House, number: int = 1) -> None:
        """Found the group here too: no cpHash of it says which chip."""
        request = house.app.desk.request(number)
        with self.device.transaction() as chip:
            founding.found(chip, self.group, self.roster, votes_of(request))

    def state(self, chip: Chip, ak: Loaded, over: bytes) -> ChipState:
        found = []
        for index in (self.group.counter_index, self.group.roster_index):
            said = nv.certify(chip, ak, index, over)
            found += [said.attest, said.signature]
        return ChipState(*found)

    def answer(
        self, kept: Kept, *, ak: Loaded | None = None, parent: ParentProof | None = None
    ) -> Answer:
        """An honest answer to a challenge, but for what is given."""
        asked, nonce = kept.challenge, kept.challenge.digest
        with self.device.transaction() as chip:
            key = ak or objects.attestation_key(chip)
            secret = activation.activate(
                chip, decode(Public, asked.ek), key, asked.credential, asked.secret
            )
            return Answer(
                nonce,
                self.group,
                self.roster,
                self.card,
                self.state(chip, key, qualifying(nonce)),
                parent or prove(chip, key, parent_qualifying(nonce)),
                answer_of(asked, secret),
            )


def prove(chip: Chip, ak: Loaded, over: bytes) -> ParentProof:
    """What an attestation key says of the chip's own key for copies."""
    parent = objects.receiving_parent(chip)
    said = receiving.certify_parent(chip, ak, parent, over)
    return ParentProof(encode(parent.public), said.attest, said.signature)


@dataclass
class Custodian:
    """A custodian's home, asking: what it waits for is in `kept`."""

    memory: InMemory
    pins: Pins = field(default_factory=Pins)

    @classmethod
    def of(cls, machine: Machine, card: DeviceCard) -> Custodian:
        memory = machine.copy().memory
        memory.devices.append(card)
        return cls(memory)

    def ask(self, card: DeviceCard) -> Kept:
        kept = make_challenge(card.ek_public, card.ak_public, moments.now())
        self.memory.nonces.add(kept.challenge.digest)
        return kept

    def check(self, answer: Answer, kept: Kept | None) -> Entries:
        """Check, and remember."""
        entries = check_second_chip(answer, self.memory, Means(kept, moments.now(), self.pins))
        self.memory.keep(entries)
        return entries


def pins_of(root: bytes, between: tuple[bytes, ...], kind: str = "emulator") -> Pins:
    return Pins((PinnedRoot.of(root, "swtpm", kind),), between)


@contextmanager
def second_machine(house: House, home: Path) -> Iterator[Second]:
    """A machine of its own with a software TPM that has the group of a house."""
    directory = software.directory_of(home)
    assert software.manufacture(directory)
    device = open_device("software", home)
    try:
        state = house.app.groups.active("officers")
        made = Second(home, device, measure(device), state.group, state.roster)
        made.join(house)
        yield made
    finally:
        end(directory)
        shutil.rmtree(home, ignore_errors=True)


# ── evidence ─────────────────────────────────────────────────────────────────


def document_of(second: Second, key: bytes, parent: bytes | None = None) -> CopyDocument:
    """A copy of the key with this Name for the second chip, or for another storage key."""
    if parent is None:
        with second.device.transaction() as chip:
            parent = encode(objects.receiving_parent(chip).public)
    host = second.host
    return CopyDocument(second.group.id, key, parent, host.ek_digest, host.ak_name)


def approved(copy: CopyDocument, group: GroupDocument, people: tuple[str, ...]) -> CopyEvidence:
    """The same, approved by these custodians."""
    votes = []
    for number in range(1, len(group.custodians) + 1):
        ref = policy_ref("duplicate", group.id, None, number)
        message = a_hash_preimage(copy.bound.cp_hash, ref)
        for name in people:
            key = identity(name)
            signature = tpmt_signature(key.public_key, key.sign(message))
            votes.append(CopyApproval(name, ref, signature))
    return CopyEvidence(MADE, copy.encoded, tuple(votes))


def parent_of(collector: Collector) -> ParentEvidence:
    """The storage key that takes copies, certified over the collector's nonce."""
    chip = collector.chip
    name = objects.receiving_parent(chip).name
    found = prove(chip, collector.ak, collector.over("parent", name))
    return ParentEvidence(found.public, Statement(found.attest, found.signature))


def evidence_of(second: Second, *rows: KeyRow, nonce: bytes = NONCE) -> Evidence:
    """What an honest second host says: its own chip, the group there, keys without a birth."""
    with second.device.transaction() as chip:
        collector = Collector(chip, objects.attestation_key(chip), nonce)
        keys = tuple(
            KeyEvidence(row.label, row.use, row.public, row.policy, row.policy_document)
            for row in rows
        )
        return collector.sealed(
            replace(
                collector.frame,
                eks=collector.endorsements(),
                keys=keys,
                groups=(collector.group(second.group, second.roster),),
                parent=parent_of(collector),
                quote=collector.quote(),
            )
        )


def with_copies(house: House, *copies: CopyEvidence, labels: tuple[str, ...]) -> Evidence:
    """What an honest first host says."""
    with house.app.device.transaction() as chip:
        collector = Collector(chip, objects.attestation_key(chip))
        found = collector.file(house, labels)
        return collector.sealed(replace(found, copies=copies, time=None))
