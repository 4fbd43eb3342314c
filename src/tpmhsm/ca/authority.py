"""Authorities by name: made, installed, asked to certify.

Every issuance is prepare → reserve → sign → complete. Serial and to-be-signed bytes are in the
database before anybody signs, so after a failure it is known which certificates may exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from tpmhsm.approval.request import Claims
from tpmhsm.ca.records import certificate_row
from tpmhsm.ca.settings import Settings
from tpmhsm.errors import ExistsError, NotFoundError, ParseError, TpmHsmError, UsageError
from tpmhsm.pki.applicant import Applicant, applicant_from_csr
from tpmhsm.pki.csr import load_csr
from tpmhsm.pki.issue import Prepared, assemble, prepare, restore
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.names import format_dn, parse_dn
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.tbs import serial_hex

if TYPE_CHECKING:
    from tpmhsm.ca.signer import Signer
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow, SerialRow


@dataclass(frozen=True)
class Issued:
    """A certificate that exists: JSON-ready `facts` with `pem`, and notes for people."""

    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


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
        """A root, or an intermediate under an authority here.

        Raises WaitingError when people must approve it first; ExistsError for a taken name.
        """
        public = self._signer.public_key(key)
        self._make_room(name)
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
        parent = self.certificate(issuer) if issuer else None
        signing = self.get(issuer).key_label if issuer else key
        chosen = self._options(issuer or name, signing, options)
        applicant = Applicant(public, parse_dn(subject))
        token = prepare(rules, applicant, parent, chosen)
        row = _authority_row(name, key, token, issuer)
        claims = _claims(token, reason, issuer=parent)
        return self._run(issuer or name, signing, token, claims, born=row)

    def _options(self, name: str, key: str, options: IssueOptions | None) -> IssueOptions:
        settings = self._settings.of(name)
        return replace(
            options or IssueOptions(),
            base_url=settings.base_url,
            issuer_label=name,
            lint=settings.lint,
            hash_name=self._signer.hash_name(key),
        )

    def _make_room(self, name: str) -> None:
        """Refuse a taken name; clear away what a killed process left under it."""
        from tpmhsm.policy.documents import check_label

        check_label(name, "an authority's name")
        with self._store.reading() as tx:
            row = tx.authorities.find(name)
        if row is None:
            return
        facts = row.settings or {}
        if row.state == "pending" and not facts.get("request") and not facts.get("external"):
            with self._store.transaction() as tx:
                self._abandon(tx, name)
            return
        raise ExistsError(
            f"an authority named {name!r} exists already",
            hint="tpmhsm ca list shows all authorities",
        )

    def _abandon(self, tx: Transaction, name: str) -> None:
        row = tx.authorities.get(name)
        for serial in tx.serials.all(authority=row.issuer or name, state="reserved"):
            if serial.serial == (row.settings or {}).get("serial"):
                tx.serials.abandoned(serial.authority, serial.serial)
        tx.authorities.remove_pending(name)

    def remember_external(self, name: str, key: str, subject: str) -> None:
        """Remember an authority whose certificate another CA will make; again is no error."""
        from tpmhsm.store.authorities import AuthorityRow

        self._signer.public_key(key)
        row = AuthorityRow(
            name, key, "intermediate", format_dn(parse_dn(subject)), settings={"external": True}
        )
        with self._store.reading() as tx:
            known = tx.authorities.find(name)
        if known is not None and replace(row, id=known.id, created=known.created) == known:
            return
        self._make_room(name)
        with self._store.transaction() as tx:
            tx.authorities.add(row)
            tx.audit.append("ca-create", {"name": name, "key": key, "external": True})

    def install(self, name: str, certificates: Sequence[x509.Certificate]) -> Issued:
        """Give an external authority the certificate that its CA made; the rest is its chain.

        Raises UsageError when none of them is a CA certificate for the authority's key.
        """
        row = self.get(name)
        if not (row.settings or {}).get("external"):
            raise UsageError(f"the authority {name!r} is not an external one")
        public = self._signer.public_key(row.key_label)
        own = [c for c in certificates if _same_key(c, public)]
        if not own:
            raise UsageError(
                f"none of these {len(certificates)} certificates is for the key of {name!r}",
                code="wrong-key",
            )
        certificate = own[0]
        _must_be_ca(certificate)
        with self._store.transaction() as tx:
            for other in certificates:
                if other is not certificate:
                    tx.certificates.add(certificate_row(other, source="imported"))
            kept = tx.certificates.add(certificate_row(certificate, source="external", name=name))
            tx.authorities.save(replace(row, certificate=kept.sha256, state="active"))
            tx.audit.append("ca-install", {"name": name, "sha256": kept.sha256})
        return Issued(_facts(certificate))

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
    ) -> Issued:
        """Certify a CSR. Raises WaitingError when people must approve it first."""
        loaded = load_csr(csr, what)
        return self._certify(
            name,
            applicant_from_csr(loaded),
            profile,
            options,
            reason,
            csr=loaded.public_bytes(Encoding.DER),
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

    def _certify(
        self,
        name: str,
        applicant: Applicant,
        profile: str,
        options: IssueOptions | None,
        reason: str,
        *,
        csr: bytes,
    ) -> Issued:
        row, parent = self.get(name), self.certificate(name)
        rules = get_profile(profile)
        if rules.self_signed:
            raise UsageError("a root signs itself", hint="tpmhsm ca create NAME --profile root")
        token = prepare(rules, applicant, parent, self._options(name, row.key_label, options))
        claims = _claims(token, reason, issuer=parent, csr=csr)
        return self._run(name, row.key_label, token, claims)

    # ── the one way to a certificate ─────────────────────────────────────────

    def _run(
        self,
        name: str,
        key: str,
        token: Prepared,
        claims: Claims,
        born: AuthorityRow | None = None,
    ) -> Issued:
        """Reserve, sign or ask people, complete. `name` is the issuing authority."""
        if self._signer.needs_people(key):
            draft = self._signer.draft(key, "certificate", token.tbs, claims)
            with self._store.transaction() as tx:
                number = self._signer.register(tx, draft)
                _reserve(tx, name, token, number)
                if born is not None:
                    _bear(tx, born, token, number)
            raise self._signer.waiting(number)
        with self._store.transaction() as tx:
            serial = _reserve(tx, name, token, None)
            if born is not None:
                _bear(tx, born, token, None)
        try:
            signature = self._signer.sign(key, token.tbs)
        except TpmHsmError:
            with self._store.transaction() as tx:
                tx.serials.abandoned(serial.authority, serial.serial)
                if born is not None:
                    tx.authorities.remove_pending(born.name)
            raise
        with self._store.transaction() as tx:
            facts = _complete(tx, tx.serials.get(serial.authority, serial.serial), signature)
        return Issued(facts, token.notes)


def complete_certificate(
    tx: Transaction, request_id: int, tbs: bytes, signature: bytes
) -> dict[str, Any]:
    """What becomes of an approved signature: the certificate, kept; its facts with `pem`."""
    record = tx.serials.of_request(request_id)
    if record.tbs != tbs:
        raise ParseError(f"request {request_id} is not for the bytes that were prepared")
    return _complete(tx, record, signature)


def _complete(tx: Transaction, record: SerialRow, signature: bytes) -> dict[str, Any]:
    issuing = tx.authorities.get(record.authority)
    signer = load_der_public_key(tx.keys.get(issuing.key_label).spki)
    certificate = assemble(restore(record.prepared, signer), signature)
    born = _born_by(tx, record)
    kept = tx.certificates.add(
        certificate_row(
            certificate,
            source="issued",
            authority=record.authority,
            name=born.name if born else "",
        )
    )
    tx.serials.issued(record.authority, record.serial)
    if born is not None:
        tx.authorities.activate(born.name, kept.sha256)
    tx.audit.append(
        "issued", {"ca": record.authority, "serial": record.serial, "sha256": kept.sha256}
    )
    return _facts(certificate)


def _born_by(tx: Transaction, record: SerialRow) -> AuthorityRow | None:
    """The pending authority whose certificate this serial is."""
    for row in tx.authorities.all():
        issuer = row.issuer or row.name
        if (
            row.state == "pending"
            and issuer == record.authority
            and (row.settings or {}).get("serial") == record.serial
        ):
            return row
    return None


def _reserve(tx: Transaction, name: str, token: Prepared, request: int | None) -> SerialRow:
    serial = serial_hex(token.serial)
    return tx.serials.reserve(name, serial, token.tbs, request, token.to_document())


def _bear(tx: Transaction, row: AuthorityRow, token: Prepared, request: int | None) -> None:
    settings = {"serial": serial_hex(token.serial), "request": request}
    tx.authorities.add(replace(row, settings=settings))
    tx.audit.append("ca-create", {"name": row.name, "key": row.key_label, "request": request})


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


def _same_key(certificate: x509.Certificate, public: Any) -> bool:
    try:
        return bool(certificate.public_key() == public)
    except (ValueError, TypeError):
        return False


def _must_be_ca(certificate: x509.Certificate) -> None:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        basic = None
    if basic is None or not basic.ca:
        raise UsageError("this certificate is none of a CA: CA:TRUE is missing", code="not-a-ca")


def _facts(certificate: x509.Certificate) -> dict[str, Any]:
    from tpmhsm.pki.describe import describe_certificate

    pem = to_pem(certificate.public_bytes(Encoding.DER)).decode()
    return {**describe_certificate(certificate), "pem": pem}
