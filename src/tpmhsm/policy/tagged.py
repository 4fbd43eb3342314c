"""Tagged statements as they are checked: a person's key over a JSON document.

A statement is a JSON document whose `format` is its tag. What is signed is

    tag ‖ 0x00 ‖ canonical JSON of the document without its signature

which is always longer than 128 bytes, so that it is never an aHash preimage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.approver import check_signature, tpmt_signature
from tpmhsm.policy.documents import canonical

if TYPE_CHECKING:
    from tpmhsm.policy.approver import PublicKey

SHORTEST_STATEMENT = 129

STATEMENT_TAGS = ("tpmhsm/card/1", "tpmhsm/denial/1", "tpmhsm/possession/1")
CARD, DENIAL, POSSESSION = STATEMENT_TAGS


def statement_bytes(tag: str, document: Mapping[str, Any]) -> bytes:
    """Return the exact bytes that are signed for a statement. UsageError if they are too short."""
    if tag not in STATEMENT_TAGS or document.get("format") != tag:
        raise UsageError(f"{tag!r} is no statement of this tool")
    body = {key: value for key, value in document.items() if key != "signature"}
    message = tag.encode() + b"\0" + canonical(body)
    if len(message) < SHORTEST_STATEMENT:
        raise UsageError(f"a statement is longer than 128 bytes, this has {len(message)}")
    return message


def check_statement(
    key: PublicKey, tag: str, document: Mapping[str, Any], signature: bytes
) -> None:
    """Check `signature` over a statement; VerificationError when it does not hold."""
    message = statement_bytes(tag, document)
    try:
        check_signature(key, message, tpmt_signature(key, signature))
    except ParseError as e:
        raise VerificationError(f"{tag}: {e.message}") from None
