"""Keys whose policy is more than a quorum: what an approver's tool recomputes, says and refuses."""

from __future__ import annotations

import pytest
from tests.approval.doubles import World, ecc_public
from tests.approval.looking import founded, look, refused
from tests.policy.test_normal import complete

from tpmhsm.approval.display import render
from tpmhsm.approval.request import KeyPart, parse_request
from tpmhsm.attest.statements import QUORUM_KEY_ATTRIBUTES
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.tree import roster_name
from tpmhsm.wire.constants import ObjectAttributes


@pytest.fixture
def world() -> World:
    return World()


def policy_of(world: World, text: str, **indices: bytes) -> KeyPolicy:
    """As a key's birth binds it; other groups have invented indices."""
    bound = complete(read_policy(text))
    rosters = {**bound.indices, **indices}
    if world.group.name in rosters:
        rosters[world.group.name] = roster_name(world.group)
    return KeyPolicy(bound.alternatives, {**rosters, **indices}, bound.measured)


def part(world: World, policy: KeyPolicy, said: str = "", attributes: int = 0) -> KeyPart:
    wanted = QUORUM_KEY_ATTRIBUTES
    if policy.has_pin:
        wanted &= ~ObjectAttributes.NO_DA
    public = ecc_public(world.key.public_key(), attributes or wanted, policy.digest)
    return KeyPart("root", public, said or format_document(policy), *world.chip.creation(public))


def heads(world: World, key: KeyPart) -> dict[str, str]:
    request = parse_request(world.certificate(key=key).data)
    return {flag.head: flag.text for flag in look(request, founded(world)).flags}


def test_what_is_demanded_besides(world: World) -> None:
    policy = policy_of(world, "all(quorum(officers), pin, pcr(sha256:0,7))")
    said = heads(world, part(world, policy))
    assert said["ALSO"] == (
        "the chip wants, besides your approvals: PCRs 0, 7 (sha256) as they were at the key's "
        "birth, and the PIN"
    )
    assert not {"WITHOUT YOU", "CLAIM"} & set(said)


def test_who_signs_without_them(world: World) -> None:
    """The screen has it too."""
    policy = policy_of(world, "any(quorum(officers), quorum(auditors), all(pin, pcr(sha256:0)))")
    request = world.certificate(key=part(world, policy))
    checked = look(request, founded(world))
    said = [flag.text for flag in checked.flags if flag.head == "WITHOUT YOU"]
    assert said == [
        "this key also signs by all(pcr(sha256:0), pin)",
        'this key also signs by quorum(auditors) (who is in "auditors" is not said here)',
    ]
    assert "! WITHOUT YOU" in render(checked)


def test_either_of_two_ways(world: World) -> None:
    policy = policy_of(world, "all(quorum(officers), any(pin, pcr(sha256:0)))")
    said = heads(world, part(world, policy))
    assert said["ALSO"].endswith("PCRs 0 (sha256) as they were at the key's birth or the PIN")


def test_a_plain_quorum_says_nothing_more(world: World) -> None:
    policy = policy_of(world, "quorum(officers)")
    for said in ("quorum(officers)", format_document(policy)):
        assert not {"ALSO", "WITHOUT YOU", "CLAIM"} & set(heads(world, part(world, policy, said)))


def test_a_plain_quorum_that_the_host_calls_more(world: World) -> None:
    """The key decides, not the host's words."""
    said = format_document(policy_of(world, "all(quorum(officers), pin)"))
    found = heads(world, part(world, policy_of(world, "quorum(officers)"), said))
    assert "CLAIM" in found
    assert "ALSO" not in found


ALL = "all(quorum(officers), pin)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALL, "quorum(officers)"),  # less is said than is so
        ("any(quorum(officers), pin)", ALL),  # more
        (ALL, "all(quorum(officers), pcr(sha256:7))"),  # something else, without values
        (ALL, "open"),
        (ALL, "nonsense"),
        (ALL, 'format = "tpmhsm/policy/1"\nany = [{}]'),
        ("all(quorum(others), pin)", ""),  # not of this group
    ],
)
def test_a_policy_that_is_not_as_the_host_says(world: World, text: str, said: str) -> None:
    policy = policy_of(world, text)
    if said == ALL:
        said = format_document(policy_of(world, ALL))
    refused(world.certificate(key=part(world, policy, said)), founded(world), "key-evidence")


def test_another_group_of_the_same_name(world: World) -> None:
    """The label is the group's, the roster index another's."""
    policy = policy_of(world, ALL, officers=b"\x00\x0b" + bytes(32))
    refused(world.certificate(key=part(world, policy)), founded(world), "key-evidence")


def test_other_values_than_were_measured(world: World) -> None:
    policy = policy_of(world, "all(quorum(officers), pcr(sha256:7))")
    other = KeyPolicy(policy.alternatives, policy.indices, {"sha256": {7: bytes(32)}})
    key = part(world, policy, format_document(other))
    refused(world.certificate(key=key), founded(world), "key-evidence")


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        (ALL, QUORUM_KEY_ATTRIBUTES),  # wrong PINs are not counted
        ("quorum(officers)", QUORUM_KEY_ATTRIBUTES & ~ObjectAttributes.NO_DA),
        (ALL, QUORUM_KEY_ATTRIBUTES & ~ObjectAttributes.NO_DA | ObjectAttributes.USER_WITH_AUTH),
        (
            ALL,
            QUORUM_KEY_ATTRIBUTES & ~ObjectAttributes.NO_DA & ~ObjectAttributes.ADMIN_WITH_POLICY,
        ),
    ],
)
def test_other_attributes(world: World, text: str, attributes: int) -> None:
    key = part(world, policy_of(world, text), attributes=attributes)
    refused(world.certificate(key=key), founded(world), "key-evidence")
