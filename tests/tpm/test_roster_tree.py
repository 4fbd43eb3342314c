"""The branches of a roster in the chip: the digests are those that it computes itself."""

from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy import makers
from tests.tpm.quorums import World
from tests.tpm.test_policies import DIGEST, check, refused, trial

from tpmhsm.policy.group import USES, RosterDocument
from tpmhsm.policy.plan import Officers, climb_branch, plan_sign
from tpmhsm.policy.rosters import state_in_words
from tpmhsm.policy.steps import NameHash, Nv, digest_of
from tpmhsm.policy.tree import branches_of, roster_policy
from tpmhsm.tpm.pcrs import measure
from tpmhsm.tpm.sessions import start_trial
from tpmhsm.wire.commands import PCR_Extend, PolicyGetDigest, PolicyNameHash, PolicyNV
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.structures import Ha

NAMES = tuple(sorted(b"\0\x0b" + sha256(bytes([i])).digest() for i in range(30)))


@pytest.fixture
def world(chip):
    return World.make(chip)


def extend(chip, number):
    chip.send(PCR_Extend(number, (Ha(ALG.SHA256, sha256(b"an update").digest()),)))


def state_of(chip, *numbers):
    from tpmhsm.policy.model import Pcr as Demand

    return measure(chip, (Demand("sha256", numbers),))


def put(world, **demands):
    """Custodians put a roster in force that says this besides its people."""
    world.increment()
    rule = (makers.threshold(2, (0, 1, 2)),)
    roster = RosterDocument(world.group.id, world.epoch, rule, **demands)
    world.write(roster)
    world.roster = roster
    return roster


def trial_of(world, steps):
    """What a trial session makes of a branch, PolicyNV included."""
    session = start_trial(world.chip)
    first, rest = steps[0], steps[1:]
    assert isinstance(first, Nv)
    index = world.group.counter_index
    try:
        world.chip.send(
            PolicyNV(index, index, session.handle, first.operand, first.offset, first.operation)
        )
        begun = world.chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        world.chip.flush(session.handle)
    assert begun == digest_of([first])
    return begun, rest


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_branch_has_the_digest_of_a_trial_session(chip, data):
    """All steps but PolicyNV, which needs the index and is tried below, in the chip's own words."""
    n = data.draw(st.integers(1, 5))
    m = data.draw(st.integers(1, n))
    drawn = data.draw(st.sets(st.sampled_from(USES), min_size=1))
    measured = state_of(chip, 0, 7) if data.draw(st.booleans()) else {}
    roster = RosterDocument(
        makers.group().id,
        1,
        (makers.threshold(m, range(n)),),
        tuple(use for use in USES if use in drawn),
        NAMES[: data.draw(st.integers(0, 12))],
        measured,
    )
    branch = data.draw(st.sampled_from(branches_of(roster)))
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=m, max_size=m))
    officers = Officers(makers.group(), roster, dict.fromkeys(chosen, b""))
    steps = climb_branch(officers, branch)[1:]
    assert trial(chip, steps) == digest_of(steps)  # what follows the first PolicyOR is the whole
    if m < n or len(branches_of(roster)) > 1:
        assert digest_of(steps) == roster_policy(makers.group(), roster)


def test_a_whole_branch_in_the_chip(world):
    """The index holds what every branch leads to: a signature through a tree of ten branches, with
    the machine's state, and as many commands as the plan says.
    """
    key = world.key()
    extend(world.chip, 7)
    roster = put(world, windows=NAMES[:6], measured=state_of(world.chip, 0, 7))
    approvals = world.approvals(key, DIGEST, (0, 2))
    plan = plan_sign(world.group, roster, key.public, DIGEST, approvals)
    before = world.chip.commands
    check(key, DIGEST, world.sign(key, DIGEST, approvals))
    assert world.chip.commands - before == plan.commands == 15
    officers = Officers(world.group, roster, approvals)
    begun, rest = trial_of(world, climb_branch(officers, branches_of(roster)[0]))
    assert digest_of(rest, begun) == roster_policy(world.group, roster)


def test_an_update_and_its_approval(world):
    """The key that stopped goes on once the custodians approved the new state."""
    key = world.key()
    roster = put(world, measured=state_of(world.chip, 7))
    approvals = world.approvals(key, DIGEST, (0, 1))
    check(key, DIGEST, world.sign(key, DIGEST, approvals))
    extend(world.chip, 7)
    with refused(0x1C4, "PolicyPCR") as caught:
        world.sign(key, DIGEST, approvals)
    assert "than the custodians approved" in caught.value.message
    assert "group change GROUP --pcr" in caught.value.hint
    again = put(world, measured=state_of(world.chip, 7))
    assert state_in_words(again.measured) == state_in_words(roster.measured) == "PCRs 7 (sha256)"
    check(key, DIGEST, world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1))))


def test_a_name_hash_in_the_chip(chip):
    """`tpm2_policynamehash` gives the same: tests/attacks/test_other_tools.py."""
    step = NameHash.of(NAMES[0])
    session = start_trial(chip)
    try:
        chip.send(PolicyNameHash(session.handle, step.name_hash))
        found = chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        chip.flush(session.handle)
    assert found == digest_of([step])
