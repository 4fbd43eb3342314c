"""PKCS #10 certification requests (RFC 2986): made, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.deferred import Unsigned, deferred
from tpmhsm.pki.facts import EKU_OIDS, KEY_USAGES
from tpmhsm.pki.key_checks import check_spki
from tpmhsm.pki.keys import hash_for, load_spki
from tpmhsm.pki.load import find_der
from tpmhsm.pki.sans import unique
from tpmhsm.pki.signatures import split_signed, verify_signed
from tpmhsm.pki.tbs import (
    SIGNATURE_NAMES,
    WEAK_SIGNATURES,
    read_request_info,
    signature_name,
)

_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")


@dataclass(frozen=True)
class CsrContent:
    """What a CSR asks for. `key_usage` in the names of RFC 5280, `extended_key_usage` likewise
    or dotted OIDs.

    `ca` adds basicConstraints (for `ca create --external`), with `path_length` if given.
    """

    subject: x509.Name
    sans: tuple[x509.GeneralName, ...] = ()
    key_usage: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    ca: bool = False
    path_length: int | None = None


def build_csr(
    key: CertificateIssuerPrivateKeyTypes, content: CsrContent, hash_name: str | None = None
) -> x509.CertificateSigningRequest:
    """A CSR signed now by any object that behaves as a `cryptography` private key.

    `hash_name` is `sha256`, `sha384` or `sha512`; without it the size of the key decides.
    """
    return _builder(content).sign(key, _hash(key.public_key(), hash_name))


def prepare_csr(
    public_key: PublicKeyTypes, content: CsrContent, hash_name: str | None = None
) -> Unsigned:
    """The CertificationRequestInfo to be signed later; `Unsigned.complete` makes the CSR."""
    signer = deferred(public_key)
    signed = _builder(content).sign(signer, _hash(public_key, hash_name))
    return signer.unsigned(signed.public_bytes(Encoding.DER), "csr")


def with_attribute(unsigned: Unsigned, oid: str, value: bytes) -> Unsigned:
    """The same CSR with one more attribute, whose one value is DER (RFC 2986, 4.1)."""
    version, subject, spki, *rest = der.children(der.read_whole(unsigned.tbs).content)
    attribute = der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(der.SET, value))
    had = [one.raw for one in der.children(rest[0].content)] if rest else []
    attributes = der.encode(0xA0, *sorted([*had, attribute]))
    return replace(
        unsigned, tbs=der.encode(der.SEQUENCE, version.raw, subject.raw, spki.raw, attributes)
    )


def _hash(public_key: Any, hash_name: str | None) -> Any:
    return hash_for(public_key, hash_name)


def _builder(content: CsrContent) -> x509.CertificateSigningRequestBuilder:
    if not content.subject.rdns and not content.sans:
        raise UsageError(
            "a CSR needs a subject or at least one alternative name",
            hint="give --subject CN=… or --san dns:…",
        )
    builder = x509.CertificateSigningRequestBuilder().subject_name(content.subject)
    for extension, critical in _extensions(content):
        builder = builder.add_extension(extension, critical)
    return builder


def _extensions(content: CsrContent) -> Iterable[tuple[x509.ExtensionType, bool]]:
    if content.ca or content.path_length is not None:
        yield x509.BasicConstraints(ca=True, path_length=content.path_length), True
    if content.key_usage:
        yield key_usage(content.key_usage), True
    if content.extended_key_usage:
        yield extended_key_usage(content.extended_key_usage), False
    if content.sans:
        yield x509.SubjectAlternativeName(unique(content.sans)), not content.subject.rdns


def key_usage(names: Iterable[str]) -> x509.KeyUsage:
    """The extension from names of RFC 5280 (`digitalSignature`, `keyCertSign` …)."""
    chosen = set(names)
    if unknown := chosen - KEY_USAGES.keys():
        raise UsageError(
            f"no key usage is called {', '.join(sorted(unknown))}",
            hint=f"the names are {', '.join(KEY_USAGES)}",
        )
    return x509.KeyUsage(**{field: name in chosen for name, field in KEY_USAGES.items()})


def extended_key_usage(names: Iterable[str]) -> x509.ExtendedKeyUsage:
    """The extension from names (`serverAuth` …) or dotted OIDs."""
    try:
        oids = [x509.ObjectIdentifier(EKU_OIDS.get(name, name)) for name in dict.fromkeys(names)]
    except ValueError as error:
        raise UsageError(
            f"no such extended key usage: {error}",
            hint=f"the names are {', '.join(EKU_OIDS)}; or a dotted OID",
        ) from None
    return x509.ExtendedKeyUsage(oids)


def load_csr(data: bytes, what: str = "the file") -> x509.CertificateSigningRequest:
    """The CSR in a PEM or DER file. ParseError when it is anything else; checks no signature."""
    return _load(data, what)[1]


def read_csr(data: bytes, what: str = "the file") -> bytes:
    """As `load_csr`, its DER."""
    return _load(data, what)[0]


def _load(data: bytes, what: str) -> tuple[bytes, x509.CertificateSigningRequest]:
    block = find_der(data, _LABELS, "a CSR", what)[0]
    try:
        return block.der, x509.load_der_x509_csr(block.der)
    except (ValueError, x509.InvalidVersion) as error:
        from tpmhsm.pki.load import what_is

        raise ParseError(
            f"{what} is no CSR that can be read: {what_is(block.der) or error}"
        ) from error


def csr_der(csr: x509.CertificateSigningRequest | bytes) -> bytes:
    """DER of a CSR object, or the DER itself."""
    return csr if isinstance(csr, bytes) else csr.public_bytes(Encoding.DER)


def verify_csr(csr: x509.CertificateSigningRequest | bytes) -> PublicKeyTypes:
    """Checks the signature of a CSR (or its DER) and the strength of its key; gives the key.

    VerificationError when the signature fails, ParseError for a key or algorithm unknown here,
    UsageError for a weak key.
    """
    info, algorithm, signature = split_signed(csr_der(csr), "a CSR")
    spki = read_request_info(info).spki
    check_spki(spki, "pkix")
    key = load_spki(spki)
    name = signature_name(algorithm)
    if name in WEAK_SIGNATURES:
        raise VerificationError(
            f"the CSR is signed with {name}, which proves nothing any more",
            hint="make the CSR again with SHA-256",
        )
    if name not in SIGNATURE_NAMES.values():
        raise ParseError(
            f"the CSR is signed with an algorithm unknown here: {name}", code="unknown-algorithm"
        )
    if not verify_signed(key, algorithm, signature, info):
        raise VerificationError(
            "the CSR's signature does not hold: it was changed, or made by another key",
            hint="make the CSR again with the key that it names",
        )
    return key
