"""Full CRLs of authorities: draw up → reserve the number → sign, now or when people approved.

The number is in the database before anybody signs and is never used again, so that of two CRLs the
later one always has the greater number, whatever fails between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tpmhsm.approval.request import Claims
from tpmhsm.errors import ExistsError, ParseError, RefusedError, TpmHsmError, UsageError
from tpmhsm.pki.chains import fields_of
from tpmhsm.pki.crl import CrlHead, assemble_tbs, complete_crl, read_tbs_crl
from tpmhsm.pki.describe import certificate_der
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.signatures import is_signed_by, signature_algorithm, split_signed
from tpmhsm.pki.tbs import rfc3339

if TYPE_CHECKING:
    from tpmhsm.ca.authority import Authorities
    from tpmhsm.ca.settings import Settings
    from tpmhsm.ca.signer import Signer
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.revocations import CrlRow

SUBSCRIBER_DAYS, SUBSCRIBER_LIMIT = 7, 10
CA_DAYS, CA_LIMIT = 180, 365
"""How long a CRL is good by default and at most: one that covers certificates of subscribers, one
that covers CA certificates alone (TLS Baseline Requirements 7.2).
"""

_TRIES = 5
_LARGEST_FOUND = (1 << 63) - 2


@dataclass(frozen=True)
class Draft:
    """A CRL that waits to be signed: its row, the exact bytes, and the CRL before it."""

    row: CrlRow
    tbs: bytes
    last: CrlRow | None


@dataclass(frozen=True)
class Made:
    """A CRL that exists: JSON-ready `facts`, and its DER."""

    facts: dict[str, Any]
    der: bytes


class Crls:
    """The CRLs of a home's authorities."""

    def __init__(
        self, store: Store, signer: Signer, authorities: Authorities, settings: Settings
    ) -> None:
        self._store = store
        self._signer = signer
        self._authorities = authorities
        self._settings = settings

    # ── making ───────────────────────────────────────────────────────────────

    def make(
        self,
        name: str,
        *,
        days: int | None = None,
        reason: str = "",
        published: bytes = b"",
        older: bool = False,
    ) -> Made:
        """The next full CRL. Raises WaitingError when people must approve it first.

        `published` is the CRL that stands where this one will be found: the database may be a
        restored one, older than it. Raises UsageError for `days` that the rules forbid, and unless
        `older`, when this CRL would bear an earlier time than the one before.
        """
        certificate = self._authorities.certificate(name)
        key = self._authorities.get(name).key_label
        _must_sign_crls(certificate, name)
        days = self._days(name, certificate, days)
        floor = _number_of(published, certificate) if published else 0
        people = self._signer.needs_people(key)
        if people:
            self._refuse_second(name)
        for _ in range(_TRIES):
            self._await_a_later_second(name, older=older)
            draft = self._draw_up(name, key, certificate, days, floor)
            try:
                return (
                    self._ask(key, certificate, draft, reason) if people else self._sign(key, draft)
                )
            except _NumberTakenError:
                continue
        raise UsageError(f"others are making CRLs of {name!r}: try again", code="busy")

    def _await_a_later_second(self, name: str, *, older: bool) -> None:
        """NSS keeps the CRL that it has unless the thisUpdate of the next one is later, and so may
        others: what this one revokes would go unnoticed.
        """
        with self._store.reading() as tx:
            last = tx.crls.latest(name)
        if last is None:
            return
        later = datetime.fromisoformat(last.this_update) + timedelta(seconds=1)
        now = datetime.now(UTC)
        wait = (later - now).total_seconds()
        if 0 < wait <= 1:
            time.sleep(wait)
        elif wait > 0 and not older:
            raise UsageError(
                f"the clock of this machine was set back: it says {rfc3339(now)}, and the last CRL"
                f" of {name!r} is of {last.this_update}; verifiers may keep that one",
                hint="set the clock right; if it is right now: --older, and tell those who verify",
                code="clock-back",
            )

    def _draw_up(
        self, name: str, key: str, certificate: x509.Certificate, days: int, floor: int
    ) -> Draft:
        from tpmhsm.store.revocations import CrlRow

        now = datetime.now(UTC).replace(microsecond=0)
        until = now + timedelta(days=days, seconds=-1)
        algorithm = signature_algorithm(self._signer.public_key(key), self._signer.hash_name(key))
        with self._store.reading() as tx:
            last, upto = tx.crls.latest(name), tx.audit.head().seq
            number = max(tx.crls.highest(name), floor) + 1
            head = CrlHead(
                issuer=fields_of(certificate).subject,
                algorithm=algorithm,
                ski=_ski_of(certificate),
                number=number,
                this_update=now,
                next_update=until,
            )
            count = 0

            def pieces() -> Any:
                nonlocal count
                for size, piece in tx.revocations.entries(name, last):
                    count += size
                    yield piece

            tbs = assemble_tbs(head, pieces())
        row = CrlRow(
            authority=name,
            number=number,
            this_update=rfc3339(now),
            next_update=rfc3339(until),
            upto=upto,
            entries=count,
            tbs_sha256=sha256(tbs).hexdigest(),
        )
        return Draft(row, tbs, last)

    def _ask(self, key: str, certificate: x509.Certificate, draft: Draft, reason: str) -> Made:
        from dataclasses import replace

        row = draft.row
        claims = Claims(
            reason=reason,
            issuer=certificate_der(certificate),
            texts={
                "number": str(row.number),
                "entries": str(row.entries),
                **self._changes(draft),
                "digest": row.tbs_sha256,
            },
        )
        request = self._signer.draft(key, "crl", draft.tbs, claims)
        with self._store.transaction() as tx:
            _must_be_next(tx, row)
            number = self._signer.register(tx, request)
            tx.crls.reserve(replace(row, request_id=number))
            tx.audit.append("crl-reserve", {"ca": row.authority, "number": row.number})
        raise self._signer.waiting(number)

    def _changes(self, draft: Draft) -> dict[str, str]:
        row, last = draft.row, draft.last
        if last is None:
            return {"changes": "the first CRL"}
        with self._store.reading() as tx:
            changed = tx.revocations.changes(row.authority, last.upto)
        return {"changes": f"{changed} since number {last.number} ({last.entries} entries)"}

    def _sign(self, key: str, draft: Draft) -> Made:
        with self._store.transaction() as tx:
            _must_be_next(tx, draft.row)
            row = tx.crls.reserve(draft.row)
            tx.audit.append("crl-reserve", {"ca": row.authority, "number": row.number})
        try:
            signature = self._signer.sign(key, draft.tbs)
        except TpmHsmError:
            with self._store.transaction() as tx:
                tx.crls.abandoned(row)
                tx.audit.append("crl-abandoned", {"ca": row.authority, "number": row.number})
            raise
        with self._store.transaction() as tx:
            return _complete(tx, row, draft.tbs, signature)

    def _refuse_second(self, name: str) -> None:
        """The same wish again, while it waits, is the same request: raises its WaitingError."""
        with self._store.reading() as tx:
            row = tx.crls.waiting(name)
            fresh = row is not None and not tx.revocations.changes(name, row.upto)
        if row is None or row.request_id is None:
            return
        half = _midpoint(row.this_update, row.next_update)
        if fresh and datetime.now(UTC) < half:
            raise self._signer.waiting(row.request_id)

    # ── rules ────────────────────────────────────────────────────────────────

    def _days(self, name: str, certificate: x509.Certificate, wanted: int | None) -> int:
        subscribers = self.covers_subscribers(name, certificate)
        usual, limit = (SUBSCRIBER_DAYS, SUBSCRIBER_LIMIT) if subscribers else (CA_DAYS, CA_LIMIT)
        days = wanted or self._settings.of(name).crl_days or usual
        if not 0 < days <= limit:
            covers = "certificates of subscribers" if subscribers else "CA certificates"
            raise UsageError(
                f"a CRL of {name!r} is good for {limit} days at most: it covers {covers}"
                " (TLS Baseline Requirements 7.2)",
                hint=f"--days {limit}, or crl_days = {limit} under [ca.{name}] in tpmhsm.toml",
                code="crl-days",
            )
        return days

    def covers_subscribers(self, name: str, certificate: x509.Certificate) -> bool:
        """Whether the authority issues, or may only issue, certificates that are none of CAs."""
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if basic.path_length == 0:
            return True
        with self._store.reading() as tx:
            return tx.certificates.has_leaf(name)

    # ── reading ──────────────────────────────────────────────────────────────

    def latest(self, name: str) -> CrlRow | None:
        """The last CRL that was signed."""
        with self._store.reading() as tx:
            return tx.crls.latest(name)

    def latest_made(self, name: str) -> Made:
        """The last CRL that was signed, whole. Raises UsageError when there is none."""
        with self._store.reading() as tx:
            tx.authorities.get(name)
            row = tx.crls.latest(name)
            if row is None:
                raise UsageError(
                    f"{name!r} has made no CRL yet", hint=f"tpmhsm ca crl {name}", code="no-crl"
                )
            return Made(crl_facts(row), tx.crls.der(row))


class _NumberTakenError(Exception):
    """Another process reserved the number meanwhile: draw the CRL up again."""


def _must_be_next(tx: Transaction, row: CrlRow) -> None:
    if tx.crls.highest(row.authority) >= row.number:
        raise _NumberTakenError


def complete_request(
    tx: Transaction, request_id: int, tbs: bytes, signature: bytes
) -> dict[str, Any]:
    """What becomes of an approved signature: the CRL, kept; its facts."""
    row = tx.crls.of_request(request_id)
    if row.tbs_sha256 != sha256(tbs).hexdigest():
        raise ParseError(f"request {request_id} is not for the bytes that were drawn up")
    return _complete(tx, row, tbs, signature).facts


def abandon_request(tx: Transaction, request_id: int) -> None:
    """A request ended unexecuted: the number of its CRL is used up."""
    tx.crls.abandoned(tx.crls.of_request(request_id))


def _complete(tx: Transaction, row: CrlRow, tbs: bytes, signature: bytes) -> Made:
    key = tx.keys.get(tx.authorities.get(row.authority).key_label)
    public = load_spki(key.spki)
    algorithm = signature_algorithm(public, key.hash)
    made = complete_crl(tbs, algorithm, public, key.hash, signature)
    issued = tx.crls.issued(row, made)
    tx.audit.append("crl", {"ca": row.authority, "number": row.number, "sha256": issued.sha256})
    return Made(crl_facts(issued), made)


def crl_facts(row: CrlRow) -> dict[str, Any]:
    """JSON-ready facts of a CRL."""
    return {
        "ca_name": row.authority,
        "number": row.number,
        "this_update": row.this_update,
        "next_update": row.next_update,
        "entries": row.entries,
        "crl_sha256": row.sha256 or None,
        "request": row.request_id,
    }


def is_due(row: CrlRow, now: datetime) -> bool:
    """Whether two thirds of a CRL's time are over: time to make the next one."""
    start, end = (datetime.fromisoformat(t) for t in (row.this_update, row.next_update))
    return now >= start + (end - start) * 2 / 3


def _midpoint(start: str, end: str) -> datetime:
    a, b = datetime.fromisoformat(start), datetime.fromisoformat(end)
    return a + (b - a) / 2


def _number_of(published: bytes, certificate: x509.Certificate) -> int:
    """The number of a CRL that this authority signed; 0 for anything else."""
    try:
        tbs, _, _ = split_signed(published, "a CRL")
        number = read_tbs_crl(tbs).number or 0
    except ParseError:
        return 0
    if not is_signed_by(published, fields_of(certificate).spki):
        return 0
    if number > _LARGEST_FOUND:
        raise ExistsError(f"the published CRL has the number {number}: none can follow it here")
    return max(0, number)


def _must_sign_crls(certificate: x509.Certificate, name: str) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return
    if not usage.crl_sign:
        raise RefusedError(
            f"the certificate of {name!r} lacks cRLSign: nobody would accept its CRLs",
            hint="have it certified again with keyCertSign and cRLSign",
            code="no-crl-sign",
        )


def _ski_of(certificate: x509.Certificate) -> bytes:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return found.value.digest
    except (x509.ExtensionNotFound, ValueError):
        key: Any = certificate.public_key()
        return x509.SubjectKeyIdentifier.from_public_key(key).digest
