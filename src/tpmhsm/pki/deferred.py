"""Signers that sign later.

`cryptography` builds certificates and CSRs by calling `sign()` of the key it is handed. These keys
record what they are asked to sign and answer with a placeholder; the real signature is put in when
the people whose approval it needs have given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.keys import hash_for, verify_signature

_PLACEHOLDER = bytes.fromhex("3006020101020101")


@dataclass(frozen=True)
class Unsigned:
    """Bytes that wait for their signature.

    `tbs` is what is signed, `algorithm` the DER AlgorithmIdentifier around it, `hash_name` the
    hash (`sha256` …), `kind` what it becomes (`certificate`, `csr` or `crl`).
    """

    tbs: bytes
    algorithm: bytes
    public_key: PublicKeyTypes
    hash_name: str
    kind: str

    def complete(self, signature: bytes) -> bytes:
        """DER of the signed structure. VerificationError when the signature does not hold."""
        verify_signature(
            self.public_key, signature, self.tbs, hash_for(self.public_key, self.hash_name)
        )
        bits = der.encode(der.BIT_STRING, b"\0", signature)
        return der.encode(der.SEQUENCE, self.tbs, self.algorithm, bits)

    def complete_csr(self, signature: bytes) -> x509.CertificateSigningRequest:
        """The CSR, when this is one."""
        if self.kind != "csr":
            raise VerificationError(f"this waits to become a {self.kind}, not a CSR")
        return x509.load_der_x509_csr(self.complete(signature))


class _Recorder:
    """What both kinds of deferred key share: one recorded call of `sign()`."""

    def __init__(self, public_key: Any) -> None:
        self._public_key = public_key
        self._asked: tuple[bytes, str] | None = None

    def public_key(self) -> Any:
        """The key whose private half signs later."""
        return self._public_key

    @property
    def key_size(self) -> int:
        """Bits."""
        return int(self._public_key.key_size)

    def _record(self, data: bytes, algorithm: hashes.HashAlgorithm | Prehashed) -> bytes:
        if isinstance(algorithm, Prehashed):
            raise UsageError("a deferred signer takes the bytes to be signed, not their hash")
        self._asked = (bytes(data), algorithm.name)
        return _PLACEHOLDER

    def unsigned(self, signed: bytes, kind: str) -> Unsigned:
        """What was asked to be signed; `signed` is the structure built with the placeholder."""
        if self._asked is None:
            raise UsageError("nothing was given to this signer yet")
        data, hash_name = self._asked
        algorithm = der.children(der.read_whole(signed).content)[1].raw
        return Unsigned(data, algorithm, self._public_key, hash_name, kind)

    def _refuse(self) -> NoReturn:
        raise UsageError("a deferred signer records what is to be signed and does nothing else")


class DeferredEcKey(_Recorder, ec.EllipticCurvePrivateKey):
    """Looks like a private key on an elliptic curve; records."""

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve of the key."""
        return self._public_key.curve  # type: ignore[no-any-return]

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Records; answers with a placeholder."""
        return self._record(data, signature_algorithm.algorithm)

    def exchange(self, *_: Any) -> bytes:
        """Refused."""
        self._refuse()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refused: nobody has them."""
        self._refuse()

    def private_bytes(self, *_: Any) -> bytes:
        """Refused: nobody has them."""
        self._refuse()

    def __copy__(self) -> DeferredEcKey:
        return self

    def __deepcopy__(self, memo: Any) -> DeferredEcKey:
        return self


class DeferredRsaKey(_Recorder, rsa.RSAPrivateKey):
    """Looks like an RSA private key; records. Only RSASSA-PKCS1-v1_5."""

    def sign(self, data: Any, padding_: Any, algorithm: Any) -> bytes:
        """Records; answers with a placeholder."""
        if not isinstance(padding_, padding.PKCS1v15):
            raise UsageError("a deferred RSA signer signs with RSASSA-PKCS1-v1_5 only")
        return self._record(data, algorithm)

    def decrypt(self, *_: Any) -> bytes:
        """Refused."""
        self._refuse()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        """Refused: nobody has them."""
        self._refuse()

    def private_bytes(self, *_: Any) -> bytes:
        """Refused: nobody has them."""
        self._refuse()

    def __copy__(self) -> DeferredRsaKey:
        return self

    def __deepcopy__(self, memo: Any) -> DeferredRsaKey:
        return self


def deferred(public_key: PublicKeyTypes) -> DeferredEcKey | DeferredRsaKey:
    """A signer that records for this public key. UsageError for neither ECDSA nor RSA."""
    match public_key:
        case ec.EllipticCurvePublicKey():
            return DeferredEcKey(public_key)
        case rsa.RSAPublicKey():
            return DeferredRsaKey(public_key)
    raise UsageError("only ECDSA and RSA keys sign certificates here")
