"""An approver's public key as the chip sees it.

The chip knows an approver by a Name: the hash of a TPMT_PUBLIC. One key under two templates would
have two Names and count twice on a ladder, so there is one template (below) and one identity.

    P-256  ECC, SHA-256, attributes sign|userWithAuth, no policy, no scheme, x and y of 32 bytes
    RSA    2048 or 3072 bits, e = 65537 (written 0), the rest alike

TCG TPM 2.0 Library Part 2, 12.2.4 (TPMT_PUBLIC) and 11.3.4 (TPMT_SIGNATURE).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.constants import ALG, CURVE, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import (
    NULL_SYM,
    AsymScheme,
    EccPoint,
    EccSignature,
    KdfScheme,
    RsaSignature,
    Signature,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | RSAPublicKey

RSA_BITS = (2048, 3072)
_ATTRIBUTES = ObjectAttributes.SIGN | ObjectAttributes.USER_WITH_AUTH
_NO_SCHEME = AsymScheme(ALG.NULL)


@lru_cache(64)
def load_spki(der: bytes) -> PublicKey:
    """Return the approver key in a DER SubjectPublicKeyInfo.

    ParseError unless it is P-256, or RSA-2048/3072 with e = 65537, in the one DER encoding that
    it has: a document's hash must not change while its key stays.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise ParseError(f"not a public key (SubjectPublicKeyInfo): {e}") from None
    checked = check_key(key)
    if spki_of(checked) != der:
        raise ParseError("a public key that is not in DER's one encoding")
    return checked


def check_key(key: object) -> PublicKey:
    """Return `key` if an approver may have it, else ParseError."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in RSA_BITS and key.public_numbers().e == 65537:
            return key
        raise ParseError("an RSA approver key has 2048 or 3072 bits and the exponent 65537")
    raise ParseError("an approver key is P-256, RSA-2048 or RSA-3072")


def spki_of(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identity(key: PublicKey) -> tuple[str, int, int]:
    """Return what makes two keys the same key: x and y, or n and e."""
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = key.public_numbers()
    if isinstance(numbers, ec.EllipticCurvePublicNumbers):
        return ("ec", numbers.x, numbers.y)
    return ("rsa", numbers.n, numbers.e)


def approver_public(key: PublicKey) -> bytes:
    """Return the TPMT_PUBLIC of this approver, the bytes that its Name is a hash of."""
    return encode(approver_area(key))


def approver_area(key: PublicKey) -> Public:
    """Return the public area that TPM2_LoadExternal is given for this approver."""
    checked = check_key(key)
    kind, first, second = key_identity(checked)
    if kind == "ec":
        point = EccPoint(first.to_bytes(32, "big"), second.to_bytes(32, "big"))
        ecc = EccParms(NULL_SYM, _NO_SCHEME, CURVE.NIST_P256, KdfScheme(ALG.NULL))
        return Public(ALG.ECC, ALG.SHA256, _ATTRIBUTES, b"", ecc, point)
    bits = checked.key_size
    parms = RsaParms(NULL_SYM, _NO_SCHEME, bits, 0)  # exponent 0 means 65537
    modulus = first.to_bytes(bits // 8, "big")
    return Public(ALG.RSA, ALG.SHA256, _ATTRIBUTES, b"", parms, modulus)


def approver_name(key: PublicKey) -> bytes:
    """Return the approver's Name: nameAlg ‖ SHA-256(TPMT_PUBLIC), 34 bytes."""
    return name_of_public(approver_public(key))


def tpmt_signature(key: PublicKey, signature: bytes) -> bytes:
    """Return a SHA-256 signature (DER ECDSA, or RSASSA-PKCS1v15) as a TPMT_SIGNATURE.

    ParseError when it is not shaped like a signature of this kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    if isinstance(key, rsa.RSAPublicKey):
        if len(signature) != key.key_size // 8:
            raise ParseError("an RSA signature is as long as its modulus")
        return encode(Signature(ALG.RSASSA, RsaSignature(ALG.SHA256, signature)))
    try:
        r, s = (v.to_bytes(32, "big") for v in decode_dss_signature(signature))
    except (ValueError, OverflowError):
        raise ParseError("not an ECDSA signature for P-256") from None
    return encode(Signature(ALG.ECDSA, EccSignature(ALG.SHA256, r, s)))


def check_signature(key: PublicKey, message: bytes, signature: bytes) -> None:
    """Check a TPMT_SIGNATURE by `key` over `message`; VerificationError when it does not hold.

    SHA-256 only: the chip would accept SHA-1, we do not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, rsa.RSAPublicKey):
            plain = _plain_rsa(signature, key.key_size // 8)
            key.verify(plain, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(_plain_ecdsa(signature), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ParseError):
        raise VerificationError("the signature is not by this key over these bytes") from None


def _plain_rsa(data: bytes, size: int) -> bytes:
    found = decode(Signature, data)
    rsa = found.signature
    if found.sig_alg != ALG.RSASSA or not isinstance(rsa, RsaSignature):
        raise ParseError("not an RSASSA signature")
    if rsa.hash_alg != ALG.SHA256 or len(rsa.signature) != size:
        raise ParseError("not with SHA-256, or not as long as the modulus")
    return rsa.signature


def _plain_ecdsa(data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    found = decode(Signature, data)
    ecc = found.signature
    if found.sig_alg != ALG.ECDSA or not isinstance(ecc, EccSignature):
        raise ParseError("not an ECDSA signature")
    if ecc.hash_alg != ALG.SHA256 or (len(ecc.r), len(ecc.s)) != (32, 32):
        raise ParseError("not with SHA-256, or not on P-256")
    return encode_dss_signature(int.from_bytes(ecc.r, "big"), int.from_bytes(ecc.s, "big"))


def check_distinct(keys: list[tuple[str, PublicKey]]) -> None:
    """Refuse (UsageError) two people with one key: as a key, whatever stands around it."""
    seen: dict[tuple[str, int, int], str] = {}
    for name, key in keys:
        other = seen.setdefault(key_identity(key), name)
        if other != name:
            raise UsageError(f"{other} and {name} have the same key: one person would count twice")
