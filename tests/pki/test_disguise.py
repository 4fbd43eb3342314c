"""Data that some verifier would take for a structure is no plain data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import builder, tbs_of

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.disguise import check_strict, is_text, signed_structure

KEY = ec.generate_private_key(ec.SECP256R1())
TBS = tbs_of(
    builder(KEY.public_key(), "evil", "root").add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    ),
    KEY,
)
PARTS = der.children(der.read_whole(TBS).content)


def padded(tag: int, content: bytes, octets: int = 10) -> bytes:
    return bytes((tag, 0x80 | octets)) + len(content).to_bytes(octets, "big") + content


def long_tag(element: bytes, *zeros: int) -> bytes:
    return bytes((0x20 | 0x1F, *zeros, element[0] & 0x1F)) + element[1:]


def with_part(number: int, change: Callable[[der.Element], bytes]) -> bytes:
    changed = [change(p) if i == number else p.raw for i, p in enumerate(PARTS)]
    return der.encode(der.SEQUENCE, *changed)


def in_pieces(validity: der.Element) -> bytes:
    times = der.children(validity.content)
    return der.encode(der.SEQUENCE, *(der.encode(0x20 | t.tag, t.raw) for t in times))


DISGUISES = {
    "DER": TBS,
    "indefinite": b"\x30\x80" + der.read_whole(TBS).content + b"\0\0",
    "padded length": padded(0x30, der.read_whole(TBS).content),
    "padded by 126": padded(0x30, der.read_whole(TBS).content, 126),
    "padded validity": with_part(4, lambda p: padded(p.tag, p.content)),
    "padded serial": with_part(1, lambda p: padded(p.tag, p.content)),
    "long tag": long_tag(TBS),
    "padded long tag": long_tag(TBS, 0x80, 0x80),
    "validity's long tag": with_part(4, lambda p: long_tag(p.raw)),
    "serial's long tag": with_part(1, lambda p: b"\x1f\x02" + p.raw[1:]),
    "times in pieces": with_part(4, in_pieces),
    "indefinite validity": with_part(4, lambda p: b"\x30\x80" + p.content + b"\0\0"),
    "trailing": TBS + b"x",
}


@pytest.mark.parametrize("how", DISGUISES)
def test_a_certificate_in_every_form(how: str) -> None:
    """OpenSSL 3 verifies a certificate with each of these, but the last, as its signed part."""
    assert signed_structure(DISGUISES[how])


OTHERS = {
    "signed attributes": der.encode(
        0x31, der.encode(0x30, der.encode_oid("1.2.840.113549.1.9.3"), der.encode(0x31))
    ),
    "SSHSIG": b"SSHSIG\0\0\0\4file",
    "SSH certificate": b"\0\0\0\x28ecdsa-sha2-nistp256-cert-v01@openssh.com" + bytes(90),
    "TLS 1.3": b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32),
    "attribute certificate": der.encode(
        0x30,
        der.encode_integer(1),
        *(der.encode(0x30), der.encode(0xA0), der.encode(0x30)),
        der.encode_integer(7),
        *(der.encode(0x30), der.encode(0x30)),
    ),
    "CRMF": der.encode(0x30, der.encode_integer(0), der.encode(0x30, der.encode(0xA5))),
    "SPKAC": der.encode(0x30, der.encode(0x30), der.encode(0x16, b"challenge")),
    "anything signed": der.encode(0x30, der.encode(0x30), der.encode(0x30), der.encode(3, b"\0")),
    "not DER": b"\x30\x03\x02\x01",
    "a padded INTEGER": der.encode(0x30, b"\x02\x02\x00\x01"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_structures(what: str) -> None:
    assert signed_structure(OTHERS[what])


PLAIN = {
    "empty": b"",
    "text": b"0 errors, 1 warning\n",
    "a number": b"1\n",
    "a digit": b"0",
    "a question": b"?\n",
    "public key": KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "gzip": b"\x1f\x8b\x08\0\0",
    "program": b"\x7fELF" + bytes(60),
    "numbers in DER": der.encode(0x30, der.encode_integer(5), der.encode_integer(-129)),
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain_data(what: str) -> None:
    assert signed_structure(PLAIN[what]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"\x01\x01\x01", b"\x02\x00", b"\x02\x02\xff\x80", b"\x03\x02\x01\x01", b"\x05\x01\x00"),
        *(b"\x06\x02\x80\x01", b"\x06\x01\x81", b"\x06\x00", b"\x17\x0b2601010000Z"),
        *(b"\x18\x112026010100000.00Z", b"\x10\x00", b"\x24\x02\x04\x00", b"\x00\x00"),
        *(b"\x04\x81\x01x", b"\x30\x80\x00\x00", b"\x1f\x1f\x00", b"\x04\x00x", b"\x04\x02x"),
    ],
)
def test_what_is_not_strict(wrong: bytes) -> None:
    with pytest.raises(ParseError):
        check_strict(wrong)
    with pytest.raises(ParseError):
        check_strict(der.encode(0xA0, wrong))
    check_strict(TBS)


@given(st.text().map(str.encode))
def test_text_is_never_taken_for_a_structure(data: bytes) -> None:
    if is_text(data) and b"-----BEGIN" not in data:
        assert signed_structure(b"0" + data) is None


@given(st.binary())
def test_anything_is_answered(data: bytes) -> None:
    signed_structure(b"\x31" + data)
    signed_structure(b"\x30" + data)
    assert is_text(b"\x3f" + data) or signed_structure(b"\x3f" + data)
