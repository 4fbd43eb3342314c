"""How long certificates live: the schedule of the TLS Baseline Requirements, clamping, backdating.

A lifetime of N days runs from notBefore to notBefore + N * 86400 - 1 seconds, because both ends are
inside (RFC 5280 section 4.1.2.5; Baseline Requirements section 6.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tpmhsm.errors import UsageError
from tpmhsm.pki.tbs import rfc3339, valid_days

BACKDATE = timedelta(minutes=5)
"""Clocks of relying parties may be behind ours by this much."""

_SECOND = timedelta(seconds=1)
# Ballot SC-081v3: from this notBefore on, at most so many days.
_TLS_SCHEDULE = (
    (datetime(2029, 3, 15, tzinfo=UTC), 47),
    (datetime(2027, 3, 15, tzinfo=UTC), 100),
    (datetime(2026, 3, 15, tzinfo=UTC), 200),
)


@dataclass(frozen=True)
class Validity:
    """notBefore and notAfter, whole seconds, UTC; `notes` say what was shortened and why."""

    not_before: datetime
    not_after: datetime
    notes: tuple[str, ...] = ()


def tls_max_days(not_before: datetime) -> int:
    """The most days that the Baseline Requirements allow a TLS certificate issued at that time."""
    return next((days for start, days in _TLS_SCHEDULE if not_before >= start), 398)


def choose_validity(
    now: datetime,
    default_days: int,
    *,
    days: int | None = None,
    not_after: datetime | None = None,
    issuer: tuple[datetime, datetime] | None = None,
) -> Validity:
    """Dates for a certificate issued now. `issuer` is the issuer's own notBefore and notAfter.

    Asked-for ends past the issuer's are refused, default ones shortened. UsageError also for an
    issuer that is expired or not yet valid.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    return _choose(now, default_days, days, not_after, issuer)


@lru_cache(16)  # certificates of one second have the same dates
def _choose(
    now: datetime,
    default_days: int,
    days: int | None,
    not_after: datetime | None,
    issuer: tuple[datetime, datetime] | None,
) -> Validity:
    _check_issuer(now, issuer)
    not_before = now - BACKDATE
    if issuer is not None:
        not_before = max(not_before, issuer[0])
    asked = not_after is not None or days is not None
    end = _end(not_before, default_days if days is None else days, not_after)
    if end <= now:
        raise UsageError(f"the certificate would have expired already, {rfc3339(end)}")
    if issuer is None or end <= issuer[1]:
        return Validity(not_before, end)
    if asked:
        raise UsageError(
            f"the certificate would outlive its issuer, which expires {rfc3339(issuer[1])}",
            hint=f"ask for {max(0, valid_days(not_before, issuer[1]) - 1)} days or fewer",
            code="outlives-issuer",
        )
    note = f"shortened to end with its issuer, {rfc3339(issuer[1])}"
    return Validity(not_before, issuer[1], (note,))


def _check_issuer(now: datetime, issuer: tuple[datetime, datetime] | None) -> None:
    if issuer is None:
        return
    if now > issuer[1]:
        raise UsageError(
            f"the issuer expired {rfc3339(issuer[1])}",
            hint="renew the authority: tpmhsm ca renew NAME",
            code="issuer-expired",
        )
    if now < issuer[0]:
        raise UsageError(
            f"the issuer is not valid until {rfc3339(issuer[0])}",
            hint="check this machine's clock, or wait",
            code="issuer-not-yet-valid",
        )


def _end(not_before: datetime, days: int, not_after: datetime | None) -> datetime:
    if not_after is not None:
        if not_after.tzinfo is None:
            raise UsageError(
                "the end of validity needs a time zone (RFC 3339: 2027-01-01T00:00:00Z)"
            )
        return not_after.astimezone(UTC).replace(microsecond=0)
    if days < 1:
        raise UsageError(f"a certificate cannot be valid for {days} days")
    try:
        end = not_before + timedelta(days=days) - _SECOND
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
    if end.year > 9998:
        raise UsageError(f"{days} days are more than a certificate's dates can say")
    return end
