"""Certificates and CRLs put together from DER, so that they may break any rule."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtensionOID as Ext
from tests.pki.makers import NOW, key

from tpmhsm.pki import der
from tpmhsm.pki.facts import KEY_USAGES
from tpmhsm.pki.names import parse_dn

BEFORE, AFTER = NOW - timedelta(days=30), NOW + timedelta(days=300)
SERIALS = itertools.count(1000)
ECDSA_SHA256 = "1.2.840.10045.4.3.2"


@dataclass(frozen=True)
class Forged:
    raw: bytes
    name: bytes
    key: Any
    key_id: bytes = b""
    serial: int = 0


def name(text: str) -> bytes:
    return parse_dn(text).public_bytes()


def spki(private: Any) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(private: Any) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(private.public_key()).digest


def algorithm(private: Any, oid: str = "") -> bytes:
    if isinstance(private, rsa.RSAPrivateKey):
        return der.encode(
            der.SEQUENCE, der.encode_oid(oid or "1.2.840.113549.1.1.11"), der.encode(der.NULL)
        )
    oids = {"MLDSA44PrivateKey": "2.16.840.1.101.3.4.3.17"}
    return der.encode(
        der.SEQUENCE, der.encode_oid(oid or oids.get(type(private).__name__, ECDSA_SHA256))
    )


def sign(private: Any, data: bytes, digest: Any = None) -> bytes:
    digest = digest or hashes.SHA256()
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), digest)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(data, ec.ECDSA(digest))
    return private.sign(data)


def signed(private: Any, tbs: bytes, oid: str = "", digest: Any = None) -> bytes:
    signature = der.encode(der.BIT_STRING, b"\0", sign(private, tbs, digest))
    return der.encode(der.SEQUENCE, tbs, algorithm(private, oid), signature)


def time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return der.encode(der.UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return der.encode(der.GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def extension(oid: str, value: bytes, critical: bool = False) -> bytes:
    flag = der.encode(der.BOOLEAN, b"\xff") if critical else b""
    return der.encode(der.SEQUENCE, der.encode_oid(oid), flag, der.encode(der.OCTET_STRING, value))


def of(value: x509.ExtensionType, critical: bool = False) -> bytes:
    return extension(value.oid.dotted_string, value.public_bytes(), critical)


def usage(*names: str, critical: bool = True) -> bytes:
    every = list(KEY_USAGES.values())
    return of(x509.KeyUsage(**{item: item in names for item in every}), critical)


def sans(*names: Any, critical: bool = False) -> bytes:
    return of(x509.SubjectAlternativeName(names), critical)


def dns(*hosts: str, critical: bool = False) -> bytes:
    return sans(*(x509.DNSName(host) for host in hosts), critical=critical)


def ekus(*oids: str, critical: bool = False) -> bytes:
    return of(x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids]), critical)


SERVER, CLIENT, EMAIL = (f"1.3.6.1.5.5.7.3.{i}" for i in (1, 2, 4))


@dataclass
class Recipe:
    """What goes into a certificate; `extensions` by OID, None leaves one out."""

    subject: str = "CN=example.com"
    serial: int | None = None
    version: int = 3
    not_before: datetime = BEFORE
    not_after: datetime = AFTER
    extensions: dict[str, bytes | None] = field(default_factory=dict)
    more: tuple[bytes, ...] = ()
    inner: bytes = b""
    issuer_name: bytes | None = None
    oid: str = ""
    digest: Any = None


def forge(private: Any, issuer: Forged | None, recipe: Recipe) -> Forged:
    subject = name(recipe.subject)
    issuer_name = (
        recipe.issuer_name
        if recipe.issuer_name is not None
        else (issuer.name if issuer else subject)
    )
    signer = issuer.key if issuer else private
    serial = next(SERIALS) if recipe.serial is None else recipe.serial
    items = [item for item in recipe.extensions.values() if item is not None]
    items += recipe.more
    wrapped = der.encode(0xA3, der.encode(der.SEQUENCE, *items)) if items else b""
    version = der.encode(0xA0, der.encode_integer(recipe.version - 1))
    tbs = der.encode(
        der.SEQUENCE,
        version if recipe.version > 1 else b"",
        der.encode_integer(serial),
        recipe.inner or algorithm(signer, recipe.oid),
        issuer_name,
        der.encode(der.SEQUENCE, time(recipe.not_before), time(recipe.not_after)),
        subject,
        spki(private),
        wrapped,
    )
    raw = signed(signer, tbs, recipe.oid, recipe.digest)
    return Forged(raw, subject, private, key_id(private), serial)


def aki(issuer: Forged | None) -> bytes | None:
    if issuer is None:
        return None
    return of(x509.AuthorityKeyIdentifier(issuer.key_id, None, None))


def ca(subject: str = "CN=Forged Root", issuer: Forged | None = None, **options: Any) -> Forged:
    """A CA; `private` its key, `path_length`, `extensions` to change, other fields of Recipe."""
    private = options.pop("private", None) or key("p256", hash(("forge", subject)))
    length = options.pop("path_length", None)
    extensions: dict[str, bytes | None] = {
        Ext.BASIC_CONSTRAINTS.dotted_string: of(x509.BasicConstraints(True, length), True),
        Ext.KEY_USAGE.dotted_string: usage("key_cert_sign", "crl_sign"),
        Ext.SUBJECT_KEY_IDENTIFIER.dotted_string: of(x509.SubjectKeyIdentifier(key_id(private))),
        Ext.AUTHORITY_KEY_IDENTIFIER.dotted_string: aki(issuer),
    }
    extensions |= {oid.dotted_string: value for oid, value in options.pop("change", {}).items()}
    return forge(private, issuer, Recipe(subject=subject, extensions=extensions, **options))


def leaf(issuer: Forged, **options: Any) -> Forged:
    """A server's certificate for example.com."""
    private = options.pop("private", None) or key("p256", "forged leaf")
    extensions: dict[str, bytes | None] = {
        Ext.KEY_USAGE.dotted_string: usage("digital_signature"),
        Ext.EXTENDED_KEY_USAGE.dotted_string: ekus(SERVER),
        Ext.SUBJECT_ALTERNATIVE_NAME.dotted_string: dns("example.com"),
        Ext.SUBJECT_KEY_IDENTIFIER.dotted_string: of(x509.SubjectKeyIdentifier(key_id(private))),
        Ext.AUTHORITY_KEY_IDENTIFIER.dotted_string: aki(issuer),
    }
    extensions |= {oid.dotted_string: value for oid, value in options.pop("change", {}).items()}
    return forge(private, issuer, Recipe(extensions=extensions, **options))


def crl(
    issuer: Forged,
    *revoked: tuple[int, datetime, tuple[bytes, ...]],
    this: datetime = NOW - timedelta(days=1),
    after: datetime | None = NOW + timedelta(days=7),
    number: bytes | None = of(x509.CRLNumber(5)),
    more: tuple[bytes, ...] = (),
    version: int | None = 1,
    signer: Any = None,
) -> bytes:
    entries = [
        der.encode(
            der.SEQUENCE,
            der.encode_integer(serial),
            time(when),
            der.encode(der.SEQUENCE, *extensions) if extensions else b"",
        )
        for serial, when, extensions in revoked
    ]
    items = [item for item in (aki(issuer), number, *more) if item]
    private = signer or issuer.key
    tbs = der.encode(
        der.SEQUENCE,
        b"" if version is None else der.encode_integer(version),
        algorithm(private),
        issuer.name,
        time(this),
        time(after) if after else b"",
        der.encode(der.SEQUENCE, *entries) if entries else b"",
        der.encode(0xA0, der.encode(der.SEQUENCE, *items)) if items and version else b"",
    )
    return signed(private, tbs)


def entry(item: Forged | int, when: datetime = NOW - timedelta(days=2), *extensions: bytes):
    return (item if isinstance(item, int) else item.serial, when, extensions)


FAR = datetime(2050, 1, 1, tzinfo=UTC)
