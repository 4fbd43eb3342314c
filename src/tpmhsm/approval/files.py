"""Files that come from elsewhere: JSON that can be written again as it was read."""

from __future__ import annotations

from typing import Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.documents import encode_json, parse_json

_SHALLOW = 200
"""With fewer brackets nothing is nested too deeply to be written."""


def read_json(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """Return the object in a file of at most `limit` bytes; ParseError naming `what` otherwise.

    Like `policy.documents.parse_json`, and refuses what has no canonical encoding, such as half a
    surrogate pair in a string.
    """
    value = parse_json(data, what, limit)
    if b"\\u" not in data and data.count(b"[") + data.count(b"{") < _SHALLOW:
        return value  # whatever was read as this can be written
    try:
        encode_json(value)
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None
    return value
