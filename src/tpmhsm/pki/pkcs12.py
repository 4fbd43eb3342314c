"""PKCS #12 files (RFC 7292): their certificates, and that they hold keys; never the keys.

Read as BER, for that is what NSS, Java and Windows wrote over the years. Written with certificates
alone, as a trust store that Java reads too.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki import pkcs12_crypto as crypto
from tpmhsm.pki.containers import DATA, content_info
from tpmhsm.pki.pkcs12_crypto import WrongPassphraseError

_ENCRYPTED = "1.2.840.113549.1.7.6"
_BAGS = "1.2.840.113549.1.12.10.1."
_KEY, _SHROUDED, _CERT, _CRL, _SECRET, _NESTED = (f"{_BAGS}{n}" for n in range(1, 7))
_X509 = "1.2.840.113549.1.9.22.1"
_X509_CRL = "1.2.840.113549.1.9.23.1"
_FRIENDLY_NAME = "1.2.840.113549.1.9.20"
_JAVA_TRUSTED = "2.16.840.1.113894.746875.1.1"
_ANY_USAGE = "2.5.29.37.0"
_MAX_NESTING = 8
_QUICK, _QUICK_MAC = 1_000_000, 20_000


class NamedCertificate(NamedTuple):
    """A certificate, and the name it has in the file, if any."""

    der: bytes
    name: str


@dataclass
class Pkcs12:
    """What is in a file. `keys` are names of private keys, "" where they have none.

    `protection` says how it is encrypted and what keeps it from change, `closed` how many parts
    could not be opened without a passphrase.
    """

    certificates: list[NamedCertificate] = field(default_factory=list)
    crls: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    secrets: int = 0
    protection: list[str] = field(default_factory=list)
    closed: int = 0


class _Outer(NamedTuple):
    """The outer structure: the bytes under the MAC, and the MAC's parts."""

    content: bytes
    mac: list[der.Element]


def open_pkcs12(raw: bytes, ask: Callable[[], bytes] | None) -> Pkcs12:
    """What is in a file. `ask` is called when neither no nor an empty passphrase opens it.

    Without `ask`, encrypted parts stay closed. WrongPassphraseError, ParseError.
    """
    outer = _outer(raw)
    _check_rounds(outer)
    for nothing in (None, b"") if _is_quick(outer) else ():
        if _mac_holds(outer, nothing):
            try:
                return _contents(outer, nothing, closed=False)
            except WrongPassphraseError:
                continue
    if ask is None:
        return _contents(outer, None, closed=True)
    passphrase = ask()
    if not _mac_holds(outer, passphrase):
        raise WrongPassphraseError(
            "the passphrase is wrong, or the file was changed: its MAC does not hold"
        )
    return _opened(outer, passphrase, raw)


def _opened(outer: _Outer, passphrase: bytes, raw: bytes) -> Pkcs12:
    try:
        return _contents(outer, passphrase, closed=False)
    except ParseError as error:
        if error.code != crypto.RC2_40:
            raise
    found = _contents(outer, None, closed=True)
    found.certificates += _by_library(raw, passphrase)
    found.closed = 0
    return found


def _by_library(raw: bytes, passphrase: bytes) -> list[NamedCertificate]:
    """RC2 with 40 bits, Windows' and OpenSSL's default for long: `cryptography` undoes it here."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

    try:
        loaded = load_pkcs12(raw, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ParseError(
            f"this PKCS #12 file is encrypted with RC2 of 40 bits and does not open: {error}",
            hint="openssl pkcs12 -legacy -in F -out F.pem, then use F.pem",
        ) from error
    bags = [loaded.cert] if loaded.cert else []
    return [
        NamedCertificate(
            bag.certificate.public_bytes(Encoding.DER),
            (bag.friendly_name or b"").decode("utf-8", "replace"),
        )
        for bag in (*bags, *loaded.additional_certs)
    ]


def _is_quick(outer: _Outer) -> bool:
    """Whether guessing costs nothing that a person would notice."""
    mac = _mac_rounds(outer)
    return mac <= _QUICK_MAC and mac + sum(_encryption_rounds(outer)) <= _QUICK


def _check_rounds(outer: _Outer) -> None:
    """ParseError when all parts together ask for more work than any file that is meant to be read:
    each may be within its limit, and there may be a million of them.
    """
    total = _mac_rounds(outer) + sum(_encryption_rounds(outer))
    if total > crypto.MAX_ITERATIONS:
        raise ParseError(
            f"{total:,} iterations for the parts of this PKCS #12 file are refused"
            f" ({crypto.MAX_ITERATIONS:,} at most)",
            code="too-many-iterations",
        )


def _mac_rounds(outer: _Outer) -> int:
    if not outer.mac:
        return 0
    kind, _, _, count = _mac_parts(outer)
    return count + crypto.rounds(kind)


def _encryption_rounds(outer: _Outer) -> Iterator[int]:
    for info in _parts(outer.content):
        kind, content = content_info(info.raw)
        if kind == _ENCRYPTED:
            yield crypto.rounds(_encrypted_info(content)[1].raw)


def _outer(raw: bytes) -> _Outer:
    parts = _parts(raw)
    if [part.tag for part in parts[:2]] != [der.INTEGER, der.SEQUENCE]:
        raise ParseError("this is no PKCS #12 file")
    kind, content = content_info(parts[1].raw)
    if kind != DATA:
        raise ParseError("this PKCS #12 file is kept whole by a signature, which no one uses")
    data = der.octets(der.read_whole(content, lenient=True))
    return _Outer(data, _parts(parts[2].raw) if len(parts) > 2 else [])


def _parts(raw: bytes) -> list[der.Element]:
    return der.children(der.read_whole(raw, lenient=True).content, lenient=True)


def _mac_parts(outer: _Outer) -> tuple[bytes, bytes, bytes, int]:
    """Algorithm, digest, salt, iterations."""
    if len(outer.mac) < 2:
        raise ParseError("the MAC of this PKCS #12 file is incomplete")
    info = der.children(outer.mac[0].content, lenient=True)
    if len(info) != 2:
        raise ParseError("the MAC of this PKCS #12 file is incomplete")
    count = crypto.iterations(outer.mac[2]) if len(outer.mac) > 2 else 1
    return info[0].raw, der.octets(info[1]), der.octets(outer.mac[1]), count


def _mac_holds(outer: _Outer, passphrase: bytes | None) -> bool:
    if not outer.mac:
        return True
    kind, digest, salt, count = _mac_parts(outer)
    return hmac.compare_digest(crypto.mac(kind, salt, count, passphrase, outer.content), digest)


def _contents(outer: _Outer, passphrase: bytes | None, *, closed: bool) -> Pkcs12:
    found = Pkcs12()
    for info in _parts(outer.content):
        kind, content = content_info(info.raw)
        if kind == DATA:
            _bags(der.octets(der.read_whole(content, lenient=True)), found, 0)
        elif kind == _ENCRYPTED:
            _encrypted(content, passphrase, found, closed)
        else:
            found.closed += 1
            found.protection.append("encrypted for a public key")
    if outer.mac:
        kind_raw, _, _, count = _mac_parts(outer)
        found.protection.append(f"MAC {crypto.describe_algorithm(kind_raw)}, {count} iterations")
    return found


def _encrypted(content: bytes, passphrase: bytes | None, found: Pkcs12, closed: bool) -> None:
    info = _encrypted_info(content)
    found.protection.append(crypto.describe_algorithm(info[1].raw))
    if closed:
        found.closed += 1
        return
    data = crypto.decrypt(info[1].raw, passphrase, der.octets(info[2]))
    try:
        _bags(data, found, 0)
    except ParseError as error:  # the padding was right by chance
        raise WrongPassphraseError("the passphrase is wrong, or the file is damaged") from error


def _encrypted_info(content: bytes) -> list[der.Element]:
    """Type, algorithm and octets of an EncryptedData."""
    parts = _parts(content)
    info = der.children(parts[1].content, lenient=True) if len(parts) > 1 else []
    if len(info) != 3:
        raise ParseError("an encrypted part of this PKCS #12 file is incomplete")
    return info


def _bags(data: bytes, found: Pkcs12, depth: int) -> None:
    if depth > _MAX_NESTING:
        raise ParseError("the bags of this PKCS #12 file are nested too deeply")
    for bag in _parts(data):
        parts = der.children(bag.content, lenient=True)
        if [part.tag for part in parts[:2]] != [der.OID, 0xA0]:
            raise ParseError("a bag of this PKCS #12 file is incomplete")
        _bag(parts, found, depth)


def _bag(parts: Sequence[der.Element], found: Pkcs12, depth: int) -> None:
    kind, value = der.decode_oid(parts[0].content), parts[1].content
    name = _name(parts[2].content) if len(parts) > 2 else ""
    if kind == _CERT:
        found.certificates += [NamedCertificate(raw, name) for raw in _typed(value, _X509)]
    elif kind == _CRL:
        found.crls += _typed(value, _X509_CRL)
    elif kind in (_KEY, _SHROUDED):
        found.keys.append(name)
        if kind == _SHROUDED:
            method = der.children(der.read_whole(value, lenient=True).content, lenient=True)[0]
            crypto.rounds(method.raw)  # refuses what would harm whoever opens the key
            found.protection.append(f"key: {crypto.describe_algorithm(method.raw)}")
    elif kind == _NESTED:
        _bags(value, found, depth + 1)
    else:
        found.secrets += 1


def _typed(value: bytes, wanted: str) -> list[bytes]:
    """What is in a CertBag or CRLBag, when it is of the type wanted."""
    parts = _parts(value)
    if [part.tag for part in parts] != [der.OID, 0xA0]:
        raise ParseError("a bag of this PKCS #12 file is incomplete")
    if der.decode_oid(parts[0].content) != wanted:
        return []
    return [der.octets(der.read_whole(parts[1].content, lenient=True))]


def _name(attributes: bytes) -> str:
    for attribute in der.children(attributes, lenient=True):
        parts = der.children(attribute.content, lenient=True)
        if len(parts) == 2 and der.decode_oid(parts[0].content) == _FRIENDLY_NAME:
            values = der.children(parts[1].content, lenient=True)
            return values[0].content.decode("utf-16-be", "replace") if values else ""
    return ""


def certificates_pkcs12(
    certificates: Iterable[NamedCertificate], passphrase: bytes | None
) -> bytes:
    """A file of certificates alone, marked as trusted for Java.

    With a passphrase: AES-256-CBC and a MAC (SHA-256). Without: neither, for all of it is public.
    """
    bags = der.encode(der.SEQUENCE, *(_certificate_bag(one) for one in certificates))
    if passphrase is None:
        part = _content(DATA, der.encode(der.OCTET_STRING, bags))
    else:
        part = _content(_ENCRYPTED, _encrypt(bags, passphrase))
    content = der.encode(der.SEQUENCE, part)
    outer = _content(DATA, der.encode(der.OCTET_STRING, content))
    tail = b"" if passphrase is None else _mac_data(content, passphrase)
    return der.encode(der.SEQUENCE, der.encode_integer(3), outer, tail)


def _content(kind: str, content: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(kind), der.encode(0xA0, content))


def _certificate_bag(certificate: NamedCertificate) -> bytes:
    string = der.encode(der.OCTET_STRING, certificate.der)
    value = der.encode(der.SEQUENCE, der.encode_oid(_X509), der.encode(0xA0, string))
    name = der.encode(0x1E, certificate.name.encode("utf-16-be", "replace"))
    attributes = sorted(
        (
            _attribute(_JAVA_TRUSTED, der.encode_oid(_ANY_USAGE)),
            *([_attribute(_FRIENDLY_NAME, name)] if certificate.name else []),
        )
    )
    return der.encode(
        der.SEQUENCE,
        der.encode_oid(_CERT),
        der.encode(0xA0, value),
        der.encode(der.SET, *attributes),
    )


def _attribute(kind: str, value: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(kind), der.encode(der.SET, value))


def _algorithm(oid: str, parameters: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), parameters)


def _encrypt(data: bytes, passphrase: bytes) -> bytes:
    """EncryptedData (RFC 5652, 8) by PBES2 (RFC 8018)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    salt, vector = os.urandom(16), os.urandom(16)
    key = PBKDF2HMAC(SHA256(), 32, salt, crypto.ITERATIONS).derive(passphrase)
    fill = 16 - len(data) % 16
    encryptor = Cipher(AES(key), modes.CBC(vector)).encryptor()
    sealed = encryptor.update(data + bytes([fill]) * fill) + encryptor.finalize()
    function = _algorithm(crypto.HMAC_SHA256, der.encode(der.NULL))
    derivation = der.encode(
        der.SEQUENCE,
        der.encode(der.OCTET_STRING, salt),
        der.encode_integer(crypto.ITERATIONS),
        function,
    )
    scheme = der.encode(
        der.SEQUENCE,
        _algorithm(crypto.PBKDF2, derivation),
        _algorithm(crypto.AES256_CBC, der.encode(der.OCTET_STRING, vector)),
    )
    info = der.encode(
        der.SEQUENCE,
        der.encode_oid(DATA),
        _algorithm(crypto.PBES2, scheme),
        der.encode(0x80, sealed),
    )
    return der.encode(der.SEQUENCE, der.encode_integer(0), info)


def _mac_data(content: bytes, passphrase: bytes) -> bytes:
    salt, count = os.urandom(16), 10_000  # the key derivation of RFC 7292 is slow in Python
    kind = _algorithm(crypto.SHA256, der.encode(der.NULL))
    digest = crypto.mac(kind, salt, count, passphrase, content)
    info = der.encode(der.SEQUENCE, kind, der.encode(der.OCTET_STRING, digest))
    return der.encode(
        der.SEQUENCE, info, der.encode(der.OCTET_STRING, salt), der.encode_integer(count)
    )
