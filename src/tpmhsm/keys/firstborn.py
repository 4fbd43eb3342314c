"""The first keys of a group that is still to be founded.

A key's policy names the roster index, not what stands in it, so keys can be made before anybody
has approved anything; and a roster can name the keys that its officers may open from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import anchor

if TYPE_CHECKING:
    from tpmhsm.keys.births import Wanted
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.policy.compile import KeyPolicy
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip


def make_first(keyring: Keyring, group: GroupDocument, wanted: Sequence[Wanted]) -> list[KeyRow]:
    """Have the chip make keys whose policies name this group alone; none is kept yet, and the
    indices that count their budgets are not made (`Budgets.make_all`).

    Raises ExistsError for a taken label, UsageError for a policy that the key cannot have.
    """
    taken = [group.counter_index, group.roster_index]
    found = []
    for one in wanted:
        keyring.must_be_free(one.label)
        bound = _bound(one, group)

        def place(chip: Chip, bound: KeyPolicy = bound) -> KeyPolicy:
            placed = keyring.budgets.place_after(chip, bound, *taken)
            taken.extend(placed.budgets.values())
            return placed

        found.append(keyring.make(one, place, group.id.hex(), indices=False))
    return found


def _bound(wanted: Wanted, group: GroupDocument) -> KeyPolicy:
    policy = read_policy(wanted.policy).for_command(wanted.command)
    indices = {label: anchor(group, wanted.command) for label in policy.rosters}
    policy = replace(policy, indices=indices)
    return policy.copied_by(group) if wanted.backup_to or policy.backup else policy
