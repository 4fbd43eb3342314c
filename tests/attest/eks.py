"""Makers of chips that are none: roots, intermediates and EK certificates with software keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tpmhsm.pki import der

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def tpm_name(maker: str = "id:49465800", model: str = "SLB9672", version: str = "id:0010") -> Any:
    """tpmManufacturer, tpmModel, tpmVersion."""
    words = {"1": maker, "2": model, "3": version}
    oids = {n: x509.ObjectIdentifier(f"2.23.133.2.{n}") for n in words}
    found = [x509.NameAttribute(oids[n], text) for n, text in words.items()]
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(found))])


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


@dataclass(frozen=True)
class Ca:
    """A CA: its key and certificate."""

    subject: str
    key: Any
    raw: bytes

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.raw)


def _builder(subject: str, issuer: str, public: Any, begin: datetime, end: datetime) -> Any:
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def make_ca(
    subject: str, above: Ca | None = None, begin: datetime = BEGIN, end: datetime = END,
    constraints: x509.BasicConstraints | None = None, key: Any = None,
) -> Ca:  # fmt: skip
    key = key or ec_key()
    built = _builder(subject, above.subject if above else subject, key.public_key(), begin, end)
    basic = constraints or x509.BasicConstraints(True, None)
    built = built.add_extension(basic, critical=True)
    signer = above.key if above else key
    made = built.sign(signer, hashes.SHA256())
    return Ca(subject, key, made.public_bytes(Encoding.DER))


@dataclass(frozen=True)
class Ek:
    """An EK certificate to be made. Extensions are left out by None."""

    above: Ca
    subject: str = ""
    begin: datetime = BEGIN
    end: datetime = END
    public: Any = None
    usage: list[x509.ObjectIdentifier] | None = field(default_factory=lambda: [EK_USAGE])
    san: Any = field(default_factory=tpm_name)
    ca: bool = False
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()

    def but(self, **changes: Any) -> bytes:
        return replace(self, **changes).make()

    def make(self) -> bytes:
        public = self.public or ec_key().public_key()
        built = _builder(self.subject, self.above.subject, public, self.begin, self.end)
        built = built.add_extension(x509.BasicConstraints(self.ca, None), critical=True)
        if self.usage is not None:
            built = built.add_extension(x509.ExtendedKeyUsage(self.usage), critical=False)
        if self.san is not None:
            built = built.add_extension(self.san, critical=True)
        for extension, critical in self.more:
            built = built.add_extension(extension, critical)
        return built.sign(self.above.key, hashes.SHA256()).public_bytes(Encoding.DER)


def unknown(oid: str, value: bytes = b"\x05\x00") -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def resigned(raw: bytes, above: Ca, position: int, element: bytes) -> bytes:
    """A certificate with another field in its TBSCertificate, signed anew."""
    parts = der.children(der.read_whole(raw).content)
    fields = [part.raw for part in der.children(parts[0].content)]
    fields[position] = element
    tbs = der.encode(der.SEQUENCE, *fields)
    signature = above.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, tbs, parts[1].raw, der.encode(der.BIT_STRING, b"\0", signature))


def oaep_spki(key: rsa.RSAPublicKey) -> bytes:
    """As STMicroelectronics wrote RSA keys: for RSAES-OAEP, with parameters."""
    plain = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = der.children(der.read_whole(plain).content)[1].raw
    tag = der.encode(0xA2, der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.9"),
        der.encode(der.OCTET_STRING, b"TCPA")))  # fmt: skip
    algorithm = der.encode(
        der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.7"), der.encode(der.SEQUENCE, tag)
    )
    return der.encode(der.SEQUENCE, algorithm, bits)
