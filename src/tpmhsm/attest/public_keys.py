"""The public key that a chip's public area holds (TCG TPM 2.0 Library Part 2 §12.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ParseError
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import CURVE
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import EccPoint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | RSAPublicKey


def public_key_of(public: Public | bytes) -> PublicKey:
    """The public key in a TPMT_PUBLIC, as an object of `cryptography`. Raises ParseError."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    area = decode(Public, public) if isinstance(public, bytes) else public
    parameters, unique = area.parameters, area.unique
    try:
        if isinstance(parameters, RsaParms) and isinstance(unique, bytes):
            exponent = parameters.exponent or 65537
            return rsa.RSAPublicNumbers(exponent, int.from_bytes(unique, "big")).public_key()
        if isinstance(parameters, EccParms) and isinstance(unique, EccPoint):
            x, y = int.from_bytes(unique.x, "big"), int.from_bytes(unique.y, "big")
            return ec.EllipticCurvePublicNumbers(x, y, _curve(parameters.curve)).public_key()
    except ValueError as error:
        raise ParseError(f"a public area without a valid key in it: {error}") from error
    raise ParseError("a public area that has no RSA or elliptic curve key")


def spki_of_public(public: Public | bytes) -> bytes:
    """The same as SubjectPublicKeyInfo, DER. Raises ParseError."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = public_key_of(public)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _curve(number: int) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    known: dict[int, ec.EllipticCurve] = {
        CURVE.NIST_P256: ec.SECP256R1(),
        CURVE.NIST_P384: ec.SECP384R1(),
        CURVE.NIST_P521: ec.SECP521R1(),
    }
    if number in known:
        return known[number]
    raise ParseError(f"a key on the unknown curve 0x{number:04x}")
