"""A host's answer to a custodian's nonce."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.approval.live import NONCE, Answer, qualifying
from tpmhsm.attest.statements import ChipState
from tpmhsm.errors import UsageError
from tpmhsm.keys.host import load_host
from tpmhsm.requests.drafts import device_card

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.store import Store


def certify_group(store: Store, groups: Groups, name: str, nonce: str) -> bytes:
    """The file for `trust check`: what the chip certifies of a group's counter and roster now.

    UsageError for a nonce that is not 64 hexadecimal digits.
    """
    if len(nonce) != 2 * NONCE or not set(nonce) <= set("0123456789abcdef"):
        raise UsageError(
            f"a nonce has {2 * NONCE} hexadecimal digits, in small letters",
            hint="tpmhsm trust challenge, on the custodian's machine, makes one",
            code="bad-nonce",
        )
    state, octets = groups.active(name), bytes.fromhex(nonce)
    held = groups.certify(state.group, qualifying(octets))
    card = device_card(load_host(store))
    return Answer(
        octets, state.group, state.roster, card, ChipState(*held.counter, *held.roster)
    ).data
