"""Root owns the NV indices: removes them, makes them anew, writes, replays what was approved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import acts_of, sign_ahash
from tpmhsm.cli.attacks.root import Loot, Root
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import still_signs
from tpmhsm.policy.bound import increment_command, roster_write_command
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.plan import Approvals, plan_increment, plan_roster_write
from tpmhsm.policy.tree import COUNTER_SIZE, ROSTER_SIZE, counter_nv, roster_content, roster_nv
from tpmhsm.tpm import policies
from tpmhsm.wire.commands import NV_DefineSpace, NV_Increment, NV_UndefineSpace, NV_Write
from tpmhsm.wire.constants import NT, RH, NvAttributes
from tpmhsm.wire.structures import NvPublic

if TYPE_CHECKING:
    from tpmhsm.policy.group import RosterDocument


def write(root: Root, roster: RosterDocument, votes: Approvals, *, written: bool = True) -> None:
    """A roster, with the approvals that custodians gave for one."""
    plan = plan_roster_write(root.group, roster, votes, written=written)
    policies.execute(root.chip, plan, roster_write_command(root.group, roster))


def increment(root: Root, votes: Approvals) -> None:
    """One step of the epoch, with approvals of one."""
    plan = plan_increment(root.group, votes, written=True)
    policies.execute(root.chip, plan, increment_command(root.group))


def remake(root: Root, index: NvPublic) -> None:
    """The owner removes an index and makes another at its place."""
    root.chip.send(NV_UndefineSpace(RH.OWNER, index.nv_index))
    root.chip.send(NV_DefineSpace(RH.OWNER, b"", index))


def mallory_alone(scene: Scene, loot: Loot) -> Loot:
    """The roster that root would like, and mallory's approval under it."""
    mallory = scene.house.mallory
    rule = Threshold(1, (mallory.card.member(contribution=False),))
    roster = replace(loot.roster, officers=(rule,))
    (act,) = acts_of(replace(loot.request, roster=roster, state=None))
    return replace(loot, roster=roster, votes={0: sign_ahash(mallory.key, act)})


def after(scene: Scene) -> None:
    """The custodians go on, and what they approve is signed."""
    scene.house.repair()
    with scene.root() as root:
        still_signs(scene, root)


def roster_replayed(scene: Scene) -> None:
    """A roster of before, written again by the approvals of then."""
    house = scene.house
    before, (_, votes) = house.fresh, house.votes(house.asked("roster"))
    past = house.app.desk.request(house.asked("roster").id).asked_roster
    house.change()
    with scene.root() as root:
        scene.able("the roster of before, by its own approvals", lambda: write(root, past, votes))
        scene.refused("approvals of that roster's epoch", 0x126,
                      lambda: root.try_sign(loot=before))  # fmt: skip
        scene.refused("approvals of the roster that was in force", 0x084, root.try_sign)
    after(scene)


def roster_remade(scene: Scene) -> None:
    """An identical index is unwritten."""
    house, ours = scene.house, mallory_alone(scene, scene.house.fresh)
    first = house.votes(house.asked("group"))[2]
    with scene.root() as root:
        scene.able("the roster index removed, and an identical one made",
                   lambda: remake(root, roster_nv(root.group)))  # fmt: skip
        scene.refused("sign, with true approvals", 0x14A, root.try_sign)
        empty = NV_Write(RH.OWNER, root.group.roster_index, bytes(ROSTER_SIZE), 0)
        scene.refused("the owner writes it", 0x149, lambda: root.chip.send(empty))
        scene.refused(
            "root's own roster, by the approvals of the first", 0x5DB,
            lambda: write(root, ours.roster, first, written=False),
        )  # fmt: skip
    after(scene)


def roster_of_roots_own(scene: Scene) -> None:
    """An index that the owner may write, with root's roster in it."""
    ours = mallory_alone(scene, scene.house.fresh)
    with scene.root() as root:
        wanted = roster_nv(root.group)
        weak = wanted.replace(attributes=wanted.attributes | NvAttributes.OWNERWRITE)
        content = roster_content(root.group, ours.roster)
        written = NV_Write(RH.OWNER, wanted.nv_index, content, 0)
        scene.able("the roster index remade so that the owner may write it",
                   lambda: remake(root, weak))  # fmt: skip
        scene.able("mallory alone as the officers, written into it",
                   lambda: root.chip.send(written))  # fmt: skip
        scene.refused("sign with mallory's approval", 0x99D, lambda: root.try_sign(loot=ours))
        scene.refused("sign with the officers' approvals", 0x084, root.try_sign)
        root.chip.send(NV_UndefineSpace(RH.OWNER, wanted.nv_index))
    after(scene)


def owner_writes(scene: Scene) -> None:
    """The owner, the empty password, and the platform write the group's indices."""
    with scene.root() as root:
        for words, index in (("roster", root.group.roster_index),
                             ("counter", root.group.counter_index)):  # fmt: skip
            for who, authority, rc in (("the owner", RH.OWNER, 0x149),
                                       ("the empty password", index, 0x12F),
                                       ("the platform hierarchy", RH.PLATFORM, 0x185)):  # fmt: skip
                command = (
                    NV_Write(authority, index, bytes(8), 0)
                    if words == "roster"
                    else NV_Increment(authority, index)
                )
                scene.refused(f"the {words}, by {who}", rc,
                              lambda c=command: root.chip.send(c))  # type: ignore[misc]  # fmt: skip
        still_signs(scene, root)


def fake_counter(scene: Scene) -> None:
    """An ordinary index says the old epoch, in the counter's place."""
    past = scene.house.past
    with scene.root() as root:
        wanted = counter_nv(root.group)
        kind = wanted.attributes & ~(NT.COUNTER << 4) | NvAttributes.OWNERWRITE
        value = past.roster.epoch.to_bytes(COUNTER_SIZE, "big")
        written = NV_Write(RH.OWNER, wanted.nv_index, value, 0)
        scene.able("the counter removed, an ordinary index in its place",
                   lambda: remake(root, wanted.replace(attributes=kind)))  # fmt: skip
        scene.able(f"{past.roster.epoch} written into it, which is the old epoch",
                   lambda: root.chip.send(written))  # fmt: skip
        scene.refused("sign with the approvals of the old epoch", 0x1C4,
                      lambda: root.try_sign(loot=past))  # fmt: skip
        root.chip.send(NV_UndefineSpace(RH.OWNER, wanted.nv_index))
    after(scene)


def increment_replayed(scene: Scene) -> None:
    """The cpHash of an increment never changes."""
    house = scene.house
    votes = house.votes(house.asked("roster"))[0]
    with scene.root() as root:
        scene.able("one step of the epoch, by the approvals of the last",
                   lambda: increment(root, votes))  # fmt: skip
        scene.refused("sign in the epoch that is over now", 0x126, root.try_sign)
        scene.refused("sign with approvals of the first epoch", 0x126,
                      lambda: root.try_sign(loot=house.past))  # fmt: skip
    after(scene)
