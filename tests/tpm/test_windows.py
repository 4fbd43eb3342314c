"""Windows in the chip: what opening and using one takes, and that any quorum's tickets will do."""

from __future__ import annotations

import pytest
from tests.tpm.quorums import World
from tests.tpm.test_policies import DIGEST, check

from tpmhsm.errors import UsageError
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.plan import plan_use, quorum_policy
from tpmhsm.policy.tree import roster_name
from tpmhsm.tpm import objects, policies


@pytest.fixture
def world(chip):
    return World.make(chip)


def window_policy(world):
    name = world.group.name
    return KeyPolicy((Alternative(name, window=True),), {name: roster_name(world.group)})


def sign(world, key, opened, policy=None):
    policy = policy or window_policy(world)
    plan = plan_use(policy, policy.alternatives[0], key.public, DIGEST, opened)
    before = world.chip.commands
    answer = policies.execute(world.chip, plan, objects.sign_command(key, DIGEST))
    assert world.chip.commands - before == plan.commands
    check(key, DIGEST, objects.plain_signature(answer.signature))
    return plan.commands


def test_it_is_the_policy_of_quorum(world):
    assert window_policy(world).digest == quorum_policy(world.group).digest
    assert window_policy(world).text == f"window({world.group.name})"


@pytest.mark.parametrize(("who", "commands"), [((0, 1), 10), ((0, 2), 11), ((1, 2), 11)])
def test_two_of_three(world, who, commands):
    """Start, PolicyNV, CommandCode, NameHash, two tickets, PolicyORs where two ways meet, of which
    the roster's is the last, AuthorizeNV, CommandCode, Sign.
    """
    key = world.key()
    world.open(key)
    before = world.chip.commands
    opened = world.open(key, who)
    assert world.chip.commands - before == 1 + 2 * 3 + 1
    assert sign(world, key, opened) == commands
    for _ in range(20):
        sign(world, key, opened)
    sign(world, key, opened, quorum_policy(world.group))
    assert world.chip.leaks() == [key.handle]


def test_rsa_officers_and_keys(chip):
    world = World.make(chip, 2, (5, 6), kind="2048")
    key = world.key("rsa2048")
    sign(world, key, world.open(key))


def test_many_officers(chip):
    world = World.make(chip, 3, (0, 1, 2, 3, 4))
    key = world.key()
    sign(world, key, world.open(key, (0, 2, 4)))


def test_too_few_are_not_even_tried(world):
    key = world.key()
    world.open(key)
    before = world.chip.commands
    with pytest.raises(UsageError, match="1 of the 2 approvals"):
        world.open(key, (1,))
    assert world.chip.commands - before == 2  # the session, and its end
