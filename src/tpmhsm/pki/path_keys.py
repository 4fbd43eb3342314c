"""Whose key signed what, within a bounded amount of work.

Public keys are loaded once; DSA keys may inherit their parameters from the CA above (RFC 3279
section 2.3.2). A search has a budget: hostile bundles must not buy hours of arithmetic.
"""

from __future__ import annotations

from functools import lru_cache

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.signatures import algorithm_oid, verify_signed

_EC = "1.2.840.10045.2.1"
_DSA = "1.2.840.10040.4.1"
_MAX_RSA_BITS = 16384

# Algorithms whose signatures can be forged, or soon.
_BROKEN_HASHES = {
    "1.2.840.113549.1.1.2": "MD2 with RSA",
    "1.2.840.113549.1.1.3": "MD4 with RSA",
    "1.2.840.113549.1.1.4": "MD5 with RSA",
    "1.2.840.113549.1.1.5": "SHA-1 with RSA",
    "1.3.14.3.2.29": "SHA-1 with RSA",
    "1.2.840.10045.4.1": "SHA-1 with ECDSA",
}


class TooComplexError(Exception):
    """The budget of a search is spent."""


class Budget:
    """What one search may cost: signatures (big keys cost more) and steps."""

    def __init__(self, signatures: float = 1500, steps: int = 50_000) -> None:
        self._signatures, self._steps = signatures, steps
        self._known: dict[tuple[bytes, ...], bool] = {}

    def step(self, count: int = 1) -> None:
        """TooComplexError when the steps are spent."""
        self._steps -= count
        if self._steps < 0:
            raise TooComplexError

    def is_signed(self, tbs: bytes, algorithm: bytes, signature: bytes, spki: bytes) -> bool:
        """Whether the key made the signature; each question is worked out once."""
        question = (tbs, algorithm, signature, spki)
        if question not in self._known:
            self._signatures -= _cost(spki)
            if self._signatures < 0:
                raise TooComplexError
            self._known[question] = _verify(tbs, algorithm, signature, spki)
        return self._known[question]


def _verify(tbs: bytes, algorithm: bytes, signature: bytes, spki: bytes) -> bool:
    key = loaded_key(spki)
    return key is not None and verify_signed(key, algorithm, signature, tbs)


def _cost(spki: bytes) -> float:
    return max(1.0, (len(spki) / 550) ** 2)


@lru_cache(maxsize=2048)
def loaded_key(spki: bytes) -> object | None:
    """The key of a SubjectPublicKeyInfo; None when it cannot be used, or is absurdly large."""
    if len(spki) * 4 > _MAX_RSA_BITS:
        return None
    try:
        return load_spki(spki)
    except ParseError:
        return None


def broken_hash(algorithm: bytes) -> str:
    """In words the algorithm whose signatures prove nothing any more; empty for all others."""
    try:
        return _BROKEN_HASHES.get(algorithm_oid(algorithm), "")
    except ParseError:
        return "an unknown algorithm"


def is_dsa_signature(algorithm: bytes) -> bool:
    """DSA with SHA-1: PKITS has it, and nothing made today."""
    return algorithm_oid(algorithm).startswith("1.2.840.10040.4.")


def is_incomplete(spki: bytes) -> bool:
    """A DSA key without its parameters."""
    try:
        parts = _algorithm(spki)
    except (ParseError, IndexError):
        return False
    return len(parts) == 1 and der.decode_oid(parts[0].content) == _DSA


def has_explicit_curve(spki: bytes) -> bool:
    """An elliptic curve given by its numbers, which may be made to look like another."""
    parts = _algorithm(spki)
    return der.decode_oid(parts[0].content) == _EC and [p.tag for p in parts[1:]] != [der.OID]


def _algorithm(spki: bytes) -> list[der.Element]:
    return der.children(der.children(der.read_whole(spki).content)[0].content)


def completed(spki: bytes, above: bytes) -> bytes:
    """The key with the DSA parameters of the key above it; unchanged when it needs none."""
    if not is_incomplete(spki):
        return spki
    parts = _algorithm(above)
    if len(parts) != 2 or der.decode_oid(parts[0].content) != _DSA:
        return spki
    key = der.children(der.read_whole(spki).content)[1]
    algorithm = der.encode(der.SEQUENCE, parts[0].raw, parts[1].raw)
    return der.encode(der.SEQUENCE, algorithm, key.raw)
