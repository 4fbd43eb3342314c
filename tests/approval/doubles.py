"""Doubles: people with keys in memory, and a chip that attests whatever a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tpmhsm.approval.cards import Card, DeviceCard, create_card, create_device_card, parse_card
from tpmhsm.approval.identity import check_signable
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Claims, KeyPart, Request
from tpmhsm.attest.statements import AK_ATTRIBUTES, QUORUM_KEY_ATTRIBUTES, ChipState
from tpmhsm.policy.group import GroupDocument, RosterDocument, founders_of
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.tree import counter_nv, key_policy, roster_content, roster_nv
from tpmhsm.wire.attest import Attest, CreationInfo, NvCertifyInfo
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, CURVE, ST, TPM_GENERATED
from tpmhsm.wire.names import name_of_nv, name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import (
    AsymScheme,
    ClockInfo,
    EccPoint,
    EccSignature,
    KdfScheme,
    SchemeHash,
    Signature,
    SymDef,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class SoftIdentity:
    """An approver's key in memory: what a file key is, without the file."""

    kind = "file"
    token = None

    def __init__(self, private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        self.private = private
        self.public_key = private.public_key()
        self.description = "file test.key"
        self.signed: list[bytes] = []

    def close(self) -> None:
        pass

    def sign(self, message: bytes) -> bytes:
        check_signable(message)
        self.signed.append(message)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


@cache
def identity(name: str) -> SoftIdentity:
    if name.startswith("rsa"):
        return SoftIdentity(rsa.generate_private_key(65537, 2048))
    return SoftIdentity(ec.generate_private_key(ec.SECP256R1()))


@cache
def card(name: str) -> Card:
    return parse_card(create_card(name, identity(name)))


def ecc_public(key: ec.EllipticCurvePublicKey, attributes: int, policy: bytes = b"") -> bytes:
    n = key.public_numbers()
    size = key.curve.key_size // 8
    curve, alg = (CURVE.NIST_P256, ALG.SHA256) if size == 32 else (CURVE.NIST_P384, ALG.SHA384)
    scheme = AsymScheme(ALG.ECDSA, SchemeHash(alg))
    point = EccPoint(n.x.to_bytes(size, "big"), n.y.to_bytes(size, "big"))
    parameters = EccParms(SymDef(ALG.NULL), scheme, curve, KdfScheme(ALG.NULL))
    return encode(Public(ALG.ECC, ALG.SHA256, attributes, policy, parameters, point))


def rsa_public(key: rsa.RSAPublicKey, attributes: int, policy: bytes = b"") -> bytes:
    scheme = AsymScheme(ALG.RSASSA, SchemeHash(ALG.SHA256))
    parameters = RsaParms(SymDef(ALG.NULL), scheme, key.key_size, 0)
    modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    return encode(Public(ALG.RSA, ALG.SHA256, attributes, policy, parameters, modulus))


@dataclass
class Chip:
    """A chip without a chip: an attestation key that signs what it is told."""

    ak: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    counter: int = 1

    @property
    def card(self) -> DeviceCard:
        public = ecc_public(self.ak.public_key(), AK_ATTRIBUTES)
        return create_device_card(
            "host", "software TPM", (b"\x30\x03EK!",), b"ek public", public, created=NOW
        )

    def attest(self, kind: int, info: object, qualifying: bytes = b"") -> tuple[bytes, bytes]:
        body = encode(
            Attest(
                TPM_GENERATED, kind, b"\0\x0bsigner", qualifying, ClockInfo(1, 0, 0, True), 1, info
            )
        )
        return body, self.sign(body)

    def sign(self, body: bytes) -> bytes:
        r, s = decode_dss_signature(self.ak.sign(body, ec.ECDSA(hashes.SHA256())))
        parts = EccSignature(ALG.SHA256, r.to_bytes(32, "big"), s.to_bytes(32, "big"))
        return encode(Signature(ALG.ECDSA, parts))

    def creation(self, public: bytes) -> tuple[bytes, bytes]:
        info = CreationInfo(name_of_public(public), sha256(b"creation").digest())
        return self.attest(ST.ATTEST_CREATION, info)

    def state(
        self, group: GroupDocument, roster: RosterDocument, content: bytes, counter: int
    ) -> ChipState:
        return self.certified(group, roster, sha256(content).digest(), counter)

    def certified(
        self, group: GroupDocument, roster: RosterDocument, about: bytes, counter: int
    ) -> ChipState:
        count = NvCertifyInfo(
            name_of_nv(counter_nv(group, written=True)), 0, counter.to_bytes(8, "big")
        )
        held = NvCertifyInfo(
            name_of_nv(roster_nv(group, written=True)), 0, roster_content(group, roster)
        )
        return ChipState(
            *self.attest(ST.ATTEST_NV, count, about), *self.attest(ST.ATTEST_NV, held, about)
        )


def threshold(m: int, *names: str, contribution: bool = False) -> Threshold:
    return Threshold(m, tuple(card(name).member(contribution=contribution) for name in names))


class World:
    """A 2-of-3 group of alice, bob and carol on one chip, with a root key."""

    def __init__(self, officers: Threshold | None = None) -> None:
        self.chip = Chip()
        self.people = ("alice", "bob", "carol")
        self.officers = officers or threshold(2, *self.people)
        names = {*self.people, *(member.name for member in self.officers.members)}
        self.group = GroupDocument(
            name="officers",
            device_ek=sha256(self.chip.card.ek_evidence).digest(),
            device_ak=self.chip.card.ak_name,
            nonce=bytes(range(32)),
            counter_index=0x01800001,
            roster_index=0x01800002,
            custodians=(threshold(2, *self.people, contribution=True),),
            founders=founders_of(card(name).contribution for name in names),
        )
        self.roster = RosterDocument(self.group.id, 1, (self.officers,))
        self.key = ec.generate_private_key(ec.SECP256R1())

    def memory(self, owner: str = "alice", *others: str) -> InMemory:
        """A home in which `owner` made a card, and holds the others' cards."""
        names = others or tuple({*self.people, *(m.name for m in self.officers.members)})
        return InMemory(cards=[card(name) for name in names if name != owner], own=[card(owner)])

    def request(self, kind: str, content: bytes, **changes: object) -> Request:
        """A request; one for a signature comes with what the chip certifies over its content."""
        if kind not in ("group", "roster") and "state" not in changes:
            roster = changes.get("roster", self.roster)
            assert isinstance(roster, RosterDocument)
            changes["state"] = self.chip.state(self.group, roster, content, roster.epoch)
        base = Request(
            id=7,
            kind=kind,
            created=NOW,
            expires=NOW + timedelta(days=30),
            group=self.group,
            roster=None if kind == "group" else self.roster,
            content=content,
            device=self.chip.card,
            key=None if kind in ("group", "roster") else self.key_part(),
            claims=Claims(reason="because", by="carol"),
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def key_part(self, label: str = "root", policy: bytes | None = None) -> KeyPart:
        public = self.key_public(key_policy(self.group) if policy is None else policy)
        return KeyPart(label, public, "quorum(officers)", *self.chip.creation(public))

    def key_public(self, policy: bytes) -> bytes:
        return ecc_public(self.key.public_key(), QUORUM_KEY_ATTRIBUTES, policy)

    def founding(self, **changes: object) -> Request:
        return self.request("group", self.roster.encoded, **changes)

    def change(self, *names: str, epoch: int = 2, counter: int = 1, **changes: object) -> Request:
        asked = RosterDocument(self.group.id, epoch, (threshold(2, *names),))
        state = self.chip.state(self.group, self.roster, asked.encoded, counter)
        return self.request("roster", asked.encoded, **{"state": state, **changes})

    def certificate(self, content: bytes | None = None, **changes: object) -> Request:
        return self.request("certificate", content or root_tbs(self.key), **changes)


def name_of(text: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, text),
        ]
    )


def builder(
    public: ec.EllipticCurvePublicKey, subject: str, issuer: str, days: int = 365
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(public)
        .serial_number(0x1234567890ABCDEF1234567890ABCDEF)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=days) - timedelta(seconds=1))
    )


def tbs_of(
    made: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, algorithm: object = None
) -> bytes:
    return made.sign(key, algorithm or hashes.SHA256()).tbs_certificate_bytes  # type: ignore[arg-type]


USAGE = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}
CA_USAGE = x509.KeyUsage(**{**USAGE, "key_cert_sign": True, "crl_sign": True})
LEAF_USAGE = x509.KeyUsage(**{**USAGE, "digital_signature": True})


def root_tbs(key: ec.EllipticCurvePrivateKey) -> bytes:
    made = (
        builder(key.public_key(), "Example Root", "Example Root", 3650)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(CA_USAGE, critical=True)
    )
    return tbs_of(made, key)


def leaf_tbs(
    key: ec.EllipticCurvePrivateKey,
    sans: list[x509.GeneralName],
    subject: str = "www",
    days: int = 90,
) -> bytes:
    leaf = ec.generate_private_key(ec.SECP256R1())
    made = (
        builder(leaf.public_key(), subject, "Example Root", days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(LEAF_USAGE, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
    )
    return tbs_of(made, key)


def csr_info(key: ec.EllipticCurvePrivateKey, subject: str = "www") -> bytes:
    made = x509.CertificateSigningRequestBuilder().subject_name(name_of(subject))
    return made.sign(key, hashes.SHA256()).tbs_certrequest_bytes


def csr_der(key: ec.EllipticCurvePrivateKey, subject: str, sans: list[x509.GeneralName]) -> bytes:
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name_of(subject))
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
    )
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
