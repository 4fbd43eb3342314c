"""Plans carried out by a software TPM: they work, they cost what they say, they refuse."""

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy import makers
from tests.tpm.quorums import World, sign_for

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ChipRefusedError, ParseError, UsageError
from tpmhsm.policy import plan as plans
from tpmhsm.policy.bound import bound_increment, bound_roster_write, bound_sign, increment_command
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.plan import (
    Given,
    Officers,
    Plan,
    climb_branch,
    plan_increment,
    plan_sign,
)
from tpmhsm.policy.steps import (
    START,
    AuthorizeNv,
    AuthValue,
    CommandCode,
    NvWritten,
    Or,
    Signed,
    digest_of,
)
from tpmhsm.policy.tree import SIGN, counter_nv, epoch_ladders, key_policy, roster_nv
from tpmhsm.tpm import nv, objects, policies
from tpmhsm.tpm.sessions import start_policy, start_trial
from tpmhsm.wire.commands import (
    LoadExternal,
    NV_Write,
    PolicyAuthValue,
    PolicyGetDigest,
    PolicyNvWritten,
    PolicySigned,
)
from tpmhsm.wire.constants import CC, RH
from tpmhsm.wire.names import name_of_nv

DIGEST = sha256(b"to be signed").digest()
OTHER = sha256(b"something else").digest()


@pytest.fixture
def world(chip):
    return World.make(chip)


def check(key, digest, signature):
    public = public_key_of(key.public)
    algorithm = utils.Prehashed(hashes.SHA256())
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(algorithm))
    else:
        public.verify(signature, digest, padding.PKCS1v15(), algorithm)


def refused(rc, command=None):
    return pytest.raises(
        ChipRefusedError, check=lambda e: e.rc == rc and command in (None, e.command)
    )


# --- it works, and costs what the plan says -------------------------------------------------------


@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_two_of_three(world, chosen):
    key = world.key()
    approvals = world.approvals(key, DIGEST, chosen)
    plan = plan_sign(world.group, world.roster, key.public, DIGEST, approvals)
    before = world.chip.commands
    signature = world.sign(key, DIGEST, approvals)
    assert world.chip.commands - before == plan.commands
    assert 13 <= plan.commands <= 15
    assert plan.people == tuple(makers.label(i) for i in sorted(chosen)[:2])
    check(key, DIGEST, signature)


@pytest.mark.parametrize("algorithm", ["p256", "p384", "rsa2048"])
def test_keys_of_every_kind(world, algorithm):
    key = world.key(algorithm)
    signature = world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 2)))
    check(key, DIGEST, signature)


def test_rsa_approvers(chip):
    world = World.make(chip, officers=(5, 6), kind="2048")
    key = world.key()
    check(key, DIGEST, world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1))))


@pytest.mark.parametrize(("m", "n"), [(3, 5), (11, 20)])
def test_larger_quorums(chip, m, n):
    world = World.make(chip, m, tuple(range(n)))
    key = world.key()
    chosen = tuple(range(n - m, n))
    signature = world.sign(key, DIGEST, world.approvals(key, DIGEST, chosen))
    check(key, DIGEST, signature)


def test_the_cost_of_every_act(world):
    for plan_of, command in ((plan_increment, increment_command(world.group)),):
        bound = bound_increment(world.group, written=True)
        approvals = world.custodians(bound, epoch_ladders)
        plan = plan_of(world.group, approvals, written=True)
        before = world.chip.commands
        policies.execute(world.chip, plan, command)
        assert world.chip.commands - before == plan.commands == 10


def test_an_officer_is_replaced_and_the_key_stays(world):
    key = world.key()
    world.increment()
    world.put(2, (0, 1, 3))
    check(key, DIGEST, world.sign(key, DIGEST, world.approvals(key, DIGEST, (1, 2))))


def test_nothing_is_left_behind(world):
    key = world.key()
    with pytest.raises(ChipRefusedError):
        world.sign(key, DIGEST, world.approvals(key, OTHER, (0, 1)))
    world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))
    assert world.chip.leaks() == [key.handle]


# --- it refuses -----------------------------------------------------------------------------------


def test_too_few_approvals_are_not_even_tried(world):
    key = world.key()
    before = world.chip.commands
    with pytest.raises(UsageError, match="1 of the 2 approvals"):
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (1,)))
    assert world.chip.commands == before


def force(world, key, digest, steps, approvals, roster=None):
    """Play root: send steps of our own making, unchecked, then TPM2_Sign."""
    roster = roster or world.roster
    members = roster.officers[0].members
    given = {members[i].chip_name: Given(members[i], s) for i, s in approvals.items()}
    indices = {
        name_of_nv(counter_nv(world.group, written=True)): world.group.counter_index,
        name_of_nv(roster_nv(world.group, written=True)): world.group.roster_index,
    }
    plan = Plan("attack", (), bound_sign(key.public, digest), START, given=given, indices=indices)
    object.__setattr__(plan, "steps", tuple(steps))
    return policies.execute(world.chip, plan, objects.sign_command(key, digest))


def steps_of(world, chosen, roster=None):
    """The honest steps, taken apart."""
    roster = roster or world.roster
    officers = Officers(world.group, roster, dict.fromkeys(chosen, b""))
    steps = climb_branch(officers, SIGN)
    prefix, climb = steps[:2], steps[2:]
    index = name_of_nv(roster_nv(world.group, written=True))
    return prefix, climb, (AuthorizeNv(index), CommandCode(CC.Sign))


def test_one_signature_less(world):
    """M-1: whatever is left out, the OR or the roster says no."""
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    prefix, climb, end = steps_of(world, (0, 1))
    one = next(s for s in climb if isinstance(s, Signed))
    rest = [s for s in climb if s is not one]
    with refused(0x1C4, "PolicyOR") as caught:
        force(world, key, DIGEST, (*prefix, *rest, *end), approvals)
    assert "quorum" in caught.value.message
    with refused(0x084, "PolicyAuthorizeNV") as caught:
        force(world, key, DIGEST, (*prefix, one, *end), approvals)
    assert "quorum is incomplete" in caught.value.message
    with refused(0x99D, "Sign"):
        force(world, key, DIGEST, (*prefix, *climb), approvals)


def test_one_person_twice(world):
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    prefix, climb, end = steps_of(world, (0, 1))
    first = next(s for s in climb if isinstance(s, Signed))
    twice = [first if isinstance(s, Signed) else s for s in climb]
    with refused(0x1C4, "PolicyOR"):
        force(world, key, DIGEST, (*prefix, *twice, *end), approvals)


def test_other_bytes(world):
    key = world.key()
    mixed = {**world.approvals(key, DIGEST, (0,)), **world.approvals(key, OTHER, (1,))}
    with refused(0x5DB, "PolicySigned") as caught:
        world.sign(key, DIGEST, mixed)
    assert "bob approved other bytes" in caught.value.message
    assert caught.value.details["person"] == "bob"


def test_other_bytes_behind_the_back_of_the_policy(world):
    """Approvals of DIGEST are shown, and then OTHER is to be signed."""
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    plan = plan_sign(world.group, world.roster, key.public, DIGEST, approvals)
    with refused(0x99D, "Sign"):
        policies.execute(world.chip, plan, objects.sign_command(key, OTHER))


def test_other_key(world):
    key, other = world.key(), world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    with refused(0x5DB, "PolicySigned"):
        world.sign(other, DIGEST, approvals)
    plan = plan_sign(world.group, world.roster, key.public, DIGEST, approvals)
    with refused(0x99D, "Sign"):
        policies.execute(world.chip, plan, objects.sign_command(other, DIGEST))


def test_key_of_another_policy(world):
    key = world.key(policy=sha256(b"another").digest())
    with refused(0x99D, "Sign") as caught:
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))
    assert "what the key or index demands" in caught.value.message


def test_old_epoch(world):
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    world.increment()
    with refused(0x126, "PolicyNV") as caught:
        world.sign(key, DIGEST, approvals)
    assert f"for epoch {world.roster.epoch}" in caught.value.message


def test_a_removed_officer_and_a_stale_roster(world):
    key, old = world.key(), world.roster
    approvals = world.approvals(key, DIGEST, (1, 2))
    world.increment()
    world.put(2, (0, 1, 3))
    with refused(0x126, "PolicyNV"):
        world.sign(key, DIGEST, approvals, roster=old)
    pretended = replace(old, epoch=world.epoch)
    approvals = sign_for(bound_sign(key.public, DIGEST), SIGN.ladders(pretended)[0], {1: 1, 2: 2})
    with refused(0x084, "PolicyAuthorizeNV") as caught:
        world.sign(key, DIGEST, approvals, roster=pretended)
    assert "roster in the chip is another one" in caught.value.message


def test_a_ladder_entered_with_another_prefix(world):
    """Without the epoch, or without the command code, the ladder leads elsewhere."""
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    prefix, climb, end = steps_of(world, (0, 1))
    for wrong in ((), prefix[:1], prefix[1:], (prefix[1], prefix[0])):
        with refused(0x1C4, "PolicyOR"):
            force(world, key, DIGEST, (*wrong, *climb, *end), approvals)
    (ladder,) = SIGN.ladders(world.roster)
    bare = ladder.plan((0, 1))
    with refused(0x084, "PolicyAuthorizeNV"):
        force(world, key, DIGEST, (*bare, *end), approvals)


def test_approvals_for_another_purpose(world):
    """The same people, the same bytes, another policyRef."""
    key = world.key()
    (ladder,) = epoch_ladders(world.group)
    approvals = sign_for(bound_sign(key.public, DIGEST), ladder, {0: 0, 1: 1})
    with refused(0x5DB, "PolicySigned"):
        world.sign(key, DIGEST, approvals)


def test_approvals_for_another_epoch(world):
    key = world.key()
    later = replace(world.roster, epoch=world.epoch + 1)
    approvals = world.approvals(key, DIGEST, (0, 1), roster=later)
    with refused(0x5DB, "PolicySigned"):
        world.sign(key, DIGEST, approvals)


def raw_signed(world, message_hash, ref, cp_hash=b"", algorithm=None, preimage=None):
    """Send PolicySigned as root would, in a session of its own."""
    session = start_policy(world.chip)
    member = world.roster.officers[0].members[0]
    loaded = world.chip.send(LoadExternal(None, member.public, RH.NULL)).object_handle
    signature = message_hash
    try:
        world.chip.send(PolicySigned(loaded, session.handle, b"", cp_hash, ref, 0, signature))
        return world.chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        world.chip.flush(loaded)
        world.chip.flush(session.handle)


def test_an_empty_cp_hash_is_a_blank_cheque_for_the_chip(world):
    """The chip takes it; that is why no tool ever signs one (`a_hash_preimage` cannot)."""
    from tpmhsm.wire.codec import decode
    from tpmhsm.wire.structures import Signature

    (ladder,) = SIGN.ladders(world.roster)
    blank = bytes(4) + ladder.policy_ref
    signature = decode(Signature, makers.tpmt_sign(makers.key(0), blank))
    raw_signed(world, signature, ladder.policy_ref)
    key = world.key()
    approved = decode(Signature, world.approvals(key, DIGEST, (0,))[0])
    with refused(0x5DB, "PolicySigned"):
        raw_signed(world, approved, ladder.policy_ref)


def test_sha1_would_be_accepted_by_the_chip(world):
    """Which is why no tool of ours makes or takes such a signature."""
    from tpmhsm.errors import VerificationError
    from tpmhsm.policy.ahash import a_hash_preimage
    from tpmhsm.policy.approver import check_signature
    from tpmhsm.wire.codec import decode
    from tpmhsm.wire.structures import Signature

    key = world.key()
    (ladder,) = SIGN.ladders(world.roster)
    cp_hash = bound_sign(key.public, DIGEST).cp_hash
    message = a_hash_preimage(cp_hash, ladder.policy_ref)
    made = bytearray(makers.tpmt_sign(makers.key(0), message, hashes.SHA1()))
    made[2:4] = b"\x00\x04"
    raw_signed(world, decode(Signature, bytes(made)), ladder.policy_ref, cp_hash)
    with pytest.raises(VerificationError):
        check_signature(makers.key(0).public_key(), message, bytes(made))


def test_garbage_for_an_approval(world):
    key = world.key()
    approvals = {**world.approvals(key, DIGEST, (0,)), 1: b"garbage"}
    before = world.chip.commands
    with pytest.raises(ParseError, match="bob's approval"):
        world.sign(key, DIGEST, approvals)
    assert world.chip.commands == before


def test_a_stranger(world):
    key = world.key()
    with pytest.raises(UsageError, match="not in the rule"):
        world.sign(key, DIGEST, {0: b"", 7: b""})


def test_custodians_one_less_and_the_owner(world):
    with pytest.raises(UsageError, match="1 of the 2"):
        world.increment(people=(1,))
    index = world.group.roster_index
    with refused(0x149, "NV_Write"):
        world.chip.send(NV_Write(RH.OWNER, index, bytes(74), 0))


def test_an_increment_is_no_roster_write(world):
    """Approvals of the epoch in the place of approvals of a roster."""
    roster = replace(world.roster, epoch=world.epoch + 1)
    bound = bound_roster_write(world.group, roster, written=True)
    approvals = world.custodians(bound, epoch_ladders)
    with refused(0x5DB, "PolicySigned"):
        policies.run_roster_write(world.chip, world.group, roster, approvals, written=True)


def test_the_first_increment_again(world):
    """The approval of the first increment is over the unwritten Name: it does not fit twice."""
    with refused(0x99D, "NV_Increment"):
        world.increment(written=False)


def test_roster_index_remade(world):
    """Root undefines the roster index and makes an identical one: unwritten, unusable."""
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 1))
    nv.undefine(world.chip, world.group.roster_index)
    nv.define(world.chip, roster_nv(world.group))
    with refused(0x14A, "PolicyAuthorizeNV") as caught:
        world.sign(key, DIGEST, approvals)
    assert "made it anew" in caught.value.message


def test_roster_index_missing(world):
    key = world.key()
    nv.undefine(world.chip, world.group.roster_index)
    with refused(0x18B) as caught:
        world.sign(key, DIGEST, world.approvals(key, DIGEST, (0, 1)))
    assert "missing" in caught.value.message


# --- arithmetic and chip agree --------------------------------------------------------------------


def trial(chip, steps):
    """What a trial session of the chip makes of steps."""
    session = start_trial(chip)
    plan = Plan("trial", (), bound_sign_stub(), START, given=_everybody())
    try:
        for step in steps:
            if isinstance(step, AuthValue):
                chip.send(PolicyAuthValue(session.handle))
            elif isinstance(step, NvWritten):
                chip.send(PolicyNvWritten(session.handle, step.written))
            else:
                policies.run_step(chip, session, plan, step)
        return chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        chip.flush(session.handle)


def bound_sign_stub():
    return plans.BoundCommand(CC.Sign, (), b"")


def _everybody():
    people = [makers.member(i) for i in range(12)]
    return {m.chip_name: Given(m, makers.tpmt_sign(makers.key(0), b"any")) for m in people}


prefixes = st.lists(
    st.one_of(
        st.builds(CommandCode, st.sampled_from([CC.Sign])),
        st.just(AuthValue()),
        st.just(NvWritten(True)),
    ),
    max_size=2,
    unique_by=type,
).map(tuple)
rules = st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))


def check_ladder(chip, data):
    prefix = data.draw(prefixes)
    m, n = data.draw(rules)
    ref = data.draw(st.binary(min_size=32, max_size=32))
    names = tuple(makers.member(i).chip_name for i in range(n))
    ladder, start = Ladder(m, names, ref), digest_of(prefix)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=m, max_size=m))
    steps = (*prefix, *ladder.plan(chosen, start))
    assert trial(chip, steps) == ladder.digest(start) == digest_of(steps)


on_one_chip = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_one_chip
@given(data=st.data())
def test_ladders_in_trial_sessions(chip, data):
    check_ladder(chip, data)


@pytest.mark.long
@settings(on_one_chip, max_examples=400)
@given(data=st.data())
def test_many_ladders_in_trial_sessions(chip, data):
    check_ladder(chip, data)


def check_signing(world, data):
    m, n = data.draw(rules)
    officers = tuple(data.draw(st.permutations(range(10)))[:n])
    world.increment()
    world.put(m, officers)
    key = world.key()
    try:
        chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=m, max_size=m))
        approvals = world.approvals(key, DIGEST, chosen)
        check(key, DIGEST, world.sign(key, DIGEST, approvals))
        prefix, climb, end = steps_of(world, chosen)
        missing = data.draw(st.sampled_from([s for s in climb if isinstance(s, Signed)]))
        fewer = [s for s in climb if s is not missing]
        with pytest.raises(ChipRefusedError) as caught:
            force(world, key, DIGEST, (*prefix, *fewer, *end), approvals)
        assert caught.value.rc in (0x1C4, 0x084)
    finally:
        world.chip.flush(key.handle)


@settings(on_one_chip, max_examples=6)
@given(data=st.data())
def test_random_quorums(world, data):
    check_signing(world, data)


@pytest.mark.long
@settings(on_one_chip, max_examples=150)
@given(data=st.data())
def test_many_random_quorums(world, data):
    check_signing(world, data)


def test_or_of_eight(chip):
    branches = tuple(sha256(bytes([i])).digest() for i in range(8))
    assert trial(chip, (Or(branches),)) == Or(branches).extend(START)


def test_key_policy_in_a_trial_session(world):
    """AuthorizeNV and PolicyNV need the indices, so they are tried where those exist."""
    prefix, climb, end = steps_of(world, (0, 2))
    key = world.key()
    approvals = world.approvals(key, DIGEST, (0, 2))
    plan = plan_sign(world.group, world.roster, key.public, DIGEST, approvals)
    session = start_trial(world.chip)
    try:
        for step in (*prefix, *climb, *end):
            policies.run_step(world.chip, session, plan, step)
        found = world.chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        world.chip.flush(session.handle)
    assert found == key_policy(world.group) == key.public.auth_policy
