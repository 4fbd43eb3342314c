"""Budgets in the chip: as many signatures as were granted and no more, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import pytest
from tests.policy import makers
from tests.tpm.quorums import World
from tests.tpm.test_policies import check, refused

from tpmhsm.errors import ChipRefusedError, UsageError
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.budgets import Counted, Grant, budget_auth
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.plan import Officers, Spend, plan_use
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import BUDGET, roster_name
from tpmhsm.tpm import budgets, objects, policies
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.constants import RC

DIGEST = sha256(b"to be signed").digest()
INDEX = 0x01800040
AUTH = budget_auth(b"a wrapped private part")


@dataclass
class Till:
    """A chip with a group (2 of 3) and a key whose policy has a budget of that group."""

    chip: object
    world: World
    policy: KeyPolicy
    made: object
    index: int

    @classmethod
    def make(cls, chip, text="budget(a)", index=INDEX, world=None):
        world = world or World.make(chip, name="a")
        roster = roster_name(world.group)
        policy = KeyPolicy(read_policy(text).alternatives, {"a": roster}, {}, {"a": index})
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", policy.digest)
        assert not budgets.make(chip, index, roster, AUTH)
        return cls(chip, world, policy, made, index)

    @property
    def roster(self):
        return roster_name(self.world.group)

    @property
    def name(self):
        return self.made.name

    def load(self):
        parent = objects.storage_parent(self.chip)
        return objects.load_key(self.chip, parent, self.made.public, self.made.private)

    def asked(self, total, nonce=b""):
        return Grant(self.world.group.id, self.name, self.index, total, nonce)

    def approve(self, grant, people=(0, 1), roster=None):
        """What officers of the group sign for a grant, on its ladder."""
        roster = roster or self.world.roster
        ladder = BUDGET.ladders(roster)[0]
        hashed = grant.bound(self.roster).cp_hash
        if grant.nonce:
            message = live_preimage(grant.nonce, 0, hashed, ladder.policy_ref)
        else:
            message = bytes(4) + hashed + ladder.policy_ref
        signed = {p: makers.tpmt_sign(makers.key(p), message) for p in people}
        return Officers(self.world.group, roster, signed)

    def first(self, total, people=(0, 1)):
        """The first grant, over the nonce of a live session."""
        session = start_policy(self.chip)
        grant = self.asked(total, session.nonce_tpm)
        officers = self.approve(grant, people)
        try:
            budgets.run_grant(self.chip, officers, grant, session)
        except ChipRefusedError:
            self.chip.flush(session.handle)
            raise
        return grant, officers

    def grant(self, total, people=(0, 1)):
        grant = self.asked(total)
        officers = self.approve(grant, people)
        budgets.run_grant(self.chip, officers, grant)
        return grant, officers

    def officers(self, key, people=(0, 1)):
        approvals = self.world.approvals(key, DIGEST, people)
        return Officers(self.world.group, self.world.roster, approvals)

    def plan(self, one=None, key=None, people=(0, 1)):
        one = one or self.policy.alternatives[0]
        officers = self.officers(key, people) if one.group else None
        public = key.public if key else self.made.public
        return plan_use(self.policy, one, public, DIGEST, officers, Spend(AUTH, "till", "a"))

    def sign(self, one=None, people=(0, 1)):
        """One signature, checked, with as many commands as are planned."""
        key = self.load()
        try:
            plan = self.plan(one, key, people)
            before = self.chip.commands
            answer = policies.execute(self.chip, plan, objects.sign_command(key, DIGEST))
            assert self.chip.commands - before == plan.commands
            check(key, DIGEST, objects.plain_signature(answer.signature))
        finally:
            self.chip.flush(key.handle)
        return plan

    @property
    def counted(self):
        return budgets.count(self.chip, self.index, self.roster)


@pytest.fixture
def till(chip):
    return Till.make(chip)


def test_a_budget_of_five_gives_five_signatures_and_no_sixth(till):
    with refused(RC.AUTH_UNAVAILABLE, "PolicySecret"):
        till.sign()  # nothing granted yet
    assert till.counted is None
    till.first(5)
    for used in range(5):
        assert till.counted == Counted(used, 5)
        till.sign()
    with refused(RC.AUTH_UNAVAILABLE, "PolicySecret") as caught:
        till.sign()
    assert "used up" in caught.value.message
    assert "tpmhsm key grant till N" in caught.value.hint
    till.grant(7)
    assert [till.counted.left, till.sign(), till.sign(), till.counted.left][::3] == [2, 0]
    with refused(RC.AUTH_UNAVAILABLE, "PolicySecret"):
        till.sign()


def test_a_signature_takes_four_commands(till):
    till.first(1)
    assert till.sign().commands == 4


def test_quorum_and_budget(chip):
    till = Till.make(chip, "all(quorum(a), budget(a))")
    till.first(3)
    quorum = Till.make(chip, "quorum(a)", world=till.world, index=INDEX + 1)
    assert till.sign().commands == quorum.sign().commands + 1
    assert till.counted == Counted(1, 3)
    with pytest.raises(UsageError):
        till.sign(people=(0,))
    assert till.counted == Counted(1, 3)
