"""First use, people and epochs: what an approver's tool refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.approval.doubles import (
    NOW,
    Chip,
    World,
    card,
    csr_info,
    identity,
    root_tbs,
    threshold,
)
from tests.approval.looking import approve, founded, heads, look, refused

from tpmhsm.approval.approve import make_approval, make_denial
from tpmhsm.approval.cards import create_card, create_device_card, parse_card
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.group import RosterDocument, founders_of
from tpmhsm.policy.people import Member, Threshold
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.wire.attest import CertifyInfo, NvCertifyInfo
from tpmhsm.wire.constants import CC, ST, NvAttributes
from tpmhsm.wire.names import cp_hash, name_of_nv

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


def test_the_fingerprint_is_the_groups_and_no_rosters(world: World) -> None:
    """Who joins at a later roster compares the words that the others know."""
    words = look(world.founding(), world.memory()).group.fingerprint
    other = World()
    assert look(other.founding(), other.memory()).group.fingerprint != words
    world.roster = RosterDocument(world.group.id, 1, (threshold(1, "alice", "bob", "carol"),))
    assert look(world.founding(), world.memory()).group.fingerprint == words


def test_a_device_card_of_another_device_is_refused(world: World) -> None:
    refused(world.founding(device=Chip().card), world.memory(), "other-device")


@pytest.mark.parametrize("label", ["host", "prod"])
def test_devices_are_compared_by_their_attestation_key(world: World, label: str) -> None:
    """At first use; the label is the host's word, whether it is that of the card or another."""
    other = Chip().card
    keys = (other.ek_certificates, other.ek_public, other.ak_public)
    other = create_device_card(label, other.kind, *keys, created=NOW)
    memory = founded(world)
    for request in (world.founding(), world.certificate()):
        first = world.memory()
        assert "compare the words" in heads(world, request, first)["DEVICE"]
        first.devices = [other]
        assert "device's owner" in hint_of(request, first, "other-device")
        first.devices = [other, world.chip.card]
        assert "DEVICE" not in heads(world, request, first)
        memory.devices = [other]
        assert "DEVICE" not in heads(world, request, memory)  # pinned


def hint_of(request: Request, memory: InMemory, code: str) -> str:
    with pytest.raises(ApprovalRefusedError) as error:
        look(request, memory)
    assert error.value.code == code
    return error.value.hint


def test_a_known_key_under_another_name_needs_a_card_of_that_name() -> None:
    """Else root gives erin dan's name, and the screen says that dan stays."""
    world = World(threshold(2, "dan", "eve", "fay"))
    memory = founded(world)
    dan, eve, fay = world.officers.members

    def asked(*members: Member) -> Request:
        roster = RosterDocument(world.group.id, 2, (Threshold(2, members),))
        state = world.chip.state(world.group, world.roster, roster.encoded, 1)
        return world.request("roster", roster.encoded, state=state)

    swapped = asked(replace(dan, name="eve"), replace(eve, name="dan"), fay)
    refused(swapped, memory, "card-differs")
    renamed = asked(dan, eve, replace(fay, name="zed"))
    refused(renamed, memory, "cards-missing")
    memory.cards.append(parse_card(create_card("zed", identity("fay"))))
    found = heads(world, renamed, memory)
    assert "fay's key is called zed" in found["RENAMED"] and "NO CHANGE" not in found
    assert "NO CHANGE" in heads(world, asked(dan, eve, fay), memory)


def test_two_cards_of_one_name_are_flagged(world: World) -> None:
    memory = world.memory()
    assert "TWO CARDS" not in heads(world, world.certificate(), memory)
    memory.cards.append(parse_card(create_card("bob", identity("bob"))))  # the same key
    assert "TWO CARDS" not in heads(world, world.certificate(), memory)
    memory.cards.append(parse_card(create_card("bob", identity("mallory"))))
    assert "bob" in heads(world, world.certificate(), memory)["TWO CARDS"]


def test_a_denial_is_of_one_request(world: World) -> None:
    denial = make_denial(world.founding(), identity("bob"), "bob", "not today")
    checked = look(world.founding(id=8, denials=(denial,)), world.memory())
    assert checked.denied == () and "NOT COUNTED" in [f.head for f in checked.flags]


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
    assert {"NEW OFFICER", "REMOVED"} <= {flag.head for flag in checked.content.flags}


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


def test_a_lost_memory_changes_nothing_any_more(world: World) -> None:
    """Alice's home was lost: she trusts everybody's cards again, but made none here. Root kept a
    certification of an epoch before; no certified state can date a memory.
    """
    old_content, old_roster = root_tbs(world.key), world.roster
    stale = world.chip.state(world.group, old_roster, old_content, 1)
    world.roster = RosterDocument(world.group.id, 5, old_roster.officers)
    memory = founded_at(world, old_roster)
    memory.cards += [card("dave"), card("erin")]
    approve(world.change("alice", "bob", "dave", epoch=6, counter=5), memory, "alice")
    lost = InMemory(cards=[card(name) for name in (*world.people, "dave", "erin")])
    other = world.change("alice", "bob", "erin", epoch=6, counter=5)
    refused(other, memory, "two-rosters")
    refused(other, lost, "memory-lost")
    approve(world.certificate(old_content, roster=old_roster, state=stale), lost, "alice")
    refused(other, lost, "memory-lost")
    approve(world.certificate(), lost, "alice")
    refused(other, lost, "memory-lost")
    refused(world.change("alice", "bob", "erin", epoch=7, counter=6), lost, "memory-lost")


def founded_at(world: World, first: RosterDocument) -> InMemory:
    """Alice's memory of the founding with this roster."""
    memory = world.memory()
    approve(world.request("group", first.encoded), memory, "alice")
    return memory


def test_a_memory_with_nothing_of_the_group_says_so(world: World) -> None:
    """The own card dates it; that it was put back from a backup, only its owner can know."""
    memory = world.memory()
    memory.cards.append(card("dave"))
    change = world.change("alice", "bob", "dave")
    assert "restored from a backup" in heads(world, change, memory)["MEMORY"]
    approve(change, memory, "alice")
    assert "MEMORY" not in heads(world, change, memory)


def test_a_custodian_who_missed_the_founding_may_take_part(world: World) -> None:
    memory = world.memory("carol")
    memory.cards.append(card("dave"))
    assert look(world.change("alice", "bob", "dave"), memory, "carol").acts


def test_a_new_epoch_must_be_certified_before_officers_sign_in_it(world: World) -> None:
    memory = founded(world)
    memory.cards.append(card("dave"))
    world.roster = RosterDocument(world.group.id, 2, (threshold(2, "alice", "bob", "dave"),))
    content = root_tbs(world.key)
    refused(world.certificate(content, state=None), memory, "epoch-not-certified")
    state = world.chip.state(world.group, world.roster, content, 2)
    assert look(world.certificate(content, state=state), memory).acts
    stale = world.chip.state(world.group, world.roster, content, 3)
    refused(world.certificate(content, state=stale), memory, "wrong-epoch")


@pytest.mark.parametrize("kind", ["certificate", "csr", "data"])
def test_signatures_need_the_chips_word_always(world: World, kind: str) -> None:
    content = {"certificate": root_tbs(world.key), "csr": csr_info(world.key), "data": b"hello"}
    for memory in (world.memory(), founded(world)):
        request = world.request(kind, content[kind], state=None)
        refused(request, memory, "epoch-not-certified")
        assert look(world.request(kind, content[kind]), memory).acts


def test_officers_of_a_roster_are_known_only_by_the_chip_or_by_memory(world: World) -> None:
    """Root's own people in a roster of root's own, after the group was pinned."""
    memory = world.memory()
    approve(world.certificate(), memory, "alice")
    officers = (threshold(2, "alice", "yves", "zoe"),)
    for epoch in (1, 2):
        roster = RosterDocument(world.group.id, epoch, officers)
        request = world.certificate(roster=roster, state=None)
        refused(request, memory, "two-rosters" if epoch == 1 else "cards-missing")
    memory.rosters.clear()
    roster = RosterDocument(world.group.id, 1, officers)
    refused(world.certificate(roster=roster, state=None), memory, "cards-missing")
    memory.cards.clear()
    assert look(world.certificate(), memory).acts  # certified by the chip: needs no cards


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


@pytest.mark.parametrize(
    ("uses", "kind"), [(("budget",), "certificate"), (("sign",), "budget"), (("sign",), "decrypt")]
)
def test_a_use_that_the_roster_lacks(world: World, uses: tuple[str, ...], kind: str) -> None:
    """The chip would refuse what comes of it; the tool says so before anybody is asked."""
    request = world.certificate()
    world.roster = replace(world.roster, uses=uses)
    request = replace(request, kind=kind, roster=world.roster)
    said = refused(request, world.memory(), "use-not-in-roster")
    assert f"it allows {'budgets' if uses == ('budget',) else 'signatures'}" in said


def test_who_approved_an_overtaken_change_is_told_what_to_do(world: World) -> None:
    memory = founded(world)
    approve(world.change("alice", "bob", "dave"), with_cards(memory, "dave"), "alice")
    with pytest.raises(ApprovalRefusedError) as waiting:
        look(world.certificate(), memory)
    assert waiting.value.code == "lower-epoch"
    assert "change to epoch 2 and it still waits, the others finish it" in waiting.value.hint
    with pytest.raises(ApprovalRefusedError) as overtaken:
        look(world.change("alice", "bob", "erin"), with_cards(memory, "erin"))
    assert overtaken.value.code == "two-rosters"
    assert "from epoch 3 on you approve again" in overtaken.value.hint


def with_cards(memory: InMemory, *names: str) -> InMemory:
    memory.cards += [card(name) for name in names]
    return memory
