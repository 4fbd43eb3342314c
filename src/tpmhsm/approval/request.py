"""Approval requests: what travels from the host to an approver, as one file.

The content is the exact bytes that are asked for: a TBSCertificate, a TBSCertList, a
CertificationRequestInfo, a file, a roster or a window document. Everything else is there so that
the approver's tool can check what those bytes would do: the group's documents, the key's evidence,
the chip's certified state. The `claims` alone are the host's word, and are shown as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from tpmhsm.approval.cards import Card, DeviceCard, parse_card, parse_device_card
from tpmhsm.approval.files import read_json
from tpmhsm.approval.votes import (
    KINDS,
    Approval,
    Denial,
    one_of,
    read_approval,
    read_denial,
    texts,
)
from tpmhsm.attest.birthplaces import Birthplace
from tpmhsm.attest.statements import BudgetState, ChipKey, ChipState, check_creation
from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.documents import Fields, canonical, encode_json, to_base64
from tpmhsm.policy.group import GroupDocument, RosterDocument, parse_group, parse_roster

REQUEST_FORMAT = "tpmhsm/request/1"

MAX_REQUEST = 1 << 20

MAX_CRL_REQUEST = 64 << 20
"""A CRL alone may be longer: a million entries take 62 MB in a request. The rest of the file is
held to `MAX_REQUEST` all the same, so that nobody has to read 64 MB of anything but base64.
"""

SIGN_KINDS = ("certificate", "crl", "csr", "data", "window", "budget", "decrypt")
"""What officers approve for one key, which the request shows."""

BACKUP = "backup"
"""The copy of one key to another chip, which custodians approve."""

GIVEN = ("decrypt", BACKUP)
"""What these come to is given to whoever asked for it, and kept nowhere."""

PEOPLE_KINDS = ("group", "roster")
"""What custodians approve of people: the content is a roster."""

KEY_CLAIM = "key "
"""Before a key's Name in hex: the text is its TPMT_PUBLIC in hex, a space, and its label. Shown
with the change of a roster that allows to open it, not among the claims.
"""

_CONTENT = re.compile(rb'"content":"([A-Za-z0-9+/=]*)"')
_CRL = b'"kind":"crl"'


@dataclass(frozen=True)
class KeyPart:
    """The key that would sign: label and policy text as the host has them, its TPMT_PUBLIC, and
    TPM2_CertifyCreation of it by the group's attestation key (TPMS_ATTEST, TPMT_SIGNATURE). Of a
    key that may be copied also what shows where it was made: TPMS_CREATION_DATA and the TPMT_PUBLIC
    of the storage key above it.
    """

    label: str
    public: bytes
    policy: str
    attest: bytes
    signature: bytes
    creation: bytes = b""
    parent: bytes = b""

    def check_birth(self, ak_public: bytes, key: ChipKey) -> None:
        """VerificationError unless this attestation key's chip made the key, as its own."""
        place = Birthplace(self.creation, self.parent)
        check_creation(ak_public, key, self.attest, self.signature, place)


@dataclass(frozen=True)
class Claims:
    """What the host says. Shown, compared with the bytes, and never believed.

    `csr` and `issuer` are DER, `texts` are further lines by name ('subject', 'not_after' and
    'digest' among them are compared with the bytes), `profile_days` the profile's longest validity,
    `message` an encrypted message (CMS) less its content, from which the content comes.
    """

    reason: str = ""
    by: str = ""
    profile: str = ""
    profile_days: int = 0
    csr: bytes = b""
    issuer: bytes = b""
    texts: Mapping[str, str] = field(default_factory=dict)
    message: bytes = b""


@dataclass(frozen=True)
class Request:
    """A request. `roster` is the roster in force (None for kind 'group', whose content is it).

    `origin` is the card of the group's own device, where `device` is a further chip of the group:
    it certifies the birth of keys that were copied. `budget` certifies what a budget holds, for
    kind 'budget' unless it is the first grant. `state` certifies counter and roster over
    SHA-256(content): needed for kind 'roster', and for the other kinds when an approver has not yet
    seen the roster's epoch.
    """

    id: int
    kind: str
    created: datetime
    expires: datetime
    group: GroupDocument
    roster: RosterDocument | None
    content: bytes = field(repr=False)
    device: DeviceCard
    key: KeyPart | None = None
    cards: tuple[Card, ...] = ()
    claims: Claims = Claims()
    state: ChipState | None = None
    budget: BudgetState | None = None
    origin: DeviceCard | None = None
    approvals: tuple[Approval, ...] = ()
    denials: tuple[Denial, ...] = ()

    def __post_init__(self) -> None:
        one_of(self.kind, KINDS, "request: kind")
        if (self.kind in (*SIGN_KINDS, BACKUP)) != (self.key is not None):
            raise UsageError(f"a request of kind {self.kind} with a key, or without one")
        if (self.kind == "group") != (self.roster is None):
            raise UsageError(f"a request of kind {self.kind} with a roster, or without one")
        if self.expires <= self.created:
            raise UsageError("a request that expires before it is made")
        if not self.content:
            raise UsageError("a request for no bytes")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content: what a person types the first digits of."""
        return sha256(self.content).digest()

    @property
    def barred(self) -> str:
        """The use that officers are asked for though the roster has no branch for it, so that the
        chip would take no approval; empty for none. Windows are allowed key by key.
        """
        use = {"budget": "budget", "decrypt": "decrypt", "window": ""}.get(self.kind, "sign")
        if self.roster is None or self.kind not in SIGN_KINDS or self.group.static:
            return ""
        return "" if use in self.roster.uses else use

    @property
    def asked_roster(self) -> RosterDocument:
        """The roster that kinds 'group' and 'roster' ask for; ParseError for anything else."""
        return parse_roster(self.content)

    @property
    def data(self) -> bytes:
        """The file. UsageError beyond 1 MiB, for CRLs 64 MiB."""
        data = canonical(self._document()) + b"\n"
        crl = self.kind == "crl"
        limit = MAX_CRL_REQUEST if crl else MAX_REQUEST
        if len(data) > limit:
            raise UsageError(
                f"the request would have {len(data):,} bytes; at most {limit:,}",
                hint="a CRL this long needs a key that signs without people"
                if crl
                else "sign a digest list or a manifest of large files instead",
            )
        return data

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "format": REQUEST_FORMAT,
            "id": self.id,
            "kind": self.kind,
            "created": moments.stamp(self.created),
            "expires": moments.stamp(self.expires),
            "group": _embedded(self.group.encoded),
            "content": to_base64(self.content),
            "device": _embedded(self.device.data),
            "cards": [_embedded(card.data) for card in self.cards],
            "claims": _encode_blobs(self.claims),
            "approvals": [approval.document() for approval in self.approvals],
            "denials": [_embedded(denial.data) for denial in self.denials],
        }
        if self.roster is not None:
            document["roster"] = _embedded(self.roster.encoded)
        if self.key is not None:
            document["key"] = _encode_blobs(self.key)
        if self.state is not None:
            document["state"] = _encode_blobs(self.state)
        if self.budget is not None:
            document["budget"] = _encode_blobs(self.budget)
        if self.origin is not None:
            document["origin"] = _embedded(self.origin.data)
        return document


def _embedded(data: bytes) -> dict[str, Any]:
    return read_json(data, "embedded document", MAX_REQUEST)


def _encode_blobs(part: KeyPart | Claims | ChipState | BudgetState) -> dict[str, Any]:
    values = {one.name: getattr(part, one.name) for one in dataclass_fields(part)}
    for optional in ("message", "creation", "parent"):
        if not values.get(optional):
            values.pop(optional, None)
    return {
        name: to_base64(v) if isinstance(v, bytes) else dict(v) if isinstance(v, Mapping) else v
        for name, v in values.items()
    }


def parse_request(data: bytes) -> Request:
    """Read a request's file. ParseError saying what is wrong and where; VerificationError for a
    card or denial inside whose signature does not hold. Approvals are checked by `review`.
    """
    document = _read(data)
    fields = Fields(document, "request")
    fields.expect("format", REQUEST_FORMAT)
    parts = {
        "id": fields.number("id", 1, (1 << 63) - 1),
        "kind": one_of(fields.text("kind"), KINDS, "request: kind"),
        "created": moments.read_moment(fields, "created"),
        "expires": moments.read_moment(fields, "expires"),
        "group": parse_group(_bytes_of(fields, document, "group")),
        "roster": _optional(fields, document, "roster", _read_roster),
        "content": fields.base64("content"),
        "device": parse_device_card(_bytes_of(fields, document, "device")),
        "key": _optional(fields, document, "key", _read_key),
        "cards": tuple(parse_card(_canonical(item)) for item in fields.list("cards")),
        "claims": _read_claims(_object(fields, document, "claims")),
        "state": _optional(fields, document, "state", _read_state),
        "budget": _optional(fields, document, "budget", _read_budget),
        "origin": _optional(fields, document, "origin", _read_card),
        "approvals": tuple(read_approval(item) for item in fields.list("approvals")),
        "denials": tuple(read_denial(_dict(item)) for item in fields.list("denials")),
    }
    fields.done()
    if len(data) > MAX_REQUEST and parts["kind"] != "crl":
        raise _too_large(MAX_REQUEST)
    try:
        return Request(**parts)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"request: {e.message}") from None


def _read(data: bytes) -> dict[str, Any]:
    """The JSON object, after its size was looked at: only the content may be large."""
    if len(data) > MAX_CRL_REQUEST:
        raise _too_large(MAX_CRL_REQUEST)
    if len(data) > MAX_REQUEST:
        found = _CONTENT.search(data)
        if found is None or len(data) - len(found[1]) > MAX_REQUEST or _CRL not in data:
            raise _too_large(MAX_REQUEST)
    return read_json(data, "request", MAX_CRL_REQUEST)


def _too_large(limit: int) -> ParseError:
    return ParseError(f"request: larger than {limit} bytes")


def _canonical(value: Any) -> bytes:
    try:
        return encode_json(value)
    except UsageError as e:
        raise ParseError(f"request: {e.message}") from None


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParseError("request: not a JSON object where one belongs")
    return value


def _object(fields: Fields, document: dict[str, Any], key: str) -> dict[str, Any]:
    fields.fields(key)
    return _dict(document[key])


def _bytes_of(fields: Fields, document: dict[str, Any], key: str) -> bytes:
    return _canonical(_object(fields, document, key))


def _optional(fields: Fields, document: dict[str, Any], key: str, read: Any) -> Any:
    return read(_object(fields, document, key)) if fields.has(key) else None


def _read_roster(value: dict[str, Any]) -> RosterDocument:
    return parse_roster(_canonical(value))


def _read_card(value: dict[str, Any]) -> DeviceCard:
    return parse_device_card(_canonical(value))


def _read_key(value: dict[str, Any]) -> KeyPart:
    fields = Fields(value, "request: key")
    key = KeyPart(
        fields.label("label"),
        fields.base64("public"),
        fields.text("policy"),
        fields.base64("attest"),
        fields.base64("signature"),
        *(fields.base64(name) if fields.has(name) else b"" for name in ("creation", "parent")),
    )
    fields.done()
    return key


def _read_state(value: dict[str, Any]) -> ChipState:
    fields = Fields(value, "request: state")
    state = ChipState(*(fields.base64(one.name) for one in dataclass_fields(ChipState)))
    fields.done()
    return state


def _read_budget(value: dict[str, Any]) -> BudgetState:
    fields = Fields(value, "request: budget")
    budget = BudgetState(fields.base64("attest"), fields.base64("signature"))
    fields.done()
    return budget


def _read_claims(value: dict[str, Any]) -> Claims:
    fields = Fields(value, "request: claims")
    claims = Claims(
        reason=fields.text("reason"),
        by=fields.text("by"),
        profile=fields.text("profile"),
        profile_days=fields.number("profile_days", 0, 1 << 20),
        csr=fields.base64("csr"),
        issuer=fields.base64("issuer"),
        texts=texts(fields, value, "texts"),
        message=fields.base64("message") if fields.has("message") else b"",
    )
    fields.done()
    return claims


def is_request(data: bytes) -> bool:
    """Whether a file says that it is an approval request."""
    try:
        return _read(data).get("format") == REQUEST_FORMAT
    except TpmHsmError:
        return False
