"""Many certificates at a time: preparation, chip and storage at work side by side.

    with authorities.issuer() as issuer:
        futures = [issuer.sign("issuing", csr, profile="tls-server") for csr in csrs]
        certificates = [future.result().der for future in futures]

Each certificate goes the one way of `tpmhsm.ca.issuance`: checked and prepared, written ahead,
signed, verified, kept. What overlaps is different certificates; and what many of them write goes
to the disk in one transaction. A future is done only after the commit that holds its certificate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tpmhsm.ca.batches import abandon_all, keep_all, record_evidence, sweep
from tpmhsm.ca.blocklists import check_listed
from tpmhsm.ca.demands import Demand, check_evidence
from tpmhsm.ca.issuance import Issued
from tpmhsm.ca.known_keys import KnownKeys
from tpmhsm.ca.line import FRESH, Line
from tpmhsm.ca.records import certificate_facts, issued_row
from tpmhsm.ca.signer import SigningTurns
from tpmhsm.errors import RefusedError, StoreError, TpmHsmError
from tpmhsm.pki.applicant import applicant_from_csr
from tpmhsm.pki.csr import read_csr
from tpmhsm.pki.issue import Prepared, assemble_der, prepare
from tpmhsm.pki.key_checks import usual_digest
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.tbs import serial_hex
from tpmhsm.store.authorities import SerialRow

if TYPE_CHECKING:
    from tpmhsm.ca.signer import Signer
    from tpmhsm.ca.workshop import Worker
    from tpmhsm.pki.options import IssueOptions
    from tpmhsm.store import Store
    from tpmhsm.store.certificates import CertificateRow

_SWEEP = 60.0
"""Seconds between two looks for serials of processes that died."""


@dataclass(frozen=True)
class Standing:
    """An authority as it certifies: its key, its certificate (DER), its options, the files of keys
    that nobody certifies, the evidence that it demands.
    """

    authority: str
    key: str
    issuer: bytes
    options: IssueOptions
    blocklists: tuple[str, ...] = ()
    demand: Demand | None = None


@dataclass(frozen=True)
class Certified:
    """A certificate that is kept, DER."""

    der: bytes
    sha256: str
    serial: str
    notes: tuple[str, ...]

    def issued(self) -> Issued:
        """The same with all facts of the certificate."""
        certificate = x509.load_der_x509_certificate(self.der)
        return Issued(certificate_facts(certificate), self.notes)


# ── what workers do ──────────────────────────────────────────────────────────

_tokens: dict[str, Prepared] = {}
"""Checked certificates by serial, in the process that checked them, until they are signed."""


@dataclass(frozen=True)
class Draft:
    """What a worker tells of a token; `keys` are the SHA-256 of its public key, and
    `usual_digest`.
    """

    serial: str
    keys: frozenset[str]
    tbs: bytes
    notes: tuple[str, ...]
    evidence: Mapping[str, Any] | None = None


def draft(standing: Standing, csr: bytes, what: str, profile: str) -> Draft:
    """Check a CSR and prepare its certificate; the token stays here."""
    raw = read_csr(csr, what)
    applicant = applicant_from_csr(raw)
    check_listed(standing.blocklists, applicant.spki)
    proven = check_evidence(standing.demand, raw)
    token = prepare(get_profile(profile), applicant, standing.issuer, standing.options)
    serial = serial_hex(token.serial)
    _tokens[serial] = token
    keys = frozenset({token.facts["key"]["sha256"], usual_digest(applicant.spki)})
    if proven is None:
        return Draft(serial, keys, token.tbs, token.notes)
    return Draft(serial, keys, token.tbs, (*token.notes, *proven.all_notes), proven.facts)


def finish(serial: str, signature: bytes, authority: str) -> CertificateRow:
    """Verify the signature and put the certificate together."""
    token = _tokens.pop(serial)
    return issued_row(token, assemble_der(token, signature), authority)


def forget(serial: str) -> None:
    """It will not be signed."""
    _tokens.pop(serial, None)


# ── the line ─────────────────────────────────────────────────────────────────


class Issuer(Line[SigningTurns]):
    """Issues with keys that need nobody. Threads may share it; close it (or use `with`) when done.

    `workers` is how many processes prepare (`Line`); 0: whoever asks prepares himself.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        standing: Callable[[str, str, IssueOptions | None], Standing],
        workers: int | None = None,
    ) -> None:
        super().__init__(store, signer.turns(), workers)
        self._look = standing
        self._signer = signer
        self._known: dict[tuple[str, str, IssueOptions | None], tuple[float, Standing]] = {}
        self._swept: dict[str, float] = {}
        self._known_keys = KnownKeys()

    def sign(
        self,
        name: str,
        csr: bytes,
        *,
        profile: str,
        what: str = "the CSR",
        options: IssueOptions | None = None,
    ) -> Future[Certified]:
        """Certify a CSR. The future raises what `Authorities.sign` does.

        Raises RefusedError when the authority's key asks people: each of its certificates is a
        request of its own (`Authorities.sign`).
        """
        standing = self._standing(name, profile, options)
        self._room.acquire()  # given back when the future is done
        flight = _Flight(self, standing, self._worker())
        flight.begin(csr, what, profile)
        return flight.future

    def _standing(self, name: str, profile: str, options: IssueOptions | None) -> Standing:
        at, known = self._known.get((name, profile, options), (0.0, None))
        now = time.monotonic()
        if known is None or now - at > FRESH:
            known = self._look(name, profile, options)
            if self._signer.needs_people(known.key):
                raise RefusedError(
                    f"the key of {name!r} signs only with approvals", code="needs-people"
                )
            self._known[name, profile, options] = (now, known)
            if now - self._swept.get(name, -_SWEEP) >= _SWEEP:
                self._swept[name] = now
                self._commits.put(sweep, name, lambda *_: None)
        return known


class _Flight:
    """One certificate on its way: each method is told what the step before it came to."""

    def __init__(self, issuer: Issuer, standing: Standing, worker: Worker) -> None:
        self.future: Future[Certified] = Future()
        self._issuer = issuer
        self._standing = standing
        self._worker = worker
        self._draft: Draft

    def begin(self, csr: bytes, what: str, profile: str) -> None:
        self._worker.put(draft, (self._standing, csr, what, profile), self._drafted)

    def _drafted(self, found: Draft, error: BaseException | None) -> None:
        if error:
            self._end(error)
            return
        self._draft = found
        if found.evidence is not None:
            facts = {"ca": self._standing.authority, "serial": found.serial, **found.evidence}
            self._issuer._commits.put(record_evidence, facts, self._recorded)
            return
        self._recorded(None, None)

    def _recorded(self, _: object, error: BaseException | None) -> None:
        if error:
            self._forget(error)
            return
        found = self._draft
        # no document to go on with: what a process that dies leaves here is given up
        item = found.keys, SerialRow(self._standing.authority, found.serial, found.tbs, "")
        self._issuer._commits.put(self._issuer._known_keys.reserve, item, self._reserved)

    def _reserved(self, _: object, error: BaseException | None) -> None:
        if error:
            self._forget(error)
            return
        try:
            self._issuer._turns.put(self._standing.key, self._draft.tbs, self._signed)
        except TpmHsmError as refused:
            self._abandon(refused)

    def _signed(self, signature: bytes | None, error: BaseException | None) -> None:
        if error:
            self._abandon(error)
            return
        arguments = (self._draft.serial, signature, self._standing.authority)
        self._worker.put(finish, arguments, self._finished)

    def _finished(self, row: CertificateRow, error: BaseException | None) -> None:
        if error:
            self._abandon(error)
            return
        self._issuer._commits.put(keep_all, row, self._kept)

    def _kept(self, row: CertificateRow, error: BaseException | None) -> None:
        if error:
            self._end(error)
            return
        self._issuer._room.release()
        self.future.set_result(Certified(row.der, row.sha256, row.serial, self._draft.notes))

    # ── when something fails ─────────────────────────────────────────────────

    def _abandon(self, error: BaseException) -> None:
        """Give the serial up, unless a chip that vanished may have signed."""
        if isinstance(error, StoreError) or getattr(error, "code", "") == "device-vanished":
            self._forget(error)
            return
        pair = (self._standing.authority, self._draft.serial)
        self._issuer._commits.put(abandon_all, pair, lambda *_: self._forget(error))

    def _forget(self, error: BaseException) -> None:
        self._worker.put(forget, (self._draft.serial,), lambda *_: self._end(error))

    def _end(self, error: BaseException) -> None:
        self._issuer._room.release()
        self.future.set_exception(error)
