"""Cards: what a person or a device shows the others.

An approver's card is signed with the approver's key, so whoever carries it cannot change it; that
it is this person's card one learns only by getting it from the person. A device's card is not
signed (an attestation key signs no free data): its digest is what people compare.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.files import read_json
from tpmhsm.approval.statements import sign_statement
from tpmhsm.errors import ParseError
from tpmhsm.policy import moments
from tpmhsm.policy.approver import approver_name, load_spki, spki_of
from tpmhsm.policy.documents import Fields, canonical, check_label, to_base64
from tpmhsm.policy.people import CONTRIBUTION, Member
from tpmhsm.policy.tagged import CARD, check_statement

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity
    from tpmhsm.approval.tokens import TokenInfo
    from tpmhsm.approval.yubico import Attestation, Proof
    from tpmhsm.policy.approver import PublicKey

DEVICE_CARD = "tpmhsm/device-card/1"

MAX_CARD = 1 << 16

KEY_KINDS = ("file", "yubikey", "pkcs11")
DEVICE_KINDS = ("software TPM", "hardware", "other TPM")


@dataclass(frozen=True)
class Card:
    """An approver's card whose signature was checked. `data` is its file, byte for byte.

    `contribution` is the 32 random bytes that the person adds to the id of a new group. `kind` is
    the person's word; for a key in a YubiKey `attestation` is the YubiKey's. `token` is what
    another token says of itself, which nothing proves.
    """

    name: str
    kind: str
    spki: bytes
    contribution: bytes
    created: datetime
    data: bytes = field(repr=False)
    attestation: Attestation | None = field(default=None, repr=False)
    token: TokenInfo | None = None

    @cached_property
    def proof(self) -> Proof | None:
        """Whether the key is in a YubiKey, as Yubico's roots have it; None if nobody says so."""
        from tpmhsm.approval.yubico import prove

        return prove(self.attestation, self.spki) if self.kind == "yubikey" else None

    @cached_property
    def key(self) -> PublicKey:
        """The public key."""
        return load_spki(self.spki)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return sha256(self.data).digest()

    def member(self, *, contribution: bool) -> Member:
        """This person as a group document (with contribution) or a roster (without) has them."""
        return Member(self.name, self.spki, self.contribution if contribution else b"")


def create_card(
    name: str,
    identity: Identity,
    created: datetime | None = None,
    attestation: Attestation | None = None,
) -> bytes:
    """Return a new card's file for `name`, signed by `identity`. UsageError for a bad name."""
    document: dict[str, Any] = {
        "name": check_label(name, "approver"),
        "kind": identity.kind,
        "spki": to_base64(spki_of(identity.public_key)),
        "contribution": os.urandom(CONTRIBUTION).hex(),
        "created": moments.stamp(created or moments.now()),
    }
    if attestation is not None:
        document["attestation"] = {
            "statement": to_base64(attestation.statement),
            "device": to_base64(attestation.device),
        }
    if identity.token is not None:
        document["token"] = identity.token.document
    return sign_statement(identity, CARD, document)


@lru_cache(64)
def parse_card(data: bytes) -> Card:
    """Read an approver's card; ParseError if it is none, VerificationError if it was changed."""
    document = read_json(data, "card", MAX_CARD)
    fields = Fields(document, "card")
    fields.expect("format", CARD)
    card = Card(
        name=fields.label("name"),
        kind=_one_of(fields.text("kind"), KEY_KINDS, "card: kind"),
        spki=fields.base64("spki"),
        contribution=fields.hex("contribution", CONTRIBUTION),
        created=moments.read_moment(fields, "created"),
        data=canonical(document) + b"\n",
        attestation=_attestation(fields),
        token=_token(fields),
    )
    signature = fields.base64("signature")
    fields.done()
    check_statement(card.key, CARD, document, signature)
    return card


def _attestation(fields: Fields) -> Attestation | None:
    """What a YubiKey's card may carry, and no other."""
    from tpmhsm.approval.yubico import Attestation

    if fields.text("kind") != "yubikey" or not fields.has("attestation"):
        return None
    part = fields.fields("attestation")
    found = Attestation(part.base64("statement"), part.base64("device"))
    part.done()
    return found


def _token(fields: Fields) -> TokenInfo | None:
    """What the card of a key in a PKCS #11 token may carry, and no other."""
    from tpmhsm.approval.tokens import read_token

    if fields.text("kind") != "pkcs11" or not fields.has("token"):
        return None
    return read_token(fields.fields("token"))


def describe_card(card: Card) -> dict[str, Any]:
    """Facts of a card for people and programs; JSON-ready."""
    proof: dict[str, Any] = {} if card.proof is None else {"proof": card.proof.words}
    if card.token is not None:
        proof = {"token": card.token.document, "proof": card.token.unproven}
    return {
        "name": card.name,
        "kind": card.kind,
        **proof,
        "key": key_words(card.key),
        "key_name": approver_name(card.key).hex(),
        "created": moments.stamp(card.created),
        "digest": card.digest.hex(),
    }


def key_words(key: PublicKey) -> str:
    """Words for a public key: 'P-256 9f3a61c0 77be0d12', the digits being its SPKI's SHA-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    kind = "P-256" if isinstance(key, ec.EllipticCurvePublicKey) else f"RSA-{key.key_size}"
    digest = sha256(spki_of(key)).hexdigest()
    return f"{kind} {digest[:8]} {digest[8:16]}"


@dataclass(frozen=True)
class DeviceCard:
    """What a device says it is. Certificates are DER, public areas TPMT_PUBLIC, `kind` a word.

    `ak_name` was recomputed from `ak_public`, and the AK's attributes are those of a key that
    signs only what the chip itself made.
    """

    label: str
    kind: str
    ek_certificates: tuple[bytes, ...]
    ek_public: bytes
    ak_public: bytes
    created: datetime

    @cached_property
    def ak_name(self) -> bytes:
        """The attestation key's Name (34 bytes)."""
        from tpmhsm.wire.names import name_of_public

        return name_of_public(self.ak_public)

    @cached_property
    def data(self) -> bytes:
        """The card's file."""
        document = {
            "format": DEVICE_CARD,
            "label": self.label,
            "kind": self.kind,
            "ek": {
                "certificates": [to_base64(der) for der in self.ek_certificates],
                "public": to_base64(self.ek_public),
            },
            "ak": {"public": to_base64(self.ak_public), "name": self.ak_name.hex()},
            "created": moments.stamp(self.created),
        }
        return canonical(document) + b"\n"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file: what people compare."""
        return sha256(self.data).digest()

    @property
    def ek_evidence(self) -> bytes:
        """What a group's `device.ek` hashes: the first EK certificate, else the public area."""
        return self.ek_certificates[0] if self.ek_certificates else self.ek_public

    def find_ek(self, digest: bytes) -> bytes | None:
        """The EK certificate (or, without any, public area) with this SHA-256."""
        candidates = self.ek_certificates or (self.ek_public,)
        return next((c for c in candidates if sha256(c).digest() == digest), None)


def create_device_card(
    label: str,
    kind: str,
    ek_certificates: Iterable[bytes],
    ek_public: bytes,
    ak_public: bytes,
    *,
    created: datetime | None = None,
) -> DeviceCard:
    """Return a device's card. ParseError for an AK that could sign anything but chip's words."""
    card = DeviceCard(
        label, kind, tuple(ek_certificates), ek_public, ak_public, created or moments.now()
    )
    return parse_device_card(card.data)


@lru_cache(64)
def parse_device_card(data: bytes) -> DeviceCard:
    """Read a device's card; ParseError for anything amiss, the AK's attributes included."""
    from tpmhsm.attest.statements import check_attestation_key

    fields = Fields(read_json(data, "device card", MAX_CARD), "device card")
    fields.expect("format", DEVICE_CARD)
    ek, ak = fields.fields("ek"), fields.fields("ak")
    card = DeviceCard(
        label=fields.label("label"),
        kind=_one_of(fields.text("kind"), DEVICE_KINDS, "device card: kind"),
        ek_certificates=_certificates(ek.list("certificates")),
        ek_public=ek.base64("public"),
        ak_public=ak.base64("public"),
        created=moments.read_moment(fields, "created"),
    )
    stated = ak.hex("name", 34)
    for part in (ek, ak, fields):
        part.done()
    check_attestation_key(card.ak_public)
    if card.ak_name != stated:
        raise ParseError("device card: the AK's Name is not that of its public area")
    return card


def describe_device_card(card: DeviceCard) -> dict[str, Any]:
    """Facts of a device's card for people and programs; JSON-ready."""
    return {
        "label": card.label,
        "kind": card.kind,
        "ek_certificates": [sha256(der).hexdigest() for der in card.ek_certificates],
        "ak_name": card.ak_name.hex(),
        "created": moments.stamp(card.created),
        "digest": card.digest.hex(),
    }


def _certificates(items: list[Any]) -> tuple[bytes, ...]:
    what = "device card: EK certificate"
    return tuple(Fields({"der": item}, what).base64("der") for item in items)


def _one_of(text: str, known: tuple[str, ...], what: str) -> str:
    if text not in known:
        raise ParseError(f"{what} is none of: {', '.join(known)}")
    return text
