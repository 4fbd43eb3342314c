"""To-be-signed bytes: what they say, and what must never be signed as plain data."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from tests.pki.makers import NOW, issue, key, root
from tests.pki.test_verify import crl

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.csr import CsrContent, build_csr
from tpmhsm.pki.describe import describe_certificate
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.tbs import (
    read_time,
    request_info_facts,
    serial_hex,
    structure_kind,
    tbs_facts,
    tbs_kind,
    valid_days,
)


def _ocsp() -> bytes:
    top = root()
    leaf = issue(top, "tls-server", "", "dns:a.example")
    builder = ocsp.OCSPResponseBuilder().add_response(
        leaf.certificate,
        top.certificate,
        hashes.SHA256(),
        ocsp.OCSPCertStatus.GOOD,
        NOW,
        NOW + timedelta(1),
        None,
        None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, top.certificate)
    return builder.sign(top.key, hashes.SHA256()).public_bytes(Encoding.DER)


def structures() -> dict[str, tuple[bytes, bytes]]:
    """kind → (whole, to-be-signed)."""
    top = root()
    whole = top.certificate.public_bytes(Encoding.DER)
    csr = build_csr(key(), CsrContent(parse_dn("CN=x"))).public_bytes(Encoding.DER)
    response = _ocsp()
    return {
        "certificate": (whole, split_signed(whole)[0]),
        "csr": (csr, split_signed(csr)[0]),
        "crl": (crl(top), split_signed(crl(top))[0]),
        "ocsp": (response, ocsp.load_der_ocsp_response(response).tbs_response_bytes),
    }


@pytest.mark.parametrize("kind", ["certificate", "csr", "crl", "ocsp"])
def test_every_structure_is_recognised(kind):
    whole, tbs = structures()[kind]
    assert tbs_kind(tbs) == kind
    assert tbs_kind(tbs + b"trailing") == kind
    assert tbs_kind(_indefinite(tbs)) == kind
    stuffed = der.read_whole(tbs).content + bytes.fromhex("1f81010100")  # a high tag number
    assert tbs_kind(der.encode(der.SEQUENCE, stuffed)) == kind
    assert tbs_kind(whole) is None
    assert structure_kind(whole) == structure_kind(tbs) == kind
    assert structure_kind(b"see below\n" + to_pem(whole, "X")) == kind
    assert structure_kind(to_pem(tbs, "DATA")) == kind


def _indefinite(raw: bytes) -> bytes:
    """The same in BER: an indefinite outer length."""
    return raw[:1] + b"\x80" + der.read_whole(raw).content + b"\0\0"


def test_version_one_structures_are_recognised():
    parts = der.children(der.read_whole(structures()["certificate"][1]).content)
    bare = der.encode(der.SEQUENCE, *(part.raw for part in parts[1:7]))
    assert tbs_kind(bare) == "certificate"
    assert tbs_facts(bare)["version"] == 1
    parts = der.children(der.read_whole(structures()["crl"][1]).content)
    assert tbs_kind(der.encode(der.SEQUENCE, *(part.raw for part in parts[1:]))) == "crl"


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\x30\0", b"\x30\x03\x02\x01\5", b"%PDF-1.7", bytes(32), b"\x30\x80" * 999],
)
def test_other_data_is_none(data):
    assert tbs_kind(data) is None
    assert structure_kind(data) is None


@given(st.binary(max_size=200))
def test_kinds_never_fail(data):
    tbs_kind(b"\x30" + data)
    structure_kind(data)


@given(st.binary(max_size=200))
def test_facts_come_whole_or_not_at_all(data):
    for reader in (tbs_facts, request_info_facts):
        with pytest.raises(ParseError):
            reader(data)


def test_facts_of_the_bytes_are_those_of_the_certificate():
    middle = issue(
        root(), "intermediate", "CN=I,O=E", permitted=("dns:example.com",), excluded=("ip:::/0",)
    )
    facts = tbs_facts(middle.certificate.tbs_certificate_bytes)
    json.dumps(facts)
    whole = describe_certificate(middle.certificate)
    assert {name: whole[name] for name in facts} == facts
    assert facts["name_constraints"] == {"permitted": ["dns:example.com"], "excluded": ["ip:::/0"]}
    assert facts["valid_days"] == 1826


def _with_extensions(*items: bytes) -> bytes:
    parts = der.children(der.read_whole(structures()["certificate"][1]).content)
    block = der.encode(0xA3, der.encode(der.SEQUENCE, *items))
    return der.encode(der.SEQUENCE, *(part.raw for part in parts[:7]), block)


def _extension(oid: str, value: bytes, critical: bool = False) -> bytes:
    flag = der.encode(der.BOOLEAN, b"\xff") if critical else b""
    return der.encode(der.SEQUENCE, der.encode_oid(oid), flag, der.encode(der.OCTET_STRING, value))


def test_one_broken_extension_hides_nothing_else():
    usage = _extension("2.5.29.15", bytes.fromhex("03020186"), True)
    broken = _extension("2.5.29.19", b"\x30\x05")
    odd = _extension("1.2.3", b"x", True)
    facts = tbs_facts(_with_extensions(usage, broken, odd, usage))
    assert facts["key_usage"] == ["digitalSignature", "keyCertSign", "cRLSign"]
    assert facts["unknown_critical"] == ["1.2.3"]
    assert any("basicConstraints does not decode" in p for p in facts["problems"])
    assert any("twice" in p for p in facts["problems"])


def test_small_things():
    assert serial_hex(0) == "00" and serial_hex(0xABC) == "0abc" and serial_hex(-5) == "-05"
    assert valid_days(NOW, NOW + timedelta(days=1) - timedelta(seconds=1)) == 1
    assert valid_days(NOW, NOW + timedelta(days=1)) == 2
    assert read_time(der.Element(der.UTC_TIME, b"500101000000Z", b"")).year == 1950
    assert read_time(der.Element(der.UTC_TIME, b"491231235959Z", b"")).year == 2049
    assert read_time(der.Element(der.GENERALIZED_TIME, b"99991231235959Z", b"")).year == 9999
    for tag, text in ((23, b"991331000000Z"), (24, b"x"), (4, b"20260101000000Z"), (23, b"")):
        with pytest.raises(ParseError):
            read_time(der.Element(tag, text, b""))


@given(st.lists(st.integers(0, 2**40), max_size=6), st.integers(0, 2), st.integers(0, 39))
def test_object_identifiers_round_trip(rest, first, second):
    dotted = ".".join(map(str, (first, second, *rest)))
    element = der.read_whole(der.encode_oid(dotted))
    assert der.decode_oid(element.content) == dotted
    assert x509.ObjectIdentifier(dotted).dotted_string == dotted
