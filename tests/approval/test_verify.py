"""What the host takes in: approvals that hold, and in words why others do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.approval.doubles import World, builder, identity, leaf_tbs, tbs_of, threshold
from tests.approval.looking import approve, founded, look

from tpmhsm.approval.acts import sign_ahash
from tpmhsm.approval.approve import make_approval, make_denial, verify_approval, verify_denial
from tpmhsm.approval.votes import is_approval, parse_approval, parse_denial
from tpmhsm.attest.statements import signing_key
from tpmhsm.errors import (
    ApprovalRefusedError,
    ParseError,
    TpmHsmError,
    UsageError,
    VerificationError,
)
from tpmhsm.policy.group import RosterDocument


def approval_of(world: World, request, who: str = "alice"):  # type: ignore[no-untyped-def]
    return make_approval(look(request, founded(world, who), who), identity(who))


def test_an_approval_file_holds_on_the_host(world: World) -> None:
    for request in (world.founding(), world.certificate(), world.request("data", b"hello")):
        memory = world.memory("bob") if request.kind == "group" else founded(world, "bob")
        data = make_approval(look(request, memory, "bob"), identity("bob")).data
        assert is_approval(data)
        verified = verify_approval(request, parse_approval(data))
        assert verified.member.name == "bob" and verified.index == 1
        assert len(verified.signatures) == (3 if request.kind == "group" else 1)


def test_an_rsa_approver_may_take_part() -> None:
    world = World(threshold(2, "alice", "rsa-ruth"))
    memory = world.memory("rsa-ruth")
    approval = make_approval(look(world.certificate(), memory, "rsa-ruth"), identity("rsa-ruth"))
    assert verify_approval(world.certificate(), parse_approval(approval.data)).index == 1


def failure(request, approval) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(VerificationError) as error:
        verify_approval(request, approval)
    return error.value.message


def test_other_bytes_are_named_by_what_differs(world: World) -> None:
    sans = [x509.DNSName("a.example")]
    key = identity("someone").public_key
    made = [builder(key, "www", "Example Root", days) for days in (90, 91)]
    one, two = (
        tbs_of(m.add_extension(x509.SubjectAlternativeName(sans), False), world.key) for m in made
    )
    approval = approval_of(world, world.certificate(one), "bob")
    message = failure(world.certificate(two), approval)
    assert message.startswith("bob approved other bytes, not_after differs: 2027-02-21")
    wide = leaf_tbs(world.key, [x509.DNSName("*.example")], subject="other")
    message = failure(world.certificate(wide), approval)
    assert "subject" in message and "names" in message and message.endswith("differ")


def test_what_the_file_says_of_itself_does_not_count(world: World) -> None:
    """The host edits the digest so that the file claims to fit."""
    approval = approval_of(world, world.request("data", b"harmless"))
    evil = world.request("data", b"evil")
    assert "other bytes" in failure(evil, approval)
    assert "did not approve" in failure(evil, replace(approval, digest=evil.digest))
    act = approval.signatures[0]
    from tpmhsm.approval.acts import acts_of

    (wanted,) = acts_of(evil)
    posing = replace(act, cp_hash=wanted.cp_hash)
    forged = replace(approval, digest=evil.digest, signatures=(posing,))
    assert "does not hold" in failure(evil, forged)


def test_other_keys_epochs_groups_and_people_are_named(world: World) -> None:
    request = world.certificate()
    approval = approval_of(world, request)
    assert "another group" in failure(World().certificate(request.content), approval)
    assert "not a data" in failure(world.request("data", request.content), approval)
    world.roster = RosterDocument(world.group.id, 2, (world.officers,))
    assert "epoch 1, the roster is of epoch 2" in failure(
        world.certificate(request.content), approval
    )
    world.roster = RosterDocument(world.group.id, 1, (threshold(2, "bob", "carol", "dave"),))
    assert "alice is not among the officers" in failure(
        world.certificate(request.content), approval
    )
    stolen = replace(approval, approver="bob")
    assert "the key is alice's" in failure(request, stolen)


def test_another_signing_key_is_named(world: World) -> None:
    request = world.request("data", b"hello")
    approval = approval_of(world, request)
    world.key = identity("other-key").private  # type: ignore[assignment]
    other = world.request("data", b"hello")
    assert other.key is not None and signing_key(other.key.public)
    assert "another key" in failure(other, approval)


def test_an_approval_that_misses_or_adds_an_act_is_refused(world: World) -> None:
    request = world.founding()
    approval = make_approval(look(request, world.memory()), identity("alice"))
    for count in range(3):
        short = replace(approval, signatures=approval.signatures[:count])
        assert "did not approve" in failure(request, short)
    long = replace(approval, signatures=(*approval.signatures, approval.signatures[0]))
    assert "more than this" in failure(request, long)


def test_one_persons_signature_is_not_anothers(world: World) -> None:
    request = world.founding()
    alice = make_approval(look(request, world.memory()), identity("alice"))
    bob = make_approval(look(request, world.memory("bob"), "bob"), identity("bob"))
    mixed = replace(bob, signatures=alice.signatures)
    assert "does not hold" in failure(request, mixed)


def test_sha1_and_foreign_shapes_are_refused(world: World) -> None:
    """The chip would verify SHA-1; neither the tool nor the host does."""
    request = world.request("data", b"hello")
    approval = approval_of(world, request)
    (one,) = approval.signatures
    assert one.signature[:4] == bytes.fromhex("0018000b")
    for head in ("00180004", "0014000b", "0018000c"):
        other = replace(one, signature=bytes.fromhex(head) + one.signature[4:])
        assert "does not hold" in failure(request, replace(approval, signatures=(other,)))


def test_denials_are_signed_and_bound(world: World) -> None:
    request = world.certificate()
    denial = make_denial(request, identity("bob"), "bob", "not ours \u202e")
    assert not is_approval(denial.data)
    again = parse_denial(denial.data)
    assert verify_denial(request, again).name == "bob"
    with pytest.raises(VerificationError):
        parse_denial(denial.data.replace(b"not ours", b"not mine"))
    with pytest.raises(VerificationError):
        verify_denial(world.founding(), again)
    with pytest.raises(VerificationError):
        make_denial(request, identity("mallory"), "mallory", "no")
    with pytest.raises(VerificationError):
        make_denial(request, identity("bob"), "alice", "no")
    for reason in ("", " ", "x" * 1001):
        with pytest.raises(UsageError):
            make_denial(request, identity("bob"), "bob", reason)


def test_a_key_that_is_not_on_the_ladder_signs_no_act(world: World) -> None:
    (act,) = look(world.certificate(), founded(world)).acts
    with pytest.raises(ApprovalRefusedError):
        sign_ahash(identity("mallory"), act)


def test_files_that_are_neither(world: World) -> None:
    with pytest.raises(ParseError):
        is_approval(world.founding().data)
    for data in (b"", b"{", b"[]", b'{"format":"tpmhsm/approval/1"}', b"\xff" * 20):
        for parse in (parse_approval, parse_denial):
            with pytest.raises(ParseError):
                parse(data)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_approval_never_counts_for_other_signatures(data: st.DataObject) -> None:
    """Any change of the file is refused, or leaves every signature exactly as it was."""
    request, original = prepared()
    raw = bytearray(original.data)
    place = data.draw(st.integers(0, len(raw) - 2))
    raw[place] ^= data.draw(st.integers(1, 127))
    try:
        found = verify_approval(request, parse_approval(bytes(raw)))
    except TpmHsmError:
        return
    expected = verify_approval(request, original)
    assert found == expected


_PREPARED: list = []


def prepared():  # type: ignore[no-untyped-def]
    if not _PREPARED:
        world = World()
        request = world.certificate()
        approval = approve(request, founded(world), "alice").approvals[0]
        _PREPARED.append((request, approval))
    return _PREPARED[0]
