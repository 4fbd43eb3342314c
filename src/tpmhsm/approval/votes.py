"""Approvals and denials as files: what an approver sends back.

An approval holds one signature for each act of the request in which this person has a part, each
a TPMT_SIGNATURE over the act's aHash, as the chip takes it. Beside them it says what was approved:
the digest, and short facts of it, so that a host that holds other bytes can say what differs.
Nothing of that is believed; the signatures are what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.cards import KEY_KINDS
from tpmhsm.approval.files import read_json
from tpmhsm.errors import ParseError
from tpmhsm.policy import moments
from tpmhsm.policy.approver import load_spki
from tpmhsm.policy.documents import Fields, canonical, to_base64
from tpmhsm.policy.tagged import DENIAL, check_statement

if TYPE_CHECKING:
    from tpmhsm.policy.approver import PublicKey

APPROVAL_FORMAT = "tpmhsm/approval/1"
DENIAL_FORMAT = DENIAL

MAX_VOTE = 1 << 18
MAX_REASON = 1000

KINDS = (
    "group",
    "roster",
    "certificate",
    "crl",
    "csr",
    "data",
    "window",
    "budget",
    "decrypt",
    "backup",
)


@dataclass(frozen=True)
class ActSignature:
    """One act's cpHash (32 bytes; empty for a window) and policyRef (32 bytes), and a
    TPMT_SIGNATURE over its aHash.
    """

    cp_hash: bytes
    policy_ref: bytes
    signature: bytes


@dataclass(frozen=True)
class Approval:
    """One approver's approval of one request.

    `digest` is SHA-256 of the content, `key_name` the signing key's Name (empty for acts on NV),
    `epoch` that of the roster, `facts` short facts of the content: all as the approver's tool
    computed them, and all unsigned.
    """

    request: int
    kind: str
    digest: bytes
    group: bytes
    epoch: int
    key_name: bytes
    approver: str
    spki: bytes
    key_kind: str
    created: datetime
    facts: Mapping[str, str]
    signatures: tuple[ActSignature, ...]

    @property
    def key(self) -> PublicKey:
        """The approver's public key."""
        return load_spki(self.spki)

    def document(self) -> dict[str, Any]:
        """The JSON object of the file."""
        return {
            "format": APPROVAL_FORMAT,
            "request": self.request,
            "kind": self.kind,
            "digest": self.digest.hex(),
            "group": self.group.hex(),
            "epoch": self.epoch,
            "key_name": self.key_name.hex(),
            "approver": self.approver,
            "spki": to_base64(self.spki),
            "key_kind": self.key_kind,
            "created": moments.stamp(self.created),
            "facts": dict(self.facts),
            "signatures": [
                {
                    "cp_hash": one.cp_hash.hex(),
                    "policy_ref": one.policy_ref.hex(),
                    "signature": to_base64(one.signature),
                }
                for one in self.signatures
            ],
        }

    @property
    def data(self) -> bytes:
        """The file."""
        return canonical(self.document()) + b"\n"


@dataclass(frozen=True)
class Denial:
    """One person's signed refusal, whose signature was checked. `data` is the file."""

    request: int
    digest: bytes
    group: bytes
    approver: str
    spki: bytes
    reason: str
    created: datetime
    data: bytes

    @property
    def key(self) -> PublicKey:
        """The public key."""
        return load_spki(self.spki)


def parse_approval(data: bytes) -> Approval:
    """Read an approval's file; ParseError for anything amiss. Checks no signature."""
    return read_approval(read_json(data, "approval", MAX_VOTE))


def read_approval(document: Any) -> Approval:
    """Read an approval's JSON object."""
    fields = Fields(document, "approval")
    fields.expect("format", APPROVAL_FORMAT)
    kind = one_of(fields.text("kind"), KINDS, "approval: kind")
    found = Approval(
        request=fields.number("request"),
        kind=kind,
        digest=fields.hex("digest", 32),
        group=fields.hex("group", 32),
        epoch=fields.number("epoch"),
        key_name=fields.hex("key_name"),
        approver=fields.label("approver"),
        spki=fields.base64("spki"),
        key_kind=one_of(fields.text("key_kind"), KEY_KINDS, "approval: key_kind"),
        created=moments.read_moment(fields, "created"),
        facts=texts(fields, document, "facts"),
        signatures=tuple(_read_signature(item, kind) for item in fields.list("signatures")),
    )
    fields.done()
    load_spki(found.spki)
    return found


def texts(fields: Fields, document: dict[str, Any], key: str) -> dict[str, str]:
    """Return a field that is an object of strings."""
    fields.fields(key)
    found = document[key]
    if not all(isinstance(value, str) for value in found.values()):
        raise ParseError(f"{key} are not strings by name")
    return dict(found)


def _read_signature(item: Any, kind: str) -> ActSignature:
    fields = Fields(item, "approval: signature")
    cp_hash = fields.hex("cp_hash", 0 if kind == "window" else 32)
    found = ActSignature(cp_hash, fields.hex("policy_ref", 32), fields.base64("signature"))
    fields.done()
    return found


def parse_denial(data: bytes) -> Denial:
    """Read a denial's file; ParseError if it is none, VerificationError if it was changed."""
    return read_denial(read_json(data, "denial", MAX_VOTE))


def read_denial(document: dict[str, Any]) -> Denial:
    """Read a denial's JSON object and check its signature."""
    fields = Fields(document, "denial")
    fields.expect("format", DENIAL)
    found = Denial(
        request=fields.number("request"),
        digest=fields.hex("digest", 32),
        group=fields.hex("group", 32),
        approver=fields.label("approver"),
        spki=fields.base64("spki"),
        reason=fields.text("reason"),
        created=moments.read_moment(fields, "created"),
        data=canonical(document) + b"\n",
    )
    signature = fields.base64("signature")
    fields.done()
    if len(found.reason) > MAX_REASON:
        raise ParseError(f"denial: a reason of more than {MAX_REASON} characters")
    check_statement(found.key, DENIAL, document, signature)
    return found


def is_approval(data: bytes) -> bool:
    """Whether a file says that it is an approval (and not a denial). ParseError for other files."""
    form = read_json(data, "approval or denial", MAX_VOTE).get("format")
    if form not in (APPROVAL_FORMAT, DENIAL):
        raise ParseError("neither an approval nor a denial")
    return bool(form == APPROVAL_FORMAT)


def one_of(text: str, known: tuple[str, ...], what: str) -> str:
    """Return `text` if it is a known word, else ParseError."""
    if text not in known:
        raise ParseError(f"{what} is none of: {', '.join(known)}")
    return text
