"""Budgets in the chip: as many signatures as were granted and no more, whatever happens."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
from tests.policy import makers
from tests.tpm.quorums import World
from tests.tpm.test_policies import check, refused

from tpmhsm.errors import ChipRefusedError, UsageError
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.budgets import Counted, Grant, budget_auth
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.plan import Officers, Spend, plan_use
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.tree import BUDGET, roster_name
from tpmhsm.tpm import budgets, objects, policies, software
from tpmhsm.tpm.device import open_device
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


def test_the_budget_of_two_keys_is_two_budgets(till, chip):
    other = Till.make(chip, index=INDEX + 1, world=till.world)
    till.first(1)
    with refused(RC.AUTH_UNAVAILABLE, "PolicySecret"):
        other.sign()
    till.sign()


def test_documents_say_which_index_counts(till):
    document = format_document(till.policy)
    assert f'[budget]\n"a" = "0x{INDEX:08x}"' in document
    assert read_policy(document) == till.policy
    assert read_policy(document).digest == till.policy.digest
    for damaged in (
        document.replace("0x01800040", "0x02800040"),
        document.replace("0x01800040", "0x1800040"),
        document.replace('[budget]\n"a"', '[budget]\n"b"'),
        document.replace("[budget]", "[budgets]"),
    ):
        with pytest.raises(UsageError):
            read_policy(damaged)
    with pytest.raises(UsageError) as caught:
        _ = replace(till.policy, budgets={}).digest
    assert caught.value.code == "policy-unknown-budget"


def test_any_of_quorum_and_budget(chip):
    till = Till.make(chip, "any(quorum(a), budget(a))")
    by_budget, by_people = till.policy.alternatives
    till.first(1)
    assert till.sign(by_budget).commands == 5  # one PolicyOR more
    with refused(RC.AUTH_UNAVAILABLE, "PolicySecret"):
        till.sign(by_budget)
    till.sign(by_people)
    assert till.counted == Counted(1, 1)


# --- whatever happens -----------------------------------------------------------------------------


@pytest.fixture
def counter(software_home: Path) -> Iterator[Till]:
    """A till that outlives conversations: give it a chip with `at`."""
    with open_device("software", software_home).transaction() as chip:
        till = Till.make(chip)
    yield till


def at(till, chip):
    return replace(till, chip=chip, world=replace(till.world, chip=chip))


def tries(till, device, times):
    """How many of these signatures the chip makes."""
    made = 0
    with device.transaction() as chip:
        for _ in range(times):
            with suppress(ChipRefusedError):
                at(till, chip).sign()
                made += 1
    return made


def test_five_across_resets(counter, software_home):
    device, directory = open_device("software", software_home), software.directory_of(software_home)
    with device.transaction() as chip:
        at(counter, chip).first(5)
    made = tries(counter, device, 2)
    software.stop(directory)  # in good order
    made += tries(counter, device, 1)
    os.kill(software.state(directory).swtpm, signal.SIGKILL)
    made += tries(counter, device, 9)
    assert made == 5
    os.kill(software.state(directory).swtpm, signal.SIGKILL)
    assert tries(counter, device, 1) == 0
    with device.transaction() as chip:
        at(counter, chip).grant(6)
    assert tries(counter, device, 3) == 1


def signing(till, home, made):
    """In a process of its own: sign until the chip refuses, a byte for every signature."""
    if child := os.fork():
        return child
    status = 1
    try:
        log = os.open(made, os.O_WRONLY | os.O_APPEND)
        with open_device("software", home).transaction() as chip:
            while True:
                at(till, chip).sign()
                os.write(log, b".")
    except ChipRefusedError:
        status = 0
    finally:
        os._exit(status)


def killed(till, home, made, dice):
    """Kill the signing process, or swtpm under it, at any moment."""
    child = signing(till, home, made)
    time.sleep(dice.uniform(0.02, 0.25))
    directory = software.directory_of(home)
    victim = dice.choice((child, software.state(directory).swtpm or child))
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.long)])
def test_never_more_across_kills(counter, software_home, tmp_path, rounds):
    """A unit may be used up without a signature, never the other way round."""
    dice, made, total = random.Random(rounds), tmp_path / "made", 40 * rounds
    made.touch()
    device = open_device("software", software_home)
    with device.transaction() as chip:
        at(counter, chip).first(total)
    for _ in range(rounds):
        killed(counter, software_home, made, dice)
        with device.transaction() as chip:
            found = at(counter, chip).counted
        signed = made.stat().st_size
        assert signed <= found.used <= min(total, signed + rounds)
    _, status = os.waitpid(signing(counter, software_home, made), 0)
    assert status == 0
    signed = made.stat().st_size
    assert total - rounds <= signed <= total
    with device.transaction() as chip:
        assert at(counter, chip).counted == Counted(total, total)
