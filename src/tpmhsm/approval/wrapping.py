"""Encrypted PKCS#8: write it, recognise it, and judge how strongly it is encrypted.

RFC 5958 section 3 (EncryptedPrivateKeyInfo), RFC 8018 appendix A (PBES2, PBKDF2), RFC 7914
section 7.1 (scrypt-params).
"""

from __future__ import annotations

from typing import Any

from asn1crypto import core, pem

from tpmhsm.errors import ParseError, RefusedError

MIN_ROUNDS = 600_000
"""PBKDF2 with HMAC-SHA-256: OWASP's figure of 2023."""

MIN_SCRYPT_N, MIN_SCRYPT_R = 1 << 14, 8
"""What `openssl pkcs8 -topk8 -scrypt` writes."""

MAX_ROUNDS, MAX_SCRYPT_MEMORY, MAX_SCRYPT_P = 100_000_000, 1 << 30, 64

_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_AES_CBC = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.42": 32,
}
_AES256_CBC = "2.16.840.1.101.3.4.1.42"
_STRONG_PRF = {"1.2.840.113549.2.9", "1.2.840.113549.2.10", "1.2.840.113549.2.11"}

_FOREIGN = {
    "PRIVATE KEY": "the key is not encrypted",
    "EC PRIVATE KEY": "the key is in OpenSSL's old format, not in encrypted PKCS#8",
    "RSA PRIVATE KEY": "the key is in OpenSSL's old format, not in encrypted PKCS#8",
    "DSA PRIVATE KEY": "the key is a DSA key",
    "OPENSSH PRIVATE KEY": "the key is in OpenSSH's format, not in encrypted PKCS#8",
    "PUBLIC KEY": "this is a public key",
    "CERTIFICATE": "this is a certificate",
    "TSS2 PRIVATE KEY": "this is a key of a TPM",
}
_CONVERTIBLE = {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"}


class _Algorithm(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012 - asn1crypto's interface
        ("algorithm", core.ObjectIdentifier),
        ("parameters", core.Any, {"optional": True}),
    ]


class _Encrypted(core.Sequence):  # type: ignore[misc]
    _fields = [("algorithm", _Algorithm), ("data", core.OctetString)]  # noqa: RUF012


class _Pbes2(core.Sequence):  # type: ignore[misc]
    _fields = [("kdf", _Algorithm), ("cipher", _Algorithm)]  # noqa: RUF012


class _Scrypt(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("salt", core.OctetString),
        ("n", core.Integer),
        ("r", core.Integer),
        ("p", core.Integer),
        ("key_length", core.Integer, {"optional": True}),
    ]


class _Pbkdf2(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("salt", core.OctetString),
        ("rounds", core.Integer),
        ("key_length", core.Integer, {"optional": True}),
        ("prf", _Algorithm, {"optional": True}),
    ]


def encrypted_pem(
    plain: bytes, kek: bytes, salt: bytes, iv: bytes, cost: tuple[int, int, int]
) -> bytes:
    """Return PKCS#8 `plain` encrypted with AES-256-CBC under `kek` (32 bytes), in PEM.

    `cost` is scrypt's (N, r, p), `salt` its salt; they are written, not applied.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    padding = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(kek), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
    n, r, p = cost
    kdf = _algorithm(_SCRYPT, _Scrypt({"salt": salt, "n": n, "r": r, "p": p, "key_length": 32}))
    cipher = _algorithm(_AES256_CBC, core.OctetString(iv))
    scheme = _algorithm(_PBES2, _Pbes2({"kdf": kdf, "cipher": cipher}))
    der = _Encrypted({"algorithm": scheme, "data": sealed}).dump()
    return bytes(pem.armor("ENCRYPTED PRIVATE KEY", der))


def _algorithm(oid: str, parameters: Any) -> _Algorithm:
    return _Algorithm({"algorithm": oid, "parameters": parameters})


def encrypted_der(data: bytes, where: str) -> bytes:
    """Return the EncryptedPrivateKeyInfo in a file, PEM or DER.

    RefusedError, with what to do, for private keys in other forms; ParseError for other things.
    """
    if b"-----BEGIN " not in data:
        return data
    try:
        label, _, der = pem.unarmor(data)
    except (ValueError, TypeError) as e:
        raise ParseError(f"{where}: broken PEM: {e}") from None
    if label == "ENCRYPTED PRIVATE KEY":
        return bytes(der)
    reason = _FOREIGN.get(label, f"this is PEM of {label[:40]!a}, not a key file")
    raise RefusedError(
        f"{where}: {reason}",
        code="not-encrypted-pkcs8",
        hint=rewrap(where) if label in _CONVERTIBLE else "",
    )


def rewrap(where: str) -> str:
    """The openssl command that writes a key as this tool wants it."""
    return f"openssl pkcs8 -topk8 -scrypt -in {where} -out NEW.key"


def check_strength(der: bytes, where: str) -> None:
    """Refuse (RefusedError) encryption that is quickly guessed, or absurdly slow to open.

    ParseError when `der` is no EncryptedPrivateKeyInfo.
    """
    try:
        weakness = _weakness(der)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise ParseError(
            f"{where}: not an encrypted private key (PKCS#8)",
            hint="an approver's key file begins with -----BEGIN ENCRYPTED PRIVATE KEY-----",
        ) from None
    if weakness:
        raise RefusedError(f"{where}: {weakness}", code="weak-key-file", hint=rewrap(where))


def _weakness(der: bytes) -> str:
    info = _Encrypted.load(der, strict=True)
    bytes(info["data"])
    scheme = info["algorithm"]
    if scheme["algorithm"].dotted != _PBES2:
        return "it is encrypted with an outdated scheme, not PBES2"
    parts = scheme["parameters"].parse(_Pbes2)
    if parts["cipher"]["algorithm"].dotted not in _AES_CBC:
        return "it is encrypted with another cipher than AES-CBC"
    kdf = parts["kdf"]
    if kdf["algorithm"].dotted == _SCRYPT:
        return _weak_scrypt(kdf["parameters"].parse(_Scrypt))
    if kdf["algorithm"].dotted == _PBKDF2:
        return _weak_pbkdf2(kdf["parameters"].parse(_Pbkdf2))
    return "its key is derived by neither scrypt nor PBKDF2"


def _weak_scrypt(values: _Scrypt) -> str:
    n, r, p = (int(values[key].native) for key in ("n", "r", "p"))
    if n < MIN_SCRYPT_N or r < MIN_SCRYPT_R or p < 1 or n & (n - 1):
        return f"scrypt with N={n}, r={r}, p={p} is too weak"
    if 128 * n * r > MAX_SCRYPT_MEMORY or p > MAX_SCRYPT_P:
        return f"scrypt with N={n}, r={r}, p={p} takes too much memory or time"
    return ""


def _weak_pbkdf2(values: _Pbkdf2) -> str:
    rounds = int(values["rounds"].native)
    prf = values["prf"]
    if isinstance(prf, core.Void) or prf["algorithm"].dotted not in _STRONG_PRF:
        return "PBKDF2 with SHA-1 or an unknown hash"
    if rounds < MIN_ROUNDS:
        return f"PBKDF2 with {rounds:,} rounds is too weak: at least {MIN_ROUNDS:,}"
    if rounds > MAX_ROUNDS:
        return f"PBKDF2 with {rounds:,} rounds takes too long"
    return ""
