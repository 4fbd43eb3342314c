"""A host's answer to a custodian's nonce, or to a custodian's challenge to a chip."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.approval.live import NONCE, Answer, qualifying
from tpmhsm.attest.credential import answer_of, parse_challenge
from tpmhsm.attest.parents import parent_qualifying
from tpmhsm.attest.statements import ChipState
from tpmhsm.errors import UsageError
from tpmhsm.keys.activation import open_credential
from tpmhsm.keys.host import load_host
from tpmhsm.keys.receiving import certify_receiving
from tpmhsm.requests.drafts import device_card

if TYPE_CHECKING:
    from tpmhsm.attest.credential import Response
    from tpmhsm.keys.groups import Groups
    from tpmhsm.store import Store
    from tpmhsm.tpm.device import Device


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
    return _certified(store, groups, name, bytes.fromhex(nonce)).data


def answer_challenge(
    store: Store, device: Device, groups: Groups, name: str, challenge: bytes
) -> bytes:
    """The file for `trust check` of a chip that is to take copies: that its attestation key sits in
    it, the group's state there, and the storage key for copies, which is made the first time.

    ParseError for what is no challenge, RefusedError for another chip's, ChipRefusedError.
    """
    asked = parse_challenge(challenge)
    secret = open_credential(store, device, (asked.ek, asked.ak), (asked.credential, asked.secret))
    response, nonce = answer_of(asked, secret), asked.digest
    answer = _certified(store, groups, name, nonce, response)
    parent = certify_receiving(store, device, parent_qualifying(nonce))
    return replace(answer, parent=parent).data


def _certified(
    store: Store, groups: Groups, name: str, nonce: bytes, response: Response | None = None
) -> Answer:
    state = groups.active(name)
    held = groups.certify(state.group, qualifying(nonce))
    card, certified = device_card(load_host(store)), ChipState(*held.counter, *held.roster)
    return Answer(nonce, state.group, state.roster, card, certified, response=response)
