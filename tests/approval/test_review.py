"""What an approver's tool refuses, and what it lets a person see."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import (
    NOW,
    Chip,
    World,
    builder,
    card,
    csr_info,
    ecc_public,
    identity,
    leaf_tbs,
    root_tbs,
    rsa_public,
    tbs_of,
    threshold,
)

from tpmhsm.approval.acts import acts_of
from tpmhsm.approval.approve import make_approval, make_denial
from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.evidence import QUORUM_KEY_ATTRIBUTES
from tpmhsm.approval.memory import Certified, InMemory
from tpmhsm.approval.request import Claims, KeyPart, Request, parse_request
from tpmhsm.approval.review import Review, observe, review
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.group import RosterDocument, founders_of
from tpmhsm.policy.tree import counter_nv, key_policy, roster_content, roster_nv
from tpmhsm.wire.attest import CertifyInfo, NvCertifyInfo
from tpmhsm.wire.constants import ALG, CC, CURVE, ST, NvAttributes, ObjectAttributes
from tpmhsm.wire.names import cp_hash, name_of_nv, name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import (
    AsymScheme,
    EccPoint,
    EccSignature,
    RsaSignature,
    SchemeHash,
    Signature,
)


def look(
    request: Request, memory: InMemory | None = None, who: str = "alice", **options: object
) -> Review:
    """Review a request as it comes out of its file."""
    seen = parse_request(request.data)
    now = options.get("now", NOW + timedelta(hours=1))
    name = options.get("name", who)
    return review(seen, memory or InMemory(), identity(who), name, now)  # type: ignore[arg-type]


def refused(request: Request, memory: InMemory, code: str, who: str = "alice", **o: object) -> str:
    with pytest.raises(ApprovalRefusedError) as error:
        look(request, memory, who, **o)
    assert error.value.code == code, error.value.message
    return error.value.message


def approve(request: Request, memory: InMemory, who: str) -> Request:
    """Let somebody approve, remember it, and return the request with the approval."""
    checked = look(request, memory, who)
    approval = make_approval(checked, identity(who))
    memory.keep(checked.entries)
    return replace(request, approvals=(*request.approvals, approval))


def founded(world: World, who: str = "alice") -> InMemory:
    memory = world.memory(who)
    approve(world.founding(), memory, who)
    return memory


# ── first use ────────────────────────────────────────────────────────────────────────────────────


def test_a_founding_is_three_commands_bound_to_unwritten_and_written_names(world: World) -> None:
    checked = look(world.founding(), world.memory())
    group = world.group
    unwritten = name_of_nv(counter_nv(group))
    written = name_of_nv(counter_nv(group, written=True))
    roster = name_of_nv(roster_nv(group))
    content = roster_content(group, world.roster)
    expected = [
        cp_hash(CC.NV_Increment, (unwritten, unwritten), b""),
        cp_hash(CC.NV_Increment, (written, written), b""),
        cp_hash(CC.NV_Write, (roster, roster), b"\0\x4a" + content + b"\0\0"),
    ]
    assert [act.cp_hash for act in checked.acts] == expected
    assert len({act.policy_ref for act in checked.acts}) == 2
    assert checked.first_use and len(checked.group.fingerprint) == 8


def test_without_the_members_cards_nothing_is_approved(world: World) -> None:
    memory = InMemory(own=[card("alice")])
    with pytest.raises(ApprovalRefusedError) as error:
        look(world.founding(), memory)
    assert error.value.code == "cards-missing"
    assert error.value.details["missing"] == ["bob", "carol"]
    assert error.value.hint.endswith("tpmhsm trust add bob.card carol.card")


def test_cards_that_travelled_in_the_request_prove_nothing(world: World) -> None:
    cards = tuple(card(name) for name in world.people)
    refused(world.founding(cards=cards), InMemory(own=[card("alice")]), "cards-missing")


def test_a_founding_officers_card_is_needed_too() -> None:
    world = World(threshold(2, "alice", "bob", "dave"))
    memory = InMemory(cards=[card("bob"), card("carol")], own=[card("alice")])
    message = refused(world.founding(), memory, "cards-missing")
    assert "dave" in message and "bob" not in message


def test_a_substituted_key_is_seen(world: World) -> None:
    """Root puts its own key under bob's name."""
    memory = world.memory()
    memory.cards = [card("carol"), parse_card(create_card("bob", identity("mallory")))]
    refused(world.founding(), memory, "card-differs")


def test_another_contribution_is_seen(world: World) -> None:
    """The host chose a 'random' contribution for bob."""
    memory = world.memory()
    memory.cards = [card("carol"), parse_card(create_card("bob", identity("bob")))]
    refused(world.founding(), memory, "card-differs")


def test_a_founder_nobody_knows_is_seen(world: World) -> None:
    world.group = replace(
        world.group, founders=founders_of([*world.group.founders, bytes(range(32))])
    )
    world.roster = RosterDocument(world.group.id, 1, world.roster.officers)
    refused(world.founding(), world.memory(), "founders-differ")


def test_an_officers_contribution_must_be_in_the_id() -> None:
    world = World(threshold(2, "alice", "bob", "dave"))
    world.group = replace(
        world.group, founders=founders_of(card(n).contribution for n in world.people)
    )
    world.roster = RosterDocument(world.group.id, 1, (world.officers,))
    refused(world.founding(), world.memory(), "founders-differ")


def test_a_pinned_group_needs_no_cards_any_more(world: World) -> None:
    memory = founded(world)
    memory.cards.clear()
    assert not look(world.certificate(), memory).first_use


def test_a_group_with_another_id_is_first_use_again(world: World) -> None:
    memory = founded(world)
    memory.cards.clear()
    world.group = replace(world.group, nonce=bytes(32))
    world.roster = RosterDocument(world.group.id, 1, (world.officers,))
    refused(world.certificate(), memory, "cards-missing")


def test_the_fingerprint_changes_with_everything(world: World) -> None:
    words = look(world.founding(), world.memory()).group.fingerprint
    other = World()
    assert look(other.founding(), other.memory()).group.fingerprint != words
    world.roster = RosterDocument(world.group.id, 1, (threshold(1, "alice", "bob", "carol"),))
    assert look(world.founding(), world.memory()).group.fingerprint != words


def test_a_device_card_of_another_device_is_refused(world: World) -> None:
    refused(world.founding(device=Chip().card), world.memory(), "other-device")


def test_a_trusted_device_card_is_compared(world: World) -> None:
    memory = world.memory()
    memory.devices = [Chip().card]
    assert "DEVICE" in [f.head for f in look(world.founding(), memory).flags]
    memory.devices = [world.chip.card]
    checked = look(world.founding(), memory)
    assert "DEVICE" not in [f.head for f in checked.flags]


# ── who and when ─────────────────────────────────────────────────────────────────────────────────


def test_strangers_and_impostors_are_refused(world: World) -> None:
    memory = world.memory()
    refused(world.founding(), memory, "not-a-member", "mallory")
    assert "another key" in refused(
        world.founding(), memory, "not-a-member", "mallory", name="alice"
    )
    assert "bob's key" in refused(world.founding(), memory, "not-a-member", "bob", name="alice")
    assert look(world.founding(), memory, "alice", name="").approver.name == "alice"


def test_a_custodian_is_no_officer() -> None:
    world = World(threshold(2, "bob", "carol", "dave"))
    refused(world.certificate(), world.memory("alice"), "not-a-member")
    assert look(world.certificate(), world.memory("dave"), "dave").acts


def test_expired_requests_are_refused(world: World) -> None:
    request = world.founding()
    refused(request, world.memory(), "expired", now=request.expires)
    assert look(request, world.memory(), now=request.expires - timedelta(seconds=1))


def test_approvals_are_counted_once_and_only_if_they_hold(world: World) -> None:
    request = approve(world.founding(), world.memory("bob"), "bob")
    checked = look(request, world.memory())
    assert checked.approved == ("bob",) and checked.completes
    twice = replace(request, approvals=request.approvals * 2)
    assert look(twice, world.memory()).approved == ("bob",)
    mine = look(request, world.memory("bob"), "bob")
    assert mine.already and not mine.completes and mine.approved == ()
    stolen = replace(request.approvals[0], approver="carol")
    checked = look(replace(request, approvals=(stolen,)), world.memory())
    assert checked.approved == () and "NOT COUNTED" in [f.head for f in checked.flags]


def test_denials_are_shown(world: World) -> None:
    denial = make_denial(world.founding(), identity("bob"), "bob", "not today")
    checked = look(world.founding(denials=(denial,)), world.memory())
    assert checked.denied == (("bob", "not today"),)
    other = make_denial(world.certificate(), identity("bob"), "bob", "not today")
    checked = look(world.founding(denials=(other,)), world.memory())
    assert checked.denied == () and "NOT COUNTED" in [f.head for f in checked.flags]


def test_a_review_cannot_be_made_by_hand(world: World) -> None:
    checked = look(world.founding(), world.memory())
    forged = replace(checked, seal=None)
    with pytest.raises(UsageError):
        make_approval(forged, identity("alice"))
    with pytest.raises(ApprovalRefusedError):
        make_approval(checked, identity("bob"))


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_one_increment_and_one_write_of_written_indices(world: World) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    request = world.change("alice", "bob", "dave")
    checked = look(request, memory)
    asked = parse_request(request.data).asked_roster
    counter = name_of_nv(counter_nv(world.group, written=True))
    index = name_of_nv(roster_nv(world.group, written=True))
    content = roster_content(world.group, asked)
    assert [act.cp_hash for act in checked.acts] == [
        cp_hash(CC.NV_Increment, (counter, counter), b""),
        cp_hash(CC.NV_Write, (index, index), b"\0\x4a" + content + b"\0\0"),
    ]
    heads = {flag.head for flag in checked.content.flags}
    assert {"NEW OFFICER", "REMOVED"} <= heads


def test_a_new_officers_card_must_come_from_outside(world: World) -> None:
    refused(world.change("alice", "bob", "dave"), founded(world), "cards-missing")


def test_two_rosters_for_one_epoch_are_refused(world: World) -> None:
    memory = founded(world)
    memory.cards += [card("dave"), card("erin")]
    first = world.change("alice", "bob", "dave")
    approve(first, memory, "alice")
    refused(world.change("alice", "bob", "erin"), memory, "two-rosters")
    assert look(first, memory).acts  # the same one again is fine


def test_only_the_certified_epoch_plus_one(world: World) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    for epoch, counter in ((3, 1), (2, 2), (5, 1), (1, 1)):
        request = world.change("alice", "bob", "dave", epoch=epoch, counter=counter)
        with pytest.raises(ApprovalRefusedError):
            look(request, memory)
    refused(world.change("alice", "bob", "dave", epoch=3), memory, "wrong-epoch")
    passed = world.change("alice", "bob", "dave", epoch=4, counter=3)  # root replayed increments
    assert "EPOCH" in [f.head for f in look(passed, memory).flags]


def test_a_change_without_certification_is_refused(world: World) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    refused(world.change("alice", "bob", "dave", state=None), memory, "state")


def test_lower_epochs_are_refused(world: World) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    approve(world.change("alice", "bob", "dave"), memory, "alice")
    refused(world.certificate(), memory, "lower-epoch")
    refused(world.change("alice", "bob", "carol", epoch=1, counter=0), memory, "two-rosters")


def test_a_change_below_the_highest_known_epoch_is_refused(world: World) -> None:
    """Alice approved epoch 5; the host shows certifications from before."""
    memory = founded(world)
    memory.cards.append(card("dave"))
    approve(world.change("alice", "bob", "dave", epoch=5, counter=4), memory, "alice")
    refused(world.change("alice", "bob", "dave", epoch=3, counter=2), memory, "lower-epoch")


def test_a_founding_is_not_repeated_with_another_roster(world: World) -> None:
    memory = founded(world)
    for epoch in (1, 2):
        roster = RosterDocument(world.group.id, epoch, (threshold(1, "alice", "bob", "carol"),))
        refused(world.request("group", roster.encoded), memory, "two-rosters")


def test_a_lost_memory_abstains_for_one_epoch(world: World) -> None:
    """Alice's home was lost: she trusts everybody's cards again, but made none here."""
    lost = InMemory(cards=[card(name) for name in (*world.people, "dave", "erin")])
    change = world.change("alice", "bob", "dave")
    refused(change, lost, "memory-lost")
    lost.keep(observe(parse_request(change.data), lost, NOW))
    refused(change, lost, "memory-lost")
    old, world.roster = world.roster, parse_request(change.data).asked_roster
    state = world.chip.state(world.group, world.roster, b"x", 2)
    assert old.epoch == 1 and state
    later = world.change("alice", "bob", "erin", epoch=3, counter=2)
    assert look(later, lost).acts


def test_a_custodian_who_missed_the_founding_may_take_part(world: World) -> None:
    memory = world.memory("carol")
    memory.cards.append(card("dave"))
    assert look(world.change("alice", "bob", "dave"), memory, "carol").acts


def test_observing_needs_the_chips_word(world: World) -> None:
    memory = world.memory()
    with pytest.raises(ApprovalRefusedError):
        observe(world.certificate(), memory, NOW)
    content = root_tbs(world.key)
    state = world.chip.state(world.group, world.roster, content, 1)
    entries = observe(world.certificate(content, state=state), memory, NOW)
    assert [e.epoch for e in entries.epochs] == [1]


def test_a_new_epoch_must_be_certified_before_officers_sign_in_it(world: World) -> None:
    memory = founded(world)
    world.roster = RosterDocument(world.group.id, 2, (threshold(2, "alice", "bob", "dave"),))
    content = root_tbs(world.key)
    refused(world.certificate(content), memory, "epoch-not-certified")
    state = world.chip.state(world.group, world.roster, content, 2)
    assert look(world.certificate(content, state=state), memory).acts
    stale = world.chip.state(world.group, world.roster, content, 3)
    refused(world.certificate(content, state=stale), memory, "wrong-epoch")


def test_another_roster_for_a_known_epoch_is_refused_when_signing(world: World) -> None:
    memory = founded(world)
    world.roster = RosterDocument(world.group.id, 1, (threshold(1, "alice", "bob", "carol"),))
    refused(world.certificate(), memory, "two-rosters")


def test_an_ordinary_index_posing_as_the_counter_is_refused(world: World) -> None:
    """Root defines an ordinary index with the counter's policy, and sets it back as it likes."""
    memory = founded(world)
    memory.cards.append(card("dave"))
    request = world.change("alice", "bob", "dave")
    assert request.state is not None
    public = counter_nv(world.group, written=True)
    ordinary = public.replace(attributes=public.attributes & ~0xF0)
    assert ordinary.attributes & NvAttributes.WRITTEN
    info = NvCertifyInfo(name_of_nv(ordinary), 0, (1).to_bytes(8, "big"))
    attest, signature = world.chip.attest(ST.ATTEST_NV, info, request.digest)
    state = replace(request.state, counter_attest=attest, counter_signature=signature)
    message = refused(replace(request, state=state), memory, "state")
    assert "not this group's epoch counter" in message


@pytest.mark.parametrize(
    "fault", ["nonce", "signer", "part", "roster", "kind", "short", "swapped", "junk"]
)
def test_certifications_that_do_not_hold(world: World, fault: str) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    request = world.change("alice", "bob", "dave")
    good = request.state
    assert good is not None
    name = name_of_nv(counter_nv(world.group, written=True))
    one = (1).to_bytes(8, "big")
    chip = world.chip
    made = {
        "nonce": lambda: chip.attest(ST.ATTEST_NV, NvCertifyInfo(name, 0, one), bytes(32)),
        "signer": lambda: Chip().attest(ST.ATTEST_NV, NvCertifyInfo(name, 0, one), request.digest),
        "part": lambda: chip.attest(ST.ATTEST_NV, NvCertifyInfo(name, 4, one), request.digest),
        "short": lambda: chip.attest(ST.ATTEST_NV, NvCertifyInfo(name, 0, b"\1"), request.digest),
        "kind": lambda: chip.attest(ST.ATTEST_CERTIFY, CertifyInfo(name, name), request.digest),
        "swapped": lambda: (good.roster_attest, good.roster_signature),
        "junk": lambda: (b"junk", chip.sign(b"junk")),
    }
    if fault == "roster":
        other = RosterDocument(world.group.id, 1, (threshold(1, "alice", "bob", "carol"),))
        state = chip.state(world.group, other, request.content, 1)
    else:
        attest, signature = made[fault]()
        state = replace(good, counter_attest=attest, counter_signature=signature)
    with pytest.raises((ApprovalRefusedError, ParseError)):
        look(replace(request, state=state), memory)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_signature_is_bound_to_the_key_and_the_very_bytes(world: World) -> None:
    memory = founded(world)
    content = root_tbs(world.key)
    (act,) = look(world.certificate(content), memory).acts
    name = name_of_public(world.key_public(key_policy(world.group)))
    parameters = b"\0\x20" + sha256(content).digest() + bytes.fromhex("0018000b8024400000070000")
    assert act.cp_hash == cp_hash(CC.Sign, (name,), parameters)
    assert act.preimage == bytes(4) + act.cp_hash + act.policy_ref


def test_a_key_is_pinned_once_and_then_known(world: World) -> None:
    memory = founded(world)
    first = look(world.certificate(), memory)
    assert "NEW" in first.key_words
    memory.keep(first.entries)
    part = replace(world.key_part(), attest=b"", signature=b"")
    again = look(world.certificate(key=part), memory)
    assert "PINNED" in again.key_words and again.entries.key is None
    other = look(world.certificate(key=replace(part, label="test")), memory)
    assert "KEY" in [f.head for f in other.flags]
    assert other.entries.key is None


def test_another_key_under_a_known_label_is_flagged(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    world.key = ec.generate_private_key(ec.SECP256R1())
    assert "OTHER KEY" in [f.head for f in look(world.certificate(), memory).flags]


@pytest.mark.parametrize("missing", [b"", b"\0" * 20])
def test_a_new_key_needs_its_birth_certified(world: World, missing: bytes) -> None:
    memory = founded(world)
    part = replace(world.key_part(), attest=missing)
    with pytest.raises((ApprovalRefusedError, ParseError)):
        look(world.certificate(key=part), memory)


def test_evidence_by_another_chip_or_of_another_key_is_refused(world: World) -> None:
    memory = founded(world)
    part = world.key_part()
    foreign = Chip().creation(part.public)
    refused(
        world.certificate(key=replace(part, attest=foreign[0], signature=foreign[1])),
        memory,
        "key-evidence",
    )
    other = ecc_public(
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        QUORUM_KEY_ATTRIBUTES,
        key_policy(world.group),
    )
    refused(world.certificate(key=replace(part, public=other)), memory, "key-evidence")


@pytest.mark.parametrize("fault", ["rsa", "null", "sha384", "flipped", "junk"])
def test_attestations_with_other_signatures_are_refused(world: World, fault: str) -> None:
    from tpmhsm.wire.codec import decode, encode

    part = world.key_part()
    good = decode(Signature, part.signature).signature
    assert isinstance(good, EccSignature)
    signature = {
        "rsa": lambda: encode(Signature(ALG.RSASSA, RsaSignature(ALG.SHA256, good.r + good.s))),
        "null": lambda: encode(Signature(ALG.NULL, None)),
        "sha384": lambda: encode(Signature(ALG.ECDSA, good.replace(hash_alg=ALG.SHA384))),
        "flipped": lambda: part.signature[:-1] + bytes([part.signature[-1] ^ 1]),
        "junk": lambda: b"junk",
    }[fault]()
    with pytest.raises((ApprovalRefusedError, ParseError)):
        look(world.certificate(key=replace(part, signature=signature)), founded(world))


A = ObjectAttributes


@pytest.mark.parametrize(
    "attributes",
    [
        QUORUM_KEY_ATTRIBUTES | A.USER_WITH_AUTH,
        QUORUM_KEY_ATTRIBUTES | A.DECRYPT,
        QUORUM_KEY_ATTRIBUTES | A.RESTRICTED,
        QUORUM_KEY_ATTRIBUTES & ~A.FIXED_TPM,
        QUORUM_KEY_ATTRIBUTES & ~A.FIXED_PARENT,
        QUORUM_KEY_ATTRIBUTES & ~A.SENSITIVE_DATA_ORIGIN,
        QUORUM_KEY_ATTRIBUTES & ~A.ADMIN_WITH_POLICY,
        QUORUM_KEY_ATTRIBUTES & ~A.NO_DA,
    ],
)
def test_keys_with_other_attributes_are_refused(world: World, attributes: int) -> None:
    public = ecc_public(world.key.public_key(), attributes, key_policy(world.group))
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    refused(world.certificate(key=part), founded(world), "key-evidence")


def test_keys_with_other_policies_are_refused(world: World) -> None:
    for policy in (b"", bytes(32), key_policy(World().group)):
        part = world.key_part(policy=policy)
        refused(world.certificate(key=part), founded(world), "key-evidence")


def test_keys_without_a_fixed_scheme_are_refused(world: World) -> None:
    from tpmhsm.wire.codec import decode, encode

    area = decode(Public, world.key_public(key_policy(world.group)))
    assert isinstance(area.parameters, EccParms)
    free = area.replace(parameters=area.parameters.replace(scheme=AsymScheme(ALG.NULL)))
    public = encode(free)
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    with pytest.raises(ParseError, match="scheme"):
        look(world.certificate(key=part), founded(world))


@pytest.mark.parametrize("fault", ["sha1", "off the curve", "curve", "name"])
def test_keys_of_other_shapes_are_refused(world: World, fault: str) -> None:
    from tpmhsm.wire.codec import decode, encode

    area = decode(Public, world.key_public(key_policy(world.group)))
    parameters = area.parameters
    assert isinstance(parameters, EccParms)
    changed = {
        "sha1": lambda: area.replace(
            parameters=parameters.replace(scheme=AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA1)))
        ),
        "off the curve": lambda: area.replace(unique=EccPoint(bytes(32), bytes(32))),
        "curve": lambda: area.replace(parameters=parameters.replace(curve=CURVE.BN_P256)),
        "name": lambda: area.replace(name_alg=ALG.SHA384),
    }[fault]()
    public = encode(changed)
    part = KeyPart("root", public, "quorum(officers)", *world.chip.creation(public))
    with pytest.raises((ParseError, ApprovalRefusedError)):
        look(world.certificate(key=part), founded(world))


def test_rsa_and_p384_keys_sign_with_their_own_scheme_and_hash(world: World) -> None:
    memory = founded(world)
    policy = key_policy(world.group)
    p384 = ec.generate_private_key(ec.SECP384R1())
    public = ecc_public(p384.public_key(), QUORUM_KEY_ATTRIBUTES, policy)
    part = KeyPart("big", public, "quorum(officers)", *world.chip.creation(public))
    made = builder(p384.public_key(), "Root", "Root")
    content = tbs_of(made, p384, hashes.SHA384())
    (act,) = look(world.certificate(content, key=part), memory).acts
    assert act.bound.parameters[:2] == b"\0\x30"
    refused(world.certificate(root_tbs(world.key), key=part), memory, "content-refused")
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    public = rsa_public(key.public_key(), QUORUM_KEY_ATTRIBUTES, policy)
    part = KeyPart("rsa", public, "quorum(officers)", *world.chip.creation(public))
    made = builder(key.public_key(), "Root", "Root")  # type: ignore[arg-type]
    content = tbs_of(made, key)  # type: ignore[arg-type]
    (act,) = look(world.certificate(content, key=part), memory).acts
    assert act.bound.parameters.endswith(bytes.fromhex("0014000b8024400000070000"))


# ── content ──────────────────────────────────────────────────────────────────────────────────────


def test_content_of_another_kind_is_refused(world: World) -> None:
    memory = founded(world)
    tbs, info = root_tbs(world.key), csr_info(world.key)
    refused(world.certificate(info), memory, "content-refused")
    refused(world.request("csr", tbs), memory, "content-refused")
    refused(world.certificate(b"hello"), memory, "content-refused")
    refused(world.certificate(tbs + b"\0"), memory, "content-refused")
    refused(world.certificate(tbs[:-1]), memory, "content-refused")
    assert look(world.request("csr", info), memory).acts


def test_a_csr_for_another_key_is_refused(world: World) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    refused(world.request("csr", csr_info(other)), founded(world), "content-refused")


def test_a_certificate_that_cannot_be_shown_in_full_is_refused(world: World) -> None:
    made = builder(world.key.public_key(), "Root", "Root").add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), b"\x05\x00"), critical=True
    )
    refused(world.certificate(tbs_of(made, world.key)), founded(world), "content-refused")


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(32)),
        b"\xff" * 48,
        b"a" * 0 + b"\x80" * 64,
        b"\x80" * 20,
        sha256(b"x").hexdigest().encode() + b"\n",
        bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32),
    ],
)
def test_bare_digests_are_refused_as_data(world: World, data: bytes) -> None:
    refused(world.request("data", data), founded(world), "bare-digest")


def test_structures_are_refused_as_data(world: World) -> None:
    memory = founded(world)
    tbs = root_tbs(world.key)
    refused(world.request("data", tbs), memory, "structure-as-data")
    refused(world.request("data", sha256(tbs).digest()), memory, "bare-digest")
    refused(world.request("data", csr_info(world.key)), memory, "structure-as-data")
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([]))
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .sign(world.key, hashes.SHA256())
    )
    refused(world.request("data", crl.tbs_certlist_bytes), memory, "structure-as-data")
    attest = world.chip.creation(world.key_part().public)[0]
    refused(world.request("data", attest), memory, "attestation-as-data")
    statement = b"tpmhsm/card/1\0" + b"{}" * 100
    refused(world.request("data", statement), memory, "statement-as-data")
    assert look(world.request("data", b"hello"), memory).acts
    assert look(world.request("data", bytes(range(33))), memory).acts


def test_an_authoritys_key_signs_no_data(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    refused(world.request("data", b"hello"), memory, "authority-key")


def heads(world: World, request: Request, memory: InMemory | None = None) -> dict[str, str]:
    checked = look(request, memory or founded(world))
    return {f.head: f.text for f in (*checked.flags, *checked.content.flags)}


def test_what_deserves_a_second_look_is_said(world: World) -> None:
    found = heads(world, world.certificate())
    assert found["CA:TRUE"] == "can issue any name"
    assert "NO PATHLEN" not in found  # a root's usual shape
    made = builder(ec.generate_private_key(ec.SECP256R1()).public_key(), "Sub", "Example Root")
    for length, head in ((None, "NO PATHLEN"), (2, "PATHLEN 2"), (0, "CA:TRUE")):
        sub = made.add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        assert head in heads(world, world.certificate(tbs_of(sub, world.key)))
    wild = leaf_tbs(world.key, [x509.DNSName("*.example.com")], days=4000)
    found = heads(
        world, world.certificate(wild, claims=Claims(profile="tls-server", profile_days=90))
    )
    assert "*.example.com" in found["WILDCARD"]
    assert found["4,000 DAYS"] == "profile says 90"
    found = heads(
        world, world.certificate(leaf_tbs(world.key, [x509.DNSName("a.example")], days=500))
    )
    assert "398" in found["500 DAYS"]


def test_hidden_and_look_alike_names_are_said(world: World) -> None:
    for subject, word in (
        ("www\u202egnp.exe", "\\u{202e}"),
        ("pаypal", "CYRILLIC"),  # a Cyrillic а
        ("раураӏ", "looks like Latin"),
    ):
        content = leaf_tbs(world.key, [x509.DNSName("a.example")], subject=subject)
        found = heads(world, world.certificate(content))
        assert word in found["LOOK-ALIKE"]
    content = leaf_tbs(world.key, [x509.DNSName("xn--80ak6aa92e.com")])
    assert "'аррӏе'" in heads(world, world.certificate(content))["LOOK-ALIKE"]


def test_unknown_critical_extensions_are_said(world: World) -> None:
    made = builder(world.key.public_key(), "Root", "Root").add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True
    )
    found = heads(world, world.certificate(tbs_of(made, world.key)))
    assert "1.2.3.4" in found["UNKNOWN"]
    checked = look(world.certificate(tbs_of(made, world.key)), founded(world))
    assert "1.2.3.4 (critical) = 0500" in [row.text for row in checked.content.rows]


def test_a_key_that_was_certified_before_is_said(world: World) -> None:
    memory = founded(world)
    content = root_tbs(world.key)
    checked = look(world.certificate(content), memory)
    memory.keep(checked.entries)
    made = builder(world.key.public_key(), "Other", "Other")
    found = heads(world, world.certificate(tbs_of(made, world.key)), memory)
    assert "Example Root" in found["KNOWN KEY"]


def test_an_issuer_name_that_is_not_the_keys_is_said(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    made = builder(ec.generate_private_key(ec.SECP256R1()).public_key(), "www", "Somebody Else")
    found = heads(world, world.certificate(tbs_of(made, world.key)), memory)
    assert "Example Root" in found["ISSUER"]


def test_the_hosts_lies_are_said(world: World) -> None:
    claims = Claims(
        texts={"subject": "CN=Harmless", "not_after": "2027-01-01T00:00:00Z", "digest": "00"}
    )
    checked = look(world.certificate(claims=claims), founded(world))
    said = [f.text for f in (*checked.flags, *checked.content.flags) if f.head == "CLAIM"]
    assert len(said) == 3
    part = replace(world.key_part(), policy="open")
    assert "open" in heads(world, world.certificate(key=part))["CLAIM"]


def test_differences_to_the_csr_are_said(world: World) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding
    from tests.approval.doubles import csr_der

    key = ec.generate_private_key(ec.SECP256R1())
    made = builder(key.public_key(), "www", "Example Root").add_extension(
        x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")]), False
    )
    content = tbs_of(made, world.key)
    csr = csr_der(key, "www", [x509.DNSName("a.example"), x509.DNSName("c.example")])
    found = heads(world, world.certificate(content, claims=Claims(csr=csr)))
    assert found["CSR"] == "+ dns:b.example, − dns:c.example"
    same = csr_der(key, "www", [x509.DNSName("a.example"), x509.DNSName("b.example")])
    assert "CSR" not in heads(world, world.certificate(content, claims=Claims(csr=same)))
    other = csr_der(world.key, "www", [])
    assert "KEY" in heads(world, world.certificate(content, claims=Claims(csr=other)))
    broken = csr[:-1] + bytes([csr[-1] ^ 1])
    assert "not hold" in heads(world, world.certificate(content, claims=Claims(csr=broken)))["CSR"]
    issuer = made.sign(world.key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert "ISSUER" in heads(world, world.certificate(content, claims=Claims(issuer=issuer)))


def test_what_is_remembered_is_what_was_approved(world: World) -> None:
    memory = founded(world)
    assert memory.epochs(world.group.id) == {0: world.group.id, 1: world.roster.hash}
    checked = look(world.certificate(), memory)
    assert memory.pinned_key(checked.acts[0].bound.names[0]) is None  # nothing before the approval
    memory.keep(checked.entries)
    assert memory.pinned_key(checked.acts[0].bound.names[0]) is not None
    (spki,) = {c.spki_sha256 for c in checked.entries.certified}
    assert memory.certified(spki) == [Certified(spki, "CN=Example Root,O=Example", True)]


def test_acts_of_other_groups_or_epochs_differ(world: World) -> None:
    other = World()
    other.key = world.key
    mine, theirs = acts_of(world.certificate())[0], acts_of(other.certificate())[0]
    assert mine.policy_ref != theirs.policy_ref
    world.roster = RosterDocument(world.group.id, 2, (world.officers,))
    assert acts_of(world.certificate())[0].policy_ref != mine.policy_ref
