"""Root owns the NV indices: removes them, makes them anew, writes, replays what was approved.

What root gains is that service stops. Nothing that was decided is undone, and the custodians can
go on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.approval.doubles import card, identity
from tests.attacks.house import RULE, House
from tests.attacks.root import Loot, Root, refused, votes_of

from tpmhsm.approval.acts import acts_of, sign_ahash
from tpmhsm.errors import VerificationError
from tpmhsm.policy.bound import increment_command, roster_write_command
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.plan import Approvals, plan_increment, plan_roster_write
from tpmhsm.policy.steps import Signed
from tpmhsm.policy.tree import (
    COUNTER_SIZE,
    ROSTER_SIZE,
    counter_nv,
    roster_content,
    roster_nv,
)
from tpmhsm.tpm import nv, objects, policies, software
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.commands import (
    Clear,
    ContextLoad,
    ContextSave,
    HierarchyControl,
    NV_ChangeAuth,
    NV_Extend,
    NV_Increment,
    NV_ReadLock,
    NV_SetBits,
    NV_UndefineSpaceSpecial,
    NV_Write,
    NV_WriteLock,
)
from tpmhsm.wire.constants import NT, RH, NvAttributes
from tpmhsm.wire.structures import NvPublic

WITHOUT_BOB = "2:alice,dave,carol"
FOUNDING = 1
"""The request whose approvals made the group."""


def kept(house: House, number: int = FOUNDING) -> list[dict[int, bytes]]:
    """The approvals of an executed request, act by act, out of the database."""
    return votes_of(house.app.desk.request(number))


def last_change(house: House) -> tuple[RosterDocument, dict[int, bytes]]:
    """The roster of the last change, and the approvals of its write."""
    number = max(row.id for row in house.app.desk.all() if row.kind == "roster")
    return house.app.desk.request(number).asked_roster, kept(house, number)[1]


def increment(root: Root, votes: Approvals, *, written: bool = True) -> None:
    plan = plan_increment(root.group, votes, written=written)
    policies.execute(root.chip, plan, increment_command(root.group))


def write(root: Root, roster: RosterDocument, votes: Approvals, *, written: bool = True) -> None:
    plan = plan_roster_write(root.group, roster, votes, written=written)
    policies.execute(root.chip, plan, roster_write_command(root.group, roster))


def remake(root: Root, index: NvPublic) -> None:
    nv.undefine(root.chip, index.nv_index)
    nv.define(root.chip, index)


def epoch(root: Root) -> int:
    return nv.read_counter(root.chip, root.group.counter_index)


def pretend(house: House, roster: RosterDocument, *people: str) -> Loot:
    """Approvals by people who are with root, under a roster that was never in force."""
    (act,) = acts_of(replace(house.loot.request, roster=roster, state=None))
    votes = {place: sign_ahash(identity(name), act) for place, name in enumerate(people)}
    return replace(house.loot, roster=roster, votes=votes)


def mallory_alone(house: House) -> RosterDocument:
    """The roster that root would like."""
    officers = Threshold(1, (card("mallory").member(contribution=False),))
    return replace(house.loot.roster, officers=(officers,))


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────


def test_old_epoch(house: House) -> None:
    """The officers changed: approvals of the old epoch are void, for everybody."""
    with house.root() as root:
        root.honest()
    house.change(WITHOUT_BOB)
    fresh = house.steal_fresh()
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign()
        with refused(0x1C4, "PolicyOR"):  # without asking for the epoch
            root.try_sign(root.loot.plan.steps[1:])
        root.honest(fresh)


def test_a_removed_officer(house: House) -> None:
    """Bob is with root, and approves for the new epoch as if he were an officer still."""
    house.change(WITHOUT_BOB)
    fresh = house.steal_fresh()
    ours = pretend(house, replace(house.loot.roster, epoch=fresh.roster.epoch), "alice", "bob")
    with house.root() as root:
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(loot=ours)
        root.honest(fresh)


def test_a_roster_replayed(house: House) -> None:
    """The approvals of an earlier roster are true for ever, and the chip writes it again. Its epoch
    is over: it serves nobody.
    """
    house.change(WITHOUT_BOB)
    past = last_change(house)
    before = house.steal_fresh("CN=Before")
    house.change(RULE)
    current, fresh = last_change(house), house.steal_fresh()
    with house.root() as root:
        write(root, *past)
        with refused(0x126, "PolicyNV"):
            root.try_sign(loot=before)
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(loot=fresh)
        write(root, *current)
        root.honest(fresh)


def test_a_roster_written_with_other_approvals(house: House) -> None:
    """Approvals of one roster for another roster, another epoch, a part of it, another place."""
    house.change(WITHOUT_BOB)
    (roster, votes), fresh = last_change(house), house.steal_fresh()
    index = house.loot.group.roster_index
    content = roster_content(house.loot.group, roster)
    with house.root() as root:
        for other in (mallory_alone(house), replace(roster, epoch=roster.epoch + 1)):
            with refused(0x5DB, "PolicySigned"):
                write(root, other, votes)
        with refused(0x5DB, "PolicySigned"):  # as the epoch's approvals
            increment(root, votes)
        plan = plan_roster_write(root.group, roster, votes, written=True)
        others = [NV_Write(index, index, content[:34], 0), NV_Write(index, index, content, 1)]
        others += [NV_Write(index, index, roster_content(root.group, mallory_alone(house)), 0)]
        for command in others:
            with refused(0x99D, "NV_Write"):
                policies.execute(root.chip, plan, command)
        write(root, roster, votes)
        root.honest(fresh)


def test_one_custodian_of_two(house: House) -> None:
    """M-1, for the roster and for the epoch."""
    house.change(WITHOUT_BOB)
    (roster, votes), fresh = last_change(house), house.steal_fresh()
    moves = plan_increment(house.loot.group, kept(house)[1], written=True)
    with house.root() as root:
        for plan in (plan_roster_write(root.group, roster, votes, written=True), moves):
            for missing in (step for step in plan.steps if isinstance(step, Signed)):
                session = start_policy(root.chip)
                with refused(0x1C4, "PolicyOR"):
                    for step in plan.steps:
                        if step != missing:
                            policies.run_step(root.chip, session, plan, step)
                root.chip.flush_all()
        write(root, roster, votes)
        root.honest(fresh)


def test_a_session_primed_before_a_change(house: House) -> None:
    """What the chip does not forbid: PolicyNV and PolicyAuthorizeNV look when they are called, and
    the session remembers. Approvals given in the old epoch still sign, in a session that root
    filled then and kept, the very bytes that were approved then; no others (0x99d), and not after
    the chip was started again (0x1df).
    """
    change = house.app.desk.propose_roster("officers", WITHOUT_BOB)
    request = house.app.desk.request(change.request)
    given = tuple(house.machines[name].approve(request.data) for name in ("alice", "carol"))
    moves, writes = votes_of(replace(request, approvals=given))
    with house.app.device.transaction() as chip:  # which root leaves with a session saved
        root = Root(chip, house.loot)
        primed, kept_back = root.session(), root.session()
        increment(root, moves)
        write(root, request.asked_roster, writes)
        with refused(0x126, "PolicyNV"):
            root.session()
        chip.flush(chip.created[-1])
        key = root.load()
        with refused(0x99D, "Sign"):
            chip.send(objects.sign_command(key, bytes(32)), primed)
        chip.send(objects.sign_command(key, house.loot.digest), primed)
        saved = chip.send(ContextSave(kept_back.handle)).context
        chip.forget(kept_back.handle)
    assert software.stop(software.directory_of(house.app.home))
    with house.root() as root, refused(0x1DF, "ContextLoad"):
        root.chip.send(ContextLoad(saved))


# ── replays of the increment ─────────────────────────────────────────────────────────────────────


def test_an_increment_replayed(house: House) -> None:
    """Its cpHash never changes. Service stops, nothing is undone, and `group change` goes on."""
    with house.root() as root:
        root.honest()
        before = epoch(root)
        for _ in range(3):
            increment(root, kept(house)[1])
        assert epoch(root) == before + 3
        with refused(0x126, "PolicyNV"):
            root.try_sign()
    house.change(RULE)
    fresh = house.steal_fresh()
    assert fresh.roster.epoch == before + 4
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign()
        root.honest(fresh)


def test_the_first_increment_replayed(still: House) -> None:
    """It was approved over the unwritten Name, which the counter has no more."""
    first = kept(still)[0]
    with still.root() as root:
        with refused(0x99D, "NV_Increment"):
            increment(root, first, written=False)
        root.honest()


# ── the roster index made anew ───────────────────────────────────────────────────────────────────


def test_the_roster_index_remade(house: House) -> None:
    """An identical one is unwritten: 0x14a. It takes nothing but what custodians approved."""
    first = kept(house)[2]
    with house.root() as root:
        root.honest()
        remake(root, roster_nv(root.group))
        with refused(0x14A, "PolicyAuthorizeNV"):
            root.try_sign()
        with refused(0x149, "NV_Write"):
            root.chip.send(NV_Write(RH.OWNER, root.group.roster_index, bytes(ROSTER_SIZE), 0))
        with refused(0x5DB, "PolicySigned"):
            write(root, mallory_alone(house), first, written=False)
        write(root, house.loot.roster, first, written=False)
        root.honest()


def test_the_first_roster_replayed(house: House) -> None:
    """Made anew, the index takes the first roster again, long after its epoch."""
    first = kept(house)[2]
    house.change(WITHOUT_BOB)
    current, fresh = last_change(house), house.steal_fresh()
    with house.root() as root:
        remake(root, roster_nv(root.group))
        write(root, house.loot.roster, first, written=False)
        with refused(0x126, "PolicyNV"):
            root.try_sign()
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(loot=fresh)
        write(root, *current)
        root.honest(fresh)


A = NvAttributes


@pytest.mark.parametrize(
    ("change", "by_owner"),
    [
        pytest.param({"attributes": A.OWNERWRITE}, True, id="owner writes"),
        pytest.param({"attributes": A.AUTHWRITE}, False, id="its password writes"),
        pytest.param({"attributes": A.OWNERWRITE, "auth_policy": b""}, True, id="no policy"),
        pytest.param({"attributes": A.OWNERWRITE, "data_size": 80}, True, id="another size"),
    ],
)
def test_a_roster_index_of_roots_own(house: House, change: dict[str, int], by_owner: bool) -> None:
    """Root's roster in root's index, and mallory's approval: the key names another index."""
    wanted = roster_nv(house.loot.group)
    attributes = wanted.attributes | change["attributes"]
    ours = pretend(house, mallory_alone(house), "mallory")
    with house.root() as root:
        root.honest()
        remake(root, wanted.replace(**{**change, "attributes": attributes}))
        authority = RH.OWNER if by_owner else wanted.nv_index
        content = roster_content(root.group, ours.roster)
        root.chip.send(NV_Write(authority, wanted.nv_index, content, 0))
        with refused(0x99D, "Sign"):
            root.try_sign(loot=ours)
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign()
        remake(root, wanted)
        write(root, house.loot.roster, kept(house)[2], written=False)
        root.honest()


def test_the_roster_index_remade_with_an_attribute_more(house: House) -> None:
    """The custodians' own approvals do not fit another index, be it as harmless as this."""
    wanted, first = roster_nv(house.loot.group), kept(house)[2]
    with house.root() as root:
        remake(root, wanted.replace(attributes=wanted.attributes | A.PPREAD))
        with refused(0x99D, "NV_Write"):
            write(root, house.loot.roster, first, written=False)
        with refused(0x14A, "PolicyAuthorizeNV"):
            root.try_sign()
        remake(root, wanted)
        write(root, house.loot.roster, first, written=False)
        root.honest()


# ── the indices as they are ──────────────────────────────────────────────────────────────────────


def test_the_owner_writes_no_index(still: House) -> None:
    """POLICYWRITE alone: not the owner (0x149), not an index's empty password (0x12f), not the
    platform, whose hierarchy is off (0x185).
    """
    group = still.loot.group
    with still.root() as root:
        for index in (group.roster_index, group.counter_index):
            for authority, rc in ((RH.OWNER, 0x149), (index, 0x12F), (RH.PLATFORM, 0x185)):
                for command in (
                    NV_Write(authority, index, bytes(COUNTER_SIZE), 0),
                    NV_Increment(authority, index),
                    NV_Extend(authority, index, b"x"),
                    NV_SetBits(authority, index, 1),
                    NV_WriteLock(authority, index),
                ):
                    with refused(rc, type(command).__name__):
                        root.chip.send(command)
        root.honest()


def test_the_indices_cannot_be_locked_or_renamed(still: House) -> None:
    """Nor can the platform hierarchy, which could remove more, be switched on again."""
    index = still.loot.group.roster_index
    for command, rc in (
        (NV_ReadLock(RH.OWNER, index), 0x282),
        (NV_ReadLock(index, index), 0x282),
        (NV_ChangeAuth(index, b"known to root"), 0x124),
        (NV_UndefineSpaceSpecial(index, RH.PLATFORM), 0x285),
        (HierarchyControl(RH.PLATFORM, RH.PLATFORM, True), 0x185),
        (HierarchyControl(RH.OWNER, RH.PLATFORM, True), 0x124),
        (Clear(RH.PLATFORM), 0x185),
    ):
        with still.root() as root:
            with refused(rc, type(command).__name__):
                root.chip.send(command)
            root.honest()


# ── the counter made anew ────────────────────────────────────────────────────────────────────────


def test_a_counter_remade_goes_on(house: House) -> None:
    """It begins above all that counters of this chip ever said."""
    first, _, roster = kept(house)
    with house.root() as root:
        before = epoch(root)
        remake(root, counter_nv(root.group))
        with refused(0x14A, "PolicyNV"):
            root.try_sign()
        increment(root, first, written=False)
        assert epoch(root) > before
        with refused(0x126, "PolicyNV"):
            root.try_sign()
        remake(root, roster_nv(root.group))
        write(root, house.loot.roster, roster, written=False)
        with refused(0x126, "PolicyNV"):
            root.try_sign()
    house.change(RULE)
    fresh = house.steal_fresh()
    with house.root() as root:
        root.honest(fresh)


def test_a_cleared_chip(house: House) -> None:
    """TPM2_Clear by the lockout hierarchy's empty password: the keys are lost, and still no counter
    goes back.
    """
    first = kept(house)[0]
    with house.root() as root:
        root.honest()
        before = epoch(root)
        root.chip.send(Clear(RH.LOCKOUT))
        with refused(0x1DF, "Load"):
            root.load()
        nv.define(root.chip, counter_nv(root.group))
        increment(root, first, written=False)
        assert epoch(root) > before


@pytest.mark.parametrize("kind", ["ordinary", "bits"])
def test_an_ordinary_index_posing_as_the_counter(house: House, kind: str) -> None:
    """It says the old epoch under another Name (0x1c4). The product takes it for no counter."""
    house.change(WITHOUT_BOB)
    fresh = house.steal_fresh()
    old, wanted = house.loot.roster.epoch, counter_nv(house.loot.group)
    attributes = wanted.attributes & ~(NT.COUNTER << 4) | A.OWNERWRITE
    if kind == "bits":
        attributes |= NT.BITS << 4
    index = wanted.nv_index
    with house.root() as root:
        root.honest(fresh)
        remake(root, wanted.replace(attributes=attributes))
        if kind == "bits":
            root.chip.send(NV_SetBits(RH.OWNER, index, old))
        else:
            root.chip.send(NV_Write(RH.OWNER, index, old.to_bytes(COUNTER_SIZE, "big"), 0))
        with refused(0x1C4, "PolicyOR"):
            root.try_sign()
        with pytest.raises(VerificationError, match="no counter"):
            epoch(root)
