"""What a change of officers changes: in words, and whether it needs fewer of those who stay."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy import makers

from tpmhsm.errors import UsageError
from tpmhsm.policy.changes import Change
from tpmhsm.policy.people import (
    Member,
    check_rule,
    describe_outstanding,
    members_of,
    read_rule,
    still_needed,
    write_rule,
)


def rule(text):
    """`2:012+1:34` by the numbers of people."""
    parts = (part.split(":") for part in text.split("+"))
    return tuple(makers.threshold(int(m), [int(p) for p in people]) for m, people in parts)


WORDS = {
    ("2:012", "2:012"): "the same people and numbers",
    ("2:012", "2:210"): "the same people and numbers",
    ("2:012", "2:013"): "adds dave (officer), removes carol",
    ("2:012", "3:0123"): "adds dave (officer); needs 2 of 3 → 3 of 4",
    ("2:012", "3:01234"): "adds dave, erin (officers); needs 2 of 3 → 3 of 5",
    ("3:0123", "2:01"): "removes carol, dave; needs 3 of 4 → 2 of 2",
    ("2:012", "3:023+1:45"): (
        "adds dave, erin, frank (officers), removes bob; needs 2 of 3 → 3 of 3 "
        "(alice, carol, dave); new ladder: 1 of (erin, frank)"
    ),
    ("2:012+1:34", "2:012"): "removes dave, erin; no longer: 1 of (dave, erin)",
    ("2:012+1:34", "2:013+1:24"): "moves dave to (alice, bob, dave), moves carol to (carol, erin)",
    ("2:012+1:34", "1:34+2:012"): "the same people and numbers",
}


@pytest.mark.parametrize(("before", "after"), WORDS)
def test_words(before, after):
    change = Change(rule(before), rule(after))
    assert change.words() == WORDS[before, after]
    assert change.same == (WORDS[before, after] == "the same people and numbers")


def test_a_new_name_and_a_new_key():
    (before,) = rule("2:012")
    alice, bob, carol = before.members
    renamed = (makers.Threshold(2, (alice, bob, Member("zed", carol.spki))),)
    assert Change((before,), renamed).words() == "renames carol to zed"
    rekeyed = (makers.Threshold(2, (alice, bob, Member("carol", makers.member(7).spki))),)
    words = Change((before,), rekeyed).words()
    assert words == "adds carol (officer), removes carol, gives carol another key"


WEAKER = {
    ("2:012", "2:013"): [],
    ("2:012", "1:012"): [1],
    ("2:012", "2:01234"): [],
    ("3:012", "2:01"): [2],
    ("2:012+1:34", "2:012"): [0],
    ("2:012", "2:012+1:34"): [],
    ("2:012+1:34", "3:01234"): [1, 0],
    ("3:01234", "2:012+1:34"): [],
    ("2:01", "2:23"): [],
}


@pytest.mark.parametrize(("before", "after"), WEAKER)
def test_weaker(before, after):
    assert [count for _, count in Change(rule(before), rule(after)).weaker] == WEAKER[before, after]


def test_newcomers_suffice():
    assert Change(rule("2:012"), rule("2:0345")).newcomers_suffice
    assert not Change(rule("2:012"), rule("2:013")).newcomers_suffice
    assert not Change(rule("2:012"), rule("2:34+1:0")).newcomers_suffice


def split(people, data):
    """Any rule of these people, on any number of ladders."""
    found, rest = [], list(people)
    while rest and (not found or data.draw(st.booleans())):
        n = data.draw(st.integers(1, len(rest)))
        found.append(makers.threshold(data.draw(st.integers(1, n)), rest[:n]))
        rest = rest[n:]
    return tuple(found)


def met(rule, people):
    return all(sum(m.chip_name in people for m in t.members) >= t.m for t in rule)


@given(st.data())
def test_weaker_is_what_trying_every_set_of_people_finds(data):
    rules = [split(data.draw(st.permutations(range(6))), data) for _ in range(2)]
    change = Change(*rules)
    names = [{m.chip_name for m in members_of(one)} for one in rules]
    stay = sorted(names[0] & names[1])
    sets = [set(c) for n in range(len(stay) + 1) for c in combinations(stay, n)]
    fresh = [one for one in sets if met(rules[1], one)]
    weaker = [was for was in rules[0] if any(not met((was,), one) for one in fresh)]
    assert [was for was, _ in change.weaker] == weaker
    for was, count in change.weaker:
        own = {m.chip_name for m in was.members}
        assert count == min(len(own & one) for one in fresh)
    assert change.newcomers_suffice == met(rules[1], names[1] - names[0])


@given(st.data())
def test_outstanding(data):
    """Nothing is missing exactly when every ladder is met; too many on one count for no other."""
    one = split(range(8), data)
    members = members_of(one)
    given_ = data.draw(st.sets(st.sampled_from(members)))
    left = still_needed(one, {m.name for m in given_})
    assert (left == 0) == met(one, {m.chip_name for m in given_})
    assert left == sum(max(0, t.m - len(given_ & set(t.members))) for t in one)


def test_what_is_missing_in_words():
    one = rule("2:012+1:34")
    assert describe_outstanding(one, ()) == "2 of (alice, bob, carol) and 1 of (dave, erin)"
    assert describe_outstanding(one, {"alice", "bob", "carol"}) == "1 of (dave, erin)"
    assert describe_outstanding(one, {"alice", "bob", "dave"}) == ""


@pytest.mark.parametrize("text", ["2:a,b,c", "2:a,b,c+1:d", "1:x+1,y+1:z", "1:名前+2:b,c"])
def test_rules_are_written_as_they_are_read(text):
    assert write_rule(read_rule(text)) == text
    assert read_rule(text.replace("+", " + ").replace("x + 1", "x+1")) == read_rule(text)


@pytest.mark.parametrize("text", ["", "2", "a:b", "2:", "+1:a", "1:a+1:", "²:a", "99999:a"])
def test_no_rules(text):
    with pytest.raises(UsageError) as error:
        read_rule(text)
    assert error.value.code == "bad-rule"


def test_nobody_stands_on_two_ladders():
    check_rule(rule("2:012+1:34"))
    with pytest.raises(UsageError, match=r"carol stands on two ladders of one rule \(1 and 2\)"):
        check_rule(rule("2:012+1:23"))
    twin = makers.Threshold(1, (Member("mallory", makers.member(0).spki),))
    with pytest.raises(UsageError, match="alice and mallory have the same key"):
        check_rule((*rule("2:012"), twin))
    with pytest.raises(UsageError, match="a rule of 0 people"):
        check_rule(())
