"""Private keys in files, to be brought into the chip: PEM, DER and PKCS #12, encrypted or not.

PKCS #8 (RFC 5958), SEC 1 (RFC 5915), PKCS #1 (RFC 8017), OpenSSL's old encryption (RFC 1421) and
PKCS #12 (RFC 7292). The only place where a private key is ever in this program's memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ParseError, RefusedError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.bundle import Bundle, read_bundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

_KINDS = ("private-key", "encrypted-private-key", "encrypted-pem-key")
_OLD = re.compile(
    rb"-----BEGIN (EC|RSA) PRIVATE KEY-----.*?-----END \1 PRIVATE KEY-----", re.DOTALL
)
_NO_KEY = "a file with one RSA or elliptic curve private key: PKCS #8, SEC 1, PKCS #1 or PKCS #12"


@dataclass(frozen=True)
class PrivateFile:
    """What is in a file: the key, its algorithm as `key create` names it, whether the file was
    encrypted, and certificates (DER) beside the key, in the order of the file.
    """

    key: PrivateKey = field(repr=False)
    alg: str
    encrypted: bool
    certificates: tuple[bytes, ...] = ()

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo (DER)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_private_file(data: bytes, what: str, ask: Callable[[str], bytes]) -> PrivateFile:
    """Read the one private key of a file. `ask` is called when, and only when, it is encrypted.

    ParseError for a file without a key or with several, RefusedError (`wrong-passphrase`) when the
    passphrase does not open it, UsageError for a key of another kind or size.
    """
    found = read_bundle(data, what)
    if packed := found.of_kind("pkcs12"):
        return _pkcs12(data, packed[0], what, ask)
    keys = [item for item in found.items if item.kind in _KINDS]
    if len(keys) != 1:
        raise _not_one(found, len(keys))
    encrypted = keys[0].kind != "private-key"
    passphrase = ask(_prompt(what)) if encrypted else None
    if keys[0].kind == "encrypted-pem-key":
        block = _OLD.search(data)
        loaded = _loaded(block[0] if block else data, passphrase, what)
    else:
        _bounded(keys[0].der if encrypted else b"")
        loaded = _loaded(keys[0].der, passphrase, what)
    return _checked(loaded, encrypted, tuple(found.of_kind("certificate")))


def _prompt(what: str) -> str:
    """The same words as for certificates in the file: so it is asked once."""
    return f"Passphrase of {what}"


def _not_one(found: Bundle, count: int) -> ParseError:
    if count:
        return ParseError(f"{found.what} has {count} private keys", hint="one file for each key")
    hint = ""
    if found.of_kind("openssh-key"):
        hint = f"ssh-keygen -p -m PKCS8 -f {found.what} writes it as PKCS #8"
    return ParseError(
        f"{found.what} has no private key that can be read here; it is or has {found.summary()}",
        hint=hint or _NO_KEY,
    )


def _bounded(encrypted: bytes) -> None:
    """ParseError when an EncryptedPrivateKeyInfo asks for more work than anybody waits for."""
    if encrypted:
        from tpmhsm.pki.pkcs12_crypto import rounds

        rounds(der.children(der.read_whole(encrypted, lenient=True).content, lenient=True)[0].raw)


def _loaded(data: bytes, passphrase: bytes | None, what: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    pem = data.startswith(b"-----")
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        return load(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError) as error:
        raise _unopened(what, passphrase, error) from None


def _unopened(what: str, passphrase: bytes | None, error: Exception) -> Exception:
    if passphrase is not None:
        return RefusedError(
            f"{what} does not open: the passphrase is wrong, or the file is damaged",
            code="wrong-passphrase",
        )
    return ParseError(f"{what}: the private key in it does not load: {error}", hint=_NO_KEY)


def _checked(key: Any, encrypted: bool, certificates: tuple[bytes, ...]) -> PrivateFile:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in (2048, 3072, 4096):
        return PrivateFile(key, f"rsa{key.key_size}", encrypted, certificates)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384):
        names = {"secp256r1": "p256", "secp384r1": "p384"}
        if alg := names.get(key.curve.name):
            return PrivateFile(key, alg, encrypted, certificates)
    raise UsageError(
        f"{_kind(key)} keys are not imported",
        code="key-kind",
        hint="P-256, P-384, and RSA of 2048, 3072 or 4096 bits are",
    )


def _kind(key: Any) -> str:
    if hasattr(key, "curve"):
        return str(key.curve.name)
    name = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
    return f"{name}-{key.key_size}" if hasattr(key, "key_size") else name


def _pkcs12(data: bytes, packed: bytes, what: str, ask: Callable[[str], bytes]) -> PrivateFile:
    from tpmhsm.pki.pkcs12 import open_pkcs12

    outside = open_pkcs12(packed, None)  # refuses what asks for too much work
    if len(outside.keys) > 1:
        raise ParseError(f"{what} has {len(outside.keys)} private keys", hint="one file a key")
    loaded, passphrase = _pkcs12_key(packed, what, ask)
    if loaded is None:
        raise ParseError(f"{what} is a PKCS #12 file without a private key", hint=_NO_KEY)
    found = read_bundle(data, what, lambda _: passphrase or b"")
    found.raise_faults()
    certificates = tuple(found.of_kind("certificate"))
    return _checked(loaded, encrypted=bool(passphrase), certificates=certificates)


def _pkcs12_key(packed: bytes, what: str, ask: Callable[[str], bytes]) -> tuple[Any, bytes | None]:
    """The key and the passphrase: none, an empty one, or the one that is asked for."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

    sources: tuple[Callable[[], bytes | None], ...] = (
        lambda: None,
        lambda: b"",
        lambda: ask(_prompt(what)),
    )
    for source in sources:
        passphrase = source()
        try:
            inside = load_pkcs12(packed, passphrase)
        except UnsupportedAlgorithm as error:
            raise ParseError(f"{what}: {error}") from None
        except (ValueError, TypeError):
            continue
        return inside.key, passphrase
    raise RefusedError(
        f"{what} does not open: the passphrase is wrong, or something in it cannot be read",
        code="wrong-passphrase",
        hint=f"openssl pkcs12 -in {what} -out key.pem writes key and certificates as PEM",
    )
