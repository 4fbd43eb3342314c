"""The ladder as arithmetic: every large enough choice climbs it, no smaller one does."""

from hashlib import sha256
from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.errors import UsageError
from tpmhsm.policy.ladder import Ladder, end_of
from tpmhsm.policy.steps import START, Or, Signed, walk


def names(n, first=0):
    return tuple(b"\0\x0b" + sha256(b"%d" % i).digest() for i in range(first, first + n))


REF = sha256(b"ref").digest()

thresholds = st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))
starts = st.binary(min_size=32, max_size=32)


@given(rule=thresholds, start=starts, data=st.data())
def test_m_of_them_reach_the_end(rule, start, data):
    m, n = rule
    ladder = Ladder(m, names(n), REF)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=m, max_size=n))
    steps = ladder.plan(chosen, start)
    assert walk(steps, start) == ladder.digest(start)
    signers = [names(n).index(s.approver) for s in steps if isinstance(s, Signed)]
    assert signers == sorted(chosen)[:m]


@given(rule=thresholds, start=starts)
def test_number_of_states(rule, start):
    m, n = rule
    states = Ladder(m, names(n), REF).states(start)
    assert len(states) == (m + 1) * (n - m + 1)
    assert len(set(states.values())) >= len(states) - (n - m)  # c = 0 stands for itself


def test_fewer_do_not():
    ladder = Ladder(3, names(5), REF)
    for few in combinations(range(5), 2):
        with pytest.raises(UsageError, match="2 of the 3 approvals"):
            ladder.plan(few)


def reachable(ladder, people):
    """All digests that matter which a session can reach with these people's signatures."""
    states = ladder.states()
    found = [ladder._alternatives(states, i, c) for i, c in states if i]
    ors = [Or(branches) for branches in found if len(branches) == 2]
    useful = set(states.values()) | {digest for branches in found for digest in branches}
    reached, fresh = set(), {START}
    while fresh:
        reached |= fresh
        signed = {Signed(name, REF).extend(d) for d in fresh for name in people}
        merged = {o.extend(START) for o in ors if fresh & set(o.branches)}
        fresh = (signed | merged) & useful - reached
    return reached


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 3), (2, 3), (3, 5), (4, 7)])
def test_no_walk_with_fewer_people_reaches_the_end(m, n):
    ladder = Ladder(m, names(n), REF)
    for few in combinations(ladder.names, m - 1):
        assert ladder.digest() not in reachable(ladder, few)
    for enough in combinations(ladder.names, m):
        assert ladder.digest() in reachable(ladder, enough)


@given(st.permutations(range(4)))
def test_order_is_part_of_the_digest(order):
    base = names(4)
    other = tuple(base[i] for i in order)
    same = Ladder(2, base, REF).digest() == Ladder(2, other, REF).digest()
    assert same == (other == base)


def test_joined_ladders():
    first, second = Ladder(2, names(3), REF), Ladder(1, names(2, 10), bytes(32))
    assert end_of((first, second)) == second.digest(first.digest())
    assert end_of(()) == START


def test_eleven_of_twenty_is_small():
    assert len(Ladder(11, names(20), REF).states()) == 120 < comb(20, 11)


@pytest.mark.parametrize(("m", "people"), [(0, 3), (4, 3), (1, 0), (1, 129), (-1, 3)])
def test_impossible_rules(m, people):
    with pytest.raises(UsageError):
        Ladder(m, names(people), REF)


def test_one_name_twice():
    with pytest.raises(UsageError, match="twice"):
        Ladder(2, names(2) + names(1), REF)


def test_strangers():
    with pytest.raises(UsageError, match="not on this ladder"):
        Ladder(2, names(3), REF).plan({0, 7})


@pytest.mark.parametrize("count", [0, 1, 9])
def test_or_takes_two_to_eight(count):
    with pytest.raises(UsageError):
        Or((START,) * count)


def test_a_real_session_refuses_an_or_from_outside():
    with pytest.raises(UsageError):
        walk((Or((bytes(32), b"\1" * 32)),), b"\2" * 32)
