"""Reading evidence files: strictly, and believing nothing.

Unknown and missing fields, wrong types, other encodings than the one, more than anybody has: each
is a ParseError that says where. What the file means, `tpmhsm.attest.verify` judges.
"""

from __future__ import annotations

from typing import Any

from tpmhsm.attest.format import (
    DEVICE_KINDS,
    FORMAT,
    MAX_EVIDENCE,
    MAX_ITEMS,
    NONCE_SIZES,
    AttestationPart,
    BudgetEvidence,
    CopyApproval,
    CopyEvidence,
    CreationPart,
    DeviceClaims,
    EndorsementPart,
    Evidence,
    GroupEvidence,
    KeyEvidence,
    ParentEvidence,
    QuoteEvidence,
    Statement,
)
from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.documents import Fields, encode_json, parse_json
from tpmhsm.policy.pcrs import read_measured


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
        device=fields.whole("device", _read_device),
        eks=fields.each("eks", _read_endorsement),
        aks=fields.each("aks", _read_attestation),
        keys=fields.each("keys", _read_key),
        groups=fields.each("groups", _read_group),
        budgets=fields.each("budgets", _read_budget),
        parent=fields.whole("parent", _read_parent) if fields.has("parent") else None,
        copies=fields.some("copies", _read_copy) if fields.has("copies") else (),
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
        """An object, or null; `read` must take all of its fields."""
        return None if self._is_null(key) else self.whole(key, read)

    def whole(self, key: str, read: Any) -> Any:
        """An object, of which `read` must take all fields."""
        return _all_of(self.inner(key), read)

    def maybe_base64(self, key: str) -> bytes | None:
        return None if self._is_null(key) else self.base64(key)

    def maybe_number(self, key: str) -> int | None:
        return None if self._is_null(key) else self.number(key, 0, 0xFFFFFFFF)

    def each(self, key: str, read: Any) -> tuple[Any, ...]:
        """A list of objects, of each of which `read` must take all fields."""
        items = self._limited(key)
        return tuple(
            _all_of(_Reader(item, f"{self._what}: {key} {n}"), read) for n, item in enumerate(items)
        )

    def some(self, key: str, read: Any) -> tuple[Any, ...]:
        """The same of a list that is not there when it is empty."""
        found = self.each(key, read)
        if not found:
            raise ParseError(f"{self._what}: {key} is empty, and would not be there")
        return found

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
        self.allow(*self._value)
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


def _all_of(fields: _Reader, read: Any) -> Any:
    found = read(fields)
    fields.done()
    return found


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
    return DeviceClaims(
        kind=kind,
        manufacturer=_short(fields, "manufacturer"),
        vendor=_short(fields, "vendor"),
        firmware=_short(fields, "firmware"),
        specification=_short(fields, "specification"),
        properties=found,
    )


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


def _short(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if len(text) > 64 or not text.isprintable():
        raise ParseError(f"evidence: device: {key} is no short text")
    return text


def _read_endorsement(fields: _Reader) -> EndorsementPart:
    return EndorsementPart(
        public=fields.base64("public"),
        certificate=fields.maybe_base64("certificate"),
        nv_index=fields.maybe_number("nv_index"),
        chain=fields.blobs("chain"),
    )


def _read_attestation(fields: _Reader) -> AttestationPart:
    return AttestationPart(
        public=fields.base64("public"),
        certificates=fields.blobs("certificates"),
        certified=fields.maybe("certified", _read_statement),
        creation=fields.maybe("creation", _read_creation),
        quote=fields.maybe("quote", _read_statement),
    )


def _read_key(fields: _Reader) -> KeyEvidence:
    use = fields.text("use")
    if use not in ("sign", "decrypt"):
        raise ParseError("evidence: a key's use is sign or decrypt")
    text, document = fields.whole(
        "policy", lambda inner: (inner.text("text"), inner.text("document"))
    )
    return KeyEvidence(
        label=fields.label("label"),
        use=use,
        public=fields.base64("public"),
        policy=text,
        document=document,
        creation=fields.maybe("creation", _read_creation),
        certificates=fields.blobs("certificates"),
    )


def _read_group(fields: _Reader) -> GroupEvidence:
    return GroupEvidence(
        document=fields.embedded("document"),
        roster=fields.embedded("roster"),
        cards=fields.embeddeds("cards"),
        counter=fields.maybe("counter", _read_statement),
        held=fields.maybe("held", _read_statement),
    )


def _read_budget(fields: _Reader) -> BudgetEvidence:
    return BudgetEvidence(
        key=fields.label("key"),
        group=fields.label("group"),
        index=fields.base64("index"),
        statement=fields.maybe("statement", _read_statement),
    )


def _read_parent(fields: _Reader) -> ParentEvidence:
    return ParentEvidence(fields.base64("public"), fields.whole("certified", _read_statement))


def _read_copy(fields: _Reader) -> CopyEvidence:
    return CopyEvidence(
        moments.read_moment(fields, "made"),
        fields.embedded("document"),
        fields.each("approvals", _read_copy_approval),
    )


def _read_copy_approval(fields: _Reader) -> CopyApproval:
    return CopyApproval(
        fields.label("approver"), fields.hex("policy_ref", 32), fields.base64("signature")
    )


def _read_quote(fields: _Reader) -> QuoteEvidence:
    pcrs = fields.inner("pcrs").everything()
    measured = read_measured(pcrs, "evidence: quote: pcrs")
    if set(measured) != set(pcrs):
        raise ParseError("evidence: quote: pcrs: a bank without PCRs")
    return QuoteEvidence(fields.base64("attest"), fields.base64("signature"), measured)


def _read_creation(fields: _Reader) -> CreationPart:
    parent = fields.base64("parent") if fields.has("parent") else b""
    attest, signature = fields.base64("attest"), fields.base64("signature")
    return CreationPart(attest, signature, fields.base64("data"), parent)


def _read_statement(fields: _Reader) -> Statement:
    return Statement(fields.base64("attest"), fields.base64("signature"))
