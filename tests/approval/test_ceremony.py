"""The file of a ceremony, and one person's sitting over it, without any chip."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.approval.doubles import NOW, World, identity, threshold

from tpmhsm.approval.ceremony import (
    Ceremony,
    is_ceremony,
    parse_ceremony,
    parse_ceremony_approval,
)
from tpmhsm.approval.display import render
from tpmhsm.approval.screen import width_of
from tpmhsm.approval.sitting import overview, review_ceremony
from tpmhsm.errors import ApprovalRefusedError, ParseError, TpmHsmError, UsageError

WORLD = World()
FOUNDING = WORLD.founding(id=1)
ROOT = WORLD.certificate(id=2, state=None)
FILE = Ceremony((FOUNDING, ROOT))


def test_it_is_read_as_it_was_written() -> None:
    again = parse_ceremony(FILE.data)
    assert again.data == FILE.data
    assert again.digest == FILE.digest
    assert is_ceremony(FILE.data)
    given_ = review_ceremony(FILE, WORLD.memory(), identity("alice"), "alice", NOW)
    votes = given_.sign(identity("alice"))
    assert parse_ceremony_approval(votes.data) == votes


def test_the_digest_is_of_what_is_asked_and_of_nothing_else() -> None:
    said = replace(ROOT, id=9, claims=replace(ROOT.claims, reason="another"))
    said = replace(said, expires=said.expires + timedelta(days=1))
    assert Ceremony((FOUNDING, said)).digest == FILE.digest
    for other in (
        Ceremony((FOUNDING,)),
        Ceremony((ROOT, FOUNDING)),
        Ceremony((FOUNDING, replace(ROOT, content=ROOT.content + b"\0"))),
        Ceremony((FOUNDING, replace(ROOT, roster=replace(WORLD.roster, epoch=2)))),
        Ceremony((FOUNDING, replace(ROOT, key=replace(WORLD.key_part(), public=b"x")))),
    ):
        assert other.digest != FILE.digest


@pytest.mark.parametrize("change", ["none", "twice", "more", "other"])
def test_what_is_no_ceremony_is_refused(change: str) -> None:
    document = json.loads(FILE.data)
    items = document["requests"]
    document["requests"] = {"none": [], "twice": [items[0]] * 2, "more": items * 9}.get(
        change, items
    )
    if change == "other":
        document["more"] = 1
    with pytest.raises(ParseError):
        parse_ceremony(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(UsageError):
        Ceremony(())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_with_other_bytes_never_fails_otherwise(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(FILE.data) - 1))
    changed = bytearray(FILE.data)
    changed[place] ^= data.draw(st.integers(1, 255))
    for parse in (parse_ceremony, parse_ceremony_approval):
        try:
            parse(bytes(changed))
        except TpmHsmError:
            continue


def test_each_act_is_reviewed_with_what_those_before_it_leave() -> None:
    memory = WORLD.memory()
    sitting = review_ceremony(FILE, memory, identity("alice"), "alice", NOW)
    first, second = sitting.reviews
    assert first.first_use
    assert not second.first_use  # the group is pinned by the first
    assert "NEW, evidence verified" in render(second)
    assert memory.groups == {}
    for entries in sitting.entries:
        memory.keep(entries)
    assert len(memory.groups) == len(memory.keys) == 1
    assert set(memory.rosters[WORLD.group.id]) == {0, 1}
    lines = overview(sitting).split("\n")
    assert max(map(width_of, lines)) <= 80
    assert lines[2] == 'Act 1     new group "officers": 2 of 3 (alice, bob, carol)'


def test_alone_the_second_act_is_refused() -> None:
    """Nothing but the founding in the same sitting stands for the chip's certified state."""
    from tpmhsm.approval.review import review

    with pytest.raises(ApprovalRefusedError) as caught:
        review(ROOT, WORLD.memory(), identity("alice"), "alice", NOW)
    assert caught.value.code == "epoch-not-certified"
    memory = WORLD.memory()
    memory.keep(review(FOUNDING, memory, identity("alice"), "alice", NOW).entries)
    with pytest.raises(ApprovalRefusedError) as caught:
        review(ROOT, memory, identity("alice"), "alice", NOW)
    assert caught.value.code == "epoch-not-certified"


def test_an_officer_sees_the_founding_and_signs_the_rest() -> None:
    world = World(threshold(2, "alice", "dave", "erin"))
    file = Ceremony((world.founding(id=1), world.certificate(id=2, state=None)))
    sitting = review_ceremony(file, world.memory("dave"), identity("dave"), "dave", NOW)
    assert [bool(one.acts) for one in sitting.reviews] == [False, True]
    shown = render(sitting.reviews[0])
    assert "Compare" in shown
    assert "nothing: its custodians decide this" in shown
    assert [one.request for one in sitting.sign(identity("dave")).approvals] == [2]
    assert "you see it, and sign nothing" in overview(sitting)
    with pytest.raises(ApprovalRefusedError) as caught:  # without everybody's card
        memory = replace(world.memory("dave"), cards=[])
        review_ceremony(file, memory, identity("dave"), "dave", NOW)
    assert caught.value.code == "cards-missing"


def test_a_custodian_alone_signs_the_founding() -> None:
    world = World(threshold(2, "alice", "dave", "erin"))
    file = Ceremony((world.founding(id=1), world.certificate(id=2, state=None)))
    sitting = review_ceremony(file, world.memory("bob"), identity("bob"), "bob", NOW)
    assert [one.request.id for one in sitting.reviews] == [1]
    assert [one.id for one in sitting.others] == [2]
    with pytest.raises(ApprovalRefusedError) as caught:
        review_ceremony(file, world.memory("mallory"), identity("mallory"), "mallory", NOW)
    assert caught.value.code == "not-a-member"


def test_what_was_not_shown_is_not_signed() -> None:
    """Another approval was made while the person was reading."""
    shown = review_ceremony(FILE, WORLD.memory(), identity("alice"), "alice", NOW)
    memory = WORLD.memory()
    other = replace(ROOT, content=ROOT.content.replace(b"Example Root", b"Another Root"))
    elsewhere = Ceremony((FOUNDING, other))
    for entries in review_ceremony(elsewhere, memory, identity("alice"), "alice", NOW).entries:
        memory.keep(entries)
    now = review_ceremony(FILE, memory, identity("alice"), "alice", NOW)
    with pytest.raises(ApprovalRefusedError) as caught:
        now.check_seen(shown)
    assert caught.value.code == "changed-since"


def test_a_founding_is_not_for_two_rosters() -> None:
    memory = WORLD.memory()
    other = replace(WORLD.roster, officers=(threshold(2, "alice", "bob"),))
    for entries in review_ceremony(FILE, memory, identity("alice"), "alice", NOW).entries:
        memory.keep(entries)
    again = Ceremony((replace(FOUNDING, content=other.encoded), replace(ROOT, roster=other)))
    with pytest.raises(ApprovalRefusedError) as caught:
        review_ceremony(again, memory, identity("alice"), "alice", NOW)
    assert caught.value.code == "two-rosters"
