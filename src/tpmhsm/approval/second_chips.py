"""A group's further chips: what a custodian's home demands before a key may be copied to one.

    kept = make_challenge(card.ek_public, card.ak_public, now)        trust challenge CARD
    answer = parse_answer(file)                                       group certify --challenge F
    found = check_second_chip(answer, memory, means)                  trust check FILE
    must_know_parent(copy, memory)                                    review of a request `backup`

The challenge is an activation (`tpmhsm.attest.credential`), and its digest the nonce: one file asks
whether the attestation key sits beside the endorsement key of that chip, for the group's counter
and roster there, and for the storage key under which the chip takes copies.

A counter below an epoch that was ever approved would let a removed officer live on there: root has
all approvals, and brings the old roster in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from tpmhsm.approval.content import Flag
from tpmhsm.approval.live import Answer, certified, check_nonce
from tpmhsm.approval.memory import Entries, Epoch, Memory, SecondChip
from tpmhsm.approval.standing import check_known, first_epoch, known_rosters, refuse
from tpmhsm.attest.credential import Kept, check_response
from tpmhsm.attest.parents import ParentProof, check_parent, parent_qualifying
from tpmhsm.attest.roots import HARDWARE, Pins
from tpmhsm.errors import ApprovalRefusedError, ParseError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.approval.cards import DeviceCard
    from tpmhsm.policy.copying import CopyDocument
    from tpmhsm.policy.group import GroupDocument

_CARD = "get the card of that device from its owner, not from its host, then: tpmhsm trust add CARD"
_ASK = "tpmhsm trust challenge CARD, of that chip's card; its host answers by group certify"


@dataclass(frozen=True)
class Means:
    """What a home brings: the challenge that it kept, its pinned vendor roots, the time."""

    kept: Kept | None
    now: datetime
    pins: Pins = field(default_factory=Pins)


def check_second_chip(answer: Answer, memory: Memory, means: Means) -> Entries:
    """Check a further chip's answer to a challenge of this home; what to remember, which uses up
    the challenge.

    ApprovalRefusedError: `stale-nonce`, `unknown-group`, `card-missing`, `not-activated` (no
    challenge of this home, or what its chip answered does not hold), `ek-certificate`, `state`,
    `parent`, `not-in-force`, `counter-behind`, `two-rosters`, `memory-lost`.
    """
    group, roster = answer.group, answer.roster
    check_nonce(answer, memory)
    if memory.pinned_group(group.id) is None:
        raise refuse(
            f'this home has never approved for the group "{group.name}"',
            "unknown-group",
            hint="approve a request of the group here, its founding one, say, which tells you the "
            "words to compare; or ask in the home in which you approved one",
        )
    card = _check_card(answer.device, memory)
    _check_activation(answer, means)
    counter = certified(answer)
    parent = _check_parent(answer)
    if counter != roster.epoch:
        raise refuse(
            f"the counter of that chip is at {counter}, and its roster is of epoch {roster.epoch}:"
            " nothing is in force there",
            "not-in-force",
            hint="tpmhsm group export on the first host, group join on that one",
        )
    known = known_rosters(memory, group.id)
    check_known(roster, known)
    _must_reach(counter, _floor(group, memory, known), group.name)
    kind = _kind(answer.device, means)
    second = SecondChip(group.id, card, parent, counter, kind, answer.nonce)
    return Entries(epochs=(Epoch(group.id, roster.epoch, roster.hash),), second=second)


def must_know_parent(copy: CopyDocument, memory: Memory) -> SecondChip:
    """Return the chip that a copy is asked for, as it answered this home's own challenge.

    ApprovalRefusedError: `unknown-parent` for one that never did, `other-parent` for another
    storage key than it certified then, `counter-behind` when this home has approved a later epoch
    since.
    """
    chips = {one.card.ak_name: one for one in memory.second_chips(copy.group)}
    found = chips.get(copy.device_ak)
    if found is None or found.card.find_ek(copy.device_ek) is None:
        raise refuse(
            "this home has never asked the chip that the copy is for: nothing shows that it is a"
            " chip, and that the copy could not be taken out of it",
            "unknown-parent",
            hint=_ASK,
        )
    if copy.parent_name != found.parent_name:
        raise refuse(
            "the copy is for another storage key than the one that the chip certified to this home",
            "other-parent",
            hint=f"if that chip was cleared since, ask anew: {_ASK}",
        )
    known = known_rosters(memory, copy.group)
    _must_reach(found.counter, max(known, default=0), "")
    return found


def cautions(second: SecondChip) -> list[Flag]:
    """What there is to say against a chip, on each screen that shows it."""
    if second.kind in HARDWARE:
        return []
    what = {
        "virtual": "a virtual TPM: whoever runs its host has its keys",
        "emulator": "a software TPM: whoever has its files has the copy, without you",
    }.get(second.kind, "no maker vouches for it (tpmhsm attest roots): it may be software")
    return [Flag("CHIP", what)]


def second_chip(device: DeviceCard, group: bytes, memory: Memory) -> SecondChip | None:
    """The further chip of a group that a card is of, if it answered this home."""
    held = (device.ak_name, device.ek_public)
    chips = memory.second_chips(group)
    return next((one for one in chips if (one.card.ak_name, one.card.ek_public) == held), None)


# ── the parts of the check ───────────────────────────────────────────────────


def _check_card(device: DeviceCard, memory: Memory) -> DeviceCard:
    """The device under the name that its owner gave it: what its host calls it does not count."""
    for held in memory.device_cards():
        if (held.ak_name, held.ek_public) == (device.ak_name, device.ek_public):
            return replace(device, label=held.label, kind=held.kind)
    raise refuse(
        "this home does not trust the card of the device that answers: it may be anybody's",
        "card-missing",
        hint=_CARD,
    )


def _check_activation(answer: Answer, means: Means) -> None:
    kept, device = means.kept, answer.device
    if kept is None or answer.response is None or kept.challenge.digest != answer.nonce:
        raise refuse(
            "nothing shows that the attestation key that answers sits in a chip: the answer is to"
            " a plain nonce",
            "not-activated",
            hint="tpmhsm trust challenge CARD --out F; on that host: tpmhsm group certify GROUP"
            " --challenge F",
        )
    if (kept.challenge.ek, kept.challenge.ak) != (device.ek_public, device.ak_public):
        raise refuse("another device answers than the one that was asked", "not-activated")
    try:
        check_response(kept, answer.response, means.now)
    except VerificationError as e:
        raise refuse(e.message, "not-activated", hint=e.hint) from None


def _check_parent(answer: Answer) -> bytes:
    parent: ParentProof | None = answer.parent
    if parent is None:
        raise refuse("the answer shows no storage key that takes copies", "parent", hint=_ASK)
    try:
        return check_parent(parent, answer.device.ak_public, parent_qualifying(answer.nonce))
    except (VerificationError, ParseError) as e:
        raise refuse(
            f"the storage key that should take the copy is not believed: {e.message}", "parent"
        ) from None


def _floor(group: GroupDocument, memory: Memory, known: dict[int, bytes]) -> int:
    """The highest epoch that this home may have approved, also if it has forgotten it."""
    first = first_epoch(group, memory)
    if first is None:
        raise refuse(
            "this home's memory does not reach back to the founding: it cannot know which epochs"
            " you approved before",
            "memory-lost",
            hint="tpmhsm trust challenge, answered by the group's own chip, begins anew",
        )
    return max([*known, first - 1])


def _must_reach(counter: int, floor: int, group: str) -> None:
    if counter < floor:
        of = f' of "{group}"' if group else ""
        raise refuse(
            f"the counter{of} of that chip is at {counter}, and this home approved epoch {floor}:"
            " officers who were removed since could be brought back there",
            "counter-behind",
            hint="tpmhsm group export on the first host, group join on that one; then ask it anew",
        )


def _kind(device: DeviceCard, means: Means) -> str:
    """What kind of chip the pinned roots make it. Refuses a certificate that does not hold."""
    from tpmhsm.attest.ek_certificates import judge_ek, normal_spki
    from tpmhsm.attest.public_keys import spki_of_public

    if not device.ek_certificates:
        return ""
    try:
        pins = means.pins
        judged = judge_ek(device.ek_certificates[0], pins.roots, pins.intermediates, means.now)
        own = normal_spki(spki_of_public(device.ek_public))
    except ParseError as e:
        raise _bad_certificate(e.message) from None
    if judged.spki != own:
        raise _bad_certificate("it is another endorsement key's")
    if judged.broken:
        raise _bad_certificate(judged.broken[0].words)
    return judged.root.kind if judged.holds and judged.root else ""


def _bad_certificate(why: str) -> ApprovalRefusedError:
    return refuse(
        f"the certificate of that chip's endorsement key does not hold: {why}", "ek-certificate"
    )
