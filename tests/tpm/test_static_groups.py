"""Static groups in the chip: the digest, the commands, and every demand of the ladder."""

from dataclasses import dataclass, field

import pytest
from tests.policy import makers
from tests.tpm.quorums import sign_for
from tests.tpm.test_key_policies import DIGEST, PIN, Town, check, refuse_without_one

from tpmhsm.policy.bound import bound_sign
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.group import parse_group, static_roster
from tpmhsm.policy.plan import Officers, plan_use
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.tree import anchor, static_ladders
from tpmhsm.tpm import objects, pcrs, policies
from tpmhsm.tpm.pins import Pin
from tpmhsm.tpm.sessions import start_trial
from tpmhsm.wire.commands import PolicyGetDigest
from tpmhsm.wire.constants import CC


def static(name, *rule):
    """A static group of these thresholds."""
    custodians = tuple(makers.threshold(m, people, founding=True) for m, people in rule)
    return makers.group(custodians, name=name, counter_index=0, roster_index=0)


GROUPS = {
    "o": static("o", (1, (0, 1))),
    "s": static("s", (2, (0, 1, 2))),
    "j": static("j", (2, (0, 1, 2)), (1, (3, 4))),
}

COSTS = {
    "quorum(o)": 7,
    "quorum(s)": 10,
    "all(quorum(o), pin)": 8,
    "any(quorum(o), pin)": 8,
}
"""Commands of one signature; docs/policies.md derives them. One of two officers: start,
LoadExternal, PolicySigned, Flush, PolicyOR, CommandCode, Sign.
"""


@dataclass
class StaticTown(Town):
    """A chip, the static groups, and a group `a` that can change."""

    groups: dict = field(default_factory=lambda: GROUPS)

    def bind(self, text):
        policy = read_policy(text)
        named = [pcr for one in policy.alternatives for pcr in one.pcrs]
        every = {**self.groups, **{label: w.group for label, w in self.worlds.items()}}
        return KeyPolicy(
            policy.alternatives,
            {label: anchor(every[label]) for label in policy.rosters},
            pcrs.measure_at_birth(self.chip, named),
            self.places(policy),
        )

    def officers(self, label, key, missing=0):
        group = self.groups.get(label)
        if group is None:
            return super().officers(label, key, missing)
        bound = bound_sign(key.public, DIGEST)
        approvals, first, person = {}, 0, 0
        for ladder in static_ladders(group, CC.Sign):
            given = sign_for(bound, ladder, {i: person + i for i in range(ladder.m)})
            approvals |= {first + i: signature for i, signature in given.items()}
            first += len(ladder.names)
            person += len(ladder.names)
        return Officers(group, static_roster(group), approvals)


@pytest.fixture
def town(chip):
    made = Town.make(chip)
    return StaticTown(made.chip, made.worlds)


@pytest.mark.parametrize(
    "text",
    [
        "quorum(s)",
        "quorum(j)",
        "all(quorum(s), pin)",
        "any(quorum(s), pin)",
        "any(quorum(s), quorum(a), quorum(j))",
        "all(quorum(j), pcr(sha256:0), pin)",
        "any(all(quorum(s), pcr(sha256:7)), all(quorum(o), pin), pcr(sha256:2))",
    ],
)
def test_the_chip_agrees_and_every_demand_is_needed(town, text):
    policy = town.bind(text)
    assert read_policy(format_document(policy)) == policy
    key = town.key(policy)
    for one in policy.alternatives:
        plan = town.plan(policy, one, key)
        trial = start_trial(town.chip)
        for step in plan.steps:
            policies.run_step(town.chip, trial, plan, step)
        found = town.chip.send(PolicyGetDigest(trial.handle)).policy_digest
        town.chip.flush(trial.handle)
        assert found == policy.digest == key.public.auth_policy
        check(key, DIGEST, town.sign(policy, one, key))
        refuse_without_one(town, policy, one, key)


@pytest.mark.parametrize("text", COSTS)
def test_it_signs_with_as_many_commands_as_are_needed(town, text):
    policy = town.bind(text)
    key = town.key(policy)
    one = next(one for one in policy.alternatives if one.group)
    plan = town.plan(policy, one, key)
    pin = Pin.to(town.parent, PIN) if plan.has_pin else None
    if pin:
        town.sign(policy, one, key)  # RETRY comes once
    before = town.chip.commands
    policies.execute(town.chip, plan, objects.sign_command(key, DIGEST), pin)
    assert town.chip.commands - before == plan.commands == COSTS[text]
    assert plan.indices == {}


def test_too_few_officers(town):
    from tpmhsm.errors import UsageError

    policy = town.bind("quorum(j)")
    key = town.key(policy)
    officers = town.officers("j", key)
    officers.approvals.popitem()
    with pytest.raises(UsageError, match="0 of the 1 approvals"):
        plan_use(policy, policy.alternatives[0], key.public, DIGEST, officers)


def test_signing_and_decrypting_keys_have_other_ladders():
    """An approval of a signature is none of a decryption, in a static group too."""
    group = GROUPS["s"]
    assert anchor(group, CC.Sign) != anchor(group, CC.RSA_Decrypt)
    assert anchor(group, CC.RSA_Decrypt) == anchor(group, CC.ECDH_ZGen)


def test_the_document():
    from tpmhsm.errors import ParseError, UsageError
    from tpmhsm.policy.fingerprint import fingerprint

    group = GROUPS["s"]
    assert parse_group(group.encoded) == group
    assert b'"static":true' in group.encoded
    assert b"index" not in group.encoded
    assert len(fingerprint(group, makers.EK)) == 8
    with pytest.raises(ParseError, match="static"):
        parse_group(group.encoded.replace(b'"static":true', b'"static":false'))
    with pytest.raises(ParseError):
        parse_group(group.encoded.replace(b'"static":true', b'"counter_index":0,"roster_index":0'))
    with pytest.raises(UsageError, match="more than half"):
        makers.group(makers.threshold(1, (0, 1), founding=True))
    assert static("half", (1, (0, 1))).static  # nobody governs it, so no two quorums can differ
