"""What is true now: the chip's word over a custodian's own nonce, and root who would rather show an
older word, another chip's, or that of an index of its own.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from tests.approval.doubles import Chip, card
from tests.attacks.conftest import checked
from tests.attacks.house import RULE, House, Machine
from tests.attacks.root import declined
from tests.attacks.test_indices import WITHOUT_BOB, remake
from tests.attacks.test_rosters import WITHOUT_CAROL, change

from tpmhsm.approval.live import Answer, Checked, check_answer, parse_answer, qualifying
from tpmhsm.attest.statements import ChipState
from tpmhsm.errors import ParseError
from tpmhsm.policy.tree import COUNTER_ATTRIBUTES, COUNTER_SIZE, counter_nv
from tpmhsm.requests.certifying import certify_group
from tpmhsm.tpm import nv
from tpmhsm.tpm.objects import attestation_key
from tpmhsm.wire.commands import NV_Write
from tpmhsm.wire.constants import NT, RH, NvAttributes


def lost_home(name: str) -> Machine:
    """A new home of somebody whose old one is gone: cards and key, and no memory."""
    machine = Machine.of(name)
    machine.memory.own.clear()
    machine.memory.cards.append(card(name))
    return machine


def challenge(machine: Machine) -> bytes:
    nonce = secrets.token_bytes(32)
    machine.memory.nonces.add(nonce)
    return nonce


def answered(house: House, nonce: bytes) -> Answer:
    """An honest host's answer, through its file."""
    data = certify_group(house.app.store, house.app.groups, "officers", nonce.hex())
    return parse_answer(data)


def check(machine: Machine, answer: Answer) -> Checked:
    """Check and remember, as `trust check` does."""
    found = check_answer(parse_answer(answer.data), machine.memory)
    machine.memory.keep(found.entries)
    return found


def test_a_lost_memory_begins_anew(house: House) -> None:
    """Alice approved a roster and lost her home; root kept her approval, and asks her for another
    one of the same epoch. Her new home abstains for that epoch and goes on after it.
    """
    first, second = change(house, WITHOUT_BOB), change(house, WITHOUT_CAROL)
    house.machines["alice"].approve(first.data)
    alice = lost_home("alice")
    with declined("memory-lost"):
        alice.look(second.data)
    epoch = first.asked_roster.epoch
    found = check(alice, answered(house, challenge(alice)))
    assert (found.counter, found.in_force, found.approves_from) == (epoch - 1, True, epoch + 1)
    for request in (first, second):
        with declined("memory-abstains"):
            alice.look(request.data)
    house.settle(first.id, ("bob", "carol"))
    later = change(house, RULE)
    assert alice.approve(later.data)
    with declined("two-rosters"):
        alice.look(change(house, WITHOUT_CAROL).data)
    again = check(alice, answered(house, challenge(alice)))  # does not begin once more
    assert again.approves_from == epoch + 1


def test_a_change_is_in_force_when_the_chip_says_so_now(house: House) -> None:
    """A request's certified state may be old; over one's own nonce it is not."""
    alice, bob = house.machines["alice"], house.machines["bob"]
    request = change(house, WITHOUT_BOB)
    approval = alice.approve(request.data)
    before = check(alice, answered(house, challenge(alice)))
    assert before.counter == request.asked_roster.epoch - 1 and before.in_force
    house.app.desk.take(approval.data)
    house.app.desk.take(bob.approve(request.data).data)
    answer = answered(house, challenge(alice))
    assert (answer.roster, check(alice, answer).in_force) == (request.asked_roster, True)


def test_a_stale_nonce(house: House) -> None:
    """An answer of before the change, for a nonce of another home, of none, or a second time."""
    alice = lost_home("alice")
    theirs = answered(house, challenge(house.machines["bob"]))
    kept = answered(house, challenge(alice))
    check(alice, kept)
    house.change(WITHOUT_BOB, ("bob", "carol"))
    nonce = challenge(alice)
    for stale in (kept, theirs, answered(house, bytes(32))):
        with declined("stale-nonce"):
            check(alice, stale)
    with declined("state"):  # the old word under the new nonce
        check(alice, replace(kept, nonce=nonce))
    assert check(alice, answered(house, nonce)).in_force


def test_a_nonce_as_the_content_of_a_request(house: House) -> None:
    """What the chip certified over a request's bytes is no answer, and the other way round."""
    alice = lost_home("alice")
    nonce = challenge(alice)
    honest = answered(house, nonce)
    request = change(house, WITHOUT_BOB)
    for over in (nonce, request.digest):
        held = house.app.groups.certify(honest.group, over)
        with declined("state"):
            check(alice, replace(honest, state=ChipState(*held.counter, *held.roster)))
    assert check(alice, honest).in_force


def test_another_attestation_key(house: House) -> None:
    """A chip that is not the group's, with a card of its own or the true one."""
    alice, other = lost_home("alice"), Chip()
    nonce = challenge(alice)
    honest = answered(house, nonce)
    epoch = honest.roster.epoch + 7
    state = other.certified(honest.group, honest.roster, qualifying(nonce), epoch)
    with declined("other-device"):
        check(alice, replace(honest, device=other.card, state=state))
    with declined("state"):
        check(alice, replace(honest, state=state))
    area = honest.device.ak_public
    unrestricted = area[:4] + bytes([area[4], area[5] & 0xFE]) + area[6:]
    with pytest.raises(ParseError):  # an unrestricted key would sign anything
        parse_answer(replace(honest, device=replace(honest.device, ak_public=unrestricted)).data)
    assert check(alice, honest).in_force


def test_another_index_certified(house: House) -> None:
    """The true AK, over the true nonce, and another index of the same chip."""
    alice = lost_home("alice")
    nonce = challenge(alice)
    honest = answered(house, nonce)
    state, over = honest.state, qualifying(nonce)
    wanted = counter_nv(honest.group)
    mine = wanted.replace(
        nv_index=0x01800700,
        auth_policy=b"",
        attributes=COUNTER_ATTRIBUTES & ~(NT.COUNTER << 4) | NvAttributes.OWNERWRITE,
    )
    with house.root() as root:
        nv.define(root.chip, mine)
        root.chip.send(NV_Write(RH.OWNER, mine.nv_index, bytes(7) + b"\x63", 0))
        held = nv.certify(root.chip, attestation_key(root.chip), mine.nv_index, over)
        nv.undefine(root.chip, mine.nv_index)
        root.chip.flush_all()
    roster = (state.roster_attest, state.roster_signature)
    counter = (state.counter_attest, state.counter_signature)
    for forged in (
        ChipState(held.attest, held.signature, *roster),
        ChipState(*roster, *counter),
        ChipState(*counter, *counter),
    ):
        with declined("state"):
            check(alice, replace(honest, state=forged))
    assert check(alice, honest).in_force


def test_the_counter_replaced_by_an_ordinary_index(house: House) -> None:
    """Root's own index stands at the counter's place and says any epoch; the true AK says so."""
    alice = lost_home("alice")
    wanted = counter_nv(house.loot.group)
    attributes = wanted.attributes & ~(NT.COUNTER << 4) | NvAttributes.OWNERWRITE
    value = house.loot.roster.epoch.to_bytes(COUNTER_SIZE, "big")
    with house.root() as root:
        remake(root, wanted.replace(attributes=attributes))
        root.chip.send(NV_Write(RH.OWNER, wanted.nv_index, value, 0))
        root.chip.flush_all()
    with declined("state"):
        check(alice, answered(house, challenge(alice)))
    assert alice.memory.live_since(house.loot.group.id) is None


def test_a_counter_that_went_back(house: House, built: House, tmp_path: Path) -> None:
    """A software TPM put back to an old state: over a live nonce it says an epoch that is past."""
    alice = house.machines["alice"]
    house.change(WITHOUT_BOB, ("alice", "bob"))
    house.change(RULE, ("alice", "bob"))
    with checked(built.copy(tmp_path / "old")) as past, declined("lower-epoch"):
        check(alice, answered(past, challenge(alice)))
    assert check(alice, answered(house, challenge(alice))).in_force
