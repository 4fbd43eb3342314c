"""The cryptography of PKCS #12: keys from passphrases, MACs, old and new encryption.

RFC 7292 (appendix B and C), RFC 8018 (PBES2, PBKDF2), RFC 9579 (PBMAC1). Old ciphers are only ever
undone here, never applied.
"""

from __future__ import annotations

import hmac
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from tpmhsm.errors import ParseError
from tpmhsm.pki import der

MAX_ITERATIONS = 10_000_000
"""More would take longer than a person waits: such a file is meant to harm."""

ITERATIONS = 600_000
"""Of PBKDF2 with HMAC-SHA-256 in what is written here (OWASP, 2023)."""

RC2_40 = "rc2-40"
"""The code of the error for RC2 with 40 bits."""

PBES2 = "1.2.840.113549.1.5.13"
PBKDF2 = "1.2.840.113549.1.5.12"
PBMAC1 = "1.2.840.113549.1.5.14"
HMAC_SHA256 = "1.2.840.113549.2.9"
SHA256 = "2.16.840.1.101.3.4.2.1"
AES256_CBC = "2.16.840.1.101.3.4.1.42"
_HASHES = {
    "1.3.14.3.2.26": "sha1",
    "1.2.840.113549.2.5": "md5",
    "2.16.840.1.101.3.4.2.4": "sha224",
    SHA256: "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HMACS = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    HMAC_SHA256: "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_KINDS: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_AES = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, AES256_CBC: 32}
_DES3 = "1.2.840.113549.3.7"
# RFC 7292 appendix C: cipher, key octets
_PBES1 = {
    "1.2.840.113549.1.12.1.3": ("3DES", 24),
    "1.2.840.113549.1.12.1.4": ("3DES-2", 16),
    "1.2.840.113549.1.12.1.5": ("RC2", 16),
    "1.2.840.113549.1.12.1.6": ("RC2-40", 5),
}
NAMES = {
    PBES2: "PBES2",
    PBMAC1: "PBMAC1",
    AES256_CBC: "AES-256-CBC",
    "2.16.840.1.101.3.4.1.2": "AES-128-CBC",
    "2.16.840.1.101.3.4.1.22": "AES-192-CBC",
    _DES3: "3DES-CBC",
    **{oid: f"PBE-{name}" for oid, (name, _) in _PBES1.items()},
    **{oid: f"HMAC-{name.upper()}" for oid, name in _HASHES.items()},
}


class WrongPassphraseError(ParseError):
    """The passphrase does not open it."""

    default_code = "wrong-passphrase"


def algorithm(raw: bytes) -> tuple[str, bytes]:
    """The OID of an AlgorithmIdentifier, and its parameters. ParseError."""
    parts = der.children(der.read_whole(raw, lenient=True).content, lenient=True)
    if not parts or parts[0].tag != der.OID:
        raise ParseError("an algorithm without an identifier")
    return der.decode_oid(parts[0].content), parts[1].raw if len(parts) > 1 else b""


def describe_algorithm(raw: bytes) -> str:
    """Its name; of PBES2 the cipher's. An OID where there is no name."""
    oid, parameters = algorithm(raw)
    if oid == PBES2 and parameters:
        parts = _parts(parameters)
        return NAMES.get(algorithm(parts[-1].raw)[0], oid)
    return NAMES.get(oid, oid)


def _parts(raw: bytes) -> list[der.Element]:
    return der.children(der.read_whole(raw, lenient=True).content, lenient=True)


def _number(element: der.Element) -> int:
    if element.tag != der.INTEGER:
        raise ParseError("a number is missing in this PKCS #12 file")
    return int.from_bytes(element.content, "big", signed=True)


def iterations(element: der.Element) -> int:
    """An iteration count. ParseError for one that nobody waits for."""
    count = _number(element)
    if not 1 <= count <= MAX_ITERATIONS:
        raise ParseError(
            f"an iteration count of {count} is refused ({MAX_ITERATIONS:,} at most)",
            code="too-many-iterations",
        )
    return count


def rounds(raw: bytes) -> int:
    """The iterations that an algorithm of encryption or PBMAC1 asks for, 0 where it asks for none.

    ParseError for more than anybody waits for.
    """
    oid, parameters = algorithm(raw)
    if oid in (PBES2, PBMAC1) and parameters:
        return rounds(_parts(parameters)[0].raw)
    parts = _parts(parameters) if oid == PBKDF2 or oid in _PBES1 else []
    return iterations(parts[1]) if len(parts) > 1 else 0


class Stretch(NamedTuple):
    """How a passphrase is made a key: salt, iterations, and the hash by its name."""

    salt: bytes
    rounds: int
    digest: str = "sha1"


def derive(passphrase: bytes, stretch: Stretch, purpose: int, size: int) -> bytes:
    """The key derivation of RFC 7292 appendix B.2. `passphrase` is UTF-16 with its two zeros."""
    import hashlib

    block = 128 if stretch.digest in ("sha384", "sha512") else 64

    def stretched(data: bytes) -> bytes:
        if not data:
            return b""
        length = -(-len(data) // block) * block
        return (data * (length // len(data) + 1))[:length]

    pool, diversifier = stretched(stretch.salt) + stretched(passphrase), bytes([purpose]) * block
    out = b""
    while len(out) < size:
        value = diversifier + pool
        for _ in range(stretch.rounds):
            value = hashlib.new(stretch.digest, value).digest()
        out += value
        step = int.from_bytes((value * (block // len(value) + 1))[:block], "big") + 1
        pool = b"".join(
            ((int.from_bytes(pool[i : i + block], "big") + step) % (1 << 8 * block)).to_bytes(
                block, "big"
            )
            for i in range(0, len(pool), block)
        )
    return out[:size]


def wide(passphrase: bytes | None) -> bytes:
    """A passphrase as PKCS #12 takes it: UTF-16 with two zeros; None is none at all."""
    if passphrase is None:
        return b""
    return passphrase.decode("utf-8", "replace").encode("utf-16-be") + b"\0\0"


def mac(raw: bytes, salt: bytes, count: int, passphrase: bytes | None, data: bytes) -> bytes:
    """The MAC over the content of a file by its digest algorithm. ParseError for one unknown."""
    import hashlib

    oid, parameters = algorithm(raw)
    if oid == PBMAC1:
        parts = _parts(parameters)
        digest = _HMACS.get(algorithm(parts[1].raw)[0])
        if digest is None:
            raise ParseError("the MAC of this PKCS #12 file is unknown here")
        key = _pbkdf2(parts[0].raw, passphrase or b"", hashlib.new(digest).digest_size)
    else:
        digest = _HASHES.get(oid)
        if digest is None:
            raise ParseError(f"the MAC of this PKCS #12 file is unknown here: {oid}")
        size = hashlib.new(digest).digest_size
        key = derive(wide(passphrase), Stretch(salt, count, digest), 3, size)
    return hmac.digest(key, data, digest)


def decrypt(raw: bytes, passphrase: bytes | None, data: bytes) -> bytes:
    """Undo the encryption of an AlgorithmIdentifier.

    WrongPassphraseError when the result is not padded as it should be; ParseError for an algorithm
    that is unknown here.
    """
    oid, parameters = algorithm(raw)
    try:
        cipher = (
            _pbes2(parameters, passphrase or b"")
            if oid == PBES2
            else _pbes1(oid, parameters, passphrase)
        )
        decryptor = cipher.decryptor()
        padded = decryptor.update(data) + decryptor.finalize()
        unpadder = PKCS7(cipher.algorithm.block_size).unpadder()  # type: ignore[attr-defined]
        return unpadder.update(padded) + unpadder.finalize()
    except UnsupportedAlgorithm as error:
        raise ParseError(f"the encryption of this file is not supported here: {error}") from error
    except (ValueError, IndexError) as error:
        raise WrongPassphraseError("the passphrase is wrong, or the file is damaged") from error


def _pbkdf2(raw: bytes, passphrase: bytes, size: int) -> bytes:
    oid, parameters = algorithm(raw)
    parts = _parts(parameters)
    if oid != PBKDF2 or len(parts) < 2:
        raise ParseError(f"a key derivation that is unknown here: {oid}")
    digest = "sha1"
    if parts[-1].tag == der.SEQUENCE:
        function = algorithm(parts[-1].raw)[0]
        if function not in _HMACS:
            raise ParseError(f"a key derivation that is unknown here: {function}")
        digest = _HMACS[function]
    kdf = PBKDF2HMAC(_KINDS[digest](), size, der.octets(parts[0]), iterations(parts[1]))
    return kdf.derive(passphrase)


def _pbes2(parameters: bytes, passphrase: bytes) -> Cipher[Any]:
    derivation, scheme = _parts(parameters)
    oid, vector = algorithm(scheme.raw)
    start = der.octets(der.read_whole(vector, lenient=True))
    if oid in _AES:
        return Cipher(AES(_pbkdf2(derivation.raw, passphrase, _AES[oid])), modes.CBC(start))
    if oid == _DES3:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

        return Cipher(TripleDES(_pbkdf2(derivation.raw, passphrase, 24)), modes.CBC(start))
    raise ParseError(f"this file is encrypted in a way unknown here: {oid}")


def _pbes1(oid: str, parameters: bytes, passphrase: bytes | None) -> Cipher[Any]:
    from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES

    if oid not in _PBES1:
        raise ParseError(f"this file is encrypted in a way unknown here: {oid}")
    salt, count = _parts(parameters)
    name, size = _PBES1[oid]
    if name == "RC2-40":
        raise ParseError(
            "this file is encrypted with RC2 of 40 bits, which nobody should use any more",
            hint="openssl pkcs12 -legacy -in F -out F.pem, then use F.pem",
            code=RC2_40,
        )
    stretch = Stretch(der.octets(salt), iterations(count))
    key, start = (derive(wide(passphrase), stretch, *what) for what in ((1, size), (2, 8)))
    if name == "RC2":
        return Cipher(RC2(key), modes.CBC(start))
    return Cipher(TripleDES(key + key[:8] if name == "3DES-2" else key), modes.CBC(start))
