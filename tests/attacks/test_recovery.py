"""After root meddled with a group's indices: the custodians go on with `group change`.

What root removed or replayed is put back by the approvals that the host kept. Nobody is asked for
what was decided before, and the keys stay.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.attacks.house import RULE, House
from tests.attacks.root import refused
from tests.attacks.test_indices import (
    WITHOUT_BOB,
    kept,
    last_change,
    mallory_alone,
    pretend,
    remake,
    write,
)

from tpmhsm.errors import RefusedError
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.tpm import nv
from tpmhsm.wire.commands import NV_Write
from tpmhsm.wire.constants import RH, NvAttributes


@pytest.mark.parametrize("changes", [(), (WITHOUT_BOB,), (WITHOUT_BOB, RULE)], ids=len)
@pytest.mark.parametrize(
    "meddling", ["roster gone", "roster remade", "counter gone", "counter remade", "both gone"]
)
def test_going_on_after_indices_were_removed(
    house: House, changes: tuple[str, ...], meddling: str
) -> None:
    for officers in changes:
        house.change(officers)
    before = house.steal_fresh("CN=Before")
    with house.root() as root:
        root.honest(before)
        for what, index in (("roster", roster_nv(root.group)), ("counter", counter_nv(root.group))):
            if meddling.startswith((what, "both")):
                nv.undefine(root.chip, index.nv_index)
                if meddling.endswith("remade"):
                    nv.define(root.chip, index)
    house.change(RULE)
    fresh = house.steal_fresh()
    assert fresh.roster.epoch > before.roster.epoch
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign(loot=before)
        root.honest(fresh)


@pytest.mark.parametrize("past", ["first", "last but one"])
def test_going_on_after_an_old_roster_was_replayed(house: House, past: str) -> None:
    """The old roster serves nobody; the one in force is written again, and then the new one."""
    first = house.loot.roster
    house.change(WITHOUT_BOB)
    replayed = last_change(house)
    house.change(RULE)
    with house.root() as root:
        if past == "first":
            remake(root, roster_nv(root.group))
            write(root, first, kept(house)[2], written=False)
        else:
            write(root, *replayed)
    house.change(WITHOUT_BOB)
    fresh = house.steal_fresh()
    with house.root() as root:
        root.honest(fresh)


def test_going_on_is_no_way_in(house: House) -> None:
    """Root's roster in the database is not put in force: no approvals lead to it."""
    mine = replace(mallory_alone(house), epoch=house.loot.roster.epoch)
    house.rewrite(
        "update rosters set document = ?, digest = ? where state = 'in-force'",
        mine.encoded,
        mine.hash.hex(),
    )
    with pytest.raises(RefusedError) as caught:
        house.change("1:dave")
    assert caught.value.code == "roster-lost"
    with house.root() as root:
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(loot=pretend(house, mine, "mallory"))
        root.honest()


def test_an_index_of_roots_own_is_not_taken_for_the_groups(house: House) -> None:
    """It holds the right roster in the right place, under another Name: the product says so."""
    wanted = roster_nv(house.loot.group)
    other = wanted.replace(attributes=wanted.attributes | NvAttributes.OWNERWRITE)
    content = roster_content(house.loot.group, house.loot.roster)
    with house.root() as root:
        root.honest()
        remake(root, other)
        root.chip.send(NV_Write(RH.OWNER, wanted.nv_index, content, 0))
        with refused(0x99D, "Sign"):
            root.try_sign()
    with pytest.raises(RefusedError) as caught:
        house.change(RULE)
    assert caught.value.code == "index-taken"
    with house.root() as root:
        nv.undefine(root.chip, wanted.nv_index)
    house.change(RULE)
    fresh = house.steal_fresh()
    with house.root() as root:
        root.honest(fresh)
