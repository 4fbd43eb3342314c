"""CSRs: made, read, refused; openssl as a second opinion."""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from tests.pki.makers import applicant, key

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki.applicant import applicant_from_csr
from tpmhsm.pki.csr import CsrContent, build_csr, load_csr, prepare_csr, verify_csr
from tpmhsm.pki.deferred import deferred
from tpmhsm.pki.describe import csr_lines, describe_csr
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.sans import parse_sans
from tpmhsm.pki.tbs import tbs_kind

EVERY_SAN = (
    "dns:www.example.com",
    "ip:192.0.2.1",
    "ip:2001:db8::1",
    "email:a@example.com",
    "uri:https://example.com/x",
    "dirname:CN=x+OU=y,O=z",
    "rid:1.2.3.4",
    "upn:joe@example.com",
    "othername:1.2.3.4;UTF8:hello",
)


def content(**more) -> CsrContent:
    return CsrContent(
        parse_dn("CN=Lučić+UID=7,O=Example,C=DE"),
        parse_sans(EVERY_SAN),
        ("digitalSignature", "keyEncipherment"),
        ("serverAuth", "1.2.3.4.5"),
        **more,
    )


def openssl(*args: str, data: bytes) -> str:
    result = subprocess.run(["openssl", *args], input=data, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return (result.stdout + result.stderr).decode()


@pytest.mark.parametrize("alg", ["p256", "p384", "p521", "rsa2048", "rsa3072"])
def test_openssl_verifies_what_is_built(alg):
    csr = build_csr(key(alg), content(ca=True, path_length=0))
    text = openssl("req", "-verify", "-noout", "-text", data=csr.public_bytes(Encoding.PEM))
    assert "verify OK" in text
    for word in ("DNS:www.example.com", "IP Address:192.0.2.1", "CA:TRUE, pathlen:0", "1.2.3.4.5"):
        assert word in text
    facts = describe_csr(csr)
    assert facts["sans"] == list(EVERY_SAN)
    assert facts["signature_valid"] and facts["ca"] and facts["path_length"] == 0
    assert facts["subject"] == "CN=Lučić+UID=7,O=Example,C=DE"
    assert facts["extended_key_usage"] == ["serverAuth", "1.2.3.4.5"]
    assert dict(csr_lines(facts))["Subject"] == facts["subject"]


@pytest.mark.parametrize(
    ("alg", "hash_name"), [("p256", None), ("p384", "sha384"), ("rsa2048", "sha256")]
)
def test_signed_later_is_the_same(alg, hash_name):
    private = key(alg)
    waiting = prepare_csr(private.public_key(), content(), hash_name)
    assert tbs_kind(waiting.tbs) == "csr"
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}[waiting.hash_name]
    if alg.startswith("rsa"):
        signature = private.sign(waiting.tbs, padding.PKCS1v15(), algorithm)
    else:
        signature = private.sign(waiting.tbs, ec.ECDSA(algorithm))
    csr = waiting.complete_csr(signature)
    assert (
        csr.tbs_certrequest_bytes == build_csr(private, content(), hash_name).tbs_certrequest_bytes
    )
    verify_csr(csr)
    with pytest.raises(VerificationError):
        waiting.complete_csr(signature[:-1] + bytes([signature[-1] ^ 1]))


def test_a_deferred_signer_does_nothing_else():
    for alg in ("p256", "rsa2048"):
        signer = deferred(key(alg).public_key())
        for refused in (signer.private_numbers, signer.private_bytes):
            with pytest.raises(UsageError):
                refused()
        with pytest.raises(UsageError, match="nothing was given"):
            signer.unsigned(b"", "csr")
    with pytest.raises(UsageError):
        deferred(ed25519.Ed25519PrivateKey.generate().public_key())


def test_an_empty_subject_needs_critical_names():
    csr = build_csr(key(), CsrContent(parse_dn(""), parse_sans(["dns:a.example"])))
    assert describe_csr(csr)["extensions"][0]["critical"]
    with pytest.raises(UsageError, match="subject or"):
        build_csr(key(), CsrContent(parse_dn("")))
    with pytest.raises(UsageError, match="key usage"):
        build_csr(key(), CsrContent(parse_dn("CN=x"), key_usage=("cooking",)))


def test_pem_and_der_and_other_labels():
    csr = build_csr(key(), content())
    raw = csr.public_bytes(Encoding.DER)
    for data in (raw, to_pem(raw, "CERTIFICATE REQUEST"), to_pem(raw, "NEW CERTIFICATE REQUEST")):
        assert load_csr(data) == csr
    assert load_csr(b"a comment\n" + to_pem(raw, "CERTIFICATE REQUEST")) == csr


def test_a_changed_csr_is_refused():
    raw = bytearray(build_csr(key(), content()).public_bytes(Encoding.DER))
    raw[raw.index(b"www.example.com")] = ord("x")
    csr = load_csr(bytes(raw))
    assert describe_csr(csr)["signature_valid"] is False
    with pytest.raises(VerificationError, match="does not hold"):
        verify_csr(csr)
    with pytest.raises(VerificationError):
        applicant_from_csr(csr)


def _csr(private, algorithm) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(parse_dn("CN=x"))
    return builder.sign(private, algorithm)


@pytest.mark.parametrize(
    ("make", "error", "why"),
    [
        (lambda: _csr(rsa.generate_private_key(65537, 1024), hashes.SHA256()), UsageError, "1024"),
        (lambda: _csr(rsa.generate_private_key(3, 2048), hashes.SHA256()), UsageError, "exponent"),
        (
            lambda: _csr(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
            UsageError,
            "secp256k1",
        ),
        (
            lambda: _csr(ec.generate_private_key(ec.SECP224R1()), hashes.SHA256()),
            UsageError,
            "secp224r1",
        ),
        (lambda: _csr(dsa.generate_private_key(2048), hashes.SHA256()), UsageError, "neither"),
    ],
)
def test_weak_and_strange_keys_are_refused(make, error, why):
    csr = make()
    assert why in dict(csr_lines(describe_csr(csr)))["Problem"]
    with pytest.raises(error, match=why):
        verify_csr(csr)


def test_ed25519_is_accepted():
    csr = _csr(ed25519.Ed25519PrivateKey.generate(), None)
    verify_csr(csr)
    assert describe_csr(csr)["key"]["text"] == "Ed25519"


def test_sha1_proves_nothing():
    private = key("rsa2048")
    raw = bytearray(_csr(private, hashes.SHA256()).public_bytes(Encoding.DER))
    oid = bytes.fromhex("2a864886f70d01010b")
    at = raw.rindex(oid)
    raw[at : at + len(oid)] = bytes.fromhex("2a864886f70d010105")
    info = x509.load_der_x509_csr(bytes(raw)).tbs_certrequest_bytes
    signature = private.sign(info, padding.PKCS1v15(), hashes.SHA1())
    raw[-len(signature) :] = signature
    with pytest.raises(VerificationError, match="sha1"):
        verify_csr(load_csr(bytes(raw)))


def test_an_unknown_signature_algorithm():
    raw = bytearray(_csr(key(), hashes.SHA256()).public_bytes(Encoding.DER))
    at = raw.rindex(bytes.fromhex("2a8648ce3d040302"))
    raw[at + 7] = 9
    csr = load_csr(bytes(raw))
    assert describe_csr(csr)["signature_algorithm"] == "1.2.840.10045.4.3.9"
    with pytest.raises((ParseError, VerificationError)):
        verify_csr(csr)


def test_repeated_names_come_once():
    who = applicant(key(), "CN=x", "dns:a.example", "dns:A.example")
    assert len(who.sans) == 1
