"""Secrets and whole structures, encrypted for one key of a chip.

TCG TPM 2.0 Library Part 1: secrets §19.6.13 and the annexes on RSA (B.10) and ECC (C.6); the outer
wrapper of what is imported, §23.3.2.3, which also protects credentials, §24.
"""

from __future__ import annotations

import hmac
import os

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.wire.cfb import cfb_encrypt
from tpmhsm.wire.codec import TPM2B, encode
from tpmhsm.wire.constants import ALG, CURVE, DIGEST_SIZES, HASH_NAMES
from tpmhsm.wire.kdf import kdf_a, kdf_e
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import NULL_SYM, BlockCipher, EccPoint

_CURVES = {
    CURVE.NIST_P256: ("SECP256R1", 32),
    CURVE.NIST_P384: ("SECP384R1", 48),
    CURVE.NIST_P521: ("SECP521R1", 66),
}


def sealed_to(key: Public, label: bytes, content: bytes, name: bytes) -> tuple[bytes, bytes]:
    """`content` for the chip that has a storage key and an object of this `name`, and nobody else.

    Returns integrity HMAC (a TPM2B) ‖ encrypted content, and the seed encrypted for the key
    (TPM2B_ENCRYPTED_SECRET's content). `label` and errors as of `secret_for`; UsageError too for a
    key without an AES cipher of its own.
    """
    symmetric, alg = getattr(key.parameters, "symmetric", NULL_SYM), key.name_alg
    if symmetric.algorithm != ALG.AES or not isinstance(symmetric.details, BlockCipher):
        raise UsageError("nothing is sealed to a key that has no AES cipher")
    seed, encrypted = secret_for(key, label)
    symmetric_key = kdf_a(alg, seed, b"STORAGE", name, b"", bits=symmetric.details.key_bits)
    closed = cfb_encrypt(symmetric_key, bytes(16), content)
    mac_key = kdf_a(alg, seed, b"INTEGRITY", b"", b"", bits=DIGEST_SIZES[alg] * 8)
    mac = hmac.digest(mac_key, closed + name, HASH_NAMES[alg])
    return TPM2B.pack(mac) + closed, encrypted


def secret_for(public: Public, label: bytes) -> tuple[bytes, bytes]:
    """A fresh secret as long as the key's nameAlg, and the same encrypted for the key.

    `label` says what for: "SECRET" for sessions, "DUPLICATE" for keys that are imported, "IDENTITY"
    for credentials. UsageError for a key that is neither RSA nor ECC, VerificationError for one
    that is not sound.
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
        raise UsageError(f"no secret can be encrypted on curve 0x{parameters.curve:04x}")
    curve_name, size = _CURVES[CURVE(parameters.curve)]
    curve: ec.EllipticCurve = getattr(ec, curve_name)()
    x, y = (int.from_bytes(part, "big") for part in (public.unique.x, public.unique.y))
    try:
        peer = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError as e:
        raise VerificationError("the key that a secret is for is not on its curve") from e
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
        raise UsageError(f"no secret can be encrypted with {HASH_NAMES.get(public.name_alg)}")
    hash_alg = known[ALG(public.name_alg)]()
    modulus = int.from_bytes(public.unique, "big")
    try:
        key = rsa.RSAPublicNumbers(parameters.exponent or 65537, modulus).public_key()
    except ValueError as e:
        raise VerificationError("the key that a secret is for is no RSA key") from e
    salt = os.urandom(DIGEST_SIZES[public.name_alg])
    oaep = padding.OAEP(padding.MGF1(hash_alg), hash_alg, label + b"\0")
    return salt, key.encrypt(salt, oaep)
