"""Budgets: root has every grant that was ever approved, and the password of the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import OTHER
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.policy.budgets import budget_auth, budget_nv, parse_grant
from tpmhsm.policy.plan import Officers, Plan, Spend, plan_grant, plan_use
from tpmhsm.policy.tree import roster_name
from tpmhsm.requests.desk import votes_by_act
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.wire.commands import NV_DefineSpace, NV_UndefineSpace, NV_Write
from tpmhsm.wire.constants import RH


def plan_of(scene: Scene, label: str = "issuing") -> Plan:
    """The honest steps of a signature out of a budget."""
    row = scene.house.row(label)
    policy = policy_of_row(row, scene.house.app.groups)
    spend = Spend(budget_auth(row.private))
    return plan_use(policy, policy.alternatives[0], row.public, OTHER, None, spend)


def sign(chip: Chip, row: KeyRow, plan: Plan) -> None:
    """A signature by the steps of a plan."""
    key = objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)
    try:
        policies.execute(chip, plan, objects.sign_command(key, OTHER))
    finally:
        chip.flush_all()


def replay(scene: Scene, number: int) -> Callable[[Chip], Any]:
    """The write of a grant, by the approvals that were given for it."""
    request = scene.house.app.desk.request(number)
    assert request.roster is not None  # noqa: S101 - a grant has officers
    (votes,) = votes_by_act(request)
    grant = parse_grant(request.content)
    plan = plan_grant(Officers(request.group, request.roster, votes), grant)
    return lambda chip: policies.execute(chip, plan, grant.command())


def _spend(scene: Scene, chip: Chip, units: int) -> None:
    row, plan = scene.house.row("issuing"), plan_of(scene)
    for number in range(units):
        scene.able(f"unit {number + 1} of {units}: any digest", lambda: sign(chip, row, plan))


def refill(scene: Scene) -> None:
    """Spend all, remove the index, make it anew, replay what officers approved."""
    house = scene.house
    house.grants_of_now()
    first, later = replay(scene, house.grants[0]), replay(scene, house.grants[-1])
    row, plan, budget = house.row("issuing"), plan_of(scene), house.budget
    fresh = budget_nv(budget.index, roster_name(house.group.group))
    with scene.chip() as chip:
        _spend(scene, chip, budget.left)
        scene.refused("a signature more", 0x12F, lambda: sign(chip, row, plan))
        scene.able("the last grant replayed, which says the same total", lambda: later(chip))
        scene.refused("a signature more", 0x12F, lambda: sign(chip, row, plan))
        scene.able("the index removed, and an identical one made", lambda: (
            chip.send(NV_UndefineSpace(RH.OWNER, budget.index)),
            chip.send(NV_DefineSpace(RH.OWNER, budget_auth(row.private), fresh)),
        ))  # fmt: skip
        scene.refused("a signature out of the new index", 0x12F, lambda: sign(chip, row, plan))
        scene.refused("the first grant replayed", 0x1CF, lambda: first(chip))
        scene.refused("the last grant replayed", 0x99D, lambda: later(chip))
    house.forget_grants()


def of_another_key(scene: Scene) -> None:
    """The units of a harmless key, for the issuing key."""
    house = scene.house
    other = house.other_budget()
    row, honest, theirs = house.row("issuing"), plan_of(scene), plan_of(scene, other.key)
    swapped = replace(
        honest, indices=dict.fromkeys(honest.indices, other.index), spend=theirs.spend
    )
    with scene.chip() as chip:
        scene.refused("a signature, with a unit of the other key", 0x99D,
                      lambda: sign(chip, row, swapped))  # fmt: skip
        scene.honest("a signature, with a unit of its own", lambda: sign(chip, row, honest))


def owner_writes(scene: Scene) -> None:
    """The limit, by whoever is not the officers."""
    index, more = scene.house.budget.index, (1000).to_bytes(4, "big")
    with scene.chip() as chip:
        for who, authority, rc in (("the owner", RH.OWNER, 0x149),
                                   ("the empty password", index, 0x12F),
                                   ("the platform hierarchy", RH.PLATFORM, 0x185)):  # fmt: skip
            command = NV_Write(authority, index, more, 4)
            scene.refused(f"a limit of 1000, by {who}", rc,
                          lambda c=command: chip.send(c))  # type: ignore[misc]  # fmt: skip


def burn(scene: Scene) -> None:
    """What is granted, root may use."""
    row, plan, left = scene.house.row("issuing"), plan_of(scene), scene.house.budget.left
    with scene.chip() as chip:
        for number in range(left):
            scene.granted(f"unit {number + 1} of {left}: any digest at all",
                          lambda: sign(chip, row, plan))  # fmt: skip
        scene.refused("and one more", 0x12F, lambda: sign(chip, row, plan))
