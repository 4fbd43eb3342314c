"""Cards of members in a file of evidence: signed by the person's own key, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tpmhsm.errors import VerificationError
from tpmhsm.policy.approver import load_spki
from tpmhsm.policy.documents import Fields, parse_json
from tpmhsm.policy.people import CONTRIBUTION, Member
from tpmhsm.policy.tagged import CARD, check_statement

MAX_CARD = 1 << 16


@dataclass(frozen=True)
class CardFacts:
    """What a card says of its owner, after its signature was checked."""

    name: str
    spki: bytes
    contribution: bytes


@lru_cache(256)
def read_card(data: bytes) -> CardFacts:
    """Read a card. ParseError if it is none, VerificationError if it was changed."""
    document = parse_json(data, "card", MAX_CARD)
    fields = Fields(document, "card")
    fields.expect("format", CARD)
    card = CardFacts(
        fields.label("name"), fields.base64("spki"), fields.hex("contribution", CONTRIBUTION)
    )
    check_statement(load_spki(card.spki), CARD, document, fields.base64("signature"))
    return card


def check_cards(cards: Iterable[bytes], members: Iterable[Member]) -> tuple[str, ...]:
    """Check cards against the members of documents; return the names of those without a card.

    ParseError, VerificationError (`card-differs`) for a card that is none, was changed, or gives a
    member another key or another contribution than the document has.
    """
    found: dict[str, list[CardFacts]] = {}
    for data in cards:
        card = read_card(data)
        found.setdefault(card.name, []).append(card)
    return tuple(dict.fromkeys(one.name for one in members if not _has_card(one, found)))


def _has_card(member: Member, cards: dict[str, list[CardFacts]]) -> bool:
    of_name = cards.get(member.name, [])
    fitting = [card for card in of_name if card.spki == member.spki]
    if member.contribution:
        fitting = [card for card in fitting if card.contribution == member.contribution]
    if of_name and not fitting:
        raise VerificationError(
            f"the card of {member.name} is for another key or contribution than the document has",
            code="card-differs",
        )
    return bool(fitting)
