"""A second chip of a house's group: the approvals of its founding, replayed there by raw commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.attacks.house import House, Machine
from tests.attacks.root import votes_of
from tests.tpm.conftest import end

from tpmhsm.approval.cards import DeviceCard
from tpmhsm.approval.live import Answer, qualifying
from tpmhsm.approval.memory import Entries, InMemory
from tpmhsm.approval.second_chips import Means, check_second_chip
from tpmhsm.attest.credential import Kept, answer_of, make_challenge
from tpmhsm.attest.parents import ParentProof, parent_qualifying
from tpmhsm.attest.roots import PinnedRoot, Pins
from tpmhsm.attest.statements import ChipState
from tpmhsm.keys import founding
from tpmhsm.keys.host import HostDevice, measure
from tpmhsm.policy import moments
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.requests.drafts import device_card
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
