"""Which roster is in force now, certified by the chip over a nonce of the custodian's own tool.

What a request certifies was true once: root may have kept it. An answer over a nonce that this home
made shows what is true since. So it says that a change is in force; and it gives a home that lost
its memory a beginning: whatever it approved before was for an epoch up to the certified one plus
one, since a counter never goes back. It abstains for that epoch, and knows everything after it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tpmhsm.approval.cards import DeviceCard, parse_device_card
from tpmhsm.approval.files import read_json
from tpmhsm.approval.memory import Entries, Epoch, Live, Memory
from tpmhsm.approval.standing import check_known, first_epoch, known_rosters, refuse
from tpmhsm.attest.credential import Response, parse_response
from tpmhsm.attest.parents import ParentProof
from tpmhsm.attest.statements import ChipState, check_state
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.documents import Fields, canonical, encode_json, to_base64
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair, parse_group, parse_roster

FORMAT = "tpmhsm/certified/1"
NONCE = 32
MAX_CHALLENGES = 16
"""So many nonces may be unanswered; the oldest are forgotten."""

_STATE = ("counter_attest", "counter_signature", "roster_attest", "roster_signature")


def new_nonce() -> bytes:
    """A nonce to hand out, once the memory keeps it."""
    return secrets.token_bytes(NONCE)


def qualifying(nonce: bytes) -> bytes:
    """What the chip certifies over: SHA-256(format ‖ 0x00 ‖ nonce), 32 bytes."""
    return sha256(FORMAT.encode() + b"\0" + nonce).digest()


@dataclass(frozen=True)
class Answer:
    """What a host answers: the group's documents, the device, and NV_Certify of counter and roster
    over `qualifying(nonce)`. UsageError for a nonce of another length, or another group's roster.

    A chip that joined the group adds the storage key under which it takes copies (`parent`), and
    `response`, when the nonce is the digest of an activation's challenge.
    """

    nonce: bytes
    group: GroupDocument
    roster: RosterDocument
    device: DeviceCard
    state: ChipState
    parent: ParentProof | None = None
    response: Response | None = None

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE:
            raise UsageError(f"a nonce has {NONCE} bytes, not {len(self.nonce)}")
        check_pair(self.group, self.roster)

    @property
    def data(self) -> bytes:
        """The file."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "nonce": self.nonce.hex(),
            "group": read_json(self.group.encoded, "group", 1 << 20),
            "roster": read_json(self.roster.encoded, "roster", 1 << 20),
            "device": read_json(self.device.data, "device card", 1 << 20),
            "state": {part: to_base64(getattr(self.state, part)) for part in _STATE},
        }
        if self.parent is not None:
            document["parent"] = self.parent.encode()
        if self.response is not None:
            document["response"] = read_json(self.response.encoded, "response", 1 << 20)
        return canonical(document) + b"\n"


def is_answer(data: bytes) -> bool:
    """Whether a file says that it is an answer."""
    try:
        return read_json(data, "certified state", 1 << 20).get("format") == FORMAT
    except ParseError:
        return False


def parse_answer(data: bytes) -> Answer:
    """Read an answer's file. ParseError for anything amiss."""
    what = "certified state"
    document = read_json(data, what, 1 << 20)
    fields = Fields(document, what)
    fields.expect("format", FORMAT)
    nonce, state = fields.hex("nonce", NONCE), fields.fields("state")
    parts = [_embedded(fields, document, name) for name in ("group", "roster", "device")]
    certified = ChipState(*(state.base64(part) for part in _STATE))
    state.done()
    parent = ParentProof.read(fields.fields("parent")) if fields.has("parent") else None
    response = None
    if fields.has("response"):
        response = parse_response(_embedded(fields, document, "response"))
    fields.done()
    group, roster, device = parse_group(parts[0]), parse_roster(parts[1]), parts[2] + b"\n"
    try:
        card = parse_device_card(device)
        return Answer(nonce, group, roster, card, certified, parent, response)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None


def _embedded(fields: Fields, document: dict[str, Any], name: str) -> bytes:
    fields.fields(name)
    return encode_json(document[name])


@dataclass(frozen=True)
class Checked:
    """A group's state as its chip certified it now: the counter; whether the roster shown is in
    force; the first epoch for which this home approves a change; and what to remember.
    """

    counter: int
    in_force: bool
    approves_from: int
    entries: Entries


def check_answer(answer: Answer, memory: Memory) -> Checked:
    """Check an answer against this home's memory. The entries, once kept, use up the nonce.

    ApprovalRefusedError: `stale-nonce` for a nonce that this home has not made, or that was
    answered; `other-device`; `state` when what is certified does not hold; `two-rosters` when the
    chip holds another roster than this home knows for the epoch.
    """
    group, roster = answer.group, answer.roster
    check_nonce(answer, memory)
    if answer.device.ak_name != group.device_ak or answer.device.find_ek(group.device_ek) is None:
        raise refuse("the device card is not of the group's device", "other-device")
    counter = certified(answer)
    in_force = counter == roster.epoch
    known = known_rosters(memory, group.id)
    if in_force:
        check_known(roster, known)
    if known and counter + 1 < max(known):
        raise refuse(
            f"the chip certifies epoch {counter}; this home approved for {max(known)}: a counter"
            " never goes back",
            "lower-epoch",
            hint="this is another chip, or the state of a software TPM was put back",
        )
    epochs = (Epoch(group.id, roster.epoch, roster.hash),) if in_force else ()
    entries = Entries(epochs=epochs, live=Live(group.id, counter, answer.nonce))
    first = first_epoch(group, memory, counter) or 0
    return Checked(counter, in_force, max(counter + 1, first), entries)


def check_nonce(answer: Answer, memory: Memory) -> None:
    """Refuse (`stale-nonce`) what does not answer a nonce that this home waits for."""
    if answer.nonce not in memory.challenges():
        raise refuse(
            "this home has not made the nonce that was answered, or it was answered before",
            "stale-nonce",
            hint="tpmhsm trust challenge makes another",
        )


def certified(answer: Answer) -> int:
    """Return the counter that the answering device certifies with the roster; refuse (`state`) what
    does not hold.
    """
    ak, over = answer.device.ak_public, qualifying(answer.nonce)
    try:
        return check_state(answer.state, ak, answer.group, answer.roster, over)
    except VerificationError as e:
        raise refuse(f"the chip's certified state does not hold: {e.message}", "state") from None
