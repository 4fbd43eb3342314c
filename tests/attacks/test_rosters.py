"""Two truths about one epoch, and a past that is shown as the present.

The chip writes any roster that a quorum approved, and certifies whatever is there. Which rosters a
person has approved, and which epoch is past, only the person's own tool can remember.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.approval.doubles import card
from tests.attacks.conftest import checked
from tests.attacks.house import RULE, House, Machine
from tests.attacks.root import declined, refused, votes_of
from tests.attacks.test_indices import WITHOUT_BOB, increment, kept, pretend, remake, write

from tpmhsm.approval.request import Request, parse_request
from tpmhsm.attest.statements import ChipState
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.tree import COUNTER_SIZE, counter_nv
from tpmhsm.wire.commands import NV_Write
from tpmhsm.wire.constants import NT, RH, NvAttributes

WITHOUT_CAROL = "2:alice,bob,dave"


def change(house: House, officers: str = WITHOUT_BOB) -> Request:
    """A request for other officers, from an honest host."""
    return parse_request(house.ask(house.app.desk.propose_roster("officers", officers)))


def asking(house: House, roster: RosterDocument) -> Request:
    """A request for any roster, with what the chip certifies now over these bytes."""
    request = replace(change(house), content=roster.encoded)
    held = house.app.groups.certify(request.group, request.digest)
    return replace(request, state=ChipState(*held.counter, *held.roster))


def test_two_rosters_for_one_epoch(house: House) -> None:
    """The second is refused by everybody who approved the first, and two quorums of custodians
    share a person.
    """
    first, second = change(house, WITHOUT_BOB), change(house, WITHOUT_CAROL)
    assert first.asked_roster.epoch == second.asked_roster.epoch
    alice, bob = house.machines["alice"], house.machines["bob"]
    alice.approve(first.data)
    with declined("two-rosters"):
        alice.look(second.data)
    bob.approve(second.data)  # who has seen nothing of the first
    with declined("two-rosters"):
        bob.look(first.data)
    assert alice.look(first.data).acts


def test_the_chip_takes_two_rosters_for_one_epoch(house: House) -> None:
    """People whose tools forget let root flip between two rosters at will."""
    first, second = change(house, WITHOUT_BOB), change(house, WITHOUT_CAROL)
    votes = []
    for request in (first, second):
        people = [house.machines[name].copy() for name in ("alice", "bob")]  # copies forget
        given = tuple(person.approve(request.data) for person in people)
        votes.append(votes_of(replace(request, approvals=given)))
    ours = [
        pretend(house, first.asked_roster, "alice", "dave"),
        pretend(house, second.asked_roster, "alice", "bob"),
    ]
    with house.root() as root:
        increment(root, votes[0][0])
        for turn in (0, 1, 0):
            write(root, (first, second)[turn].asked_roster, votes[turn][1])
            root.honest(ours[turn])
            with refused(0x084, "PolicyAuthorizeNV"):
                root.try_sign(loot=ours[1 - turn])


def test_two_rosters_for_the_first_epoch(house: House) -> None:
    """A founding is not approved a second time with other officers."""
    asked = house.app.desk.propose_group("second", RULE, RULE)
    request = parse_request(house.ask(asked))
    alice = house.machines["alice"]
    alice.approve(request.data)
    (rule,) = request.asked_roster.officers
    for other in (
        replace(request.asked_roster, officers=(replace(rule, m=1),)),
        replace(request.asked_roster, epoch=request.asked_roster.epoch + 1),
    ):
        with declined("two-rosters"):
            alice.look(replace(request, content=other.encoded).data)
    assert alice.look(request.data).acts


def test_an_epoch_that_is_past(house: House) -> None:
    """Root shows the host as it was before the change."""
    old = replace(house.loot.request, approvals=())
    alice, bob = house.machines["alice"], house.machines["bob"]
    assert alice.look(old.data).acts
    house.change(WITHOUT_BOB)
    for state in (old.state, None):
        with declined("lower-epoch"):
            alice.look(replace(old, state=state).data)
    bob.approve(old.data)  # who knows nothing of the change: now it is the chip that refuses
    fresh = house.steal_fresh()
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign()
        root.honest(fresh)


def test_a_chip_that_was_rolled_back(house: House, built: House, tmp_path: Path) -> None:
    """A software TPM whose state file was put back is out of the chip's own reach: it signs. The
    tools of those who took part in the changes do not.
    """
    house.change(WITHOUT_BOB)
    house.change(RULE)
    alice = house.machines["alice"]
    with checked(built.copy(tmp_path / "rolled back")) as old:
        with declined("lower-epoch"):
            alice.look(old.draft("certificate", old.loot.request.content).data)
        with declined("lower-epoch"):
            alice.look(change(old, WITHOUT_BOB).data)
        with declined("two-rosters"):
            alice.look(change(old, WITHOUT_CAROL).data)
        with old.root() as root:
            root.honest()
    assert alice.look(house.draft("certificate", house.loot.request.content).data).acts


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_another_epoch_than_the_next(house: House, ahead: int) -> None:
    """Only the certified epoch plus one: a roster for later would lie in wait."""
    honest = change(house)
    alice = house.machines["alice"]
    epoch = house.loot.roster.epoch + ahead
    with declined("wrong-epoch"):
        alice.look(asking(house, replace(honest.asked_roster, epoch=epoch)).data)
    assert alice.look(honest.data).acts


def test_a_change_that_the_chip_certifies_nothing_of(house: House) -> None:
    """No certification; one made over another content; one by another key."""
    honest, other = change(house), change(house, WITHOUT_CAROL)
    alice = house.machines["alice"]
    assert honest.state is not None and other.state is not None
    forged = replace(
        honest.state,
        counter_attest=other.state.counter_attest,
        counter_signature=other.state.counter_signature,
    )
    swapped = replace(
        honest.state,
        counter_attest=honest.state.roster_attest,
        counter_signature=honest.state.roster_signature,
    )
    unsigned = replace(honest.state, counter_signature=other.state.counter_signature)
    for state in (None, other.state, forged, swapped, unsigned):
        with declined("state"):
            alice.look(replace(honest, state=state).data)
    assert alice.look(honest.data).acts


def test_a_new_epoch_by_the_hosts_word(house: House) -> None:
    """Officers sign under a roster of an epoch new to them only when the chip certifies it."""
    request, bob = house.loot.request, house.machines["bob"]
    assert request.roster is not None
    (rule,) = request.roster.officers
    officers, epoch = (replace(rule, m=1),), request.roster.epoch + 1
    forged = replace(request, roster=replace(request.roster, officers=officers, epoch=epoch))
    with declined("epoch-not-certified"):
        bob.look(replace(forged, state=None).data)
    with declined("state"):
        bob.look(forged.data)
    house.change("2:alice,bob,dave")
    honest = house.draft("certificate", request.content)
    with declined("epoch-not-certified"):
        bob.look(replace(honest, state=None).data)
    assert bob.look(honest.data).acts


@pytest.mark.parametrize("ahead", [0, 1 << 60])
def test_an_epoch_that_root_made_up(still: House, ahead: int) -> None:
    """At her first approval carol is shown a roster that is none, of this epoch or of one far away,
    without a certification or with that of the true one. Remembered, it would make her tool refuse
    all that is true.
    """
    request, carol = still.loot.request, still.machines["carol"].copy()
    assert request.roster is not None
    (rule,) = request.roster.officers
    officers = (replace(rule, members=rule.members[::-1]),)
    roster = replace(request.roster, officers=officers, epoch=request.roster.epoch + ahead)
    forged = replace(request, roster=roster, approvals=())
    honest = still.draft("certificate", request.content).data
    for known in (False, True):
        with declined("two-rosters" if known and not ahead else "epoch-not-certified"):
            carol.look(replace(forged, state=None).data)
        with declined("two-rosters" if known and not ahead else "state"):
            carol.look(forged.data)
        carol.approve(honest)


def test_officers_whom_root_made_up(still: House) -> None:
    """After carol's first approval of a signature, which pins the group: a roster of root's own
    people, whose cards nobody has. They are not known because the request says so.
    """
    request, carol = still.loot.request, still.machines["carol"].copy()
    carol.approve(still.draft("certificate", request.content).data)
    for forgets in (False, True):
        if forgets:
            carol.memory.rosters.clear()
        for epoch in (still.loot.roster.epoch, still.loot.roster.epoch + 1):
            names = ("carol", "mallory", "malice")
            rule = Threshold(2, tuple(card(n).member(contribution=False) for n in names))
            forged = replace(request, roster=RosterDocument(request.group.id, epoch, (rule,)))
            forged = replace(forged, state=None, approvals=())
            seen = not forgets and epoch == still.loot.roster.epoch
            with declined("two-rosters" if seen else "cards-missing"):
                carol.look(forged.data)
    assert carol.look(still.draft("certificate", request.content).data).acts


def test_a_roster_not_in_force(house: House) -> None:
    """Root moved the epoch on. The roster is still there, and the chip says that it is over."""
    alice, content, again = house.machines["alice"], house.loot.request.content, kept(house)[1]
    assert alice.look(house.draft("certificate", content).data).acts
    with house.root() as root:
        increment(root, again)
    with declined("wrong-epoch"):
        alice.look(house.draft("certificate", content).data)
    house.change(RULE)
    assert alice.look(house.draft("certificate", content).data).acts


def test_an_ordinary_index_certified_as_the_counter(house: House) -> None:
    """Root's own index says the epoch that root likes, and the true AK certifies it."""
    alice, honest = house.machines["alice"], change(house)
    assert alice.look(honest.data).acts
    wanted = counter_nv(house.loot.group)
    attributes = wanted.attributes & ~(NT.COUNTER << 4) | NvAttributes.OWNERWRITE
    with house.root() as root:
        remake(root, wanted.replace(attributes=attributes))
        value = house.loot.roster.epoch.to_bytes(COUNTER_SIZE, "big")
        root.chip.send(NV_Write(RH.OWNER, wanted.nv_index, value, 0))
        root.chip.flush_all()
    held = house.app.groups.certify(honest.group, honest.digest)
    with declined("state"):
        alice.look(replace(honest, state=ChipState(*held.counter, *held.roster)).data)


def test_a_memory_that_was_lost(house: House) -> None:
    """Without it alice's tool cannot know what she approved: it changes no roster any more. What
    the chip certifies, now or then, does not help: root keeps it and shows it again.
    """
    stale = replace(house.loot.request, approvals=())
    house.change(WITHOUT_BOB)
    first, second = change(house, RULE), change(house, WITHOUT_CAROL)
    house.machines["alice"].approve(first.data)
    lost = Machine.of("alice")
    lost.memory.own.clear()
    lost.memory.cards.append(card("alice"))
    for shown in (None, stale, house.draft("certificate", stale.content)):
        if shown is not None:
            lost.approve(shown.data)
        with declined("memory-lost"):
            lost.look(second.data)
    with declined("two-rosters"):
        house.machines["alice"].look(second.data)
    house.settle(first.id, ("bob", "carol"))
    with declined("memory-lost"):  # nor does it help to wait for another epoch
        lost.look(change(house, WITHOUT_CAROL).data)


def test_a_memory_put_back_from_a_backup(house: House) -> None:
    """The card was made in it, and nothing is known of the group: its owner is told, no more."""
    first, second = change(house, WITHOUT_BOB), change(house, WITHOUT_CAROL)
    house.machines["alice"].approve(first.data)
    old = Machine.of("alice")
    assert "MEMORY" in {flag.head for flag in old.look(second.data).flags}
    assert "MEMORY" not in {f.head for f in house.machines["alice"].look(first.data).flags}
    with declined("two-rosters"):
        house.machines["alice"].look(second.data)
