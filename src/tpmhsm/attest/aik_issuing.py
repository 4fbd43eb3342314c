"""Certificates of attestation keys (AKs), made by whoever had the chip answer a challenge.

TCG EK Credential Profile 2.5 §3.2.9 for the names of a TPM; WebAuthn Level 3 §8.3.1: no subject,
critical alternative names, extended key usage tcg-kp-AIKCertificate, no CA's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tpmhsm.attest.aik_certificates import AIK_USAGE
from tpmhsm.attest.bonds import ek_urn
from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate, GeneralName

    from tpmhsm.attest.device_findings import Bond
    from tpmhsm.attest.ek_reading import EkHints

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

_MANUFACTURER, _MODEL, _VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"


@dataclass(frozen=True)
class Issuer:
    """Who certifies: a private key of a file, and the CA certificate for it (DER)."""

    key: PrivateKey
    certificate: bytes


def certify_attestation_key(
    ak: bytes, bond: Bond, hints: EkHints, issuer: Issuer, period: tuple[datetime, timedelta]
) -> bytes:
    """A certificate (DER) for an AK (TPMT_PUBLIC) that is bonded to an EK.

    `hints`: what the EK's certificate says of the chip; `period`: from when, and how long. Raises
    UsageError for an issuer who is no CA, or whose key is not the certificate's, VerificationError
    when the bond is another key's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    from tpmhsm.wire.names import name_of_public

    if bond.ak != name_of_public(ak):
        raise VerificationError("the activation was for another attestation key", code="other-key")
    above = _issuer(issuer)
    since, length = period
    until = min(since + length, above.not_valid_after_utc)
    if until <= since:
        raise UsageError("the issuer's certificate has ended", code="issuer-expired")
    names = x509.SubjectAlternativeName(
        [_tpm_name(hints), x509.UniformResourceIdentifier(ek_urn(bond.ek))]
    )
    usage = x509.ObjectIdentifier(AIK_USAGE)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(above.subject)
        .public_key(public_key_of(ak))
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signs_alone(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(_identifier(above), critical=False)
    )
    made = builder.sign(issuer.key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


def _issuer(issuer: Issuer) -> Certificate:
    from cryptography import x509

    try:
        above = x509.load_der_x509_certificate(issuer.certificate)
        same = above.public_key() == issuer.key.public_key()
        basic = above.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise UsageError(f"the issuer's certificate is no CA's: {error}", code="no-ca") from None
    if not basic.ca:
        raise UsageError("the issuer's certificate is no CA's", code="no-ca")
    if not same:
        raise UsageError(
            "the issuer's certificate is for another key than the one given", code="other-key"
        )
    return above


def _tpm_name(hints: EkHints) -> GeneralName:
    """Maker, model and version as the EK's certificate has them, in one multi-valued RDN."""
    from cryptography import x509

    maker = f"id:{hints.letters.encode().ljust(4, bytes(1)).hex().upper()}"
    texts = {
        _MANUFACTURER: maker if hints.letters else hints.maker or "unknown",
        _MODEL: hints.model or "unknown",
        _VERSION: f"id:{hints.version or '00000000'}",
    }
    rdn = [x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in texts.items()]
    return x509.DirectoryName(x509.Name([x509.RelativeDistinguishedName(rdn)]))


def _signs_alone() -> x509.KeyUsage:
    from cryptography import x509

    others = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, **others)


def _identifier(above: Certificate) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    try:
        found = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)
