"""Revoking, holding and releasing certificates: one transaction each, with an entry in the log.

Nothing is signed here. What was decided stands in the database with the DER of its CRL entry, and
on the next CRL that `tpmhsm.ca.crls` makes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tpmhsm.ca.targets import Target, by_file, by_serial, refuse_itself
from tpmhsm.errors import ExistsError, RefusedError, UsageError
from tpmhsm.pki.crl_entries import Entry, encode_entry
from tpmhsm.pki.describe import certificate_der
from tpmhsm.pki.reasons import (
    CA_COMPROMISE,
    HOLD,
    KEY_COMPROMISE,
    UNSPECIFIED,
    check_hold,
    check_reason,
    may_replace,
    reason_name,
)
from tpmhsm.pki.tbs import rfc3339

if TYPE_CHECKING:
    from tpmhsm.ca.authority import Authorities
    from tpmhsm.ca.settings import Settings
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow
    from tpmhsm.store.revocations import RevocationRow


@dataclass(frozen=True)
class Which:
    """The certificate that is meant: a serial as text, or DER from the file `what`."""

    serial: str = ""
    der: bytes = b""
    what: str = "the file"


@dataclass(frozen=True)
class Outcome:
    """What a certificate's state is now, JSON-ready; `changed` is False when it was so before.
    `note` is something to be said of it.
    """

    facts: dict[str, Any]
    changed: bool
    note: str = ""


class Revocations:
    """Revoking by the authorities of a home."""

    def __init__(self, store: Store, authorities: Authorities, settings: Settings) -> None:
        self._store = store
        self._authorities = authorities
        self._settings = settings

    def revoke(
        self,
        name: str,
        which: Which,
        reason: str | None = None,
        invalidity: datetime | None = None,
    ) -> Outcome:
        """Revoke for good; `reason` is a word of RFC 5280, `invalidity` when it went wrong.

        The same again changes nothing. A reason becomes keyCompromise later, nothing else.
        Raises NotFoundError, VerificationError, UsageError, ExistsError (`revoked-already`) and
        RefusedError.
        """
        now = _now()
        if invalidity is not None and invalidity > now:
            raise UsageError(
                f"--invalidity-date {rfc3339(invalidity)} is in the future", code="bad-time"
            )
        wanted = None if reason is None else reason_name(reason)
        lint = self._settings.of(name).lint
        own = self._own(name)
        with self._store.transaction() as tx:
            target = self._target(tx, name, own, which)
            check_reason(wanted or UNSPECIFIED, ca=target.ca, lint=lint)
            known = tx.revocations.find(name, target.serial)
            if known is not None and known.state == "revoked":
                if _says_the_same(known, wanted, invalidity):
                    return Outcome(facts_of(known, target), changed=False)
                _refuse_other(known, wanted)
            entry = Entry(
                int(target.serial, 16),
                _revoked_at(known, now),
                wanted or UNSPECIFIED,
                invalidity or _invalidity_of(known),
            )
            if lint == "tls-br" and wanted in (KEY_COMPROMISE, CA_COMPROMISE):
                entry = _backdated(entry, target)
            return _put(tx, name, target, entry)

    def hold(self, name: str, which: Which) -> Outcome:
        """Suspend a certificate until it is released or revoked. Raises as `revoke`."""
        lint = self._settings.of(name).lint
        own = self._own(name)
        with self._store.transaction() as tx:
            target = self._target(tx, name, own, which)
            note = check_hold(lint, web=target.web)
            known = tx.revocations.find(name, target.serial)
            if known is not None and known.state == "held":
                return Outcome(facts_of(known, target), changed=False)
            if known is not None and known.state == "revoked":
                raise _for_good(known)
            entry = Entry(int(target.serial, 16), _now(), HOLD)
            return replace(_put(tx, name, target, entry), note=note)

    def release(self, name: str, which: Which) -> Outcome:
        """End a hold: the certificate is off the next CRL. Raises as `revoke`."""
        own = self._own(name)
        with self._store.transaction() as tx:
            target = self._target(tx, name, own, which)
            known = tx.revocations.find(name, target.serial)
            if known is not None and known.state == "revoked":
                raise _for_good(known)
            if known is not None and known.state == "released":
                return Outcome(facts_of(known, target), changed=False)
            if known is None:
                raise UsageError(
                    f"the certificate {target.serial} is not held",
                    hint="tpmhsm cert list shows what is held and revoked",
                    code="not-held",
                )
            facts = {"ca": name, "serial": target.serial}
            changed = tx.audit.append("release", facts).seq
            row = tx.revocations.put(replace(known, state="released", changed=changed))
            return Outcome(facts_of(row, target), changed=True)

    def _own(self, name: str) -> bytes:
        return certificate_der(self._authorities.certificate(name))

    def _target(self, tx: Transaction, name: str, own: bytes, which: Which) -> Target:
        if which.der:
            target = by_file(tx, name, own, which.der, which.what)
        else:
            target = by_serial(tx, name, own, which.serial)
        refuse_itself(own, target, name)
        return target


def _put(tx: Transaction, name: str, target: Target, entry: Entry) -> Outcome:
    from tpmhsm.store.revocations import RevocationRow

    held = entry.reason == HOLD
    stated = {
        "ca": name,
        "serial": target.serial,
        "reason": entry.reason,
        "revoked": rfc3339(entry.revoked),
        "invalidity": rfc3339(entry.invalidity) if entry.invalidity else None,
    }
    row = RevocationRow(
        authority=name,
        serial=target.serial,
        state="held" if held else "revoked",
        reason=entry.reason,
        revoked_at=rfc3339(entry.revoked),
        invalidity=stated["invalidity"] or "",
        not_after=target.not_after,
        sha256=target.sha256,
        entry=encode_entry(entry),
        changed=tx.audit.append("hold" if held else "revoke", stated).seq,
    )
    if entry.reason in (KEY_COMPROMISE, CA_COMPROMISE):
        why = f"{name!r} revoked certificate {target.serial} for {entry.reason}"
        for digest in {target.spki_sha256, target.usual_sha256}:
            tx.barred_keys.bar(digest, why)
    return Outcome(facts_of(tx.revocations.put(row), target), changed=True)


def facts_of(row: RevocationRow, target: Target | None = None) -> dict[str, Any]:
    """JSON-ready facts of a revocation; `subject` where the certificate is known."""
    found: dict[str, Any] = {
        "ca_name": row.authority,
        "serial": row.serial,
        "state": row.state,
        "reason": row.reason,
        "revoked": row.revoked_at,
        "invalidity_date": row.invalidity or None,
        "not_after": row.not_after,
        "sha256": row.sha256 or None,
    }
    return found if target is None else {**found, "subject": target.subject}


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _says_the_same(known: RevocationRow, wanted: str | None, invalidity: datetime | None) -> bool:
    same_reason = wanted is None or wanted == known.reason
    return same_reason and (invalidity is None or rfc3339(invalidity) == known.invalidity)


def _refuse_other(known: RevocationRow, wanted: str | None) -> None:
    """ExistsError unless the reason may become this one."""
    compromised = (KEY_COMPROMISE, CA_COMPROMISE)
    earlier = known.reason in compromised and wanted in (None, known.reason)
    if not earlier and not may_replace(known.reason, wanted or UNSPECIFIED):
        raise ExistsError(
            f"the certificate {known.serial} was revoked {known.revoked_at} already"
            f" ({known.reason})",
            hint="later only keyCompromise can take the place of another reason",
            code="revoked-already",
            details={"state": known.state, "reason": known.reason, "revoked": known.revoked_at},
        )


def _revoked_at(known: RevocationRow | None, now: datetime) -> datetime:
    """A revocation that follows a hold, or another reason, keeps its date (X.509, 8.5.2.2)."""
    if known is None or known.state == "released":
        return now
    return datetime.fromisoformat(known.revoked_at)


def _invalidity_of(known: RevocationRow | None) -> datetime | None:
    if known is None or known.state != "revoked" or not known.invalidity:
        return None
    return datetime.fromisoformat(known.invalidity)


def _backdated(entry: Entry, target: Target) -> Entry:
    """TLS clients take the revocation's date for that of the compromise (BR 7.2.2)."""
    if entry.invalidity is None:
        return entry
    since = max(entry.invalidity, datetime.fromisoformat(target.not_before))
    return entry._replace(revoked=min(since, entry.revoked))


def _for_good(known: RevocationRow) -> RefusedError:
    return RefusedError(
        f"the certificate {known.serial} was revoked {known.revoked_at} ({known.reason}), for good",
        hint="issue another one: tpmhsm ca sign",
        code="revoked-already",
    )


def refuse_revoked(tx: Transaction, row: AuthorityRow, serial: str) -> None:
    """RefusedError for an authority whose own certificate (of this serial) is revoked or held by
    the authority above it here: what it certifies, nobody would accept.
    """
    found = tx.revocations.find(row.issuer, serial) if row.issuer else None
    if found is None or found.state == "released":
        return
    held = found.state == "held"
    raise RefusedError(
        f"{row.name!r} certifies nothing: {row.issuer!r} "
        + ("holds its certificate" if held else f"revoked its certificate ({found.reason})"),
        hint=f"tpmhsm ca release {row.issuer} 0x{serial} ends the hold"
        if held
        else "tpmhsm ca create makes another authority",
        code="ca-revoked",
    )
