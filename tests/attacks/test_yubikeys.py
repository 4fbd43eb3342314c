"""Keys that are said to be in YubiKeys and are not; and what the card's own word is worth."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import SoftIdentity
from tests.approval.test_yubico import ROOTS, SERIAL, chain, der, facts, spki
from tests.tokens import attestations as made

from tpmhsm.approval import yubico
from tpmhsm.approval.cards import Card, create_card, parse_card
from tpmhsm.approval.yubico import Attestation
from tpmhsm.errors import VerificationError
from tpmhsm.policy.documents import canonical


class Boaster(SoftIdentity):
    """A key in memory whose owner's tool was changed to say that it is in a YubiKey."""

    kind = "yubikey"


@pytest.fixture(autouse=True)
def roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' root in the place of Yubico's: what follows fails for other reasons."""
    monkeypatch.setattr(yubico, "pinned", lambda: ROOTS)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def card(key: ec.EllipticCurvePrivateKey, attestation: Attestation | None) -> Card:
    return parse_card(create_card("mallory", Boaster(key), attestation=attestation))


def words(found: Card) -> str:
    assert found.proof is not None
    assert found.proof.attested is None
    return found.proof.words


def test_a_file_key_called_a_yubikey(key: ec.EllipticCurvePrivateKey) -> None:
    assert words(card(key, None)).startswith("not proven to be on a YubiKey")


def test_the_attestation_of_somebody_elses_yubikey(key: ec.EllipticCurvePrivateKey) -> None:
    others = ec.generate_private_key(ec.SECP256R1())
    honest = parse_card(create_card("alice", Boaster(others), attestation=chain(others)))
    assert honest.proof is not None and honest.proof.attested is not None
    assert "attests another key than this" in words(card(key, honest.attestation))


def test_an_attestation_signed_in_a_slot_of_ones_own_yubikey(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    owned = made.new_key()
    device = made.device(made.test_root(), (5, 4, 3), SERIAL)
    slot = made.attest(device, owned.public_key(), facts())
    forged = made.attest(made.Issuer(slot, owned), key.public_key(), facts())
    attestation = Attestation(der(forged), der(slot))
    assert "certified by nobody known here" in words(card(key, attestation))


def test_an_attestation_under_a_root_of_ones_own(key: ec.EllipticCurvePrivateKey) -> None:
    attestation = chain(key, made.other_root())
    assert "certified by nobody known here" in words(card(key, attestation))


@pytest.mark.parametrize("changed", [{"touch_policy": 3}, {"touch_policy": 1}, {"pin_policy": 2}])
def test_a_genuine_key_that_asks_for_less(
    key: ec.EllipticCurvePrivateKey, changed: dict[str, int]
) -> None:
    """A key that root's program on the approver's machine could use without being touched."""
    assert "not always" in words(card(key, chain(key, **changed)))


def test_an_attestation_taken_out_or_exchanged_on_the_way(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    found = card(key, chain(key))
    assert found.proof is not None and found.proof.attested is not None
    assert found.proof.attested.spki == spki(key)
    document = json.loads(found.data)
    other = chain(key)
    exchanged = create_card("x", Boaster(key), attestation=other)
    for attestation in (None, json.loads(exchanged)["attestation"]):
        changed = {**document, "attestation": attestation}
        if attestation is None:
            del changed["attestation"]
        with pytest.raises(VerificationError) as caught:
            parse_card(canonical(changed) + b"\n")
        assert caught.value.code == "verification-failed"
