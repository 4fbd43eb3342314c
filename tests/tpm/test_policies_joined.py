"""Joined ladders ("2 of these and 1 of those") in a software TPM, of officers and of custodians."""

from __future__ import annotations

from copy import copy
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy import makers
from tests.tpm.quorums import sign_for

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ChipRefusedError
from tpmhsm.policy.bound import (
    bound_increment,
    bound_roster_write,
    bound_sign,
    increment_command,
    roster_write_command,
)
from tpmhsm.policy.people import needed
from tpmhsm.policy.plan import plan_increment, plan_roster_write, plan_sign
from tpmhsm.policy.steps import AuthorizeNv, Signed
from tpmhsm.policy.tree import (
    SIGN,
    counter_nv,
    epoch_ladders,
    key_policy,
    roster_ladders,
    roster_nv,
    roster_policy,
)
from tpmhsm.tpm import nv, objects, policies
from tpmhsm.tpm.sessions import start_trial
from tpmhsm.wire.commands import PolicyGetDigest

DIGEST = sha256(b"to be signed").digest()

Rule = list[tuple[int, tuple[int, ...]]]
"""Each ladder: how many, and the numbers of its people."""


def approvals(bound, ladders, rule: Rule, chosen):
    """Approvals of one command: TPMT_SIGNATUREs by the place in the rule."""
    found, first = {}, 0
    for ladder, (_, people) in zip(ladders, rule, strict=True):
        own = {i: people[i] for i in range(len(people)) if first + i in chosen}
        found |= {first + i: vote for i, vote in sign_for(bound, ladder, own).items()}
        first += len(people)
    return found


def enough(rule: Rule, data) -> set[int]:
    """Exactly as many of each ladder as it takes, by their place in the rule."""
    found, first = set(), 0
    for m, people in rule:
        places = st.integers(first, first + len(people) - 1)
        found |= data.draw(st.sets(places, min_size=m, max_size=m))
        first += len(people)
    return found


def any_rule(data, sizes, *, governs=False) -> Rule:
    """Ladders of these sizes at most, over people of whom nobody stands on two."""
    people = data.draw(st.permutations(range(12)))
    rule = []
    for n in data.draw(st.lists(st.integers(1, max(sizes)), min_size=1, max_size=len(sizes))):
        own, people = tuple(people[:n]), people[n:]
        rule.append((data.draw(st.integers(n // 2 + 1 if governs else 1, n)), own))
    return rule


def thresholds(rule: Rule, *, founding=False):
    return tuple(makers.threshold(m, people, founding=founding) for m, people in rule)


def run_without(chip, plan, missing, command):
    """Play root: the honest steps with one approval left out."""
    broken = copy(plan)
    steps = tuple(step for step in plan.steps if step is not missing)
    object.__setattr__(broken, "steps", steps)
    with pytest.raises(ChipRefusedError) as caught:
        policies.execute(chip, broken, command)
    return caught.value


def refuses_each_one_less(chip, plan, command, codes):
    votes = [step for step in plan.steps if isinstance(step, Signed)]
    for vote in votes:
        assert run_without(chip, plan, vote, command).rc in codes
    return len(votes)


def trial(chip, plan, steps):
    session = start_trial(chip)
    try:
        for step in steps:
            policies.run_step(chip, session, plan, step)
        return chip.send(PolicyGetDigest(session.handle)).policy_digest
    finally:
        chip.flush(session.handle)


class Joined:
    """A group whose custodians and officers stand on joined ladders, in one chip."""

    def __init__(self, chip, governing: Rule, data) -> None:
        self.chip, self.governing, self.data = chip, governing, data
        self.group = makers.group(thresholds(governing, founding=True), range(12))
        nv.define(chip, counter_nv(self.group))
        nv.define(chip, roster_nv(self.group))
        self.increment(written=False)

    def end(self) -> None:
        nv.undefine(self.chip, self.group.counter_index)
        nv.undefine(self.chip, self.group.roster_index)

    def custodians(self, bound, ladders):
        chosen = enough(self.governing, self.data)
        return approvals(bound, ladders, self.governing, chosen)

    def increment(self, *, written: bool) -> None:
        bound = bound_increment(self.group, written=written)
        votes = self.custodians(bound, epoch_ladders(self.group))
        plan = plan_increment(self.group, votes, written=written)
        command = increment_command(self.group)
        refuses_each_one_less(self.chip, plan, command, (0x1C4, 0x99D))
        policies.execute(self.chip, plan, command)

    def put(self, rule: Rule, *, written: bool):
        epoch = nv.read_counter(self.chip, self.group.counter_index)
        roster = makers.roster(self.group, thresholds(rule), epoch)
        bound = bound_roster_write(self.group, roster, written=written)
        votes = self.custodians(bound, roster_ladders(self.group))
        plan = plan_roster_write(self.group, roster, votes, written=written)
        command = roster_write_command(self.group, roster)
        refuses_each_one_less(self.chip, plan, command, (0x1C4, 0x99D))
        policies.execute(self.chip, plan, command)
        return roster

    def sign(self, roster, rule: Rule) -> None:
        """With enough of every ladder, and with none of them left out; as a trial session says."""
        parent = objects.storage_parent(self.chip)
        made = objects.create_key(self.chip, parent, "p256", key_policy(self.group))
        key = objects.load_key(self.chip, parent, made.public, made.private)
        try:
            chosen = enough(rule, self.data)
            votes = approvals(bound_sign(key.public, DIGEST), SIGN.ladders(roster), rule, chosen)
            plan = plan_sign(self.group, roster, key.public, DIGEST, votes)
            end = next(i for i, s in enumerate(plan.steps) if isinstance(s, AuthorizeNv))
            held = trial(self.chip, plan, plan.steps[:end])
            assert held == roster_policy(self.group, roster)
            command = objects.sign_command(key, DIGEST)
            count = refuses_each_one_less(self.chip, plan, command, (0x1C4, 0x084))
            assert count == needed(roster.officers)
            signature = policies.execute(self.chip, plan, command)
            public_key_of(key.public).verify(
                objects.plain_signature(signature.signature),
                DIGEST,
                ec.ECDSA(utils.Prehashed(hashes.SHA256())),
            )
        finally:
            self.chip.flush(key.handle)


def check(chip, data) -> None:
    world = Joined(chip, any_rule(data, (3, 3), governs=True), data)
    try:
        for written in (False, True):
            if written:
                world.increment(written=True)
            rule = any_rule(data, (4, 3, 3))
            world.sign(world.put(rule, written=written), rule)
    finally:
        world.end()


on_one_chip = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_one_chip
@given(data=st.data())
def test_random_joined_ladders(chip, data):
    """Arithmetic and chip agree; every ladder is needed, and every approval on it."""
    check(chip, data)


@pytest.mark.long
@settings(on_one_chip, max_examples=100)
@given(data=st.data())
def test_many_random_joined_ladders(chip, data):
    check(chip, data)
