"""The tree of a roster: its branches, their place, and what a way through it costs."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy import makers

from tpmhsm.errors import UsageError
from tpmhsm.policy.group import MAX_WINDOWS, USES, RosterDocument, parse_roster
from tpmhsm.policy.ladder import end_of
from tpmhsm.policy.merging import first_direct, in_eights
from tpmhsm.policy.plan import Officers, climb_branch, plan_sign, quorum_policy
from tpmhsm.policy.steps import START, Nv, Or, Pcr, digest_of, walk
from tpmhsm.policy.tree import (
    BUDGET,
    ECDH_ZGEN,
    RSA_DECRYPT,
    SIGN,
    branch_prefix,
    branches_of,
    roster_policy,
    window,
)
from tpmhsm.tpm.objects import signing_template

GROUP = makers.group()


def names(count):
    return tuple(sorted(b"\0\x0b" + sha256(bytes([i])).digest() for i in range(count)))


def a_roster(m=2, n=3, *, uses=USES, windows=0, measured=None):
    rule = (makers.threshold(m, range(n)),)
    return RosterDocument(GROUP.id, 1, rule, uses, names(windows), measured or {})


def way(roster, branch, chosen=None):
    """The steps through a branch with these approvals, those of the last people by default."""
    rule = roster.officers[0]
    chosen = range(rule.n - rule.m, rule.n) if chosen is None else chosen
    return climb_branch(Officers(GROUP, roster, dict.fromkeys(chosen, b"")), branch)


def ors(steps):
    return sum(isinstance(step, Or) for step in steps)


# ── documents ────────────────────────────────────────────────────────────────────────────────


def test_what_is_empty_does_not_stand_in_the_document():
    assert b"windows" not in a_roster().encoded and b"measured" not in a_roster().encoded


def test_a_roster_comes_back_from_its_bytes():
    state = {"sha256": {0: bytes(32), 7: b"7" * 32}, "sha1": {14: b"x" * 20}}
    for roster in (a_roster(windows=3, measured=state), a_roster(uses=("sign",))):
        again = parse_roster(roster.encoded)
        assert again == roster and hash(again) == hash(roster)
        assert roster_policy(GROUP, again) == roster_policy(GROUP, roster)


def test_a_roster_for_signatures_alone_is_its_ladder():
    """As rosters were before there were branches: their digests stay."""
    roster = a_roster(uses=("sign",))
    ladder = end_of(SIGN.ladders(roster), digest_of(branch_prefix(GROUP, roster)))
    assert roster_policy(GROUP, roster) == ladder


# ── the tree ─────────────────────────────────────────────────────────────────────────────────


def test_the_branches_and_their_order():
    found = branches_of(a_roster(windows=2))
    assert found == (SIGN, *map(window, names(2)), RSA_DECRYPT, ECDH_ZGEN, BUDGET)
    assert branches_of(a_roster(uses=("budget",))) == (BUDGET,)


def test_no_two_branches_share_a_digest():
    """Otherwise approvals for one would count for the other."""
    roster = a_roster(windows=5)
    ends = [end_of(b.ladders(roster), digest_of(branch_prefix(GROUP, roster, b)))
            for b in branches_of(roster)]  # fmt: skip
    assert len(set(ends)) == len(ends) == 9


def test_the_epoch_stands_first_then_the_state():
    first, second, *_ = branch_prefix(GROUP, a_roster(measured={"sha256": {7: bytes(32)}}))
    assert isinstance(first, Nv) and isinstance(second, Pcr)


def test_a_branch_that_the_roster_has_not():
    with pytest.raises(UsageError) as caught:
        way(a_roster(), window(names(1)[0]))
    assert caught.value.code == "window-not-allowed"
    with pytest.raises(UsageError) as caught:
        way(a_roster(uses=("sign",)), BUDGET)
    assert caught.value.code == "use-not-in-roster" and "sign,budget" in caught.value.hint


@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (1, 2)])
def test_a_signature_costs_nothing_for_the_other_branches(chosen):
    """Up to eight places, and beyond them, too: the ladder's last PolicyOR is the roster's."""
    alone = way(a_roster(uses=("sign",)), SIGN, chosen)
    for windows in (0, 1, 2, 7, 21, 22, MAX_WINDOWS):
        assert len(way(a_roster(windows=windows), SIGN, chosen)) == len(alone)


def test_where_everybody_is_needed_the_branches_cost_one_command():
    """Such a ladder has no PolicyOR of its own that could be shared."""
    assert ors(way(a_roster(2, 2, uses=("sign",)), SIGN)) == 0
    for windows in (0, 4, 5, MAX_WINDOWS):
        assert ors(way(a_roster(2, 2, windows=windows), SIGN)) == 1


@pytest.mark.parametrize(
    ("windows", "first", "last", "rare"),
    [(1, 0, 0, 1), (2, 0, 0, 1), (3, 0, 1, 1), (7, 0, 1, 1), (8, 0, 1, 1), (21, 1, 1, 1),
     (22, 0, 2, 2), (MAX_WINDOWS, 0, 2, 1)],
)  # fmt: skip
def test_beyond_eight_places_what_is_rarer_costs_more(windows, first, last, rare):
    """How many commands more than signing a window and a grant take. docs/policies.md."""
    roster = a_roster(windows=windows)
    signing = ors(way(roster, SIGN))
    found = [ors(way(roster, b)) - signing
             for b in (window(roster.windows[0]), window(roster.windows[-1]), BUDGET)]  # fmt: skip
    assert found == [first, last, rare]


def test_all_commands_of_a_signature():
    """docs/policies.md: the session, the steps, three for each approval, and TPM2_Sign."""
    key = signing_template("p256", quorum_policy(GROUP).digest)
    counts = {}
    for kind, roster in {
        "today": a_roster(),
        "windows": a_roster(windows=9),
        "state": a_roster(measured={"sha256": {7: bytes(32)}}),
    }.items():
        votes = {i: makers.tpmt_sign(makers.key(i), b"x") for i in (0, 2)}
        counts[kind] = plan_sign(GROUP, roster, key, bytes(32), votes).commands
    assert counts == {"today": 14, "windows": 14, "state": 15}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_way_leads_to_the_roster(data):
    n = data.draw(st.integers(1, 6))
    m = data.draw(st.integers(1, n))
    drawn = data.draw(st.sets(st.sampled_from(USES), min_size=1))
    uses = tuple(use for use in USES if use in drawn)
    state = data.draw(st.sampled_from([{}, {"sha256": {1: bytes(32)}}]))
    roster = a_roster(m, n, uses=uses, windows=data.draw(st.integers(0, 30)), measured=state)
    branch = data.draw(st.sampled_from(branches_of(roster)))
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=m, max_size=m))
    assert walk(way(roster, branch, chosen)) == roster_policy(GROUP, roster)


# ── merging ──────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 700), together=st.sampled_from([1, 2]))
def test_merged_alternatives_reach_the_whole(count, together):
    digests = [sha256(i.to_bytes(4, "big")).digest() for i in range(count * together)]
    for merged in (in_eights(digests), first_direct(digests, together)):
        assert set(merged.ways) == set(digests)
        assert {walk(steps, digest) for digest, steps in merged.ways.items()} == {merged.digest}
        assert all(len(steps) <= 5 for steps in merged.ways.values())


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 300))
def test_neighbours_cost_the_same_and_the_first_least(count):
    digests = [sha256(i.to_bytes(4, "big")).digest() for i in range(count * 2)]
    ways = first_direct(digests, 2).ways
    costs = [len(ways[digest]) for digest in digests]
    assert costs[::2] == costs[1::2] and costs[0] == min(costs) <= 1


def test_one_alternative_stands_for_itself():
    assert in_eights([START]).digest == first_direct([START], 1).digest == START
