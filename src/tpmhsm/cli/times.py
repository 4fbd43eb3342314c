"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

from tpmhsm.errors import UsageError


def parse_time(text: str) -> datetime:
    """RFC 3339, or a date (its first second), UTC when no zone is given. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time", hint="2027-01-31, or 2027-01-31T12:00:00Z"
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
