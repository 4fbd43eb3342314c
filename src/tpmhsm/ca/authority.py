"""Authorities by name: made, installed, asked to certify.

What is to be certified is checked and prepared here; `tpmhsm.ca.issuance` does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tpmhsm.approval.request import Claims
from tpmhsm.ca.blocklists import check_listed
from tpmhsm.ca.demands import check_evidence, demand_of
from tpmhsm.ca.external import notes_on, own_of
from tpmhsm.ca.issuance import (
    Issued,
    Order,
    abandon,
    birth_of,
    issue,
    refuse_repetition,
    resume,
    same_wish,
)
from tpmhsm.ca.known_keys import check_known
from tpmhsm.ca.records import certificate_facts, certificate_row
from tpmhsm.ca.revocation import refuse_revoked
from tpmhsm.ca.settings import Settings
from tpmhsm.errors import ExistsError, NotFoundError, ParseError, UsageError
from tpmhsm.pki.applicant import Applicant, applicant_from_csr
from tpmhsm.pki.chains import is_issued_by
from tpmhsm.pki.csr import read_csr
from tpmhsm.pki.issue import Prepared, prepare
from tpmhsm.pki.limits import limits_what_is_below
from tpmhsm.pki.names import format_dn, parse_dn
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.tbs import read_tbs_certificate, serial_hex
from tpmhsm.policy.documents import check_label

if TYPE_CHECKING:
    from tpmhsm.ca.pipeline import Issuer, Standing
    from tpmhsm.ca.signer import Signer
    from tpmhsm.pki.profiles import Profile
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow
    from tpmhsm.store.certificates import CertificateRow


class Authorities:
    """The authorities of a home."""

    def __init__(self, store: Store, signer: Signer, settings: Settings) -> None:
        self._store = store
        self._signer = signer
        self._settings = settings

    # ── reading ──────────────────────────────────────────────────────────────

    def all(self) -> list[AuthorityRow]:
        """All authorities, by name."""
        with self._store.reading() as tx:
            return tx.authorities.all()

    def get(self, name: str) -> AuthorityRow:
        """One authority. Raises NotFoundError."""
        with self._store.reading() as tx:
            return tx.authorities.get(name)

    def certificate(self, name: str) -> x509.Certificate:
        """An authority's certificate. Raises UsageError while it has none."""
        with self._store.reading() as tx:
            return _certificate_of(tx, tx.authorities.get(name))

    # ── making ───────────────────────────────────────────────────────────────

    def create(
        self,
        name: str,
        key: str,
        subject: str,
        *,
        issuer: str | None = None,
        profile: str | None = None,
        options: IssueOptions | None = None,
        reason: str = "",
    ) -> Issued:
        """A root, or an intermediate under an authority here. The same again goes on with it.

        Raises WaitingError when people must approve it first; ExistsError for a taken name.
        """
        public = self._signer.public_key(key)
        known = self._pending(name)
        rules = get_profile(profile or ("intermediate" if issuer else "root"))
        if not rules.ca:
            raise UsageError(
                f"the profile {rules.name} is none for authorities",
                hint="tpmhsm ca sign issues end-entity certificates",
            )
        if issuer and rules.self_signed:
            raise UsageError("a root has no issuer", hint="leave --issuer out, or --profile root")
        if not issuer and not rules.self_signed:
            raise UsageError(
                f"the profile {rules.name} needs an issuer",
                hint="--issuer CA, or --external when the issuer is elsewhere",
            )
        parent = self._certifier(issuer) if issuer else None
        signing = self.get(issuer).key_label if issuer else key
        chosen = self._options(issuer or name, signing, options)
        applicant = Applicant(public, parse_dn(subject).public_bytes())
        token = prepare(rules, applicant, parent, chosen)
        self._check_known(token, name)
        if known is not None and (done := self._go_on(known, signing, token)) is not None:
            return done
        order = Order(
            authority=issuer or name,
            key=signing,
            token=token,
            claims=_claims(token, reason, issuer=parent),
            born=_authority_row(name, key, token, issuer),
        )
        return issue(self._store, self._signer, order)

    def draft(
        self,
        name: str,
        key: str,
        subject: str,
        *,
        above: Order | None = None,
        options: IssueOptions | None = None,
        reason: str = "",
    ) -> Order:
        """A root, or an intermediate below one that is drafted, too: nobody is asked yet.

        Raises ExistsError for a taken name.
        """
        if self._pending(name) is not None:
            raise _taken(name, "tpmhsm ca list")
        issuer, signing = (above.authority, above.key) if above else (name, key)
        parent = x509.load_der_x509_certificate(above.token.provisional) if above else None
        applicant = Applicant(self._signer.public_key(key), parse_dn(subject).public_bytes())
        rules = get_profile("intermediate" if above else "root")
        token = prepare(rules, applicant, parent, self._options(issuer, signing, options))
        self._check_known(token, name)
        return Order(
            authority=issuer,
            key=signing,
            token=token,
            claims=_claims(token, reason, issuer=parent),
            born=_authority_row(name, key, token, issuer if above else None),
        )

    def _options(self, name: str, key: str, options: IssueOptions | None) -> IssueOptions:
        settings = self._settings.of(name)
        return replace(
            options or IssueOptions(),
            base_url=settings.base_url,
            issuer_label=name,
            lint=settings.lint,
            hash_name=self._signer.hash_name(key),
            above=self._above(name),
        )

    def _above(self, name: str) -> tuple[bytes, ...]:
        """What stands above an authority, as far as it is kept, and limits what is below."""
        with self._store.reading() as tx:
            own = tx.authorities.find(name)
            here = tx.certificates.find(own.certificate) if own and own.certificate else None
            above: list[CertificateRow] = []
            while here and (here := _issuer_row(tx, here)) and here not in above:
                above.append(here)
        return tuple(row.der for row in above if limits_what_is_below(row.der))

    def _pending(self, name: str) -> AuthorityRow | None:
        """The authority of this name that has no certificate yet. ExistsError if it has one."""
        check_label(name, "an authority's name")
        with self._store.reading() as tx:
            row = tx.authorities.find(name)
        if row is not None and row.state != "pending":
            raise ExistsError(
                f"an authority named {name!r} exists already",
                hint="tpmhsm ca list shows all authorities",
            )
        return row

    def _go_on(self, row: AuthorityRow, key: str, token: Prepared) -> Issued | None:
        """Finish what an earlier run began, if it was the same wish; clear it away if not.

        Raises WaitingError while people must approve it, ExistsError if they are asked for
        something else under this name.
        """
        with self._store.reading() as tx:
            begun = birth_of(tx, row)
        facts = row.settings or {}
        same = begun is not None and same_wish(begun.tbs, token.tbs)
        if (request := facts.get("request")) is not None:
            if same:
                raise self._signer.waiting(request)
            raise _taken(row.name, f"tpmhsm request cancel {request} withdraws it")
        if facts.get("external"):
            raise _taken(row.name, f"tpmhsm ca install {row.name} CERT")
        if begun is not None and same:
            return resume(self._store, self._signer, key, begun)
        with self._store.transaction() as tx:
            if begun is not None:
                abandon(tx, begun)
            else:
                tx.authorities.remove_pending(row.name)
        return None

    def remember_external(self, name: str, key: str, subject: str) -> None:
        """Remember an authority whose certificate another CA will make; again is no error."""
        from tpmhsm.store.authorities import AuthorityRow

        self._signer.public_key(key)
        row = AuthorityRow(
            name, key, "intermediate", format_dn(parse_dn(subject)), settings={"external": True}
        )
        known = self._pending(name)
        if known is not None and replace(row, id=known.id, created=known.created) == known:
            return
        if known is not None:
            request = (known.settings or {}).get("request")
            raise _taken(name, f"tpmhsm request show {request}" if request else "tpmhsm ca list")
        with self._store.transaction() as tx:
            tx.authorities.add(row)
            tx.audit.append("ca-create", {"name": name, "key": key, "external": True})

    def install(self, name: str, certificates: Sequence[x509.Certificate]) -> Issued:
        """Give an external authority the certificate that its CA made; the rest is its chain.

        Raises UsageError when none of them is a CA certificate for the authority's key,
        VerificationError when the chain does not hold.
        """
        row = self.get(name)
        if not (row.settings or {}).get("external"):
            raise UsageError(f"the authority {name!r} is not an external one")
        certificate, others = own_of(certificates, self._signer.public_key(row.key_label), name)
        with self._store.transaction() as tx:
            for other in others:
                tx.certificates.add(certificate_row(other, source="imported"))
            kept = tx.certificates.add(certificate_row(certificate, source="external", name=name))
            tx.authorities.save(replace(row, certificate=kept.sha256, state="active"))
            tx.audit.append("ca-install", {"name": name, "sha256": kept.sha256})
        return Issued(certificate_facts(certificate), tuple(notes_on(certificate, others)))

    # ── certifying ───────────────────────────────────────────────────────────

    def sign(
        self,
        name: str,
        csr: bytes,
        *,
        profile: str,
        what: str = "the CSR",
        options: IssueOptions | None = None,
        reason: str = "",
        repeat: bool = True,
        evidence: bool = False,
    ) -> Issued:
        """Certify a CSR. Raises WaitingError when people must approve it first; unless `repeat`,
        with the request that waits for the same already. `evidence` demands some of this CSR, if
        the settings do not anyway: VerificationError without.
        """
        raw = read_csr(csr, what)
        return self._certify(
            name,
            applicant_from_csr(raw),
            profile,
            options,
            reason,
            csr=raw,
            repeat=repeat,
            evidence=evidence,
        )

    def certify_key(
        self,
        name: str,
        applicant: Applicant,
        *,
        profile: str,
        options: IssueOptions | None = None,
        reason: str = "",
        csr: bytes = b"",
    ) -> Issued:
        """Certify a public key under names that the host vouches for."""
        return self._certify(name, applicant, profile, options, reason, csr=csr)

    def issuer(self, workers: int | None = None, *, evidence: bool = False) -> Issuer:
        """Begin to certify many at a time; close it when done. See `tpmhsm.ca.pipeline`.
        `evidence` as in `sign`.
        """
        from tpmhsm.ca.pipeline import Issuer

        look = partial(self._standing, evidence=evidence)
        return Issuer(self._store, self._signer, look, workers)

    def wants_evidence(self, name: str, profile: str) -> bool:
        """Whether an authority demands evidence with CSRs for this profile."""
        return self._settings.of(name).wants_evidence(profile)

    def _certifier(self, name: str) -> x509.Certificate:
        """An authority's certificate, to certify by. RefusedError when it is revoked or held."""
        with self._store.reading() as tx:
            row = tx.authorities.get(name)
            certificate = _certificate_of(tx, row)
            refuse_revoked(tx, row, serial_hex(certificate.serial_number))
        return certificate

    def _standing(
        self, name: str, profile: str, options: IssueOptions | None, *, evidence: bool = False
    ) -> Standing:
        from tpmhsm.ca.pipeline import Standing

        row, parent = self.get(name), self._certifier(name)
        _no_root(get_profile(profile))
        return Standing(
            name,
            row.key_label,
            parent.public_bytes(Encoding.DER),
            self._options(name, row.key_label, options),
            self._settings.blocklists,
            demand_of(self._settings.of(name), name, profile, asked=evidence),
        )

    def _certify(
        self,
        name: str,
        applicant: Applicant,
        profile: str,
        options: IssueOptions | None,
        reason: str,
        *,
        csr: bytes,
        repeat: bool = True,
        evidence: bool = False,
    ) -> Issued:
        row, parent = self.get(name), self._certifier(name)
        rules = get_profile(profile)
        _no_root(rules)
        demand = demand_of(self._settings.of(name), name, profile, asked=evidence)
        proven = check_evidence(demand, csr)
        token = prepare(rules, applicant, parent, self._options(name, row.key_label, options))
        self._check_known(token)
        claims = _claims(token, reason, issuer=parent, csr=csr)
        if proven is not None:
            token.notes += proven.all_notes
            claims = replace(claims, texts={**claims.texts, "evidence": proven.words})
        facts = proven.facts if proven else None
        order = Order(name, row.key_label, token, claims, evidence=facts)
        if not repeat:
            refuse_repetition(self._store, self._signer, order)
        return issue(self._store, self._signer, order)

    def _check_known(self, token: Prepared, authority: str = "") -> None:
        check_listed(self._settings.blocklists, read_tbs_certificate(token.tbs).spki)
        with self._store.reading() as tx:
            token.notes += check_known(tx, token, authority)


def _no_root(rules: Profile) -> None:
    if rules.self_signed:
        raise UsageError("a root signs itself", hint="tpmhsm ca create NAME --profile root")


def _authority_row(name: str, key: str, token: Prepared, issuer: str | None) -> AuthorityRow:
    from tpmhsm.store.authorities import AuthorityRow

    return AuthorityRow(name, key, token.profile.name, token.facts["subject"], issuer=issuer)


def _claims(
    token: Prepared, reason: str, *, issuer: x509.Certificate | None, csr: bytes = b""
) -> Claims:
    return Claims(
        reason=reason,
        profile=token.profile.name,
        profile_days=token.profile.days,
        csr=csr,
        issuer=issuer.public_bytes(Encoding.DER) if issuer else b"",
        texts={"subject": token.facts["subject"], "digest": token.digest},
    )


def _certificate_of(tx: Transaction, row: AuthorityRow) -> x509.Certificate:
    if row.certificate is None:
        request = (row.settings or {}).get("request")
        raise UsageError(
            f"the authority {row.name!r} has no certificate yet",
            code="ca-pending",
            hint=f"tpmhsm request show {request}"
            if request
            else f"tpmhsm ca install {row.name} CERT",
        )
    kept = tx.certificates.find(row.certificate)
    if kept is None:
        raise NotFoundError(f"the certificate of {row.name!r} was deleted")
    return x509.load_der_x509_certificate(kept.der)


def _issuer_row(tx: Transaction, row: CertificateRow) -> CertificateRow | None:
    """The kept certificate that issued this one; of several the one valid longest."""
    named = [other for other in tx.certificates.find_all(row.issuer) if other.is_ca]
    issuers = [other for other in named if other != row and _issued(row, other)]
    return max(issuers, key=lambda other: other.not_after, default=None)


def _issued(row: CertificateRow, other: CertificateRow) -> bool:
    try:
        return is_issued_by(row.der, other.der)
    except ParseError:  # kept although it breaks the rules
        return False


def _taken(name: str, hint: str) -> ExistsError:
    return ExistsError(f"an authority named {name!r} is being made already", hint=hint)
