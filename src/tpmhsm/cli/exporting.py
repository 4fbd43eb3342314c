"""Certificates out of the database, in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tpmhsm.cli.app import App
from tpmhsm.errors import NotFoundError, ParseError, UsageError

if TYPE_CHECKING:
    from tpmhsm.pki.pkcs12 import NamedCertificate
    from tpmhsm.store import Transaction
    from tpmhsm.store.certificates import CertificateRow

_MOST = 5000
"""More certificates than these are not looked through for one chain."""

FORMATS = ("pem", "der", "pkcs7", "pkcs12")


def bundle_ders(app: App, sha256: str, form: str) -> list[bytes]:
    """DER of a stored certificate with the chain that `form` wants (leaf, chain, fullchain)."""
    from tpmhsm.pki.chains import build_chain, export_bundle

    with app.store.reading() as tx:
        wanted = tx.certificates.find(sha256)
        pool, own = above(tx, [wanted] if wanted and form != "leaf" else [])
    if wanted is None:
        raise NotFoundError(f"there is no certificate {sha256}")
    if form == "leaf":
        return [wanted.der]
    if not is_linkable(wanted.der):
        raise UsageError(
            "this certificate is not as RFC 5280 wants it: no chain can be built from it",
            hint="leave --form out to write it alone",
        )
    return export_bundle(build_chain(wanted.der, pool, own), form)


def above(tx: Transaction, rows: Iterable[CertificateRow]) -> tuple[list[bytes], set[bytes]]:
    """DER of all that may stand above these certificates, looked up name by name, and of the
    authorities' own ones.
    """
    found: dict[str, CertificateRow] = {}
    asked: set[str] = set()
    waiting = list(rows)
    while waiting:
        name = waiting.pop().issuer
        if name not in asked and len(found) < _MOST:
            asked.add(name)
            met = [row for row in tx.certificates.issuers_of(name) if row.sha256 not in found]
            found |= {row.sha256: row for row in met}
            waiting += met
    ours = {authority.certificate for authority in tx.authorities.all()}
    own = {row.der for row in found.values() if row.sha256 in ours}
    return linkable([row.der for row in found.values()]), own


def linkable(pool: Sequence[bytes]) -> list[bytes]:
    """Those whose names can be compared: chains are made of them."""
    return [raw for raw in pool if is_linkable(raw)]


def is_linkable(raw: bytes) -> bool:
    """Whether a certificate's fields can be read strictly."""
    from tpmhsm.pki.chains import fields_of

    try:
        fields_of(raw)
    except ParseError:
        return False
    return True


def bundle_data(bundle: Sequence[bytes], *, der: bool) -> bytes:
    """As PEM, or as DER when it is one certificate."""
    from tpmhsm.pki.load import to_pem

    if der and len(bundle) != 1:
        raise UsageError(
            f"DER holds one certificate; there are {len(bundle)}",
            hint="leave --der out: PEM; or --format pkcs7",
        )
    return bundle[0] if der else b"".join(to_pem(one) for one in bundle)


def encoded(
    bundle: Sequence[bytes], form: str, *, der: bool, name: str, passphrase: bytes | None
) -> bytes:
    """The certificates in one of `FORMATS`; `der` chooses between PEM and DER of PKCS #7.

    `name` is what the first is called inside of PKCS #12.
    """
    if form == "pkcs7":
        from tpmhsm.pki.containers import certificates_only
        from tpmhsm.pki.load import to_pem

        raw = certificates_only(bundle)
        return raw if der else to_pem(raw, "PKCS7")
    if form == "pkcs12":
        from tpmhsm.pki.pkcs12 import certificates_pkcs12

        return certificates_pkcs12(_named(bundle, name), passphrase)
    return bundle_data(bundle, der=der or form == "der")


def _named(bundle: Sequence[bytes], name: str) -> list[NamedCertificate]:
    """Each with a name of its own: Java finds certificates by it, without regard to case."""
    from tpmhsm.pki.describe import describe_certificate
    from tpmhsm.pki.pkcs12 import NamedCertificate

    taken: set[str] = set()
    found = []
    for number, raw in enumerate(bundle):
        facts = describe_certificate(raw)
        wanted = (name if not number else "") or facts["subject"] or facts["sha256"][:16]
        called = wanted if wanted.lower() not in taken else f"{wanted} {facts['sha256'][:16]}"
        taken.add(called.lower())
        found.append(NamedCertificate(raw, called))
    return found


def passphrase_of(form: str, source: Callable[[str], bytes], *, given: bool) -> bytes | None:
    """The passphrase for PKCS #12, if one was given. UsageError for other formats."""
    if not given:
        return None
    if form != "pkcs12":
        raise UsageError("a passphrase is for --format pkcs12: the others are not encrypted")
    return source("Passphrase of the new file")
