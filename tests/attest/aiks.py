"""Attestation keys of no chip: keys in memory, with the certificates that real ones have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tpmhsm.attest.believed import Believed
from tpmhsm.attest.csr_bundle import (
    ATTRIBUTE,
    TPM_CREATION,
    Statement,
    TpmEvidence,
    write_bundle,
    write_tpm_evidence,
)
from tpmhsm.pki.csr import CsrContent, prepare_csr, with_attribute
from tpmhsm.pki.sans import parse_sans
from tpmhsm.wire.attest import Attest, CertifyInfo, CreationInfo
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, CURVE, ST, TPM_GENERATED
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import (
    AsymScheme,
    ClockInfo,
    EccPoint,
    EccSignature,
    KdfScheme,
    RsaSignature,
    SchemeHash,
    Signature,
    SymDef,
)

NOW = datetime.now(UTC).replace(microsecond=0)
AIK = x509.ObjectIdentifier("2.23.133.8.3")
BORN_HERE = 0x00040472  # fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA sign

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def tpm_san(maker: str = "id:49465800") -> x509.SubjectAlternativeName:
    """Maker, model and version as certificates of attestation keys have them."""
    words = {"2.23.133.2.1": maker, "2.23.133.2.2": "SLB9672", "2.23.133.2.3": "id:000F0018"}
    found = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in words.items()]
    rdn = x509.RelativeDistinguishedName(found)
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([rdn]))])


@dataclass
class AttestationCa:
    """Somebody who certifies attestation keys."""

    subject: str = "Attestation CA"
    key: PrivateKey = field(default_factory=ec_key)

    @cached_property
    def certificate(self) -> bytes:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        return self._build(self.subject, self.key.public_key(), [(constraints, True)])

    def certify(
        self,
        public: Any,
        *,
        subject: str = "",
        usage: x509.ObjectIdentifier = AIK,
        san: x509.SubjectAlternativeName | None = None,
        san_critical: bool = True,
        ca: bool | None = False,
        aaguid: bytes = b"",
        until: datetime = NOW + timedelta(days=300),
    ) -> bytes:
        """A certificate of an attestation key, faulty where asked to be."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.ExtendedKeyUsage([usage]), False),
            (san or tpm_san(), san_critical),
        ]
        if ca is not None:
            extensions.append((x509.BasicConstraints(ca=ca, path_length=None), True))
        if aaguid:
            oid = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
            extensions.append((x509.UnrecognizedExtension(oid, b"\x04\x10" + aaguid), False))
        return self._build(subject, public, extensions, until)

    def _build(
        self,
        subject: str,
        public: Any,
        extensions: list[tuple[x509.ExtensionType, bool]],
        until: datetime = NOW + timedelta(days=3000),
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(self.subject))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=30))
            .not_valid_after(until)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


def public_area(
    key: ec.EllipticCurvePublicKey, attributes: int = BORN_HERE, policy: bytes = b""
) -> bytes:
    """TPMT_PUBLIC of a P-256 key."""
    numbers = key.public_numbers()
    scheme = AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA256))
    parameters = EccParms(SymDef(ALG.NULL), scheme, CURVE.NIST_P256, KdfScheme(ALG.NULL))
    point = EccPoint(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    return encode(Public(ALG.ECC, ALG.SHA256, attributes, policy, parameters, point))


def certify_info(public: bytes, qualifying: bytes, **changes: Any) -> bytes:
    """TPMS_ATTEST of TPM2_Certify of a key."""
    body = Attest(
        TPM_GENERATED,
        ST.ATTEST_CERTIFY,
        b"\0\x0b" + bytes(32),
        qualifying,
        ClockInfo(1000, 1, 0, True),
        1,
        CertifyInfo(name_of_public(public), b"\0\x0b" + bytes(32)),
    )
    return encode(body.replace(**changes))


def sign(key: PrivateKey, data: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """A plain signature: DER for ECDSA, PKCS #1 v1.5 for RSA."""
    used = digest or hashes.SHA256()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), used)
    return key.sign(data, ec.ECDSA(used))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def creation_info(public: bytes, qualifying: bytes = b"") -> bytes:
    """TPMS_ATTEST of TPM2_CertifyCreation of a key."""
    made = CreationInfo(name_of_public(public), bytes(32))
    return certify_info(public, qualifying, type=ST.ATTEST_CREATION, attested=made)


def csr_with(key: ec.EllipticCurvePrivateKey, bundle: bytes = b"") -> bytes:
    """A CSR for a.example with this AttestationBundle."""
    unsigned = prepare_csr(key.public_key(), CsrContent(name(""), parse_sans(["dns:a.example"])))
    if bundle:
        unsigned = with_attribute(unsigned, ATTRIBUTE, bundle)
    return unsigned.complete(sign(key, unsigned.tbs))


def tpmt_signature(key: PrivateKey, data: bytes, alg: int = ALG.SHA256) -> bytes:
    """TPMT_SIGNATURE."""
    digest: hashes.HashAlgorithm = hashes.SHA1() if alg == ALG.SHA1 else hashes.SHA256()
    plain = sign(key, data, digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return encode(Signature(ALG.RSASSA, RsaSignature(alg, plain)))
    r, s = (number.to_bytes(32, "big") for number in decode_dss_signature(plain))
    return encode(Signature(ALG.ECDSA, EccSignature(alg, r, s)))


AK_ATTRIBUTES = 0x00050472  # BORN_HERE, restricted


@dataclass
class Chip:
    """A key and an attestation key that speaks of it, and who certified that one."""

    ca: AttestationCa = field(default_factory=AttestationCa)
    ak: PrivateKey = field(default_factory=ec_key)
    key: ec.EllipticCurvePrivateKey = field(default_factory=ec_key)
    attributes: int = BORN_HERE
    ak_attributes: int = AK_ATTRIBUTES

    @property
    def public(self) -> bytes:
        return public_area(self.key.public_key(), self.attributes)

    @property
    def ak_public(self) -> bytes:
        key = self.ak.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return public_area(key, self.ak_attributes)

    def statement(self, info: bytes = b"", **changes: Any) -> Statement:
        """TPM2_CertifyCreation of the key, or what else the attestation key says."""
        info = info or creation_info(self.public)
        found = {"attest": info, "signature": tpmt_signature(self.ak, info), "public": self.public}
        return write_tpm_evidence(TPM_CREATION, TpmEvidence(**(found | changes)))

    def certificate(self, **faults: Any) -> bytes:
        return self.ca.certify(self.ak.public_key(), **faults)

    def bundle(self, **faults: Any) -> bytes:
        """The statement, and the attestation key's certificate."""
        return write_bundle([self.statement()], [self.certificate(**faults)])

    def csr(self, bundle: bytes = b"") -> bytes:
        return csr_with(self.key, bundle or self.bundle())

    def believed(self, kind: str = "discrete") -> Believed:
        return Believed({self.ca.certificate: kind})
