"""Times in documents: RFC 3339, UTC, whole seconds, one spelling."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.documents import Fields

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def stamp(moment: datetime) -> str:
    """Return '2026-12-01T00:00:00Z'. UsageError for a time without a zone."""
    if moment.tzinfo is None:
        raise UsageError("a time without a zone")
    text = moment.astimezone(UTC).strftime(_FORMAT)
    return text.zfill(len("2026-12-01T00:00:00Z"))


def read_moment(fields: Fields, key: str) -> datetime:
    """Return a field that is such a time; ParseError naming it otherwise."""
    moment = _read(fields.text(key))
    if moment is None:
        raise ParseError(f"{key} is not a time like 2026-12-01T00:00:00Z")
    return moment


@lru_cache(256)  # what is approved together has few times
def _read(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment if stamp(moment) == text else None
    except (ValueError, OverflowError, UsageError):
        return None


def now() -> datetime:
    """The present, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
