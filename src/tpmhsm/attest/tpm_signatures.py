"""Signatures of chips over what they attest, checked by a key that a certificate gives.

`statements` knows the attestation key by its public area; here it is a SubjectPublicKeyInfo, whose
hash is said by the signature itself. SHA-1 is checked and named: whoever relies on it decides.
"""

from __future__ import annotations

from typing import Any

from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki.keys import load_spki
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.structures import EccSignature, RsaSignature, Signature

HASHES = {
    int(ALG.SHA1): "sha1",
    int(ALG.SHA256): "sha256",
    int(ALG.SHA384): "sha384",
    int(ALG.SHA512): "sha512",
}

WEAK = ("sha1",)
"""Hashes that prove nothing where somebody else chooses a part of what is signed."""


def check_tpm_signature(spki: bytes, message: bytes, signature: bytes) -> str:
    """Check a TPMT_SIGNATURE (TCG TPM 2.0 Library Part 2 §11.3.4); gives the name of its hash.

    VerificationError when the key did not make it, ParseError when it is none.
    """
    given = decode(Signature, signature)
    inner = given.signature
    if not isinstance(inner, EccSignature | RsaSignature) or inner.hash_alg not in HASHES:
        raise ParseError("a TPM signature that is neither ECDSA nor RSA, or with an unknown hash")
    hash_name = HASHES[inner.hash_alg]
    if isinstance(inner, EccSignature):
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        r, s = (int.from_bytes(number, "big") for number in (inner.r, inner.s))
        plain = encode_dss_signature(r, s)
    else:
        plain = inner.signature
    schemes = {int(ALG.ECDSA): "ecdsa", int(ALG.RSASSA): "rsassa", int(ALG.RSAPSS): "rsapss"}
    check_plain_signature(spki, message, plain, schemes.get(given.sig_alg, ""), hash_name)
    return hash_name


def check_plain_signature(
    spki: bytes, message: bytes, signature: bytes, scheme: str, hash_name: str
) -> None:
    """Check a signature in everybody else's form: DER for ECDSA, plain octets for RSA.

    `scheme` is 'ecdsa', 'rsassa' or 'rsapss'. VerificationError.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    digest: Any = {h.name: h for h in (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)}[
        hash_name
    ]()
    key = load_spki(spki)
    try:
        match key:
            case ec.EllipticCurvePublicKey() if scheme == "ecdsa":
                key.verify(signature, message, ec.ECDSA(digest))
            case rsa.RSAPublicKey() if scheme == "rsassa":
                key.verify(signature, message, padding.PKCS1v15(), digest)
            case rsa.RSAPublicKey() if scheme == "rsapss":
                pss = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
                key.verify(signature, message, pss, digest)
            case _:
                raise InvalidSignature
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise VerificationError(
            "the attestation is not signed by the attestation key of the certificate",
            code="bad-signature",
        ) from None
