"""The certificate that others are issued by, read and checked once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509

from tpmhsm.errors import UsageError
from tpmhsm.pki.chains import fields_of
from tpmhsm.pki.keys import check_public_key, load_spki

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tpmhsm.pki.tbs import TbsCertificate


@dataclass(frozen=True, eq=False)
class Issuer:
    """A CA certificate that may certify."""

    certificate: x509.Certificate
    fields: TbsCertificate
    key: PublicKeyTypes


@lru_cache(64)
def issuer_of(raw: bytes) -> Issuer:
    """From a certificate's DER. UsageError when it is no CA's, or its key too weak."""
    fields = fields_of(raw)
    key = load_spki(fields.spki)
    check_public_key(key)
    try:
        certificate = x509.load_der_x509_certificate(raw)
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise _not_a_ca() from None
    except ValueError as error:
        raise UsageError(f"the issuer's certificate is broken: {error}") from None
    if not basic.ca or not usage.key_cert_sign:
        raise _not_a_ca()
    return Issuer(certificate, fields, key)


def _not_a_ca() -> UsageError:
    return UsageError(
        "the issuer is no CA: its certificate lacks CA:TRUE or keyCertSign", code="not-a-ca"
    )
