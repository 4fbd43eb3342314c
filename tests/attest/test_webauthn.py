"""WebAuthn statements of the format `tpm`: genuine ones, and each fault by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.attest.aiks import (
    AIK,
    NOW,
    AttestationCa,
    certify_info,
    ec_key,
    public_area,
    sha256,
    sign,
    tpm_san,
)

from tpmhsm.attest.webauthn import AttestedKey, read_attestation_object, verify_registration
from tpmhsm.errors import ParseError, TpmHsmError, VerificationError
from tpmhsm.wire.attest import CreationInfo
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, ST
from tpmhsm.wire.structures import RsaSignature, Signature

AAGUID = bytes.fromhex("08987058cadc4b81b6e130de50dcbe96")
CLIENT = b'{"type":"webauthn.create","challenge":"AAAA","origin":"https://example.com"}'


# ── given ────────────────────────────────────────────────────────────────────


def _given(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())
    return found


def _inside(data: bytes) -> datetime:
    """A moment at which the statement's certificate is valid."""
    leaf = x509.load_der_x509_certificate(read_attestation_object(data).statement.x5c[0])
    return leaf.not_valid_before_utc + timedelta(days=10)


def test_given_statements_are_what_their_index_says(test_data: Callable[[str], Path]) -> None:
    folder = test_data("webauthn-tpm")
    root = (folder / "microsoft-tpm-root-2014.cer").read_bytes()
    seen = set()
    for entry in _given(folder):
        data, client = ((folder / entry[name]).read_bytes() for name in ("file", "client_data"))
        seen.add(entry["genuine"])
        if entry["genuine"]:
            proven = verify_registration(data, client, [root], _inside(data))
            assert proven.attestation_key.root == root
            assert proven.weak, "these are all signed with SHA-1, which must be said"
            names = proven.attestation_key.names
            assert names
            assert names.letters.encode().hex().upper() in entry["attestation_key_san"]
        else:
            with pytest.raises(VerificationError):
                verify_registration(data, client, [root], _inside(data))
    assert seen == {True, False}


def test_the_look_alike_is_refused_with_its_own_root_pinned_too(
    test_data: Callable[[str], Path],
) -> None:
    folder = test_data("webauthn-tpm")
    entry = next(one for one in _given(folder) if not one["genuine"])
    data, client = ((folder / entry[name]).read_bytes() for name in ("file", "client_data"))
    own = read_attestation_object(data).statement.x5c[-1]
    with pytest.raises(VerificationError, match="maker that the TCG does not know"):
        verify_registration(data, client, [own], _inside(data))


def test_given_statements_outside_their_validity(test_data: Callable[[str], Path]) -> None:
    folder = test_data("webauthn-tpm")
    root = (folder / "microsoft-tpm-root-2014.cer").read_bytes()
    for entry in _given(folder):
        if entry["genuine"]:
            data, client = ((folder / entry[name]).read_bytes() for name in ("file", "client_data"))
            late = _inside(data) + timedelta(days=4000)
            with pytest.raises(VerificationError, match="expired"):
                verify_registration(data, client, [root], late)


def test_each_byte_of_a_given_statement_counts(test_data: Callable[[str], Path]) -> None:
    """A bit in each byte of attestation and authenticator data, and of the client data."""
    folder = test_data("webauthn-tpm")
    root = (folder / "microsoft-tpm-root-2014.cer").read_bytes()
    entry = next(one for one in _given(folder) if one["genuine"])
    data, client = ((folder / entry[name]).read_bytes() for name in ("file", "client_data"))
    at = _inside(data)
    statement = read_attestation_object(data).statement
    spared = set()
    for part in statement.x5c[1:]:  # what a CA signs is path validation's, tested there
        start = data.index(part)
        spared |= set(range(start, start + len(part)))
    for place in range(0, len(data), 3):
        if place in spared:
            continue
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(TpmHsmError):
            verify_registration(bytes(changed), client, [root], at)
    with pytest.raises(VerificationError, match="another registration"):
        verify_registration(data, client + b" ", [root], at)


# ── made here ────────────────────────────────────────────────────────────────


def cbor(value: Any) -> bytes:
    """An encoder of its own, so that the decoder has another opinion beside it."""
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _head(0 if value >= 0 else 1, value if value >= 0 else -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list():
            return _head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            items = (cbor(key) + cbor(item) for key, item in value.items())
            return _head(5, len(value)) + b"".join(items)
    raise AssertionError(value)


def _head(major: int, number: int) -> bytes:
    for size, code in ((0, number), (1, 24), (2, 25), (4, 26), (8, 27)):
        if number < (24 if size == 0 else 1 << 8 * size):
            return bytes([major << 5 | code]) + (number.to_bytes(size, "big") if size else b"")
    raise AssertionError(number)


@dataclass
class Registration:
    """A statement as Windows makes it, to be changed and signed."""

    ca: AttestationCa = field(default_factory=AttestationCa)
    aik: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(default_factory=ec_key)
    key: ec.EllipticCurvePrivateKey = field(default_factory=ec_key)
    alg: int = -7
    certificate: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    statement: dict[str, Any] = field(default_factory=dict)
    flags: int = 0x45
    generated: bytes = b"\xffTCG"
    behind: bytes = b""

    def auth_data(self, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        numbers = (key or self.key).public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"),
                -3: numbers.y.to_bytes(32, "big")}  # fmt: skip
        head = sha256(b"example.com") + bytes([self.flags]) + bytes(4)
        return head + AAGUID + b"\0\4abcd" + cbor(cose) + self.behind

    def made(self, auth_data: bytes = b"") -> bytes:
        auth_data = auth_data or self.auth_data()
        public = public_area(self.key.public_key())
        extra = sha256(auth_data + sha256(CLIENT))
        info = self.generated + certify_info(public, extra, **self.info)[4:]
        found = {
            "alg": self.alg,
            "sig": sign(self.aik, info),
            "ver": "2.0",
            "x5c": [self.ca.certify(self.aik.public_key(), **self.certificate)],
            "pubArea": public,
            "certInfo": info,
        } | self.statement
        return cbor({"fmt": "tpm", "attStmt": found, "authData": auth_data})

    def verified(self, data: bytes = b"") -> AttestedKey:
        return verify_registration(data or self.made(), CLIENT, [self.ca.certificate], NOW)


def test_a_statement_made_here_holds() -> None:
    one = Registration()
    proven = one.verified()
    assert proven.public == public_area(one.key.public_key())
    assert (proven.algorithm, proven.weak) == ("ES256", ())


def test_the_order_of_parts_is_free() -> None:
    """Older Windows writes authData before attStmt."""
    data = Registration().made()
    assert read_attestation_object(data[:1] + _turned(data[1:])) == read_attestation_object(data)


def _turned(body: bytes) -> bytes:
    """The three parts of the map, the last first."""
    second = body.index(cbor("attStmt"))
    third = body.index(cbor("authData"))
    return body[third:] + body[second:third] + body[:second]


def test_a_signature_in_the_form_of_the_specification() -> None:
    """TPMT_SIGNATURE, where Windows writes the plain octets."""
    one = Registration(aik=rsa.generate_private_key(65537, 2048), alg=-257)
    assert one.verified().algorithm == "RS256"
    found = read_attestation_object(one.made())
    wrapped = Signature(ALG.RSASSA, RsaSignature(ALG.SHA256, found.statement.signature))
    one.statement = {
        "sig": encode(wrapped),
        "x5c": list(found.statement.x5c),
        "certInfo": found.statement.cert_info,
    }
    assert one.verified().algorithm == "RS256"


def test_sha1_is_named() -> None:
    one = Registration(aik=rsa.generate_private_key(65537, 2048), alg=-65535)
    auth_data = one.auth_data()
    import hashlib

    extra = hashlib.sha1(auth_data + sha256(CLIENT), usedforsecurity=False).digest()
    info = certify_info(public_area(one.key.public_key()), extra)
    one.statement = {"certInfo": info, "sig": sign(one.aik, info, hashes.SHA1())}
    assert one.verified(one.made(auth_data)).weak == ("RS1: the signature rests on SHA-1",)


FAULTY_CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "no EKU of an AIK": ({"usage": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")}, "lacks the ext"),
    "a subject": ({"subject": "a chip"}, "names a subject"),
    "a CA": ({"ca": True}, "is a CA's"),
    "silent on CA": ({"ca": None}, "does not say that it is no CA"),
    "SAN not critical": ({"san_critical": False}, "in critical alternative names"),
    "SAN of a host": (
        {"san": x509.SubjectAlternativeName([x509.DNSName("a.example")])},
        "does not name a TPM",
    ),
    "maker unknown": ({"san": tpm_san("id:FFFFF1D0")}, "maker that the TCG does not know"),
    "maker no digits": ({"san": tpm_san("Infineon")}, "maker that the TCG does not know"),
    "expired": ({"until": NOW - timedelta(days=1)}, "expired"),
    "another model": ({"aaguid": bytes(16)}, "another model"),
}


@pytest.mark.parametrize("fault", FAULTY_CERTIFICATES)
def test_certificates_of_another_profile(fault: str) -> None:
    changes, words = FAULTY_CERTIFICATES[fault]
    with pytest.raises(VerificationError, match=words):
        Registration(certificate=changes).verified()


def test_its_own_model_is_no_fault() -> None:
    assert Registration(certificate={"aaguid": AAGUID}).verified()


FAULTY_STATEMENTS: dict[str, tuple[Registration, str]] = {
    "made up by an unrestricted key": (
        Registration(certificate={"usage": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")}),
        "aik-certificate",
    ),
    "of a creation": (
        Registration(
            info={
                "type": ST.ATTEST_CREATION,
                "attested": CreationInfo(b"\0\x0b" + bytes(32), bytes(32)),
            }
        ),
        "other-kind",
    ),
    "not from the chip": (Registration(generated=b"\xffTCH"), "parse"),
    "another challenge": (Registration(info={"extra_data": bytes(32)}), "other-challenge"),
    "another version": (Registration(statement={"ver": "1.2"}), "parse"),
    "ECDAA": (Registration(statement={"ecdaaKeyId": b"1"}), "parse"),
    "no certificate": (Registration(statement={"x5c": []}), "parse"),
    "an unknown algorithm": (Registration(statement={"alg": -8}), "parse"),
    "another algorithm": (Registration(statement={"alg": -35}), "other-challenge"),
    "one more part": (Registration(statement={"more": 1}), "parse"),
    "alg is true": (Registration(statement={"alg": True}), "parse"),
    "no credential": (Registration(flags=0x05), "parse"),
    "bytes behind": (Registration(behind=b"\0"), "parse"),
}


@pytest.mark.parametrize("fault", FAULTY_STATEMENTS)
def test_faulty_statements(fault: str) -> None:
    one, code = FAULTY_STATEMENTS[fault]
    with pytest.raises(TpmHsmError) as caught:
        one.verified()
    assert caught.value.code in (code, "bad-signature" if fault == "another algorithm" else code)


def test_the_key_of_another_credential() -> None:
    one = Registration()
    with pytest.raises(VerificationError) as caught:
        one.verified(one.made(one.auth_data(ec_key())))
    assert caught.value.code == "other-key"


def test_a_public_area_of_another_key() -> None:
    one = Registration()
    one.statement = {"pubArea": public_area(ec_key().public_key())}
    with pytest.raises(VerificationError) as caught:
        one.verified()
    assert caught.value.code == "other-name"


def test_a_root_of_somebody_else() -> None:
    one = Registration()
    with pytest.raises(VerificationError) as caught:
        verify_registration(one.made(), CLIENT, [AttestationCa("Other").certificate], NOW)
    assert caught.value.code == "untrusted-root"
    with pytest.raises(VerificationError) as caught:  # of the same name
        verify_registration(one.made(), CLIENT, [AttestationCa().certificate], NOW)
    assert caught.value.code == "untrusted-root"
    with pytest.raises(VerificationError, match="no root is pinned"):
        verify_registration(one.made(), CLIENT, [], NOW)


def test_a_statement_signed_by_another_key() -> None:
    one = Registration()
    one.statement = {"x5c": [one.ca.certify(ec_key().public_key(), usage=AIK)]}
    with pytest.raises(VerificationError) as caught:
        one.verified()
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("what", [b"", b"\xa0", b"\x80", cbor({"fmt": "packed"}), cbor({"fmt": 1})])
def test_what_is_no_statement(what: bytes) -> None:
    with pytest.raises(ParseError):
        read_attestation_object(what)


# ── on the command line ──────────────────────────────────────────────────────


def test_the_command(test_data: Callable[[str], Path], tmp_path: Path) -> None:
    from tests.support.shell import Shell

    folder, machine = test_data("webauthn-tpm"), Shell(tmp_path)
    trust = ("--trust", folder / "microsoft-tpm-root-2014.cer")
    for entry in _given(folder):
        file, client = folder / entry["file"], folder / entry["client_data"]
        at = _inside(file.read_bytes()).isoformat()
        words = ("attest", "webauthn", file, "--client-data", client, *trust, "--at", at)
        said = machine("--json", *words, code=0 if entry["genuine"] else 1)
        found = json.loads(said.out)
        if entry["genuine"]:
            assert found["valid"] and found["notes"] == ["RS1: the signature rests on SHA-1"]
        else:
            assert "maker that the TCG does not know" in found["error"]["message"]
    assert not machine.home.exists()
