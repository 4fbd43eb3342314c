"""Tagged statements: what an approver's key signs beside approvals.

A statement is a JSON document whose `format` is its tag. What is signed is

    tag ‖ 0x00 ‖ canonical JSON of the document without its signature

which is always longer than 128 bytes, so that it is never an aHash preimage (see `identity`).
A challenge that somebody else chose enters only as its SHA-256 digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.files import read_json
from tpmhsm.approval.identity import SHORTEST_STATEMENT, STATEMENT_TAGS
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.approver import check_signature, load_spki, spki_of, tpmt_signature
from tpmhsm.policy.documents import Fields, canonical, to_base64

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity
    from tpmhsm.policy.approver import PublicKey

CARD, DENIAL, POSSESSION = STATEMENT_TAGS

MAX_CHALLENGE = 1 << 16


def statement_bytes(tag: str, document: Mapping[str, Any]) -> bytes:
    """Return the exact bytes that are signed for a statement. UsageError if they are too short."""
    if tag not in STATEMENT_TAGS or document.get("format") != tag:
        raise UsageError(f"{tag!r} is no statement of this tool")
    body = {key: value for key, value in document.items() if key != "signature"}
    message = tag.encode() + b"\0" + canonical(body)
    if len(message) < SHORTEST_STATEMENT:
        raise UsageError(f"a statement is longer than 128 bytes, this has {len(message)}")
    return message


def sign_statement(identity: Identity, tag: str, document: Mapping[str, Any]) -> bytes:
    """Return the document as a canonical JSON file with its `format` and `signature` added."""
    body = {**document, "format": tag}
    message = statement_bytes(tag, body)
    signature = identity.sign(message)
    check_statement(identity.public_key, tag, body, signature)
    return canonical({**body, "signature": to_base64(signature)}) + b"\n"


def check_statement(
    key: PublicKey, tag: str, document: Mapping[str, Any], signature: bytes
) -> None:
    """Check `signature` over a statement; VerificationError when it does not hold."""
    message = statement_bytes(tag, document)
    try:
        check_signature(key, message, tpmt_signature(key, signature))
    except ParseError as e:
        raise VerificationError(f"{tag}: {e.message}") from None


def prove_possession(identity: Identity, challenge: bytes, purpose: str) -> bytes:
    """Answer somebody's challenge: a signed document that holds only the challenge's digest.

    Raises UsageError for a challenge of more than 65,536 bytes.
    """
    if len(challenge) > MAX_CHALLENGE:
        raise UsageError(f"a challenge has at most {MAX_CHALLENGE} bytes")
    return sign_statement(
        identity,
        POSSESSION,
        {
            "challenge_sha256": sha256(challenge).hexdigest(),
            "purpose": purpose,
            "spki": to_base64(spki_of(identity.public_key)),
        },
    )


def verify_possession(data: bytes, challenge: bytes, purpose: str) -> PublicKey:
    """Return the key that answered `challenge` for `purpose`; VerificationError if it did not.

    ParseError when `data` is no such answer.
    """
    document = read_json(data, "proof of possession", MAX_CHALLENGE)
    fields = Fields(document, "proof of possession")
    fields.expect("format", POSSESSION)
    key = load_spki(fields.base64("spki"))
    digest, stated = fields.hex("challenge_sha256", 32), fields.text("purpose")
    signature = fields.base64("signature")
    fields.done()
    if digest != sha256(challenge).digest() or stated != purpose:
        raise VerificationError("the proof answers another challenge, or for another purpose")
    check_statement(key, POSSESSION, document, signature)
    return key
