"""WebAuthn attestation statements of the format `tpm` (WebAuthn Level 2 and 3, §6.5 and §8.3).

Windows makes one for each key that it keeps in the TPM: TPM2_Certify of the key by an attestation
key, and that key's certificate. Everything is recomputed here; the pinned root alone decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tpmhsm.attest.aik_certificates import (
    AttestationKey,
    aaguid_of,
    judge_attestation_key,
)
from tpmhsm.attest.cbor import decode_cbor, read_cbor
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.attest.tpm_signatures import WEAK, check_plain_signature, check_tpm_signature
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.wire.attest import Attest, CertifyInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ST
from tpmhsm.wire.names import name_of_public

ALGORITHMS = {
    -7: ("ES256", "ecdsa", "sha256"),
    -35: ("ES384", "ecdsa", "sha384"),
    -36: ("ES512", "ecdsa", "sha512"),
    -257: ("RS256", "rsassa", "sha256"),
    -258: ("RS384", "rsassa", "sha384"),
    -259: ("RS512", "rsassa", "sha512"),
    -37: ("PS256", "rsapss", "sha256"),
    -65535: ("RS1", "rsassa", "sha1"),
}
"""COSE algorithm identifiers: name, scheme, hash (IANA registry "COSE Algorithms")."""

_STATEMENT = {"ver", "alg", "x5c", "sig", "certInfo", "pubArea"}
_ATTESTED = 0x40  # a flag of the authenticator data: a credential follows
_EXTENDED = 0x80


@dataclass(frozen=True)
class TpmStatement:
    """An attestation statement. `x5c` are certificates (DER), the attestation key's first;
    `cert_info` TPMS_ATTEST, `pub_area` TPMT_PUBLIC, `alg` a COSE number.
    """

    alg: int
    x5c: tuple[bytes, ...]
    signature: bytes = field(repr=False)
    cert_info: bytes = field(repr=False)
    pub_area: bytes = field(repr=False)

    @property
    def algorithm(self) -> tuple[str, str, str]:
        """Name, scheme and hash. ParseError for a number unknown here."""
        if self.alg not in ALGORITHMS:
            raise ParseError(f"the statement's algorithm {self.alg} is unknown here")
        return ALGORITHMS[self.alg]


@dataclass(frozen=True)
class AttestationObject:
    """What an authenticator gives at registration. `auth_data` may be empty outside WebAuthn."""

    statement: TpmStatement
    auth_data: bytes = field(repr=False)


@dataclass(frozen=True)
class Credential:
    """The credential in authenticator data: its model, and its key (SubjectPublicKeyInfo)."""

    aaguid: bytes
    spki: bytes


@dataclass(frozen=True)
class AttestedKey:
    """A key of a chip, as an attestation key certified it.

    `public` TPMT_PUBLIC; `name` its Name; `spki` DER; `algorithm` of the signature, and `weak` in
    words what in it proves little.
    """

    public: bytes = field(repr=False)
    name: bytes
    spki: bytes = field(repr=False)
    attestation_key: AttestationKey
    algorithm: str
    weak: tuple[str, ...] = ()


def read_attestation_object(data: bytes) -> AttestationObject:
    """Read the CBOR. ParseError for another format than `tpm`, and what is malformed."""
    found = decode_cbor(data, "the attestation object")
    if not isinstance(found, dict) or found.get("fmt") is None:
        raise ParseError("this is no WebAuthn attestation object")
    if found["fmt"] != "tpm":
        raise ParseError(f"an attestation of the format {found['fmt']!r}; only 'tpm' is read here")
    if unknown := found.keys() - {"fmt", "attStmt", "authData"}:
        raise ParseError(f"the attestation object has unknown parts: {_words(unknown)}")
    auth_data = found.get("authData", b"")
    if not isinstance(auth_data, bytes):
        raise ParseError("the attestation object's authData is no byte string")
    return AttestationObject(_statement(found.get("attStmt")), auth_data)


def _statement(found: Any) -> TpmStatement:
    if not isinstance(found, dict):
        raise ParseError("the attestation object has no statement")
    if "ecdaaKeyId" in found:
        raise ParseError("a statement by ECDAA, which WebAuthn has given up")
    if found.get("ver") != "2.0":
        raise ParseError(f"a statement of TPM version {found.get('ver')!r}, not '2.0'")
    if found.keys() != _STATEMENT:
        odd = _words(found.keys() ^ _STATEMENT)
        raise ParseError(f"the statement has not the parts it should: {odd}")
    x5c, alg = found["x5c"], found["alg"]
    if not isinstance(x5c, list) or not x5c or not all(isinstance(c, bytes) for c in x5c):
        raise ParseError("the statement's x5c is no list of certificates")
    if type(alg) is not int:
        raise ParseError("the statement's alg is no number")
    parts = [found[name] for name in ("sig", "certInfo", "pubArea")]
    if not all(isinstance(part, bytes) for part in parts):
        raise ParseError("the statement's sig, certInfo and pubArea are not all byte strings")
    return TpmStatement(alg, tuple(x5c), *parts)


def _words(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, names)))


def read_credential(auth_data: bytes) -> Credential:
    """The attested credential in authenticator data (§6.1, §6.5.1). ParseError."""
    if len(auth_data) < 37 or not auth_data[32] & _ATTESTED:
        raise ParseError("the authenticator data attests no credential")
    size = int.from_bytes(auth_data[53:55], "big")
    if len(auth_data) < 55 + size or size > 1023:
        raise ParseError("the authenticator data is cut off")
    key, end = read_cbor(auth_data, 55 + size, what="the credential's key")
    if auth_data[32] & _EXTENDED:
        _, end = read_cbor(auth_data, end, what="the authenticator's extensions")
    if end != len(auth_data):
        raise ParseError("bytes follow the authenticator data")
    return Credential(auth_data[37:53], _cose_spki(key))


def _cose_spki(key: Any) -> bytes:
    """SubjectPublicKeyInfo of a COSE key (RFC 9053 §7.1, RFC 8230 §4). ParseError."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    curves = {1: ec.SECP256R1(), 2: ec.SECP384R1(), 3: ec.SECP521R1()}
    try:
        match key:
            case {1: 2, -1: int(curve), -2: bytes(x), -3: bytes(y)} if curve in curves:
                point = int.from_bytes(x, "big"), int.from_bytes(y, "big")
                public: Any = ec.EllipticCurvePublicNumbers(*point, curves[curve]).public_key()
            case {1: 3, -1: bytes(n), -2: bytes(e)}:
                modulus, exponent = (int.from_bytes(part, "big") for part in (n, e))
                public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
            case _:
                raise ParseError("the credential's key is neither RSA nor on a known curve")
    except ValueError as error:
        raise ParseError(f"the credential's key is none: {error}") from None
    spki: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


def verify_registration(
    data: bytes,
    client_data: bytes,
    roots: Iterable[bytes],
    at: datetime,
    intermediates: Iterable[bytes] = (),
) -> AttestedKey:
    """Verify an attestation object over the bytes of clientDataJSON, by the procedure of §8.3.

    `roots` are pinned certificates (DER), `at` the moment that all certificates must be valid at;
    `intermediates` help where the statement brings too few.
    VerificationError with the code of what does not hold; ParseError for malformed parts.
    """
    found = read_attestation_object(data)
    credential = read_credential(found.auth_data)
    signed = found.auth_data + hashlib.sha256(client_data).digest()
    _, _, hash_name = found.statement.algorithm
    statement = replace(found.statement, x5c=(*found.statement.x5c, *intermediates))
    proven = verify_statement(
        statement, hashlib.new(hash_name, signed).digest(), roots, at, webauthn=True
    )
    if credential.spki != proven.spki:
        raise _refused("the attested key is another one than the credential's", "other-key")
    aaguid = aaguid_of(found.statement.x5c[0])
    if aaguid is not None and aaguid != credential.aaguid:
        raise _refused("the certificate is for another model of authenticator", "other-aaguid")
    return proven


def verify_statement(
    statement: TpmStatement,
    extra_data: bytes | None,
    roots: Iterable[bytes],
    at: datetime,
    *,
    webauthn: bool = False,
) -> AttestedKey:
    """Verify that the attestation key certified the key in `pub_area` (§8.3, from certInfo on).

    `extra_data` is what the chip must have been given, None for anything; `webauthn` holds the
    certificate to all of §8.3.1. Errors as for `verify_registration`.
    """
    name, scheme, hash_name = statement.algorithm
    key = judge_attestation_key(statement.x5c, roots, at, webauthn=webauthn)
    _check_signature(statement, key.spki, scheme, hash_name)
    body = decode(Attest, statement.cert_info)
    if body.type != ST.ATTEST_CERTIFY or not isinstance(body.attested, CertifyInfo):
        raise _refused("the chip attested something else than a key", "other-kind")
    if extra_data is not None and body.extra_data != extra_data:
        raise _refused("the statement was made for another registration", "other-challenge")
    own = name_of_public(statement.pub_area)
    if not own or body.attested.name != own:
        raise _refused("the chip certified another key than the statement shows", "other-name")
    return AttestedKey(
        statement.pub_area,
        own,
        spki_of_public(statement.pub_area),
        key,
        name,
        (f"{name}: the signature rests on SHA-1",) if hash_name in WEAK else (),
    )


def _check_signature(statement: TpmStatement, spki: bytes, scheme: str, hash_name: str) -> None:
    """The specification wants a TPMT_SIGNATURE, Windows writes the plain one: both are taken."""
    message, signature = statement.cert_info, statement.signature
    try:
        used = check_tpm_signature(spki, message, signature)
    except (ParseError, VerificationError):
        check_plain_signature(spki, message, signature, scheme, hash_name)
        return
    if used != hash_name:
        raise _refused("the statement is signed with another hash than it says", "bad-signature")


def _refused(words: str, code: str) -> VerificationError:
    return VerificationError(words, code=code)
