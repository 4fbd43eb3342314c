"""Whose key signed what, within a bounded amount of work.

Public keys are loaded once; DSA keys may inherit their parameters from the CA above (RFC 3279
section 2.3.2). A search has a budget: hostile bundles must not buy hours of arithmetic.
"""

from __future__ import annotations

from functools import lru_cache

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.keys import load_spki
from tpmhsm.pki.signatures import algorithm_oid, pss_hash, verify_signed

_EC = "1.2.840.10045.2.1"
_DSA = "1.2.840.10040.4.1"
_PSS = "1.2.840.113549.1.1.10"
_SHA1 = "1.3.14.3.2.26"
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
    if key is None or not _may_sign(spki, algorithm):
        return False
    return verify_signed(key, algorithm, signature, tbs)


def _may_sign(spki: bytes, algorithm: bytes) -> bool:
    """A key for RSASSA-PSS signs nothing else, and with its own hashes if it names any
    (RFC 4055, 1.2 and 3.3).
    """
    try:
        parts, signed = _algorithm(spki), der.children(der.read_whole(algorithm).content)
        if der.decode_oid(parts[0].content) != _PSS:
            return True
        named = len(parts) > 1
        return algorithm_oid(algorithm) == _PSS and (
            not named or _pss_hashes(parts) == _pss_hashes(signed)
        )
    except (ParseError, IndexError):
        return False


def _pss_hashes(algorithm: list[der.Element]) -> tuple[str, str]:
    """The hash and that of the mask of an AlgorithmIdentifier; SHA-1 where they are left out."""
    fields = {p.tag: p.content for p in der.children(algorithm[1].content)} if algorithm[1:] else {}
    digest = algorithm_oid(fields[0xA0]) if 0xA0 in fields else _SHA1
    mask = der.children(der.read_whole(fields[0xA1]).content)[1] if 0xA1 in fields else None
    return digest, algorithm_oid(mask.raw) if mask else _SHA1


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
        if pss_hash(algorithm) == "sha1":  # its default
            return "SHA-1 with RSASSA-PSS"
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
