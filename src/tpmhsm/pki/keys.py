"""Public keys: what is shown of them, which are strong enough, how they sign.

NIST SP 800-56A and 800-89; CA/Browser Forum TLS Baseline Requirements section 6.1.1.3 and 6.1.6;
RFC 5480, RFC 8017.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.recall import recalled

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_ALGORITHMS = {
    "1.2.840.10045.2.1": "EC",
    "1.2.840.113549.1.1.1": "RSA",
    "1.2.840.113549.1.1.7": "RSA-OAEP",
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.2.840.10040.4.1": "DSA",
    "1.3.101.110": "X25519",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


Family = Literal["EC", "RSA", "EdDSA", ""]


@lru_cache(64)
def _family(kind: type[object]) -> Family:
    """EC, RSA or EdDSA, else nothing: by a key's type, for `isinstance` asks long of these."""
    if issubclass(kind, ec.EllipticCurvePublicKey):
        return "EC"
    if issubclass(kind, rsa.RSAPublicKey):
        return "RSA"
    edwards = issubclass(kind, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    return "EdDSA" if edwards else ""


def family(key: Any) -> Family:
    """What kind of public key it is; nothing for other kinds and what is no key."""
    kind: Any = type(key)
    return _family(kind)


def sha256_hex(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return sha256(data).hexdigest()


def spki_der(key: PublicKeyTypes) -> bytes:
    """DER SubjectPublicKeyInfo of a public key."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@recalled
def spki_digest(spki: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hexadecimal: what keys are known by."""
    return sha256_hex(spki)


@lru_cache(64)  # an issuance loads the same two keys again and again
def load_spki(spki: bytes) -> PublicKeyTypes:
    """The key in a DER SubjectPublicKeyInfo. ParseError when it cannot be used here."""
    try:
        return serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm, OverflowError) as error:
        raise ParseError(
            f"the public key ({_algorithm_of(spki)}) cannot be used: {error}", code="unknown-key"
        ) from error


def describe_spki(spki: bytes) -> dict[str, Any]:
    """`alg`, `curve` or `bits`, `text` for people, `sha256` of the SubjectPublicKeyInfo.

    Never fails on a key that cannot be loaded: `alg` is then what its OID says.
    """
    return dict(_described(spki))


@recalled
def _described(spki: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        facts = _parameters(load_spki(spki))
    except ParseError as error:
        facts["problem"] = error.message
    facts = {"alg": facts.get("alg") or _algorithm_of(spki), **facts}
    detail = facts.get("curve") or facts.get("bits")
    facts["text"] = str(
        facts.get("curve") or (f"{facts['alg']}-{detail}" if detail else facts["alg"])
    )
    facts["sha256"] = spki_digest(spki)
    return facts


def _parameters(key: Any) -> dict[str, Any]:
    match family(key):
        case "EC":
            name = key.curve.name
            return {"alg": "EC", "curve": _CURVES.get(name, name)}
        case "RSA":
            return {"alg": "RSA", "bits": key.key_size, "exponent": key.public_numbers().e}
    return {}


def _algorithm_of(spki: bytes) -> str:
    try:
        algorithm = der.children(der.read_whole(spki).content)[0]
        oid = der.decode_oid(der.children(algorithm.content)[0].content)
    except (ParseError, IndexError):
        return "unknown"
    return _ALGORITHMS.get(oid, oid)


def check_public_key(key: PublicKeyTypes) -> None:
    """UsageError when a key is too weak, or of a kind that is not certified here.

    What takes milliseconds is left to `tpmhsm.pki.key_checks`, which judges requesters' keys.
    """
    match key:
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise _weak(f"the curve {key.curve.name} is not P-256, P-384 or P-521")
        case rsa.RSAPublicKey():
            from tpmhsm.pki.weak_rsa import quick_fault

            numbers = key.public_numbers()
            if reason := quick_fault(numbers.n, numbers.e):
                raise _weak(reason)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return
        case _:
            raise _weak("the key is neither ECDSA, RSA nor EdDSA")


def _weak(reason: str) -> UsageError:
    return UsageError(
        f"the public key is refused: {reason}",
        hint="make a new key: P-256, P-384 or RSA of 2048 bits and more",
        code="weak-key",
    )


def hash_for(key: PublicKeyTypes, name: str | None = None) -> hashes.HashAlgorithm | None:
    """The hash a key signs with: the one named, else the size of its curve, else SHA-256.

    None for EdDSA. UsageError for a hash that is not SHA-256, SHA-384 or SHA-512.
    """
    kind = family(key)
    if kind == "EdDSA":
        return None
    if name is None:
        sizes = {384: "sha384", 521: "sha512"}
        name = sizes.get(cast("Any", key).key_size, "sha256") if kind == "EC" else "sha256"
    chosen = _HASHES.get(name) or _HASHES.get(name.lower().replace("-", ""))
    if chosen is None:
        raise UsageError(f"no signatures are made with the hash {name!r}")
    return chosen


def verify_signature(
    key: PublicKeyTypes, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm | None
) -> None:
    """ECDSA, RSASSA-PKCS1-v1_5 or EdDSA over `data`. VerificationError when it does not hold."""
    any_key: Any = key
    try:
        match family(key):
            case "EC" if algorithm:
                any_key.verify(signature, data, ec.ECDSA(algorithm))
            case "RSA" if algorithm:
                any_key.verify(signature, data, padding.PKCS1v15(), algorithm)
            case "EdDSA":
                any_key.verify(signature, data)
            case _:
                raise VerificationError("no signature of this kind of key can be checked")
    except InvalidSignature:
        raise VerificationError(
            "the signature does not hold: these bytes, or this key, are not what was signed"
        ) from None
