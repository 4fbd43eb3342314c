"""A certificate as the database keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tpmhsm.pki.describe import describe_certificate

if TYPE_CHECKING:
    from tpmhsm.store.certificates import CertificateRow


def certificate_row(
    certificate: x509.Certificate, *, source: str, authority: str | None = None, name: str = ""
) -> CertificateRow:
    """A row from a certificate; tied to keys by the hash of its public key."""
    from tpmhsm.store.certificates import CertificateRow

    facts = describe_certificate(certificate)
    if not name and source == "issued" and facts["sans"]:
        name = facts["sans"][0].partition(":")[2]
    return CertificateRow(
        sha256=facts["sha256"],
        der=certificate.public_bytes(Encoding.DER),
        subject=facts["subject"],
        issuer=facts["issuer"],
        serial=facts["serial"],
        not_before=facts["not_before"],
        not_after=facts["not_after"],
        spki_sha256=facts["key"]["sha256"],
        ski=facts["ski"] or "",
        aki=facts["aki"] or "",
        is_ca=bool(facts["ca"]),
        authority=authority,
        source=source,
        name=name,
    )
