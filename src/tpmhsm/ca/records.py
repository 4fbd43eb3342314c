"""A certificate as the database keeps it."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography import x509

from tpmhsm.pki.describe import certificate_der, describe_certificate
from tpmhsm.pki.load import to_pem

if TYPE_CHECKING:
    from tpmhsm.pki.issue import Prepared
    from tpmhsm.store.certificates import CertificateRow


_COMMON = re.compile(r"(?:^|[,+])CN=((?:[^,+\\]|\\.)*)")


def certificate_row(
    certificate: x509.Certificate | bytes,
    *,
    source: str,
    authority: str | None = None,
    name: str = "",
) -> CertificateRow:
    """A row from a certificate, or its DER; tied to keys by the hash of its public key.

    Times that cannot be read are empty.
    """
    from tpmhsm.store.certificates import CertificateRow

    facts = describe_certificate(certificate)
    if not name and source == "issued" and facts["sans"]:
        name = facts["sans"][0].partition(":")[2]
    return CertificateRow(
        sha256=facts["sha256"],
        der=certificate_der(certificate),
        subject=facts["subject"],
        issuer=facts["issuer"],
        serial=facts["serial"],
        not_before=facts["not_before"] or "",
        not_after=facts["not_after"] or "",
        spki_sha256=facts["key"]["sha256"],
        ski=facts["ski"] or "",
        aki=facts["aki"] or "",
        is_ca=bool(facts["ca"]),
        authority=authority,
        source=source,
        name=name,
        names=_names(facts, name),
    )


def issued_row(token: Prepared, der: bytes, authority: str) -> CertificateRow:
    """The row of a certificate just assembled, by the facts that its token was checked by."""
    from tpmhsm.store.certificates import CertificateRow

    facts = token.facts
    return CertificateRow(
        sha256=sha256(der).hexdigest(),
        der=der,
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
        source="issued",
        name=(name := facts["sans"][0].partition(":")[2] if facts["sans"] else ""),
        names=_names(facts, name),
    )


def _names(facts: dict[str, Any], name: str) -> str:
    """What it is found by: what it is called, its alternative names, its common names."""
    found = [
        name,
        *(san.partition(":")[2] for san in facts["sans"]),
        *_COMMON.findall(facts["subject"]),
    ]
    return "\n".join(dict.fromkeys(" ".join(one.lower().split()) for one in found if one))


def certificate_facts(certificate: x509.Certificate | bytes) -> dict[str, Any]:
    """JSON-ready facts of a certificate (or its DER), with `pem`."""
    pem = to_pem(certificate_der(certificate)).decode()
    return {**describe_certificate(certificate), "pem": pem}
