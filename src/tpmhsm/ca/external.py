"""Authorities whose certificate another CA makes: is what came back what was asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.pki.tbs import rfc3339


def own_of(
    certificates: Sequence[x509.Certificate], public: Any, name: str
) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The certificate for this public key, and the others.

    Raises UsageError when there is none, or it is none of a CA in force now, VerificationError
    when an issuer among the others did not sign it.
    """
    own = [one for one in certificates if _same_key(one, public)]
    if not own:
        raise UsageError(
            f"none of these {len(certificates)} certificates is for the key of {name!r}",
            hint=f"have the CSR certified that tpmhsm ca create {name} --external wrote",
            code="wrong-key",
        )
    certificate = own[0]
    _must_be_ca(certificate)
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise UsageError(
            f"this certificate expired {rfc3339(certificate.not_valid_after_utc)}",
            code="expired",
        )
    others = [one for one in certificates if one != certificate]
    _check_issuers([certificate, *others])
    return certificate, others


def notes_on(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> list[str]:
    """What people should know of a certificate that is accepted all the same."""
    notes = []
    if certificate.not_valid_before_utc > datetime.now(UTC):
        notes.append(f"not valid before {rfc3339(certificate.not_valid_before_utc)}")
    if certificate.issuer != certificate.subject and not any(
        one.subject == certificate.issuer for one in others
    ):
        notes.append("its issuer is not among the certificates: tpmhsm cert import adds it")
    return notes


def _same_key(certificate: x509.Certificate, public: Any) -> bool:
    try:
        return bool(certificate.public_key() == public)
    except (ValueError, TypeError):
        return False


def _must_be_ca(certificate: x509.Certificate) -> None:
    if not _is_ca(certificate):
        raise UsageError(
            "this certificate is none of a CA: CA:TRUE or keyCertSign is missing", code="not-a-ca"
        )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return basic.ca and usage.key_cert_sign


def _check_issuers(certificates: Sequence[x509.Certificate]) -> None:
    """Every certificate whose issuer's name is among them must be signed by one of that name."""
    for one in certificates:
        issuers = [other for other in certificates if other.subject == one.issuer]
        if issuers and not any(_signed_by(one, issuer) for issuer in issuers):
            raise VerificationError(
                f"{one.subject.rfc4514_string()} is not signed by the certificate of its issuer",
                code="wrong-issuer",
            )


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
