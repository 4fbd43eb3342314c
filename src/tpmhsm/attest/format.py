"""The evidence file: what a chip says of itself, its keys and who must agree, in one JSON document.

`tpmhsm.attest.reading` reads it strictly, `tpmhsm.attest.verify` judges. The schema stands beside
this file (`schema.json`, JSON Schema 2020-12), and `docs/evidence.md` describes each field.

All statements are signed by the first attestation key over qualifying data of this shape:

    qualifying(nonce, purpose, subject) = SHA-256( u16 ‖ "tpmhsm/evidence/1" ‖ u16 ‖ nonce
                                                   ‖ u16 ‖ purpose ‖ u16 ‖ subject )

with a 16-bit length (big-endian) before each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from tpmhsm.policy import moments
from tpmhsm.policy.documents import canonical, parse_json, to_base64
from tpmhsm.policy.pcrs import Measured

FORMAT = "tpmhsm/evidence/1"

MAX_EVIDENCE = 16 << 20
"""Bytes of a file. The largest part of it is a machine's event log."""

MAX_AUDIT = 8 << 20
"""Bytes of a log's proof that has room in it."""

MAX_ITEMS = 1 << 12
"""Keys, groups, budgets, certificates, cards … of one list."""

NONCE_SIZES = range(8, 33)
"""Bytes of the verifier's nonce."""

DEVICE_KINDS = ("software TPM", "hardware", "other TPM")

Purpose = Literal["ak", "creation", "counter", "roster", "budget", "parent", "quote", "time"]
PURPOSES: tuple[Purpose, ...] = (
    "ak",  # subject: the Name of the further attestation key
    "creation",  # subject: the Name of the key
    "counter",  # subject: the group's id (32 bytes)
    "roster",  # subject: the group's id
    "budget",  # subject: the Name of the key (34 bytes)
    "parent",  # subject: the Name of the storage key that takes copies
    "quote",  # subject: empty
    "time",  # subject: `Evidence.seal` (32 bytes)
)


def qualifying(nonce: bytes, purpose: Purpose, subject: bytes = b"") -> bytes:
    """The qualifying data of a statement, 32 bytes (see the module's head)."""
    fields = (FORMAT.encode(), nonce, purpose.encode(), subject)
    return sha256(b"".join(len(part).to_bytes(2, "big") + part for part in fields)).digest()


@dataclass(frozen=True)
class Statement:
    """`attest` TPMS_ATTEST, `signature` TPMT_SIGNATURE over it by the first attestation key."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True)
class DeviceClaims:
    """What the chip answers when asked what it is: hints that anyone can type.

    `properties`: TPM_PT to its 32-bit value.
    """

    kind: str
    manufacturer: str
    vendor: str
    firmware: str
    specification: str
    properties: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EndorsementPart:
    """An endorsement key. `public` TPMT_PUBLIC; `certificate` DER, None when the chip keeps none;
    `nv_index` where the chip keeps it; `chain` further certificates that the chip keeps, DER.
    """

    public: bytes
    certificate: bytes | None = None
    nv_index: int | None = None
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class CreationPart:
    """TPM2_CertifyCreation. `data` TPMS_CREATION_DATA, whose hash the statement holds; of a key
    that may be copied `parent` is the TPMT_PUBLIC of the storage key that it names.
    """

    attest: bytes
    signature: bytes
    data: bytes
    parent: bytes = b""

    @property
    def statement(self) -> Statement:
        """The signed part."""
        return Statement(self.attest, self.signature)


@dataclass(frozen=True)
class AttestationPart:
    """An attestation key. `public` TPMT_PUBLIC; `certificates` DER, its own first, then issuers'.

    The first of the file signs all statements. Of each further one `certified` is TPM2_Certify of
    it by the first; `creation` (TPM2_CertifyCreation of itself) and `quote` it signs itself, for
    verifiers that take no other algorithm.
    """

    public: bytes
    certificates: tuple[bytes, ...] = ()
    certified: Statement | None = None
    creation: CreationPart | None = None
    quote: Statement | None = None


@dataclass(frozen=True)
class KeyEvidence:
    """A key. `public` TPMT_PUBLIC; `creation` None for one that was imported.

    `policy` is its text, `document` the policy document (TOML) with the facts of its birth, empty
    when the text and the groups' documents say all. `certificates`: DER, for this very key.
    """

    label: str
    use: str
    public: bytes
    policy: str
    document: str = ""
    creation: CreationPart | None = None
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class GroupEvidence:
    """A group: `document`, `roster` and `cards` are canonical JSON, byte for byte as hashed.

    `counter` and `held` are TPM2_NV_Certify of the epoch counter and of the roster index; both are
    None for a static group, which has no indices.
    """

    document: bytes
    roster: bytes
    cards: tuple[bytes, ...] = ()
    counter: Statement | None = None
    held: Statement | None = None


@dataclass(frozen=True)
class BudgetEvidence:
    """A budget of the key labelled `key`, granted by `group`; `index` is TPMS_NV_PUBLIC.

    `statement`: TPM2_NV_Certify of all 8 bytes; None while nothing was ever granted.
    """

    key: str
    group: str
    index: bytes
    statement: Statement | None = None


@dataclass(frozen=True)
class ParentEvidence:
    """The storage key that takes copies: `public` TPMT_PUBLIC, `certified` TPM2_Certify of it."""

    public: bytes
    certified: Statement


@dataclass(frozen=True)
class CopyApproval:
    """One custodian's approval of a copy: `policy_ref` 32 bytes, `signature` TPMT_SIGNATURE."""

    approver: str
    policy_ref: bytes
    signature: bytes


@dataclass(frozen=True)
class CopyEvidence:
    """A copy that custodians approved: `document` is canonical JSON ("tpmhsm/copy/1"), `made` when
    the chip made it by the host's clock.
    """

    made: datetime
    document: bytes
    approvals: tuple[CopyApproval, ...]


@dataclass(frozen=True)
class QuoteEvidence:
    """TPM2_Quote of all PCRs in `pcrs`: bank to number to value."""

    attest: bytes
    signature: bytes
    pcrs: Measured

    @property
    def statement(self) -> Statement:
        """The signed part."""
        return Statement(self.attest, self.signature)


@dataclass(frozen=True)
class Evidence:
    """One evidence file.

    `nonce` is the verifier's, or a random one; `event_log` the firmware's binary log (TCG PC Client
    Platform Firmware Profile); `audit` the proof of the log, which only its own reader understands.
    `parent` and `copies` are not in the file where there is nothing to say.
    """

    made: datetime
    nonce: bytes
    device: DeviceClaims
    eks: tuple[EndorsementPart, ...]
    aks: tuple[AttestationPart, ...]
    keys: tuple[KeyEvidence, ...] = ()
    groups: tuple[GroupEvidence, ...] = ()
    budgets: tuple[BudgetEvidence, ...] = ()
    parent: ParentEvidence | None = None
    copies: tuple[CopyEvidence, ...] = ()
    quote: QuoteEvidence | None = None
    event_log: bytes | None = None
    time: Statement | None = None
    audit: Mapping[str, Any] | None = None

    def qualifying(self, purpose: Purpose, subject: bytes = b"") -> bytes:
        """The qualifying data that a statement of this file must have."""
        return qualifying(self.nonce, purpose, subject)

    @cached_property
    def seal(self) -> bytes:
        """SHA-256 of the canonical document without `time` and `audit` (32 bytes).

        The chip signs it with the time, so nothing can be changed in the file, left out of it or
        added to it after the chip spoke; the host itself could, before.
        """
        return sha256(canonical(_document(replace(self, time=None, audit=None)))).digest()


# ── writing ──────────────────────────────────────────────────────────────────


def format_evidence(evidence: Evidence) -> bytes:
    """The file: canonical JSON and a line feed. UsageError for what has no JSON."""
    return canonical(_document(evidence)) + b"\n"


def _document(evidence: Evidence) -> dict[str, Any]:
    log, quote = evidence.event_log, evidence.quote
    document: dict[str, Any] = {
        "format": FORMAT,
        "made": moments.stamp(evidence.made),
        "nonce": evidence.nonce.hex(),
        "device": _device(evidence.device),
        "eks": [_endorsement(one) for one in evidence.eks],
        "aks": [_attestation(one) for one in evidence.aks],
        "keys": [_key(one) for one in evidence.keys],
        "groups": [_group(one) for one in evidence.groups],
        "budgets": [_budget(one) for one in evidence.budgets],
        "quote": quote and {**_signed(quote), "pcrs": _pcrs(quote.pcrs)},
        "event_log": None if log is None else to_base64(log),
        "time": _statement(evidence.time),
        "audit": None if evidence.audit is None else dict(evidence.audit),
    }
    if evidence.parent is not None:
        document["parent"] = _parent(evidence.parent)
    if evidence.copies:
        document["copies"] = [_copy(one) for one in evidence.copies]
    return document


def _device(one: DeviceClaims) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "manufacturer": one.manufacturer,
        "vendor": one.vendor,
        "firmware": one.firmware,
        "specification": one.specification,
        "properties": {f"0x{tag:08x}": value for tag, value in one.properties.items()},
    }


def _endorsement(one: EndorsementPart) -> dict[str, Any]:
    return {
        "public": to_base64(one.public),
        "certificate": None if one.certificate is None else to_base64(one.certificate),
        "nv_index": one.nv_index,
        "chain": _blobs(one.chain),
    }


def _attestation(one: AttestationPart) -> dict[str, Any]:
    return {
        "public": to_base64(one.public),
        "certificates": _blobs(one.certificates),
        "certified": _statement(one.certified),
        "creation": _creation(one.creation),
        "quote": _statement(one.quote),
    }


def _key(one: KeyEvidence) -> dict[str, Any]:
    return {
        "label": one.label,
        "use": one.use,
        "public": to_base64(one.public),
        "creation": _creation(one.creation),
        "policy": {"text": one.policy, "document": one.document},
        "certificates": _blobs(one.certificates),
    }


def _group(one: GroupEvidence) -> dict[str, Any]:
    return {
        "document": _embedded(one.document),
        "roster": _embedded(one.roster),
        "cards": [_embedded(card) for card in one.cards],
        "counter": _statement(one.counter),
        "held": _statement(one.held),
    }


def _budget(one: BudgetEvidence) -> dict[str, Any]:
    return {
        "key": one.key,
        "group": one.group,
        "index": to_base64(one.index),
        "statement": _statement(one.statement),
    }


def _parent(one: ParentEvidence) -> dict[str, Any]:
    return {"public": to_base64(one.public), "certified": _signed(one.certified)}


def _copy(one: CopyEvidence) -> dict[str, Any]:
    return {
        "made": moments.stamp(one.made),
        "document": _embedded(one.document),
        "approvals": [
            {
                "approver": vote.approver,
                "policy_ref": vote.policy_ref.hex(),
                "signature": to_base64(vote.signature),
            }
            for vote in one.approvals
        ],
    }


def _embedded(data: bytes) -> dict[str, Any]:
    return parse_json(data, "embedded document")


def _pcrs(measured: Measured) -> dict[str, dict[str, str]]:
    return {
        bank: {str(number): value.hex() for number, value in values.items()}
        for bank, values in measured.items()
    }


def _statement(one: Statement | None) -> dict[str, str] | None:
    return None if one is None else _signed(one)


def _creation(one: CreationPart | None) -> dict[str, str] | None:
    if one is None:
        return None
    parent = {"parent": to_base64(one.parent)} if one.parent else {}
    return {**_signed(one), "data": to_base64(one.data), **parent}


def _signed(one: Statement | CreationPart | QuoteEvidence) -> dict[str, str]:
    return {"attest": to_base64(one.attest), "signature": to_base64(one.signature)}


def _blobs(values: tuple[bytes, ...]) -> list[str]:
    return [to_base64(value) for value in values]
