"""Tagged statements: what an approver's key signs beside approvals (see `tpmhsm.policy.tagged`).

A challenge that somebody else chose enters only as its SHA-256 digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.files import read_json
from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.policy.approver import load_spki, spki_of
from tpmhsm.policy.documents import Fields, canonical, to_base64
from tpmhsm.policy.tagged import POSSESSION, check_statement, statement_bytes

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity
    from tpmhsm.policy.approver import PublicKey

MAX_CHALLENGE = 1 << 16


def sign_statement(identity: Identity, tag: str, document: Mapping[str, Any]) -> bytes:
    """Return the document as a canonical JSON file with its `format` and `signature` added."""
    body = {**document, "format": tag}
    message = statement_bytes(tag, body)
    signature = identity.sign(message)
    check_statement(identity.public_key, tag, body, signature)
    return canonical({**body, "signature": to_base64(signature)}) + b"\n"


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
