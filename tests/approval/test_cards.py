"""Cards of people and of devices."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import Chip, ecc_public, identity

from tpmhsm.approval.cards import (
    create_card,
    create_device_card,
    describe_card,
    describe_device_card,
    parse_card,
    parse_device_card,
)
from tpmhsm.attest.statements import AK_ATTRIBUTES
from tpmhsm.errors import ParseError, TpmHsmError, UsageError, VerificationError
from tpmhsm.policy.documents import canonical
from tpmhsm.wire.constants import ObjectAttributes as A


@pytest.mark.parametrize("who", ["alice", "rsa-ruth"])
def test_a_card_comes_back_as_it_was(who: str) -> None:
    data = create_card(who, identity(who))
    card = parse_card(data)
    assert card.name == who and card.kind == "file" and len(card.contribution) == 32
    assert card.key == identity(who).public_key
    assert card.data == data
    assert json.dumps(describe_card(card))


def test_two_cards_of_one_key_contribute_differently() -> None:
    one, two = (parse_card(create_card("alice", identity("alice"))) for _ in range(2))
    assert one.spki == two.spki and one.contribution != two.contribution


@given(field=st.sampled_from(["name", "kind", "spki", "contribution", "created", "signature"]))
def test_no_field_of_a_card_can_be_exchanged(field: str) -> None:
    mine = json.loads(create_card("alice", identity("alice")))
    other = json.loads(create_card("mallory", identity("mallory")))
    other["created"], other["kind"] = "2020-01-01T00:00:00Z", "yubikey"
    mine[field] = other[field]
    with pytest.raises((ParseError, VerificationError)):
        parse_card(canonical(mine))


@pytest.mark.parametrize("name", ["", "a b\n", "x" * 65, "../x", "a,b", "a:b", "al\u202eice", "-x"])
def test_names_that_would_confuse_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        create_card(name, identity("alice"))


def test_unknown_fields_and_formats_are_refused() -> None:
    document = json.loads(create_card("alice", identity("alice")))
    for change in ({"more": 1}, {"format": "tpmhsm/card/2"}, {"format": None}):
        with pytest.raises((ParseError, VerificationError)):
            parse_card(canonical({**document, **change}))


@given(st.binary(max_size=200))
def test_garbage_is_a_parse_error(data: bytes) -> None:
    for parse in (parse_card, parse_device_card):
        with pytest.raises(TpmHsmError):
            parse(data)


def test_a_device_card_comes_back_as_it_was() -> None:
    card = Chip().card
    again = parse_device_card(card.data)
    assert again == card and again.digest == card.digest
    assert again.find_ek(__import__("hashlib").sha256(card.ek_certificates[0]).digest())
    assert again.find_ek(bytes(32)) is None
    assert json.dumps(describe_device_card(card))


def test_without_ek_certificate_the_public_area_stands_in() -> None:
    public = Chip().card.ak_public
    card = create_device_card("host", "hardware", (), b"ek", public)
    assert card.ek_evidence == b"ek"


@pytest.mark.parametrize(
    "attributes",
    [
        AK_ATTRIBUTES & ~A.RESTRICTED,
        AK_ATTRIBUTES & ~A.FIXED_TPM,
        AK_ATTRIBUTES & ~A.FIXED_PARENT,
        AK_ATTRIBUTES & ~A.SENSITIVE_DATA_ORIGIN,
        AK_ATTRIBUTES | A.DECRYPT,
    ],
)
def test_a_key_that_signs_anything_is_no_attestation_key(attributes: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ParseError):
        create_device_card("host", "hardware", (), b"ek", ecc_public(key, attributes))


def test_kinds_are_words_we_know() -> None:
    document = json.loads(Chip().card.data)
    with pytest.raises(ParseError, match="kind"):
        parse_device_card(canonical({**document, "kind": "quantum"}))


def test_an_ak_under_another_name_is_refused() -> None:
    document = json.loads(Chip().card.data)
    document["ak"]["name"] = "000b" + "00" * 32
    with pytest.raises(ParseError, match="Name"):
        parse_device_card(canonical(document))
