"""What cards say of tokens: read strictly, shown harmlessly, never believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import SoftIdentity, World, identity
from tests.approval.looking import founded, look

from tpmhsm.approval.cards import create_card, describe_card, parse_card
from tpmhsm.approval.display import render
from tpmhsm.approval.statements import sign_statement
from tpmhsm.approval.tokens import TokenInfo
from tpmhsm.errors import ParseError
from tpmhsm.policy.tagged import CARD

INFO = TokenInfo("work", "Maker", "Model", "0001", ("software: no hardware",))


class InToken(SoftIdentity):
    kind = "pkcs11"
    token = INFO  # type: ignore[assignment]
    description = 'key "a" in token "work"'

    def __init__(self) -> None:
        super().__init__(identity("alice").private)
        self.description = type(self).description


def card_with(token: object, kind: str = "pkcs11") -> bytes:
    """A card that a stranger wrote with a program of his own."""
    import json

    document = json.loads(create_card("alice", InToken()))
    document |= {"kind": kind, "token": token}
    del document["signature"], document["format"]
    return sign_statement(InToken(), CARD, document)


def test_it_comes_back_as_it_was_and_is_not_proven() -> None:
    card = parse_card(create_card("alice", InToken()))
    assert card.token == INFO
    shown = describe_card(card)
    assert shown["token"] == INFO.document
    assert shown["proof"] == (
        'not proven: token "work" (Model, 0001) says so of itself; software: no hardware'
    )


@pytest.mark.parametrize(
    "change",
    [
        {"label": 7},
        {"serial": None},
        {"cautions": "x"},
        {"cautions": ["x"] * 9},
        {"cautions": [1]},
        {"model": "x" * 201},
        {"cautions": ["x" * 201]},
        {"attested": True},
    ],
)
def test_what_is_no_token_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ParseError):
        parse_card(card_with({**INFO.document, **change}))
    with pytest.raises(ParseError):
        parse_card(card_with("SoftHSM"))


@pytest.mark.parametrize("kind", ["file", "yubikey"])
def test_only_cards_of_tokens_have_one(kind: str) -> None:
    with pytest.raises(ParseError, match="unknown fields"):
        parse_card(card_with(INFO.document, kind))


@given(text=st.text(max_size=200))
def test_a_tokens_words_hide_nothing(text: str) -> None:
    words = TokenInfo(text, text, text, text, (text,)).unproven
    assert words.startswith("not proven") and words.isprintable()


def test_the_screen_says_what_speaks_against_the_own_key() -> None:
    world = World()
    memory = founded(world)
    checked = look(world.certificate(), memory)
    assert "YOUR KEY" not in render(checked)
    from tpmhsm.approval.review import review

    shown = render(review(world.certificate(), memory, InToken(), "alice", checked.now))
    assert "! YOUR KEY" in shown and "software: no hardware" in shown
