"""Static groups are founded without a request: nobody has to approve what the chip does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.keys.statics import found_static
from tpmhsm.policy.people import members_of
from tpmhsm.requests.drafts import rule

if TYPE_CHECKING:
    from tpmhsm.requests.drafts import Drafts
    from tpmhsm.store import Store
    from tpmhsm.store.groups import GroupRow
    from tpmhsm.tpm.device import Device


def propose_static(
    store: Store, device: Device, drafts: Drafts, name: str, officers: str
) -> GroupRow:
    """Found a static group of people whose cards were added; see `found_static`.

    Each of them sees the group, and its eight words, at the first use of one of its keys.
    """
    cards = drafts.cards()
    people = rule(cards, officers, contribution=True)
    contributions = [cards[member.name].contribution for member in members_of(people)]
    return found_static(store, device, name, people, contributions)
