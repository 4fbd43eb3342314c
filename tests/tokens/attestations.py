"""Attestation chains like Yubico's, under a root of the tests' own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

ARC = "1.3.6.1.4.1.41482.3."
BORN, END = datetime(2016, 3, 14, tzinfo=UTC), datetime(2052, 4, 17, tzinfo=UTC)


@dataclass(frozen=True)
class Issuer:
    """A certificate and its key."""

    certificate: x509.Certificate
    private: rsa.RSAPrivateKey


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def extension(number: int, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(ARC + str(number)), value)


def certify(
    subject: str,
    key: Any,
    issuer: str,
    private: rsa.RSAPrivateKey,
    extensions: list[tuple[Any, bool]],
) -> x509.Certificate:
    """A certificate with Yubico's dates."""
    builder = x509.CertificateBuilder(
        issuer_name=name(issuer),
        subject_name=name(subject),
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=BORN,
        not_valid_after=END,
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(private, hashes.SHA256())


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def test_root() -> Issuer:
    """The root that tests pin instead of Yubico's."""
    key = new_key()
    subject = "Test PIV Root CA Serial 1"
    basic = x509.BasicConstraints(ca=True, path_length=1)
    return Issuer(certify(subject, key.public_key(), subject, key, [(basic, True)]), key)


@cache
def other_root() -> Issuer:
    """A root that nobody pins."""
    key = new_key()
    subject = "Somebody's PIV Root CA"
    basic = x509.BasicConstraints(ca=True, path_length=1)
    return Issuer(certify(subject, key.public_key(), subject, key, [(basic, True)]), key)


@cache
def device(root: Issuer, firmware: tuple[int, int, int] = (5, 4, 3), number: int = 0) -> Issuer:
    """What slot f9 of the card `number` holds from the factory."""
    key = new_key()
    certificate = certify(
        "Yubico PIV Attestation",
        key.public_key(),
        root.certificate.subject.rfc4514_string().removeprefix("CN="),
        root.private,
        [
            (extension(3, bytes(firmware)), False),
            (x509.BasicConstraints(ca=True, path_length=0), True),
        ],
    )
    return Issuer(certificate, key)


@dataclass(frozen=True)
class Facts:
    """What a slot's attestation says."""

    slot: int
    firmware: tuple[int, int, int]
    serial: int
    pin_policy: int
    touch_policy: int
    form_factor: int = 1


def attest(signer: Issuer, key: Any, facts: Facts) -> x509.Certificate:
    """The certificate that ATTEST gives: signed by f9."""
    serial = facts.serial.to_bytes(5, "big").lstrip(b"\0") or b"\0"
    serial = b"\0" + serial if serial[0] & 0x80 else serial
    return certify(
        f"YubiKey PIV Attestation {facts.slot:02x}",
        key,
        signer.certificate.subject.rfc4514_string().removeprefix("CN="),
        signer.private,
        [
            (extension(3, bytes(facts.firmware)), False),
            (extension(7, bytes([2, len(serial)]) + serial), False),
            (extension(8, bytes([facts.pin_policy, facts.touch_policy])), False),
            (extension(9, bytes([facts.form_factor])), False),
        ],
    )
