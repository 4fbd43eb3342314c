"""Encrypted messages read: whatever the bytes, an answer or a ParseError, soon."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.messages import message_for

from tpmhsm.errors import ParseError, TpmHsmError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.addressees import find_recipient
from tpmhsm.pki.envelope_crypto import is_authenticated, open_envelope
from tpmhsm.pki.envelopes import MAX_RECIPIENTS, is_envelope, read_envelope

MEMO = b"sell at noon\n"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
SHA = hashes.SHA256()
CBC = message_for(RSA.public_key(), MEMO)
GCM = message_for(EC.public_key(), MEMO, "-aes-128-gcm")


def spki(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def opened(data: bytes) -> bytes:
    """What a chip and we make of a message."""
    envelope = read_envelope(data)
    key = RSA if envelope.recipients[0].kind == "RSA" else EC
    recipient = find_recipient(envelope, spki(key), [], "sha256")
    if isinstance(key, rsa.RSAPrivateKey):
        secret = key.decrypt(recipient.asked, padding.OAEP(padding.MGF1(SHA), SHA, None))
    else:
        secret = key.exchange(ec.ECDH(), load_der_public_key(recipient.asked))  # type: ignore[arg-type]
    return open_envelope(envelope, recipient, secret)


def test_both_ways_and_the_head_alone() -> None:
    for data, authenticated in ((CBC, False), (GCM, True)):
        assert is_envelope(data)
        assert opened(data) == MEMO
        envelope = read_envelope(data)
        assert is_authenticated(envelope) is authenticated
        head = read_envelope(envelope.head)
        assert (head.recipients, head.content) == (envelope.recipients, None)
        with pytest.raises(ParseError, match="the encrypted content is not in this file"):
            find_recipient(head, spki(RSA if not authenticated else EC), [], "sha256")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([CBC, GCM]), st.data())
def test_a_message_with_any_octet_changed(message: bytes, data: st.DataObject) -> None:
    """It opens to something, or is refused in our words; authenticated ones to what was sent."""
    changed = bytearray(message)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        found = opened(bytes(changed))
    except (TpmHsmError, ValueError):  # ValueError: what stands for the chip does not decrypt
        return
    if message is GCM:
        assert found == MEMO


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_anything(data: bytes) -> None:
    is_envelope(data)
    with pytest.raises(ParseError):
        read_envelope(data)


def test_very_many_recipients() -> None:
    envelope = der.children(der.read_whole(CBC).content)
    fields = der.children(der.read_whole(envelope[1].content).content)
    one = der.children(fields[1].content)[0].raw
    many = der.encode(der.SET, one * (MAX_RECIPIENTS + 1))
    inner = der.encode(0xA0, der.encode(der.SEQUENCE, fields[0].raw, many, fields[2].raw))
    start = time.process_time()
    with pytest.raises(ParseError, match="more than 1,000 recipients"):
        read_envelope(der.encode(der.SEQUENCE, envelope[0].raw, inner))
    assert time.process_time() - start < 1


def test_whom_a_message_is_for() -> None:
    envelope = read_envelope(CBC)
    with pytest.raises(UsageError) as caught:
        find_recipient(envelope, spki(EC), [], "sha256")
    assert caught.value.code == "no-recipient"
    with pytest.raises(UsageError) as caught:
        find_recipient(envelope, spki(RSA), [], "sha1")
    assert caught.value.code == "other-oaep-hash"
    recipient = find_recipient(envelope, spki(RSA), [], "sha256")
    with pytest.raises(VerificationError, match="the key inside has 5 bytes"):
        open_envelope(envelope, recipient, b"short")
    with pytest.raises(VerificationError, match="does not open"):
        open_envelope(envelope, recipient, bytes(32))
    agreed = read_envelope(GCM)
    with pytest.raises(VerificationError) as refused:
        open_envelope(agreed, find_recipient(agreed, spki(EC), [], "sha256"), bytes(32))
    assert refused.value.code == "not-for-this-key"
