"""Signed DER structures: their three parts, and whether a key made the signature.

RFC 5280 section 4.1.1; algorithms of RFC 3279, 4055, 5758 and 8410.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.keys import family, load_spki
from tpmhsm.pki.recall import recalled

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
_DSA: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10040.4.3": hashes.SHA1(),  # noqa: S303
    "2.16.840.1.101.3.4.3.1": hashes.SHA224(),
    "2.16.840.1.101.3.4.3.2": hashes.SHA256(),
    "2.16.840.1.101.3.4.3.3": hashes.SHA384(),
    "2.16.840.1.101.3.4.3.4": hashes.SHA512(),
}
_ML_DSA = {  # RFC 9881; the classes of older releases of cryptography are not there to import
    "2.16.840.1.101.3.4.3.17": "MLDSA44",
    "2.16.840.1.101.3.4.3.18": "MLDSA65",
    "2.16.840.1.101.3.4.3.19": "MLDSA87",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "1.3.14.3.2.26": hashes.SHA1(),  # noqa: S303
    "2.16.840.1.101.3.4.2.4": hashes.SHA224(),
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}


@recalled
def split_signed(raw: bytes, what: str = "a certificate") -> tuple[bytes, bytes, bytes]:
    """(to-be-signed, AlgorithmIdentifier, signature) of a signed DER structure."""
    whole = der.read_whole(raw)
    parts = der.children(whole.content) if whole.tag == der.SEQUENCE else []
    if [part.tag for part in parts] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise ParseError(f"this is not {what}: its three parts are of other types")
    if parts[2].content[:1] != b"\0":  # every signature here is whole octets
        raise ParseError(f"this is not {what}: its signature has unused bits")
    return parts[0].raw, parts[1].raw, parts[2].content[1:]


@recalled
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
        return verify_signed(load_spki(spki), algorithm, signature, tbs)
    except ParseError:
        return False


def verify_signed(key: Any, algorithm: bytes, signature: bytes, tbs: bytes) -> bool:
    """Whether the key made the signature; `algorithm` is a DER AlgorithmIdentifier.

    False also for algorithms unknown here and for those that do not fit the key.
    """
    try:
        return _verify(key, algorithm_oid(algorithm), signature, tbs, algorithm)
    except (ParseError, InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _verify(key: Any, oid: str, signature: bytes, tbs: bytes, algorithm: bytes) -> bool:
    match key:
        case _ if oid in _ECDSA and family(key) == "EC":
            key.verify(signature, tbs, ec.ECDSA(_ECDSA[oid]))
        case _ if oid in _RSA and family(key) == "RSA":
            key.verify(signature, tbs, padding.PKCS1v15(), _RSA[oid])
        case rsa.RSAPublicKey() if oid == _PSS:
            scheme, digest = _pss(algorithm)
            key.verify(signature, tbs, scheme, digest)
        case ed25519.Ed25519PublicKey() if oid == "1.3.101.112":
            key.verify(signature, tbs)
        case ed448.Ed448PublicKey() if oid == "1.3.101.113":
            key.verify(signature, tbs)
        case dsa.DSAPublicKey() if oid in _DSA:
            key.verify(signature, tbs, _DSA[oid])
        case _ if oid in _ML_DSA and type(key).__name__.startswith(_ML_DSA[oid]):
            key.verify(signature, tbs)
        case _:
            return False
    return True


def _pss(algorithm: bytes) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """The parameters of RSASSA-PSS (RFC 4055, 3.1). ParseError for hashes unknown here."""
    parts = der.children(der.read_whole(algorithm).content)
    fields = {p.tag: p.content for p in der.children(parts[1].content)} if len(parts) > 1 else {}
    digest = _hash(fields.get(0xA0))
    mask = digest if 0xA1 not in fields else _mask_hash(fields[0xA1])
    salt = der.read_whole(fields[0xA2]).content if 0xA2 in fields else b"\x14"
    if 0xA1 not in fields:
        mask = hashes.SHA1()  # noqa: S303 (the default of RFC 4055; refused above where it matters)
    return padding.PSS(padding.MGF1(mask), int.from_bytes(salt, "big")), digest


def _hash(field: bytes | None) -> hashes.HashAlgorithm:
    oid = algorithm_oid(field) if field else "1.3.14.3.2.26"
    if oid not in _HASHES:
        raise ParseError(f"a hash unknown here ({oid})")
    return _HASHES[oid]


def _mask_hash(field: bytes) -> hashes.HashAlgorithm:
    parts = der.children(der.read_whole(field).content)
    if len(parts) != 2 or der.decode_oid(parts[0].content) != "1.2.840.113549.1.1.8":
        raise ParseError("a mask generation that is not MGF1")
    return _hash(parts[1].raw)


def pss_hash(algorithm: bytes) -> str:
    """The name of the hash of an RSASSA-PSS AlgorithmIdentifier; empty for other algorithms."""
    try:
        return _pss(algorithm)[1].name if algorithm_oid(algorithm) == _PSS else ""
    except ParseError:
        return "unknown"


def signature_algorithm(public_key: Any, hash_name: str) -> bytes:
    """DER AlgorithmIdentifier of what an ECDSA or RSA key signs with this hash (RFC 5758, 4055).

    UsageError for other keys and hashes.
    """
    return _algorithm(isinstance(public_key, rsa.RSAPublicKey), hash_name)


@lru_cache
def _algorithm(is_rsa: bool, hash_name: str) -> bytes:
    oids = {hash_.name: oid for oid, hash_ in (_RSA if is_rsa else _ECDSA).items()}
    if hash_name not in ("sha256", "sha384", "sha512"):
        raise UsageError(f"nothing is signed with {hash_name} here")
    null = der.encode(der.NULL) if is_rsa else b""
    return der.encode(der.SEQUENCE, der.encode_oid(oids[hash_name]), null)
