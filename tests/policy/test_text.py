"""Policy text and its explanation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy import makers

from tpmhsm.errors import NotFoundError, ParseError
from tpmhsm.policy.explain import explain_group
from tpmhsm.policy.model import (
    All,
    Any,
    Budget,
    Open,
    Pcr,
    Pin,
    Quorum,
    Window,
    groups_of,
)
from tpmhsm.policy.text import format_policy, parse_policy
from tpmhsm.policy.words import explain_policy

labels = st.from_regex(r"[a-z][a-z0-9_ -]{0,10}[a-z0-9]", fullmatch=True)
leaves = st.one_of(
    st.just(Open()),
    st.just(Pin()),
    st.builds(Quorum, labels),
    st.builds(Budget, labels),
    st.builds(Window, labels),
    st.builds(
        lambda bank, pcrs: Pcr(bank, tuple(sorted(pcrs))),
        st.sampled_from(["sha256", "sha384"]),
        st.sets(st.integers(0, 23), min_size=1),
    ),
)
policies = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Any, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(policies)
def test_text_is_read_back(policy):
    assert parse_policy(format_policy(policy)) == policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("open", Open()),
        ("  open \n", Open()),
        ("quorum(officers)", Quorum("officers")),
        ("quorum ( officers )", Quorum("officers")),
        ("pcr(sha256:7,0, 2)", Pcr("sha256", (0, 2, 7))),
        (
            "all(quorum(a), # people\n  any(pin, budget(b)))",
            All((Quorum("a"), Any((Pin(), Budget("b"))))),
        ),
        ("window(a b)", Window("a b")),
    ],
)
def test_reading(text, policy):
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opens",
        "Open",
        "open open",
        "open()",
        "quorum",
        "quorum()",
        "quorum(a",
        "quorum(a))",
        "quorum(a,b)",
        "quorum(a:b)",
        "quorum(../a)",
        "all(open)",
        "all()",
        "any(open,)",
        "pcr(sha256)",
        "pcr(md5:1)",
        "pcr(sha256:24)",
        "pcr(sha256:-1)",
        "pcr(sha256:1,1)",
        "pcr(sha256:)",
        "# nothing",
        "any(" * 5000,
        "open" + " " * 70_000,
    ],
)
def test_no_policy(text):
    with pytest.raises(ParseError):
        parse_policy(text)


@given(st.text(max_size=60))
def test_garbage(text):
    try:
        policy = parse_policy(text)
    except ParseError:
        return
    assert parse_policy(format_policy(policy)) == policy


def test_where_it_fails():
    with pytest.raises(ParseError, match="line 2, column 3: no such policy: 'quorun'"):
        parse_policy("all(open,\n  quorun(a))")


def test_groups_of():
    assert groups_of(parse_policy("all(quorum(a), any(window(b), budget(a)))")) == ("a", "b")


@given(policies)
def test_every_policy_has_words(policy):
    lines = explain_policy(policy)
    assert lines
    assert all(line.strip() for line in lines)


def test_open_says_anyone():
    assert "Anyone with this machine" in explain_policy(Open())[0]


def test_quorum_names_people():
    group = makers.group()
    roster = makers.roster(group, makers.threshold(2, (0, 1, 5)), epoch=4)
    text = "\n".join(explain_policy(Quorum("officers"), {"officers": (group, roster)}))
    assert "2 of 3 (alice, bob, frank)" in text
    assert "2 of 3 (alice, bob, carol)" in text
    assert "epoch 4" in text
    assert "opened for a time" in text


def test_group():
    group = makers.group()
    text = "\n".join(explain_group(group, makers.roster(group)))
    assert "1 officer before signing stops" in text
    assert "1 custodian before officers can never be changed again" in text
    assert "same people" in text


def test_group_that_hangs_on_one():
    group = makers.group(makers.threshold(1, (0,), founding=True))
    text = "\n".join(explain_group(group, makers.roster(group, makers.threshold(2, (1, 2)))))
    assert "One custodian alone is enough" in text
    assert "Every officer is needed" in text
    assert "no officers before" in text


def test_group_without_one_who_can_be_spared():
    group = makers.group()
    text = "\n".join(explain_group(group, makers.roster(group), ("bob",)))
    assert "Signing: still possible with alice, carol: 2 needed, no officers to spare" in text
    assert "tpmhsm group change officers --officers 2:alice,carol,NEW" in text


def test_group_without_one_who_cannot():
    group = makers.group(makers.threshold(2, (0, 1), founding=True))
    text = "\n".join(
        explain_group(group, makers.roster(group, makers.threshold(2, (0, 1))), ("bob",))
    )
    assert "Signing: impossible: 2 needed, 1 left. The keys can never sign again." in text
    assert "The officers can never be changed again." in text


JOINED = (makers.threshold(2, (0, 1, 2)), makers.threshold(1, (3, 4)))


def test_joined_ladders_in_words():
    group = makers.group()
    text = "\n".join(explain_group(group, makers.roster(group, JOINED)))
    rule = "2 of 3 (alice, bob, carol) and 1 of 2 (dave, erin)"
    assert f"Who can sign: officers, {rule}." in text
    assert "1 officer before signing stops" in text
    assert "alone is enough" not in text
    assert rule in "\n".join(
        explain_policy(Quorum("officers"), {"officers": (group, makers.roster(group, JOINED))})
    )


def test_joined_ladders_that_hang_on_one():
    group = makers.group()
    rule = (JOINED[0], makers.threshold(1, (3,)))
    text = "\n".join(explain_group(group, makers.roster(group, rule)))
    assert "! Every officer of (dave) is needed" in text
    text = "\n".join(explain_group(group, makers.roster(group, rule), ("dave",)))
    assert "Signing: impossible: 1 needed, 0 left (nobody)." in text
    assert "--officers 2:alice,bob,carol+1:NEW" in text


def test_joined_ladders_without_one():
    group = makers.group()
    text = "\n".join(explain_group(group, makers.roster(group, JOINED), ("erin",)))
    words = "2 of (alice, bob, carol) and 1 of (dave), no officers to spare"
    assert f"Signing: still possible with {words}." in text
    assert "tpmhsm group change officers --officers 2:alice,bob,carol+1:dave,NEW" in text


def test_group_without_a_stranger():
    group = makers.group()
    with pytest.raises(NotFoundError):
        explain_group(group, makers.roster(group), ("mallory",))


def test_explain_two_who_are_lost() -> None:
    group = makers.group()
    text = "\n".join(explain_group(group, makers.roster(group), ("alice", "bob", "alice")))
    assert text.startswith("Without alice (officer and custodian) and bob (officer and custodian) ")
    assert "Signing: impossible: 2 needed, 1 left. The keys can never sign again." in text
    assert "Replacing officers: impossible" in text and "Next:" not in text
