"""Certificates from files, whatever their form: PEM with comments, several in one, DER.

Errors say which file, where in it, and what it is instead.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509

from tpmhsm.errors import ParseError
from tpmhsm.pki import der

MAX_SIZE = 1 << 20
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 #]+)-----\s*?\n?(.*?)-----END \1-----", re.DOTALL | re.ASCII
)
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 #]+)-----")
_WORDS = {
    "CERTIFICATE": "a certificate (see it with: tpmhsm cert show)",
    "CERTIFICATE REQUEST": "a CSR (see it with: tpmhsm csr show)",
    "NEW CERTIFICATE REQUEST": "a CSR (see it with: tpmhsm csr show)",
    "X509 CRL": "a CRL (for: cert verify --crl)",
    "PUBLIC KEY": "a public key",
    "PRIVATE KEY": "a private key",
    "ENCRYPTED PRIVATE KEY": "an encrypted private key",
    "RSA PRIVATE KEY": "a private key",
    "EC PRIVATE KEY": "a private key",
    "PKCS7": "a PKCS #7 bundle",
    "CMS": "a CMS message",
    "TSS2 PRIVATE KEY": "a TPM key",
}


class PemBlock(NamedTuple):
    """One PEM block: its label, its bytes, and where it begins in the file."""

    label: str
    der: bytes
    offset: int


def check_size(data: bytes, what: str) -> None:
    """ParseError for more than 1 MiB and for nothing at all."""
    if not data.strip():
        raise ParseError(f"{what} is empty")
    if len(data) > MAX_SIZE:
        raise ParseError(
            f"{what} is {len(data)} bytes; certificates and requests here are 1 MiB at most",
            code="too-big",
        )


def pem_blocks(data: bytes) -> list[PemBlock]:
    """The PEM blocks whose base64 is sound; none for anything else."""
    blocks = []
    for match in _BLOCK.finditer(data):
        body = match[2]
        if b":" in body:  # RFC 1421 headers end at an empty line
            body = re.split(rb"\r?\n\r?\n", body, maxsplit=1)[-1]
        try:
            raw = base64.b64decode(b"".join(body.split()), validate=True)
        except (binascii.Error, ValueError):
            continue
        blocks.append(PemBlock(match[1].decode("ascii"), raw, match.start()))
    return blocks


def find_der(data: bytes, labels: Iterable[str], wanted: str, what: str) -> list[PemBlock]:
    """All blocks of the given PEM labels, or the file itself when it is DER.

    `wanted` names the thing ("a certificate"), `what` the file. ParseError says
    what is there instead.
    """
    check_size(data, what)
    labels = tuple(labels)
    if _BEGIN.search(data):
        return _from_pem(data, labels, wanted, what)
    if data[:1] != b"\x30":
        raise ParseError(
            f"{what} is neither PEM nor DER, so no {wanted.split(' ', 1)[-1]}",
            hint="PEM begins with -----BEGIN …-----, DER with the byte 30",
        )
    try:
        element, end = der.read(data)
    except ParseError as error:
        raise ParseError(f"{what} is not {wanted}: {error.message}") from error
    if data[end:].strip(b"\r\n\0 "):
        raise ParseError(
            f"{what} is not {wanted}: {len(data) - end} bytes follow it, at byte {end}"
        )
    return [PemBlock(labels[0], element.raw, 0)]


def _from_pem(data: bytes, labels: tuple[str, ...], wanted: str, what: str) -> list[PemBlock]:
    blocks = pem_blocks(data)
    whole = {block.offset for block in blocks}
    for begin in _BEGIN.finditer(data):
        if begin.start() not in whole and begin[1].decode() in labels:
            line = data.count(b"\n", 0, begin.start()) + 1
            raise ParseError(
                f"{what}: the PEM block that begins in line {line} is cut off or no base64",
                hint="copy the file again, from -----BEGIN to -----END",
            )
    found = [block for block in blocks if block.label in labels]
    if not found:
        others = sorted({_WORDS.get(b.label, f"a block {b.label!r}") for b in blocks})
        raise ParseError(
            f"{what} has no {wanted.split(' ', 1)[-1]}; "
            f"it has {', '.join(others) or 'only broken PEM'}"
        )
    return found


_CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")


def load_certificates(data: bytes, what: str = "the file") -> list[x509.Certificate]:
    """All certificates of a file, in its order. ParseError when there is none or one is broken."""
    blocks = find_der(data, _CERTIFICATE_LABELS, "a certificate", what)
    return [_certificate(block, what, len(blocks)) for block in blocks]


def certificate_ders(data: bytes, what: str = "the file") -> list[bytes]:
    """DER of all certificates of a file, also of those that `cryptography` cannot load.

    For showing, storing and verifying; ParseError when there is none or one is no DER.
    """
    blocks = find_der(data, _CERTIFICATE_LABELS, "a certificate", what)
    return [_sound_der(block, what) for block in blocks]


def _sound_der(block: PemBlock, what: str) -> bytes:
    from tpmhsm.pki.signatures import split_signed
    from tpmhsm.pki.tbs import read_tbs_certificate

    raw = der.read(block.der)[0].raw if block.label == "TRUSTED CERTIFICATE" else block.der
    try:
        read_tbs_certificate(split_signed(raw)[0])
    except ParseError as error:
        reason = what_is(raw) or error.message
        raise ParseError(f"{what}, at byte {block.offset}, has no certificate: {reason}") from error
    return raw


def load_certificate(data: bytes, what: str = "the file") -> x509.Certificate:
    """The first certificate of a file."""
    return load_certificates(data, what)[0]


def _certificate(block: PemBlock, what: str, count: int) -> x509.Certificate:
    where = f"{what}, at byte {block.offset}" if count > 1 else what
    raw = block.der
    if block.label == "TRUSTED CERTIFICATE":  # OpenSSL's: a certificate, then trust settings
        raw = der.read(raw)[0].raw
    try:
        return x509.load_der_x509_certificate(raw)
    except (ValueError, x509.InvalidVersion) as error:
        instead = what_is(raw)
        raise ParseError(
            f"{where} is no certificate that can be read: {instead or error}",
            hint="see its structure with: openssl asn1parse -i" if not instead else "",
        ) from error


def what_is(raw: bytes) -> str:
    """In words what DER bytes are, when they are not what was wanted; empty when unknown."""
    from tpmhsm.pki.tbs import structure_kind

    try:
        der.read_whole(raw)
    except ParseError as error:
        return error.message
    kinds = {"csr": "it is a CSR", "crl": "it is a CRL", "ocsp": "it is an OCSP response"}
    return kinds.get(structure_kind(raw) or "", "")


def load_crls(data: bytes, what: str = "the file") -> list[x509.CertificateRevocationList]:
    """All CRLs of a file, PEM or DER. ParseError when there is none or one is broken."""
    found = find_der(data, ("X509 CRL",), "a CRL", what)
    try:
        return [x509.load_der_x509_crl(block.der) for block in found]
    except (ValueError, x509.InvalidVersion) as error:
        raise ParseError(f"{what} is no CRL that can be read: {error}") from error


def to_pem(raw: bytes, label: str = "CERTIFICATE") -> bytes:
    """PEM of DER bytes (RFC 7468)."""
    text = base64.encodebytes(raw).replace(b"\n", b"")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join(
        (b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b"")
    )
