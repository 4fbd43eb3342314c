"""Signed DER structures: their three parts, and whether a key made the signature.

RFC 5280 section 4.1.1; algorithms of RFC 3279, 4055, 5758 and 8410.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.keys import load_spki

_PSS = "1.2.840.113549.1.1.10"
_ECDSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.1": hashes.SHA1(),  # noqa: S303 (old certificates are shown, not trusted)
    "1.2.840.10045.4.3.1": hashes.SHA224(),
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_RSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.5": hashes.SHA1(),  # noqa: S303
    "1.2.840.113549.1.1.14": hashes.SHA224(),
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}


def split_signed(raw: bytes, what: str = "a certificate") -> tuple[bytes, bytes, bytes]:
    """(to-be-signed, AlgorithmIdentifier, signature) of a signed DER structure."""
    parts = der.children(der.read_whole(raw).content)
    if [part.tag for part in parts] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise ParseError(f"this is not {what}: its three parts are of other types")
    if parts[2].content[:1] != b"\0":  # every signature here is whole octets
        raise ParseError(f"this is not {what}: its signature has unused bits")
    return parts[0].raw, parts[1].raw, parts[2].content[1:]


def algorithm_oid(algorithm: bytes) -> str:
    """The OID of a DER AlgorithmIdentifier, dotted. ParseError when it has none."""
    parts = der.children(der.read_whole(algorithm).content)
    if not parts or parts[0].tag != der.OID:
        raise ParseError("an algorithm without an identifier")
    return der.decode_oid(parts[0].content)


def is_signed_by(raw: bytes, spki: bytes) -> bool:
    """Whether a signed structure (DER) carries a signature by the key (SubjectPublicKeyInfo)."""
    try:
        tbs, algorithm, signature = split_signed(raw)
        return _verify(load_spki(spki), algorithm_oid(algorithm), signature, tbs, raw)
    except (ParseError, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _verify(key: Any, oid: str, signature: bytes, tbs: bytes, raw: bytes) -> bool:
    match key:
        case ec.EllipticCurvePublicKey() if oid in _ECDSA:
            key.verify(signature, tbs, ec.ECDSA(_ECDSA[oid]))
        case rsa.RSAPublicKey() if oid in _RSA:
            key.verify(signature, tbs, padding.PKCS1v15(), _RSA[oid])
        case rsa.RSAPublicKey() if oid == _PSS:
            _verify_pss(key, signature, tbs, raw)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            key.verify(signature, tbs)
        case _:
            return False
    return True


def _verify_pss(key: rsa.RSAPublicKey, signature: bytes, tbs: bytes, raw: bytes) -> None:
    signed: Any  # cryptography decodes the parameters
    try:
        signed = x509.load_der_x509_certificate(raw)
    except ValueError:
        signed = x509.load_der_x509_csr(raw)
    parameters, algorithm = signed.signature_algorithm_parameters, signed.signature_hash_algorithm
    key.verify(signature, tbs, parameters, algorithm)
