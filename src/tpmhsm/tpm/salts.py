"""Salts for sessions: a secret for one key in the chip.

TCG TPM 2.0 Library Part 1 §19.6.13 and the annexes on RSA (B.10.2) and ECC (C.6.1).

The key's Name must be known from somewhere better than the chip's own word at that moment: who
stands between us and the chip could show a key of theirs and read everything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, CURVE, DIGEST_SIZES, HASH_NAMES, ObjectAttributes
from tpmhsm.wire.kdf import kdf_e
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import EccPoint

_LABEL = b"SECRET"
_CURVES = {
    CURVE.NIST_P256: ("SECP256R1", 32),
    CURVE.NIST_P384: ("SECP384R1", 48),
    CURVE.NIST_P521: ("SECP521R1", 66),
}


@dataclass(frozen=True)
class SaltKey:
    """A decryption key of the chip: its handle, the public area shown there, its known Name.

    Raises VerificationError when the public area is not that of the Name, UsageError when the key
    cannot decrypt.
    """

    handle: int
    public: Public
    name: bytes

    def __post_init__(self) -> None:
        if name_of_public(self.public) != self.name or not self.name:
            raise VerificationError(
                "the key that sessions are salted to is not the one that is known",
                details={"handle": f"0x{self.handle:08x}", "name": self.name.hex()},
            )
        if not self.public.attributes & ObjectAttributes.DECRYPT:
            raise UsageError("sessions can be salted to a decryption key only")

    def salt(self) -> tuple[bytes, bytes]:
        """A fresh secret, and the same encrypted for the key (TPM2B_ENCRYPTED_SECRET's content)."""
        return secret_for(self.public, _LABEL)


def secret_for(public: Public, label: bytes) -> tuple[bytes, bytes]:
    """A fresh secret as long as the key's nameAlg, and the same encrypted for the key.

    `label` says what for: "SECRET" for sessions, "DUPLICATE" for keys that are imported. UsageError
    for a key that is neither RSA nor ECC, VerificationError for one that is not sound.
    """
    if isinstance(public.parameters, EccParms):
        return _ecc(public, public.parameters, label)
    if isinstance(public.parameters, RsaParms):
        return _rsa(public, public.parameters, label)
    raise UsageError("secrets can be encrypted for RSA and ECC keys only")


def _ecc(public: Public, parameters: EccParms, label: bytes) -> tuple[bytes, bytes]:
    """ECDH with an ephemeral key, then KDFe (Annex C.6.1). Coordinates have the curve's length."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if parameters.curve not in _CURVES or not isinstance(public.unique, EccPoint):
        raise UsageError(f"no session can be salted on curve 0x{parameters.curve:04x}")
    curve_name, size = _CURVES[CURVE(parameters.curve)]
    curve: ec.EllipticCurve = getattr(ec, curve_name)()
    x, y = (int.from_bytes(part, "big") for part in (public.unique.x, public.unique.y))
    try:
        peer = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError as e:
        raise VerificationError("the key that sessions are salted to is not on its curve") from e
    ephemeral = ec.generate_private_key(curve)
    z = ephemeral.exchange(ec.ECDH(), peer)
    ours = ephemeral.public_key().public_numbers()
    point = EccPoint(ours.x.to_bytes(size, "big"), ours.y.to_bytes(size, "big"))
    bits = DIGEST_SIZES[public.name_alg] * 8
    secret = kdf_e(public.name_alg, z, label, point.x, public.unique.x, bits=bits)
    return secret, encode(point)


def _rsa(public: Public, parameters: RsaParms, label: bytes) -> tuple[bytes, bytes]:
    """OAEP with the key's nameAlg (Annex B.10.2); the label has its final 0."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    known = {ALG.SHA1: hashes.SHA1, ALG.SHA256: hashes.SHA256}
    known |= {ALG.SHA384: hashes.SHA384, ALG.SHA512: hashes.SHA512}
    if public.name_alg not in known or not isinstance(public.unique, bytes):
        raise UsageError(f"no session can be salted with {HASH_NAMES.get(public.name_alg)}")
    hash_alg = known[ALG(public.name_alg)]()
    modulus = int.from_bytes(public.unique, "big")
    try:
        key = rsa.RSAPublicNumbers(parameters.exponent or 65537, modulus).public_key()
    except ValueError as e:
        raise VerificationError("the key that sessions are salted to is no RSA key") from e
    salt = os.urandom(DIGEST_SIZES[public.name_alg])
    oaep = padding.OAEP(padding.MGF1(hash_alg), hash_alg, label + b"\0")
    return salt, key.encrypt(salt, oaep)
