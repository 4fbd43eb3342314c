"""Keys with PINs, PCRs, groups and alternatives: the chip agrees with the digest, takes as many
commands as are planned, and refuses when any one demand is not met.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.policy import makers
from tests.tpm.quorums import World
from tests.tpm.test_policies import check, refused

from tpmhsm.errors import ChipRefusedError, DeviceError, NotFoundError, UsageError
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.budgets import Grant
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.normal import normal_form
from tpmhsm.policy.plan import Officers, Spend, plan_use
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.steps import AuthorizeNv, AuthValue, CommandCode, Or, Secret, Signed
from tpmhsm.policy.steps import Pcr as PcrStep
from tpmhsm.policy.text import parse_policy
from tpmhsm.policy.tree import BUDGET, roster_name
from tpmhsm.tpm import budgets, nv, objects, pcrs, policies
from tpmhsm.tpm.pcrs import unpack_selection
from tpmhsm.tpm.pins import Pin, check_pin, duration
from tpmhsm.tpm.sessions import Password, start_policy, start_trial
from tpmhsm.wire.commands import (
    DictionaryAttackLockReset,
    PCR_Extend,
    PolicyAuthorizeNV,
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyGetDigest,
    PolicyOR,
    PolicyPCR,
    PolicySecret,
)
from tpmhsm.wire.constants import ALG, RH, ObjectAttributes
from tpmhsm.wire.structures import Ha

AUTH = b"of the budgets' indices"
DIGEST = sha256(b"to be signed").digest()
PIN = b"correct horse 42"


def extend(chip, number, what=b"an update"):
    chip.send(PCR_Extend(number, (Ha(ALG.SHA256, sha256(what).digest()),)))


RULES = (
    ("a", 2, (0, 1, 2)),
    ("b", 1, (3, 4)),
    ("c", 3, (5, 6, 7, 8, 9, 10, 11)),
)


def facts(label, number):
    return {
        "name": label,
        "nonce": sha256(label.encode()).digest(),
        "counter_index": 0x01800010 + 2 * number,
        "roster_index": 0x01800011 + 2 * number,
    }


@dataclass
class Town:
    """A chip with groups, and PCRs that something was measured into."""

    chip: object
    worlds: dict

    @classmethod
    def make(cls, chip):
        """Twelve people: a is 2 of 3, b is 1 of 2, c is 3 of 7. The custodians are three others."""
        for number in (0, 1, 2, 7):
            extend(chip, number, b"firmware %d" % number)
        worlds = {}
        for i, (label, m, people) in enumerate(RULES):
            worlds[label] = World.make(chip, m, people, **facts(label, i))
        return cls(chip, worlds)

    @property
    def parent(self):
        return objects.storage_parent(self.chip)

    def bind(self, text):
        """The policy with everything its digest depends on, as a key's birth does it."""
        policy = read_policy(text)
        named = [pcr for one in policy.alternatives for pcr in one.pcrs]
        return KeyPolicy(
            policy.alternatives,
            {label: roster_name(self.worlds[label].group) for label in policy.rosters},
            pcrs.measure_at_birth(self.chip, named),
            self.places(policy),
        )

    def places(self, policy):
        """Where its budgets are counted."""
        return {label: 0x01800040 + number for number, label in enumerate(policy.granting)}

    def key(self, policy, value=PIN):
        pin = Pin.to(self.parent, value) if policy.has_pin else None
        made = objects.create_key(self.chip, self.parent, "p256", policy.digest, pin=pin)
        for label in policy.granting:
            self.grant(policy, label, made.name)
        return objects.load_key(self.chip, self.parent, made.public, made.private)

    def grant(self, policy, label, key_name, total=1 << 31):
        """A fresh budget of a group, granted by as many officers as are needed."""
        world, index = self.worlds[label], policy.budgets[label]
        with suppress(NotFoundError):
            nv.undefine(self.chip, index)
        budgets.make(self.chip, index, policy.indices[label], AUTH)
        session = start_policy(self.chip)
        grant = Grant(world.group.id, key_name, index, total, session.nonce_tpm)
        ladder = BUDGET.ladders(world.roster)[0]
        hashed = grant.bound(policy.indices[label]).cp_hash
        message = live_preimage(grant.nonce, 0, hashed, ladder.policy_ref)
        signed = {
            i: makers.tpmt_sign(makers.key(world.officers[i]), message)
            for i in range(world.roster.officers[0].m)
        }
        officers = Officers(world.group, world.roster, signed)
        budgets.run_grant(self.chip, officers, grant, session)

    def officers(self, label, key, missing=0):
        """The approvals of exactly as many officers as are needed, less `missing`."""
        world = self.worlds[label]
        m = world.roster.officers[0].m
        approvals = world.approvals(key, DIGEST, range(m))
        return Officers(world.group, world.roster, approvals)

    def plan(self, policy, one, key):
        if one.window:
            officers = self.worlds[one.group].open(key)
        else:
            officers = self.officers(one.group, key) if one.group else None
        return plan_use(policy, one, key.public, DIGEST, officers, Spend(AUTH))

    def sign(self, policy, one, key, value=PIN):
        plan = self.plan(policy, one, key)
        pin = Pin.to(self.parent, value) if plan.has_pin else None
        command = objects.sign_command(key, DIGEST)
        return objects.plain_signature(policies.execute(self.chip, plan, command, pin).signature)


@pytest.fixture
def town(chip):
    return Town.make(chip)


def trial(chip, policy, town):
    """The digest as the chip's trial session computes it, alternative by alternative."""
    found = []
    for one in policy.alternatives:
        session = start_trial(chip)
        for step in policy.way(one):
            send_in_trial(chip, session.handle, step, town)
        found.append(chip.send(PolicyGetDigest(session.handle)).policy_digest)
        chip.flush(session.handle)
    return found


def send_in_trial(chip, handle, step, town):
    if isinstance(step, AuthorizeNv):
        (index,) = (w.group.roster_index for w in town.worlds.values()
                    if roster_name(w.group) == step.name)  # fmt: skip
        chip.send(PolicyAuthorizeNV(index, index, handle))
    elif isinstance(step, PcrStep):
        chip.send(PolicyPCR(handle, b"", unpack_selection(step.selection)))  # of now: at birth
    elif isinstance(step, AuthValue):
        chip.send(PolicyAuthValue(handle))
    elif isinstance(step, CommandCode):
        chip.send(PolicyCommandCode(handle, step.code))
    elif isinstance(step, Secret):
        named = {nv.read_public(chip, i).name: i for i in (0x01800040, 0x01800041, 0x01800042)
                 if i in nv.indices(chip)}  # fmt: skip
        index = named[step.entity]
        chip.send(PolicySecret(index, handle, b"", b"", b"", 0), Password(AUTH))
    else:
        chip.send(PolicyOR(handle, step.branches))


# ── the kinds, and what they cost ────────────────────────────────────────────────────────────

COSTS = {
    "pin": 4,  # start, AuthValue, CommandCode, Sign
    "pcr(sha256:0,7)": 4,
    "all(pin, pcr(sha256:0,7))": 5,
    "all(pcr(sha256:0), pcr(sha256:7))": 4,  # one PolicyPCR for both
    "any(pin, pcr(sha256:0,7))": 5,  # and one PolicyOR
    "quorum(b)": 10,
    "all(quorum(b), pin)": 11,
    "all(quorum(b), pcr(sha256:0,7), pin)": 12,
    "any(quorum(b), all(pin, pcr(sha256:0)))": 11,
    "budget(b)": 4,  # start, PolicySecret, CommandCode, Sign
    "all(budget(b), pin)": 5,
    "all(budget(a), pcr(sha256:0,7))": 5,
    "any(budget(b), pin)": 5,
    "all(quorum(b), budget(b))": 11,
    "all(quorum(b), budget(a), pin)": 12,
    "window(b)": 9,  # CommandCode, NameHash, and a ticket in the place of an approval
    "all(window(b), pin)": 10,
}
"""Commands of one signature, by the alternative that stands first; docs/policies.md derives them.
One of two officers: start, PolicyNV, CommandCode, LoadExternal, PolicySigned, Flush, PolicyOR,
AuthorizeNV, CommandCode, Sign.
"""


@pytest.mark.parametrize("text", COSTS)
def test_it_signs_with_as_many_commands_as_are_needed(town, text):
    policy = town.bind(text)
    key = town.key(policy)
    assert key.public.auth_policy == policy.digest
    one = next(a for a in policy.alternatives if a.group or not text.startswith("any(quorum"))
    plan = town.plan(policy, one, key)
    pin = Pin.to(town.parent, PIN) if plan.has_pin else None
    if pin:  # once after each start the chip says RETRY, and notes that a counted key is used
        town.sign(policy, one, key)
    before = town.chip.commands
    answer = policies.execute(town.chip, plan, objects.sign_command(key, DIGEST), pin)
    assert town.chip.commands - before == plan.commands == COSTS[text]
    check(key, DIGEST, objects.plain_signature(answer.signature))


def test_every_step_is_needed(town):
    """With any one step left out the plan does not lead to the policy. What runs before the
    roster, `refuse_without_one` asks the chip.
    """
    policy = town.bind("any(all(quorum(b), pcr(sha256:0,7), pin), quorum(a), quorum(c))")
    key = town.key(policy)
    plan = town.plan(policy, policy.alternatives[1], key)
    roster = next(i for i, step in enumerate(plan.steps) if isinstance(step, AuthorizeNv))
    for i in range(roster, len(plan.steps)):
        rest = plan.steps[:i] + plan.steps[i + 1 :]
        with pytest.raises(UsageError, match=r"do not lead to the policy|outside its branches"):
            type(plan)(plan.act, rest, plan.bound, plan.policy, plan.given, plan.indices)


# ── any policy ───────────────────────────────────────────────────────────────────────────────

leaves = st.sampled_from(
    [
        "pin",
        "quorum(a)",
        "quorum(b)",
        "quorum(c)",
        "budget(a)",
        "budget(c)",
        "window(a)",
        "window(c)",
    ]
    + [f"pcr(sha256:{n})" for n in ("0", "1", "0,7", "2,1", "7")]
)


def _joined(inner):
    parts = st.lists(inner, min_size=2, max_size=3)
    return st.builds(lambda w, p: f"{w}({', '.join(p)})", st.sampled_from(["all", "any"]), parts)


written = st.one_of(leaves, _joined(leaves), _joined(_joined(leaves) | leaves),
                    _joined(_joined(_joined(leaves) | leaves) | leaves))  # fmt: skip


def expressible(text):
    try:
        normal_form(parse_policy(text))
    except UsageError as e:
        assert e.code.startswith("policy-")
        return False
    return True


@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
@given(text=written.filter(expressible))
@example(text="any(all(budget(a), window(a)), all(window(c), pin))")
def test_any_policy(town, text):
    any_policy(town, text)


@pytest.mark.long
@settings(
    max_examples=400, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
@given(text=written.filter(expressible))
def test_any_policy_long(town, text):
    any_policy(town, text)


def any_policy(town, text):
    """The digest is the chip's; each alternative signs; none does without any one demand."""
    policy = town.bind(text)
    assert read_policy(format_document(policy)) == policy
    key = town.key(policy)  # and the indices of its budgets
    assert set(trial(town.chip, policy, town)) == {policy.digest}
    try:
        for one in policy.alternatives:
            check(key, DIGEST, town.sign(policy, one, key))
            refuse_without_one(town, policy, one, key)
    finally:
        town.chip.flush(key.handle)


def refuse_without_one(town, policy, one, key):
    """Take each requirement away: a person, the roster, the PCRs, the PIN, the command."""
    plan = town.plan(policy, one, key)
    for missing in range(len(plan.steps)):
        step = plan.steps[missing]
        if isinstance(step, Or):
            continue  # a consequence of what was done, not a demand
        with pytest.raises(ChipRefusedError) as e:
            without(town, plan, missing, key)
        assert e.value.rc in {0x1C4, 0x084, 0x99D}, (step, e.value)


def without(town, plan, missing, key):
    """The steps but one, in a session as it is meant to be."""
    session = start_policy(town.chip, salt_key=Pin.to(town.parent, PIN).salt)
    session.auth_value = PIN
    try:
        for i, step in enumerate(plan.steps):
            if i != missing:
                policies.run_step(town.chip, session, plan, step)
        town.chip.send(objects.sign_command(key, DIGEST), session)
    finally:
        town.chip.flush(session.handle)


def test_a_person_less(town):
    policy = town.bind("all(quorum(a), pin)")
    key = town.key(policy)
    officers = town.officers("a", key)
    officers.approvals.popitem()
    with pytest.raises(UsageError, match="1 of the 2 approvals"):
        plan_use(policy, policy.alternatives[0], key.public, DIGEST, officers)


def test_nobody_of_the_group(town):
    policy = town.bind("any(quorum(a), quorum(b))")
    key = town.key(policy)
    for officers in (None, town.officers("b", key)):
        with pytest.raises(UsageError, match="nobody of the group 'a'"):
            plan_use(policy, policy.alternatives[0], key.public, DIGEST, officers)


def test_nine_alternatives(town):
    """Two levels of PolicyOR: every alternative leads to the root."""
    pairs = [(0, 1), (0, 2), (0, 7), (1, 2), (1, 7), (2, 7), (3, 4), (3, 5), (4, 5)]
    text = f"any({', '.join(f'pcr(sha256:{a},{b})' for a, b in pairs)})"
    policy = town.bind(text)
    key = town.key(policy)
    assert set(trial(town.chip, policy, town)) == {policy.digest}
    ors = [sum(isinstance(s, Or) for s in policy.way(one)) for one in policy.alternatives]
    assert ors == [2] * 8 + [1]
    for one in policy.alternatives:
        check(key, DIGEST, town.sign(policy, one, key))


# ── PINs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_pin_is_counted_and_said(town):
    policy = town.bind("pin")
    key = town.key(policy)
    assert not key.public.attributes & ObjectAttributes.NO_DA
    (one,) = policy.alternatives
    with refused(0x98E, "Sign") as e:
        town.sign(policy, one, key, b"guess")
    assert e.value.code == "wrong-pin"
    assert e.value.details["tries_left"] == 2
    assert "2 tries are left before the chip locks PINs out for 17 minutes" in e.value.message
    with refused(0x98E, "Sign") as e:
        town.sign(policy, one, key, b"guess")
    assert "1 try is left" in e.value.message
    check(key, DIGEST, town.sign(policy, one, key))
    with refused(0x98E, "Sign") as e:
        town.sign(policy, one, key, b"guess")
    assert e.value.details["tries_left"] == 0
    assert "the chip locks PINs out for 17 minutes" in e.value.message
    with pytest.raises(DeviceError, match="the next try is possible in 17 minutes") as e:
        town.sign(policy, one, key)
    assert e.value.code == "chip-lockout"
    town.chip.send(DictionaryAttackLockReset(RH.LOCKOUT))
    check(key, DIGEST, town.sign(policy, one, key))


def test_a_lockout_stops_pins_alone(town):
    """Whoever signs without a PIN is not concerned."""
    policy = town.bind("any(quorum(b), pin)")
    key = town.key(policy)
    pin, quorum = policy.alternatives
    for _ in range(3):
        with refused(0x98E, "Sign"):
            town.sign(policy, pin, key, b"guess")
    check(key, DIGEST, town.sign(policy, quorum, key))


@pytest.mark.parametrize("value", [b"", b"123", b"x" * 33, b"12\x0034"])
def test_pins_that_are_none(value):
    with pytest.raises(UsageError) as e:
        check_pin(value)
    assert e.value.code == "bad-pin"
    assert value not in (b"x" * 33,) or "x" * 33 not in e.value.message


def test_a_pin_is_in_no_words(town):
    assert PIN.decode() not in repr(Pin.to(town.parent, PIN))


def test_without_the_pin_nothing_is_tried(town):
    policy = town.bind("pin")
    key = town.key(policy)
    plan = town.plan(policy, policy.alternatives[0], key)
    before = town.chip.commands
    with pytest.raises(UsageError) as e:
        policies.execute(town.chip, plan, objects.sign_command(key, DIGEST))
    assert (e.value.code, town.chip.commands) == ("pin-needed", before)


def test_the_empty_password_is_no_pin(town):
    key = town.key(town.bind("pin"))
    for auth in (Password(), Password(PIN)):
        with refused(0x12F, "Sign"):
            town.chip.send(objects.sign_command(key, DIGEST), auth)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 seconds"), (90, "90 seconds"), (1000, "17 minutes"), (7200, "2 hours")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


# ── PCRs ─────────────────────────────────────────────────────────────────────────────────────


def test_an_update_ends_the_key(town):
    policy = town.bind("pcr(sha256:0,7)")
    key = town.key(policy)
    (one,) = policy.alternatives
    extend(town.chip, 1)  # another PCR does not matter
    check(key, DIGEST, town.sign(policy, one, key))
    extend(town.chip, 7)
    with refused(0x1C4, "PolicyPCR") as e:
        town.sign(policy, one, key)
    assert "other values than at the key's birth" in e.value.message
    assert "of no use any more" in e.value.hint


def test_banks_that_prove_nothing(chip):
    for text, code in (
        ("pcr(sha256:0)", "policy-pcr-empty"),
        ("pcr(sha384:0)", "policy-pcr-bank"),
    ):
        (one,) = normal_form(parse_policy(text))
        with pytest.raises(UsageError) as e:
            pcrs.measure_at_birth(chip, one.pcrs)
        assert e.value.code == code


def test_more_than_eight_pcrs(town):
    (one,) = normal_form(parse_policy(f"pcr(sha256:{','.join(map(str, range(16)))})"))
    found = pcrs.measure(town.chip, one.pcrs)
    assert sorted(found["sha256"]) == list(range(16))
    assert found["sha256"][9] == bytes(32)
    assert found["sha256"][7] == sha256(bytes(32) + sha256(b"firmware 7").digest()).digest()


def test_what_can_be_met_now(town):
    policy = town.bind("any(pcr(sha256:0), pcr(sha256:7))")
    extend(town.chip, 0)
    named = [pcr for one in policy.alternatives for pcr in one.pcrs]
    (left,) = policy.satisfiable(pcrs=pcrs.measure(town.chip, named))
    assert left.text == "pcr(sha256:7)"
    key = town.key(policy)
    check(key, DIGEST, town.sign(policy, left, key))


def test_the_people_are_in_the_approvals(town):
    policy = town.bind("all(quorum(c), pin)")
    key = town.key(policy)
    plan = town.plan(policy, policy.alternatives[0], key)
    assert plan.people == tuple(makers.label(i) for i in (5, 6, 7))
    assert sum(isinstance(step, Signed) for step in plan.steps) == 3
