"""Approver keys: which are taken, their one identity, their signatures."""

import pytest
from asn1crypto.keys import PublicKeyInfo
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.policy import makers

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.ahash import a_hash_preimage, live_preimage
from tpmhsm.policy.approver import (
    approver_public,
    check_distinct,
    check_signature,
    load_spki,
    spki_of,
    tpmt_signature,
)
from tpmhsm.policy.refs import policy_ref


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(3, 2048),
        lambda: rsa.generate_private_key(65537, 1024),
    ],
)
def test_other_keys_are_refused(make):
    key = make().public_key()
    with pytest.raises(ParseError):
        load_spki(spki_of(key))
    with pytest.raises(ParseError):
        approver_public(key)


def test_one_encoding():
    """A compressed point is the same key in other bytes."""
    key = makers.key(0).public_key()
    der = spki_of(key)
    assert load_spki(der) == key
    info = PublicKeyInfo.load(der)
    point = info["public_key"].native
    info["public_key"] = bytes([2 + point[64] % 2]) + point[1:33]
    with pytest.raises(ParseError):
        load_spki(info.dump(force=True))
    with pytest.raises(ParseError):
        load_spki(der + b"\0")


def test_coordinates_with_leading_zeros():
    number = next(
        n
        for n in range(1, 4000)
        if ec.derive_private_key(n, ec.SECP256R1()).public_key().public_numbers().x >> 248 == 0
    )
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    assert len(approver_public(key)) == 86


@given(st.binary(max_size=120))
def test_garbage_keys(data):
    with pytest.raises(ParseError):
        load_spki(data)


@pytest.mark.parametrize("kind", ["p256", "2048"])
def test_signatures(kind):
    private = makers.key(0, kind)
    public = private.public_key()
    good = makers.tpmt_sign(private, b"message")
    check_signature(public, b"message", good)
    for message, signature in [
        (b"other", good),
        (b"message", good[:-1]),
        (b"message", good + b"\0"),
        (b"message", b""),
        (b"message", good[:3] + b"\4" + good[4:]),
        (b"message", makers.tpmt_sign(makers.key(1), b"message")),
        (b"message", makers.tpmt_sign(makers.key(1, "2048"), b"message")),
    ]:
        with pytest.raises(VerificationError):
            check_signature(public, message, signature)


def test_misshapen_signatures():
    for kind in ("p256", "2048"):
        with pytest.raises(ParseError):
            tpmt_signature(makers.key(0, kind).public_key(), b"x" * 70)


def test_check_distinct():
    alice, bob = makers.key(0).public_key(), makers.key(1).public_key()
    check_distinct([("alice", alice), ("bob", bob), ("alice", alice)])
    with pytest.raises(UsageError):
        check_distinct([("alice", alice), ("mallory", alice)])


@pytest.mark.parametrize(("cp_hash", "ref"), [(b"", bytes(32)), (bytes(32), b""), (b"", b"")])
def test_blank_cheques_cannot_be_built(cp_hash, ref):
    with pytest.raises(UsageError):
        a_hash_preimage(cp_hash, ref)


@pytest.mark.parametrize(
    "parts",
    [
        (bytes(15), -1, b"", bytes(32)),
        (bytes(32), -1, b"", bytes(32)),
        (bytes(16), 0, b"", bytes(32)),
        (bytes(16), -1, bytes(32), bytes(32)),
        (bytes(16), 1, bytes(32), bytes(32)),
        (bytes(16), 0, bytes(32), b""),
    ],
)
def test_live_approvals_of_other_lengths(parts):
    with pytest.raises(UsageError):
        live_preimage(*parts)


@pytest.mark.parametrize(
    "parts",
    [
        ("sign", bytes(32), None),
        ("roster", bytes(32), 1),
        ("sign", bytes(31), 1),
        ("sign", bytes(32), 1, 0),
        ("sign", bytes(32), 1, 256),
        ("sign", bytes(32), 1 << 64),
        ("sign", bytes(32), 1, 1, b"x"),
        ("window", bytes(32), 1),
        ("other", bytes(32), 1),
    ],
)
def test_refs_of_another_shape(parts):
    with pytest.raises(UsageError):
        policy_ref(*parts)
