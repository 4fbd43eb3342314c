"""Chip keys as `cryptography` private keys, for any code that takes one.

The private half stays in the chip: whatever would need it outside is refused. The interface is
that of `cryptography.hazmat.primitives.asymmetric` (`EllipticCurvePrivateKey`, `RSAPrivateKey`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils

from tpmhsm.errors import RefusedError, UsageError

SignDigest = Callable[[bytes], bytes]
"""Takes a digest by the key's own hash; gives a DER ECDSA-Sig-Value or a PKCS#1 v1.5 signature."""

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
}


def hash_of(name: str) -> hashes.HashAlgorithm:
    """The hash object for a key's hash name."""
    return _HASHES[name]()


def _digest(data: bytes, wanted: object, own: str) -> bytes:
    """The digest to be signed. `wanted` is the caller's hash, or Prehashed with one."""
    prehashed = isinstance(wanted, asym_utils.Prehashed)
    name = getattr(wanted._algorithm if prehashed else wanted, "name", None)  # type: ignore[attr-defined]
    if name != own:
        raise UsageError(
            f"this key signs with {own}, not with {name or 'no hash at all'}",
            hint="the chip fixed the hash when it made the key; make another with --hash",
        )
    if not prehashed:
        state = hashes.Hash(hash_of(own))
        state.update(data)
        return state.finalize()
    if len(data) != hash_of(own).digest_size:
        raise UsageError(f"a {own} digest has {hash_of(own).digest_size} bytes, not {len(data)}")
    return data


class _InChip:
    """What is refused for every key, since the private half never leaves the chip."""

    def private_numbers(self) -> NoReturn:
        """Refused."""
        _stays("private_numbers")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        """Refused."""
        _stays("private_bytes")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self


def _stays(what: str) -> NoReturn:
    raise RefusedError(f"{what}: the private key is in the chip and never leaves it")


class ChipEllipticCurveKey(_InChip, ec.EllipticCurvePrivateKey):
    """An ECDSA key in a chip."""

    def __init__(self, public: ec.EllipticCurvePublicKey, hash_name: str, sign: SignDigest) -> None:
        self._public = public
        self._hash = hash_name
        self._sign = sign

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Refused: a signing key never decrypts or agrees."""
        raise RefusedError("this key signs; it does not agree on secrets")

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA over `data`; DER. Raises UsageError for another hash than the key's own."""
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise UsageError("the chip signs with ECDSA only")
        if signature_algorithm.deterministic_signing:
            raise UsageError("the chip draws its own nonces: no deterministic signing")
        return self._sign(_digest(bytes(data), signature_algorithm.algorithm, self._hash))


class ChipRsaKey(_InChip, rsa.RSAPrivateKey):
    """An RSA signing key in a chip: RSASSA-PKCS1-v1_5."""

    def __init__(self, public: rsa.RSAPublicKey, hash_name: str, sign: SignDigest) -> None:
        self._public = public
        self._hash = hash_name
        self._sign = sign

    def decrypt(self, ciphertext: Any, padding: Any) -> bytes:
        """Refused: a signing key never decrypts."""
        raise RefusedError("this key signs; it does not decrypt")

    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._public

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def sign(
        self,
        data: Any,
        padding: Any,
        algorithm: asym_utils.Prehashed | hashes.HashAlgorithm | Any,
    ) -> bytes:
        """RSASSA-PKCS1-v1_5 over `data`. Raises UsageError for another padding or hash."""
        _must_be_pkcs1(padding)
        return self._sign(_digest(bytes(data), algorithm, self._hash))


def _must_be_pkcs1(scheme: object) -> None:
    if not isinstance(scheme, padding.PKCS1v15):
        raise UsageError("the chip's scheme for this key is RSASSA-PKCS1-v1_5")
