"""What custodians see of a founding or a change of officers, before they approve it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.approval.doubles import NOW, World, card, identity, threshold

from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.display import render
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Thresholds

EVERYBODY = ("alice", "bob", "carol", "dave", "erin", "frank")


def rule(text: str) -> Thresholds:
    """`2:alice,bob+1:carol`, of people who are made up on the spot."""
    parts = (part.split(":") for part in text.split("+"))
    return tuple(threshold(int(m), *names.split(",")) for m, names in parts)


def changed(before: str, after: str) -> tuple[World, Request]:
    """A change of officers, by alice, bob and carol, who govern."""
    world = World()
    world.roster = RosterDocument(world.group.id, 1, rule(before))
    asked = RosterDocument(world.group.id, 2, rule(after))
    state = world.chip.state(world.group, world.roster, asked.encoded, 1)
    return world, world.request("roster", asked.encoded, state=state)


def look(world: World, request: Request, who: str = "alice") -> Review:
    memory = world.memory(who, *EVERYBODY)
    return review(parse_request(request.data), memory, identity(who), who, NOW)


def heads(before: str, after: str) -> dict[str, str]:
    found = look(*changed(before, after)).content.flags
    return {flag.head: flag.text for flag in found}


NEW, OUT = "NEW OFFICER", "REMOVED"

FLAGS = {
    ("2:alice,bob,carol", "2:alice,bob,carol"): {"NO CHANGE"},
    ("2:alice,bob,carol", "2:alice,bob,dave"): {NEW, OUT, "STILL GOVERNS"},
    ("2:alice,bob,dave", "2:alice,bob,carol"): {NEW, OUT},
    ("2:alice,bob,carol", "3:alice,bob,carol,dave"): {NEW, "RULE"},
    ("2:alice,bob,carol", "2:alice,bob,carol,dave,erin"): {NEW, "FEWER", "NEWCOMERS"},
    ("2:alice,bob,carol", "1:alice,bob,carol"): {"WEAKER", "ALONE"},
    ("2:alice,bob,carol", "2:alice,bob"): {OUT, "STILL GOVERNS", "NO SPARE", "RULE"},
    ("2:alice,bob,carol", "2:alice,bob,carol+1:dave,erin"): {NEW},
    ("2:alice,bob,carol", "2:alice,bob,carol+1:dave"): {NEW, "NO SPARE"},
    ("2:alice,bob,carol+1:dave,erin", "2:alice,bob,carol"): {OUT, "WEAKER"},
    ("2:alice,bob,carol+1:dave,erin", "3:alice,bob,carol,dave,erin"): {"WEAKER"},
    ("2:alice,bob,carol", "2:dave,erin,frank"): {NEW, OUT, "STILL GOVERNS", "NEWCOMERS"},
}


@pytest.mark.parametrize(("before", "after"), FLAGS)
def test_warnings(before: str, after: str) -> None:
    assert set(heads(before, after)) == FLAGS[before, after]


def test_what_is_weaker_is_said() -> None:
    joined = "2:alice,bob,carol+1:dave,erin"
    found = heads(joined, "2:alice,bob,carol")
    assert found["WEAKER"] == "nobody of (dave, erin) is needed any more, until now 1"
    found = heads("3:alice,bob,carol,dave", "2:alice,bob,carol,dave")
    text = "only 2 of (alice, bob, carol, dave) is needed any more, until now 3"
    assert found["WEAKER"] == text


def test_the_difference_stands_on_the_screen_in_words() -> None:
    world, request = changed("2:alice,bob,carol", "3:alice,carol,dave,erin+1:frank,bob")
    screen = " ".join(render(look(world, request)).split())
    assert (
        "Change adds dave, erin, frank (officers), moves bob to (frank, bob); needs 2 of 3 → "
        "3 of 4 (alice, carol, dave, erin); new ladder: 1 of (frank, bob)"
    ) in screen
    assert "Officers 3 of 4 (alice, carol, dave, erin) and 1 of 2 (frank, bob)" in screen
    assert "Until now 2 of 3 (alice, bob, carol)" in screen


def test_newcomers_of_every_ladder_need_cards_from_outside() -> None:
    world, request = changed("2:alice,bob,carol", "2:alice,bob,carol+1:dave,erin")
    memory = world.memory("alice", "bob", "carol", "dave")
    with pytest.raises(ApprovalRefusedError) as caught:
        review(request, memory, identity("alice"), "alice", NOW)
    assert (caught.value.code, caught.value.details["missing"]) == ("cards-missing", ["erin"])


def test_one_person_on_two_ladders_is_no_roster() -> None:
    with pytest.raises(UsageError, match="alice stands on two ladders"):
        changed("2:alice,bob,carol", "2:alice,bob,carol+1:alice,dave")


def test_foundings_that_hang_on_one_are_flagged() -> None:
    world = World(threshold(1, "dan", "eve"))
    found = {flag.head: flag.text for flag in look_founding(world).content.flags}
    assert found["ALONE"] == "one officer alone suffices: a single stolen key decides"
    world = World(threshold(2, "dan", "eve"))
    found = {flag.head: flag.text for flag in look_founding(world).content.flags}
    assert found["NO SPARE"] == "each officer of (dan, eve) is needed"


def look_founding(world: World) -> Review:
    return review(world.founding(), world.memory(), identity("alice"), "alice", NOW)


# ── joined officers, at a signature ──────────────────────────────────────────────────────────────


def signing(approved: tuple[str, ...], who: str) -> Review:
    """A certificate that these have approved, shown to somebody; two of three and one of two."""
    world = World()
    world.roster = RosterDocument(world.group.id, 1, rule("2:alice,bob,carol+1:dave,erin"))
    request = world.certificate()
    request = replace(request, cards=tuple(card(name) for name in EVERYBODY[:5]))
    votes = tuple(make_approval(look(world, request, n), identity(n)) for n in approved)
    return look(world, replace(request, approvals=votes), who)


def test_who_completes_joined_ladders() -> None:
    assert not signing(("alice",), "bob").completes
    assert not signing(("alice", "bob"), "carol").completes
    assert signing(("alice", "bob"), "dave").completes
    assert signing(("alice", "bob", "carol"), "erin").completes
    assert not signing(("alice", "bob", "dave"), "erin").completes
    screen = " ".join(render(signing(("alice", "bob", "carol"), "dave")).split())
    assert (
        "2 of 3 (alice, bob, carol, verified); to come: 1 of (dave, erin); yours comple" in screen
    )


def test_each_signs_for_one_ladder() -> None:
    assert [act.ladder for act in signing((), "alice").acts] == [1]
    assert [act.ladder for act in signing((), "erin").acts] == [2]


def test_a_ladder_that_nobody_can_climb() -> None:
    world, request = changed("2:alice,bob,carol", "2:alice,bob,carol+1:dave")
    asked = request.asked_roster.encoded
    high = asked.replace(b'"m":1,', b'"m":9,')
    with pytest.raises(ParseError, match="9 of 1 people is no rule"):
        look(world, replace(request, content=high))
