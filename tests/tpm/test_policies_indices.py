"""Root plays with the NV indices of a group: what stops, and what never starts."""

from dataclasses import replace
from hashlib import sha256

import pytest
from tests.tpm.quorums import World
from tests.tpm.test_policies import DIGEST, check, refused

from tpmhsm.policy.bound import (
    bound_increment,
    bound_roster_write,
    increment_command,
    roster_write_command,
)
from tpmhsm.policy.plan import plan_increment, plan_roster_write
from tpmhsm.policy.tree import (
    COUNTER_SIZE,
    ROSTER_SIZE,
    counter_nv,
    epoch_ladders,
    roster_content,
    roster_ladders,
    roster_nv,
)
from tpmhsm.tpm import nv, policies
from tpmhsm.wire.commands import NV_Write
from tpmhsm.wire.constants import NT, RH, NvAttributes


@pytest.fixture
def world(chip):
    return World.make(chip)


def make_ordinary(world, index, data):
    """An ordinary index in the place of `index`, that the owner writes at will."""
    nv.undefine(world.chip, index.nv_index)
    attributes = index.attributes & ~(NT.COUNTER << 4) | NvAttributes.OWNERWRITE
    nv.define(world.chip, index.replace(attributes=attributes))
    world.chip.send(NV_Write(RH.OWNER, index.nv_index, data, 0))


def test_an_ordinary_index_as_counter(world):
    """It says the epoch of old, but under another Name."""
    key, old = world.key(), world.roster
    approvals = world.approvals(key, DIGEST, (0, 1))
    world.increment()
    make_ordinary(world, counter_nv(world.group), old.epoch.to_bytes(COUNTER_SIZE, "big"))
    with refused(0x1C4, "PolicyOR"):
        world.sign(key, DIGEST, approvals)


def test_a_roster_of_our_own_in_an_index_of_our_own(world):
    """The chip follows the index; the key's policy names another one."""
    key = world.key()
    own = world.roster_for(1, (9,))
    make_ordinary(world, roster_nv(world.group), roster_content(world.group, own))
    world.roster, world.officers = own, (9,)
    with refused(0x99D, "Sign"):
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0,)))


def test_a_roster_index_remade_and_written_by_its_old_approvals(world):
    """The first write's approvals fit the remade index: the same roster is in force again, and
    nothing is gained by it.
    """
    key, approvals = world.key(), None
    bound = bound_roster_write(world.group, world.roster, written=False)
    first = world.custodians(bound, roster_ladders)
    nv.undefine(world.chip, world.group.roster_index)
    nv.define(world.chip, roster_nv(world.group))
    policies.run_roster_write(world.chip, world.group, world.roster, first, written=False)
    approvals = world.approvals(key, DIGEST, (0, 1))
    check(key, DIGEST, world.sign(key, DIGEST, approvals))


def test_an_old_roster_replayed(world):
    """The write is accepted again, for its approvals are true. Its epoch is over."""
    key, old = world.key(), world.roster
    old_approvals = world.approvals(key, DIGEST, (1, 2))
    world.increment()
    world.put(2, (0, 1, 3))
    bound = bound_roster_write(world.group, old, written=True)
    replayed = plan_roster_write(
        world.group, old, world.custodians(bound, roster_ladders), written=True
    )
    policies.execute(world.chip, replayed, roster_write_command(world.group, old))
    with refused(0x126, "PolicyNV"):
        world.sign(key, DIGEST, old_approvals, roster=old)
    with refused(0x084, "PolicyAuthorizeNV"):
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))


def test_an_increment_replayed(world):
    """It stops service; the custodians go on from there."""
    key = world.key()
    bound = bound_increment(world.group, written=True)
    plan = plan_increment(world.group, world.custodians(bound, epoch_ladders), written=True)
    for _ in range(3):
        policies.execute(world.chip, plan, increment_command(world.group))
    with refused(0x126, "PolicyNV"):
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))
    world.put(2, (0, 1, 2))
    check(key, DIGEST, world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1))))


def test_a_counter_remade_does_not_go_back(world):
    highest = world.epoch
    nv.undefine(world.chip, world.group.counter_index)
    nv.define(world.chip, counter_nv(world.group))
    world.increment(written=False)
    assert world.epoch > highest


def test_other_attributes_are_another_index(world):
    """The same place, size and policy, and a read attribute less."""
    key = world.key()
    index = roster_nv(world.group)
    nv.undefine(world.chip, index.nv_index)
    nv.define(world.chip, index.replace(attributes=index.attributes | NvAttributes.PPREAD))
    bound = bound_roster_write(world.group, world.roster, written=False)
    approvals = world.custodians(bound, roster_ladders)
    with refused(0x99D, "NV_Write"):
        policies.run_roster_write(world.chip, world.group, world.roster, approvals, written=False)
    with refused(0x14A, "PolicyAuthorizeNV"):
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))


def test_part_of_a_roster_cannot_be_written(world):
    """The approvals are of all 74 bytes at offset 0."""
    bound = bound_roster_write(world.group, world.roster, written=True)
    approvals = world.custodians(bound, roster_ladders)
    plan = plan_roster_write(world.group, world.roster, approvals, written=True)
    index, content = world.group.roster_index, roster_content(world.group, world.roster)
    assert len(content) == ROSTER_SIZE
    for command in (NV_Write(index, index, content[:34], 0), NV_Write(index, index, content, 1)):
        with refused(0x99D, "NV_Write"):
            policies.execute(world.chip, plan, command)


def test_two_rosters_of_one_epoch_are_both_true_to_the_chip(world):
    """The chip cannot tell: which is why tools remember, and M > N/2 makes quorums meet."""
    other = world.roster_for(1, (9,), epoch=world.roster.epoch)
    world.write(other)
    world.write(world.roster)
    assert sha256(other.encoded).digest() != world.roster.hash
    with pytest.raises(Exception, match="more than half"):
        replace(world.group, custodians=(replace(world.group.custodians[0], m=1),))
