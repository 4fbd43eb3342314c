"""A chip that audits, in Python: what it says of itself is signed by a key made here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from tpmhsm.attest.audit_proof import GENESIS, Entry, LoggedKey, LogProof, Statement
from tpmhsm.attest.audit_records import (
    COMMAND_DIGESTS,
    SIGNING,
    ZEROS,
    Audited,
    Checkpoint,
    Record,
    anchor,
    audit_command,
    replay,
    still_there,
)
from tpmhsm.wire.attest import Attest, CertifyInfo, CommandAuditInfo, CreationInfo
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, CC, CURVE, RH, ST, TPM_GENERATED
from tpmhsm.wire.constants import ObjectAttributes as A
from tpmhsm.wire.names import handle_name, name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import (
    NULL_SYM,
    AsymScheme,
    ClockInfo,
    CreationData,
    EccPoint,
    EccSignature,
    KdfScheme,
    SchemeHash,
    Signature,
)

BORN = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.USER_WITH_AUTH | A.SIGN
PARENT = b"\x00\x0b" + b"P" * 32
QUALIFIED = PARENT[:2] + sha256(handle_name(RH.OWNER) + PARENT).digest()
NONCE = b"of a verifier"
AT = 1_790_000_000


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    """Always the same for a number."""
    return ec.derive_private_key(number + 7, ec.SECP256R1())


def public_of(number: int, attributes: A) -> bytes:
    """TPMT_PUBLIC of that key."""
    point = key(number).public_key().public_numbers()
    scheme = AsymScheme(ALG.ECDSA, SchemeHash(ALG.SHA256))
    parameters = EccParms(NULL_SYM, scheme, CURVE.NIST_P256, KdfScheme(ALG.NULL))
    unique = EccPoint(point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big"))
    return encode(Public(ALG.ECC, ALG.SHA256, attributes, b"", parameters, unique))


def signature(number: int, digest: bytes) -> bytes:
    """TPMT_SIGNATURE over a digest."""
    der = key(number).sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    r, s = (value.to_bytes(32, "big") for value in decode_dss_signature(der))
    return encode(Signature(ALG.ECDSA, EccSignature(ALG.SHA256, r, s)))


AK = public_of(0, BORN | A.RESTRICTED)
KEY = public_of(1, BORN)


@dataclass
class World:
    """A chip, and the log of a home that does everything right."""

    counter: int = 41
    digest: bytes = b""
    resets: int = 3
    safe: bool = True
    records: list[Record] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    keys: list[LoggedKey] = field(default_factory=list)
    signed: int = 0

    # ── the chip ─────────────────────────────────────────────────────────────

    def audited(self, record: Audited) -> Audited:
        """The chip carried it out."""
        if not self.digest:
            self.counter += 1
        self.digest = replay((record.hashes,), self.digest or ZEROS)
        return record

    def reset(self, *, orderly: bool = False) -> None:
        """Without a word before, or with TPM2_Shutdown(CLEAR)."""
        self.digest, self.resets, self.safe = b"", self.resets + 1, self.safe and orderly

    def said(self, kind: int, qualifying: bytes, what: object) -> Statement:
        """TPMS_ATTEST by the attestation key."""
        clock = ClockInfo(1000, self.resets, 0, self.safe)
        attest = encode(Attest(TPM_GENERATED, kind, b"", qualifying, clock, 0, what))
        return Statement(attest, signature(0, sha256(attest).digest()))

    def certified_parent(self, qualifying: bytes) -> Statement:
        """TPM2_Certify of the keys' parent."""
        return self.said(ST.ATTEST_CERTIFY, qualifying, CertifyInfo(PARENT, QUALIFIED))

    # ── the home ─────────────────────────────────────────────────────────────

    def log(self, act: str, facts: str = "{}") -> None:
        """An entry."""
        prev = self.entries[-1].hash if self.entries else GENESIS
        entry = Entry(len(self.entries) + 1, "2026-11-23T20:00:00Z", "root", act, facts, prev, "")
        self.entries.append(Entry(*list(vars(entry).values())[:-1], hash=entry.computed))

    def start(self) -> None:
        """As `audit start` does."""
        self.records.append(self.audited(audit_command(SIGNING, ())))
        said = self.certified_parent(still_there(b"", b""))
        attest, signed = said.attest.hex(), said.signature.hex()
        self.log("audit-on", f'{{"attest":"{attest}","signature":"{signed}"}}')
        self.checkpoint()

    def checkpoint(self, nonce: bytes = b"") -> Checkpoint:
        """As the home makes one."""
        self.records.append(self.audited(audit_command(SIGNING, ())))
        head = self.entries[-1]
        last = bytes.fromhex(head.hash)
        info = CommandAuditInfo(self.counter, ALG.SHA256, self.digest, COMMAND_DIGESTS[0])
        asked = anchor(head.seq, last, nonce)
        said = self.said(ST.ATTEST_COMMAND_AUDIT, asked, info)
        self.digest = b""
        at = AT + len(self.records)
        made = Checkpoint(at, head.seq, last, nonce, said.attest, said.signature)
        self.records.append(made)
        self.log("checkpoint")
        return made

    def make_key(self, mark: bytes) -> None:
        """The key, younger than a checkpoint."""
        name = name_of_public(KEY)
        data = encode(CreationData((), b"", 0, ALG.SHA256, PARENT, PARENT, mark))
        info = CreationInfo(name, sha256(data).digest())
        born = self.said(ST.ATTEST_CREATION, b"", info)
        self.keys.append(LoggedKey(name, "web", KEY, data, born))
        self.log("key-create")

    def sign(self, count: int = 1, *, encrypted: bool = False) -> None:
        """By the key."""
        for _ in range(count):
            self.signed += 1
            digest = sha256(b"%d" % self.signed).digest()
            told = b"\xaa" * 32 if encrypted else digest
            sent = b"\x00\x20" + told + b"scheme and ticket"
            made = Audited(
                AT + self.signed, CC.Sign, name_of_public(KEY), sent, signature(1, digest), digest
            )
            self.records.append(self.audited(made))
            self.log("signed", f'{{"digest":"{digest.hex()}"}}')

    def prove(self, nonce: bytes = NONCE) -> LogProof:
        """As `audit prove` does."""
        last = self.checkpoint(nonce)
        parent = self.certified_parent(still_there(nonce, last.attest))
        return LogProof(
            "2026-11-23T20:00:00Z",
            nonce,
            AK,
            parent,
            tuple(self.keys),
            tuple(self.entries[: last.seq]),
            tuple(self.records),
            tuple(range(1, len(self.records) + 1)),
        )


def told(signatures: int = 6) -> World:
    """A home with a key and some signatures, two checkpoints between them."""
    world = World()
    world.start()
    mark = next(r for r in world.records if isinstance(r, Checkpoint)).mark
    world.make_key(mark)
    world.sign(signatures // 2)
    world.checkpoint()
    world.sign(signatures - signatures // 2)
    return world
