"""The evidence file: what a chip says of itself, its keys and who must agree, in one JSON document.

Strict to read and nothing in it believed: `tpmhsm.attest.verify` judges. The schema stands beside
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

from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.documents import Fields, canonical, encode_json, parse_json, to_base64
from tpmhsm.policy.pcrs import Measured, read_measured

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

Purpose = Literal["ak", "creation", "counter", "roster", "budget", "quote", "time"]
PURPOSES: tuple[Purpose, ...] = (
    "ak",  # subject: the Name of the further attestation key
    "creation",  # subject: the Name of the key
    "counter",  # subject: the group's id (32 bytes)
    "roster",  # subject: the group's id
    "budget",  # subject: the Name of the key (34 bytes)
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
    """TPM2_CertifyCreation. `data` TPMS_CREATION_DATA, whose hash the statement holds."""

    attest: bytes
    signature: bytes
    data: bytes

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
    """

    made: datetime
    nonce: bytes
    device: DeviceClaims
    eks: tuple[EndorsementPart, ...]
    aks: tuple[AttestationPart, ...]
    keys: tuple[KeyEvidence, ...] = ()
    groups: tuple[GroupEvidence, ...] = ()
    budgets: tuple[BudgetEvidence, ...] = ()
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
    return {
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
    return None if one is None else {**_signed(one), "data": to_base64(one.data)}


def _signed(one: Statement | CreationPart | QuoteEvidence) -> dict[str, str]:
    return {"attest": to_base64(one.attest), "signature": to_base64(one.signature)}


def _blobs(values: tuple[bytes, ...]) -> list[str]:
    return [to_base64(value) for value in values]


# ── reading ──────────────────────────────────────────────────────────────────


def is_evidence(data: bytes) -> bool:
    """Whether a file says that it is evidence."""
    try:
        return parse_json(data, "evidence", MAX_EVIDENCE).get("format") == FORMAT
    except TpmHsmError:
        return False


def parse_evidence(data: bytes) -> Evidence:
    """Read an evidence file. ParseError saying what is wrong and where.

    Nothing is checked but the shape: fields, types, sizes, one encoding of each value.
    """
    value = parse_json(data, "evidence", MAX_EVIDENCE)
    fields = _Reader(value, "evidence")
    fields.expect("format", FORMAT)
    evidence = Evidence(
        made=moments.read_moment(fields, "made"),
        nonce=read_nonce(fields),
        device=_read_device(fields.inner("device")),
        eks=fields.each("eks", _read_endorsement),
        aks=fields.each("aks", _read_attestation),
        keys=fields.each("keys", _read_key),
        groups=fields.each("groups", _read_group),
        budgets=fields.each("budgets", _read_budget),
        quote=fields.maybe("quote", _read_quote),
        event_log=fields.maybe_base64("event_log"),
        time=fields.maybe("time", _read_statement),
        audit=fields.maybe("audit", lambda inner: inner.everything()),
    )
    fields.done()
    if not evidence.aks:
        raise ParseError("evidence: no attestation key")
    labels = [key.label for key in evidence.keys]
    if len(labels) != len(set(labels)):
        raise ParseError("evidence: two keys of one label")
    return evidence


def read_nonce(fields: Fields) -> bytes:
    """The field `nonce`: 8 to 32 bytes."""
    nonce = fields.hex("nonce")
    if len(nonce) not in NONCE_SIZES:
        raise ParseError(f"the nonce has {len(nonce)} bytes, not 8 to 32")
    return nonce


class _Reader(Fields):
    """Fields with what an evidence file has besides: null, lists of objects, certificates."""

    def inner(self, key: str) -> _Reader:
        self.fields(key)
        return _Reader(self._value[key], f"{self._what}: {key}")

    def maybe(self, key: str, read: Any) -> Any:
        """An object, or null."""
        return None if self._is_null(key) else read(self.inner(key))

    def maybe_base64(self, key: str) -> bytes | None:
        return None if self._is_null(key) else self.base64(key)

    def maybe_number(self, key: str) -> int | None:
        return None if self._is_null(key) else self.number(key, 0, 0xFFFFFFFF)

    def each(self, key: str, read: Any) -> tuple[Any, ...]:
        """A list of objects."""
        items = self._limited(key)
        return tuple(
            read(_Reader(item, f"{self._what}: {key} {n}")) for n, item in enumerate(items)
        )

    def blobs(self, key: str) -> tuple[bytes, ...]:
        """A list of base64 strings."""
        items = self._limited(key)
        return tuple(
            Fields({key: item}, f"{self._what}: {key} {n}").base64(key)
            for n, item in enumerate(items)
        )

    def embedded(self, key: str) -> bytes:
        """An object, as its canonical bytes."""
        self.fields(key)
        return _canonical(self._value[key], f"{self._what}: {key}")

    def embeddeds(self, key: str) -> tuple[bytes, ...]:
        """A list of objects, as their canonical bytes."""
        return self.each(key, lambda inner: _canonical(inner.everything(), self._what))

    def everything(self) -> dict[str, Any]:
        _canonical(self._value, self._what)
        return self._value

    def _limited(self, key: str) -> list[Any]:
        items = self.list(key)
        if len(items) > MAX_ITEMS:
            raise ParseError(f"{self._what}: {key} has {len(items)} items, more than {MAX_ITEMS}")
        return items

    def _is_null(self, key: str) -> bool:
        if not self.has(key):
            raise ParseError(f"{self._what}: field {key!r} is missing")
        self.allow(key)
        return self._value[key] is None


def _canonical(value: Any, what: str) -> bytes:
    try:
        return encode_json(value)
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None


def _read_device(fields: _Reader) -> DeviceClaims:
    kind = fields.text("kind")
    if kind not in DEVICE_KINDS:
        raise ParseError(f"evidence: device: kind is none of {', '.join(DEVICE_KINDS)}")
    inner = fields.inner("properties")
    found = {}
    for tag in inner.everything():
        if len(tag) != 10 or not tag.startswith("0x") or not _is_hex(tag[2:]):
            raise ParseError(f"evidence: device: properties: {tag[:20]!r} is no 0x00000000")
        found[int(tag, 16)] = inner.number(tag, 0, 0xFFFFFFFF)
    claims = DeviceClaims(
        kind=kind,
        manufacturer=_short(fields, "manufacturer"),
        vendor=_short(fields, "vendor"),
        firmware=_short(fields, "firmware"),
        specification=_short(fields, "specification"),
        properties=found,
    )
    fields.done()
    return claims


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


def _short(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if len(text) > 64 or not text.isprintable():
        raise ParseError(f"evidence: device: {key} is no short text")
    return text


def _read_endorsement(fields: _Reader) -> EndorsementPart:
    found = EndorsementPart(
        public=fields.base64("public"),
        certificate=fields.maybe_base64("certificate"),
        nv_index=fields.maybe_number("nv_index"),
        chain=fields.blobs("chain"),
    )
    fields.done()
    return found


def _read_attestation(fields: _Reader) -> AttestationPart:
    found = AttestationPart(
        public=fields.base64("public"),
        certificates=fields.blobs("certificates"),
        certified=fields.maybe("certified", _read_statement),
        creation=fields.maybe("creation", _read_creation),
        quote=fields.maybe("quote", _read_statement),
    )
    fields.done()
    return found


def _read_key(fields: _Reader) -> KeyEvidence:
    use = fields.text("use")
    if use not in ("sign", "decrypt"):
        raise ParseError("evidence: a key's use is sign or decrypt")
    policy = fields.inner("policy")
    found = KeyEvidence(
        label=fields.label("label"),
        use=use,
        public=fields.base64("public"),
        policy=policy.text("text"),
        document=policy.text("document"),
        creation=fields.maybe("creation", _read_creation),
        certificates=fields.blobs("certificates"),
    )
    policy.done()
    fields.done()
    return found


def _read_group(fields: _Reader) -> GroupEvidence:
    found = GroupEvidence(
        document=fields.embedded("document"),
        roster=fields.embedded("roster"),
        cards=fields.embeddeds("cards"),
        counter=fields.maybe("counter", _read_statement),
        held=fields.maybe("held", _read_statement),
    )
    fields.done()
    return found


def _read_budget(fields: _Reader) -> BudgetEvidence:
    found = BudgetEvidence(
        key=fields.label("key"),
        group=fields.label("group"),
        index=fields.base64("index"),
        statement=fields.maybe("statement", _read_statement),
    )
    fields.done()
    return found


def _read_quote(fields: _Reader) -> QuoteEvidence:
    pcrs = fields.inner("pcrs").everything()
    measured = read_measured(pcrs, "evidence: quote: pcrs")
    if set(measured) != set(pcrs):
        raise ParseError("evidence: quote: pcrs: a bank without PCRs")
    found = QuoteEvidence(fields.base64("attest"), fields.base64("signature"), measured)
    fields.done()
    return found


def _read_creation(fields: _Reader) -> CreationPart:
    found = CreationPart(fields.base64("attest"), fields.base64("signature"), fields.base64("data"))
    fields.done()
    return found


def _read_statement(fields: _Reader) -> Statement:
    found = Statement(fields.base64("attest"), fields.base64("signature"))
    fields.done()
    return found
