"""Joined ladders: one of alice and bob, and one of carol and dave, where it was two of three.

Root has the approvals of alice, bob and dave, and wants them to count where they were not given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import pytest
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import Loot, declined, refused
from tests.attacks.test_rosters import asking, change

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.documents import canonical
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.people import Threshold, members_of
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.steps import Signed, Step, digest_of
from tpmhsm.policy.tree import SIGN

JOINED = "1:alice,bob+1:carol,dave"


@pytest.fixture(scope="module")
def joined(built: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house after its officers were put on two ladders; nothing that lasts may be changed."""
    with checked(built.copy(tmp_path_factory.mktemp("joined") / "home")) as house:
        house.change(JOINED)
        asked = house.propose("papers", "CN=Joined", "joined")
        house.loots["joined"] = house.steal(asked, ("alice", "bob", "dave"))
        yield house


def swapped(loot: Loot, by: Signed) -> tuple[Step, ...]:
    """The honest steps with `by` where dave's approval belongs."""
    dave = next(step for step in loot.plan.steps if step == signed(loot, 3, 2))
    return tuple(by if step is dave else step for step in loot.plan.steps)


def signed(loot: Loot, place: int, ladder: int) -> Signed:
    """One officer's approval as it would stand on a ladder of this number."""
    names = [member.chip_name for member in members_of(loot.roster.officers)]
    return Signed(names[place], policy_ref("sign", loot.group.id, loot.roster.epoch, ladder))


def prefix(loot: Loot) -> tuple[Step, ...]:
    """The steps before the ladders."""
    return tuple(takewhile(lambda step: not isinstance(step, Signed), loot.plan.steps))


def test_approvals_of_one_ladder_on_another(joined: House) -> None:
    """Alice's and bob's are two approvals, and two are needed; but of each ladder one. Bob's is
    shown in the place of dave's as it is, and as if it had been given for that ladder.
    """
    loot = joined.loots["joined"]
    with joined.root("joined") as root:
        with refused(0x1C4, "PolicyOR"):
            root.try_sign(swapped(loot, signed(loot, 1, 1)))
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(swapped(loot, signed(loot, 1, 2)))
        root.honest()
    few = replace(loot, votes={place: loot.votes[place] for place in (0, 1)})
    with pytest.raises(UsageError, match="0 of the 1 approvals"):
        _ = few.plan
    desk = joined.app.desk
    row = joined.settle(loot.request.id, ("alice", "bob"))
    assert (row.state, row.needed, desk.missing(row)) == ("waiting", 2, 1)


def test_one_ladder_left_out(joined: House) -> None:
    """The first alone, the second alone, the second before the first."""
    loot = joined.loots["joined"]
    start = prefix(loot)
    first, second = SIGN.ladders(loot.roster)
    end = loot.plan.steps[-2:]
    with joined.root("joined") as root:
        for ladder, place in ((first, 0), (second, 1)):
            alone = ladder.plan({place}, digest_of(start))
            with refused(0x084, "PolicyAuthorizeNV"):
                root.try_sign((*start, *alone, *end))
        turned = second.plan({1}, digest_of(start))
        turned += first.plan({0}, digest_of((*start, *turned)))
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign((*start, *turned, *end))
        root.honest()


def test_an_approver_on_two_ladders(joined: House) -> None:
    """Alice, who would count for both: no document says so, host and tool take none that does, and
    to the chip her one approval is for one ladder.
    """
    with pytest.raises(UsageError, match="alice stands on two ladders") as caught:
        joined.app.desk.propose_roster("officers", "1:alice,bob+1:alice,dave")
    assert caught.value.code == "two-ladders"
    honest = change(joined, JOINED)
    document = json.loads(honest.content)
    document["officers"][1]["members"][0] = document["officers"][0]["members"][0]
    forged = replace(honest, content=canonical(document))
    with pytest.raises(ParseError, match="alice stands on two ladders"):
        joined.machines["alice"].look(forged.data)
    assert joined.machines["alice"].look(honest.data).acts
    loot = joined.loots["joined"]
    start, mine = prefix(loot), signed(loot, 0, 2)
    first, _ = SIGN.ladders(loot.roster)
    second = Ladder(1, (mine.approver, signed(loot, 3, 2).approver), mine.policy_ref)
    steps = (*start, *first.plan({0}, digest_of(start)))
    steps += second.plan({0}, digest_of(steps))
    again = tuple(signed(loot, 0, 1) if step == mine else step for step in steps)
    with joined.root("joined") as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(steps)
        with refused(0x1C4, "PolicyOR"):
            root.try_sign(again)
        root.honest()


def test_another_rule_of_the_same_people(joined: House) -> None:
    """Two of the four: to the chip alice's and bob's approvals are good for it, in this epoch too,
    but it is not the roster. The ladders in the other order: there they are not even good.
    """
    loot = joined.loots["joined"]
    one, two = loot.roster.officers
    flat = replace(loot.roster, officers=(Threshold(2, (*one.members, *two.members)),))
    turned = replace(loot.roster, officers=(two, one))
    moved = {(place + 2) % 4: vote for place, vote in loot.votes.items()}
    with joined.root("joined") as root:
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(loot=replace(loot, roster=flat))
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=replace(loot, roster=turned, votes=moved))
        root.honest()


def test_approvals_from_before_the_ladders_were_joined(joined: House) -> None:
    """Alice's and bob's of when two of three were enough."""
    old, loot = joined.loots["root"], joined.loots["joined"]
    with joined.root("joined") as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign(loot=old, key=old.key, digest=old.digest)
        with refused(0x1C4, "PolicyOR"):  # without asking for the epoch
            root.try_sign(old.plan.steps[1:], loot=old, key=old.key, digest=old.digest)
        mixed = replace(loot, key=old.key, digest=old.digest, votes={**loot.votes, **old.votes})
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=mixed, key=old.key, digest=old.digest)
        root.honest()


def test_the_old_rule_written_again(joined: House) -> None:
    """Nobody approves the roster of two of three for the epoch of the joined ladders."""
    old = joined.loots["root"].roster
    alice = joined.machines["alice"].copy()
    again = asking(joined, replace(old, epoch=joined.loots["joined"].roster.epoch))
    with declined("wrong-epoch"):
        alice.look(again.data)
    assert alice.look(change(joined, JOINED).data).acts
