"""Certificates, CSRs and CRLs from files, whatever their form; errors say what is there instead.

Files are PEM with anything around the blocks (RFC 7468), DER, one after the other too, base64
without its markers, PKCS #7 and CMS. Certificates of PKCS #12 come by way of `bundle.read_bundle`,
which asks for the passphrase.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cryptography import x509

from tpmhsm.errors import ParseError
from tpmhsm.pki import der

MAX_SIZE = 1 << 20
"""Octets of a CSR, or of a file of a few certificates."""

MAX_BUNDLE = 1 << 27
"""Octets of a file of many certificates, or of a CRL: some have a million entries."""

_MARKER = re.compile(rb"-----(BEGIN|END) ([A-Za-z0-9 #._+-]{1,64}?)-----")
_BLANK = b" \t\r\n\0\x1a"
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+=*\s*", re.ASCII)
CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
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
    "ENCRYPTED RSA PRIVATE KEY": "an encrypted private key",
    "ENCRYPTED EC PRIVATE KEY": "an encrypted private key",
    "PKCS7": "a PKCS #7 bundle",
    "CMS": "a CMS message",
    "TSS2 PRIVATE KEY": "a TPM key",
}


class PemBlock(NamedTuple):
    """One PEM block: its label, its bytes, where it begins in the file and where it ends."""

    label: str
    der: bytes
    offset: int
    end: int = 0


class Broken(NamedTuple):
    """A PEM block that cannot be read: its label, where it begins and ends, why."""

    label: str
    offset: int
    end: int
    reason: str


def check_size(data: bytes, what: str, limit: int = MAX_SIZE) -> None:
    """ParseError for more than the limit and for nothing at all."""
    if not data or data.isspace():
        raise ParseError(f"{what} is empty")
    if len(data) > limit:
        raise ParseError(
            f"{what} is {len(data)} bytes; this may have {limit >> 20} MiB at most",
            code="too-big",
        )


def plain_text(data: bytes) -> bytes:
    """UTF-16, which Windows shells write into files, as ASCII; anything else as it is."""
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return data
    return data.decode("utf-16", "replace").encode("ascii", "replace")


def is_pem(data: bytes, start: int = 0) -> bool:
    """Whether there is the beginning of any PEM block."""
    if b"-----BEGIN " not in data:  # a look that is many times as fast
        return False
    return any(marker[1] == b"BEGIN" for marker in _MARKER.finditer(data, start))


def begins_as_der(data: bytes) -> bool:
    """Whether a DER structure of more than a few octets stands first, whatever is in it."""
    if data[:1] != b"\x30" or data[1:2] < b"\x80":
        return False
    try:
        return der.read(data, lenient=True)[1] <= len(data)
    except ParseError:
        return False


def looks_whole(data: bytes) -> bool:
    """Whether a large file may be PEM or DER that is all there."""
    if data[:1] != b"\x30":
        return b"-----BEGIN " in data and b"-----END " in data
    if data[1:2] == b"\x80":
        return True
    try:
        return der.span(data)[2] <= len(data)
    except ParseError:
        return False


def scan_pem(data: bytes, start: int = 0) -> Iterator[PemBlock | Broken]:
    """The PEM blocks in their order, also those that are broken. Linear in the size."""
    begin: re.Match[bytes] | None = None
    for marker in _MARKER.finditer(data, start):
        if begin is not None:
            yield _block(data, begin, marker)
        begin = marker if marker[1] == b"BEGIN" else None
    if begin is not None:
        yield _cut_off(begin, len(data))


def _cut_off(begin: re.Match[bytes], end: int) -> Broken:
    return Broken(begin[2].decode(), begin.start(), end, "it is cut off: its END is missing")


def _block(data: bytes, begin: re.Match[bytes], end: re.Match[bytes]) -> PemBlock | Broken:
    if end[1] != b"END" or end[2] != begin[2]:
        return _cut_off(begin, end.start())
    label = begin[2].decode()
    body = data[begin.end() : end.start()]
    if b":" in body:  # RFC 1421 headers end at an empty line
        head, *rest = re.split(rb"\r?\n[ \t]*\r?\n", body, maxsplit=1)
        body = rest[0] if rest else head
        if rest and b"ENCRYPTED" in head:  # what follows is no DER, and begins as it may
            label = f"ENCRYPTED {label}"
    try:
        raw = base64.b64decode(body.translate(None, b" \t\r\n\v\f"), validate=True)
    except (binascii.Error, ValueError):
        return Broken(label, begin.start(), end.end(), "it is no base64")
    return PemBlock(label, raw, begin.start(), end.end())


def pem_blocks(data: bytes) -> list[PemBlock]:
    """The PEM blocks whose base64 is sound; none for anything else."""
    return [block for block in scan_pem(data) if isinstance(block, PemBlock)]


def bare_base64(data: bytes) -> bytes | None:
    """What base64 without markers says, when it is DER."""
    if data[:1] != b"M" or not _BASE64.fullmatch(data):  # M: the first six bits of a SEQUENCE
        return None
    try:
        raw = base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if raw[:1] == b"\x30" else None


def find_der(
    data: bytes, labels: Iterable[str], wanted: str, what: str, limit: int = MAX_SIZE
) -> list[PemBlock]:
    """All blocks of the given PEM labels, or the file itself when it is DER.

    `wanted` names the thing ("a certificate"), `what` the file. ParseError says
    what is there instead.
    """
    check_size(data, what, limit)
    labels = tuple(labels)
    data = plain_text(data)
    if is_pem(data) and not begins_as_der(data):
        return _from_pem(data, labels, wanted, what)
    data = bare_base64(data) or data
    if data[:1] != b"\x30":
        raise ParseError(
            f"{what} is neither PEM nor DER, so no {wanted.split(' ', 1)[-1]}",
            hint="PEM begins with -----BEGIN …-----, DER with the byte 30",
        )
    try:
        element, end = der.read(data)
    except ParseError as error:
        raise ParseError(f"{what} is not {wanted}: {error.message}") from error
    if data[end:].strip(_BLANK):
        raise ParseError(
            f"{what} is not {wanted}: {len(data) - end} bytes follow it, at byte {end}"
        )
    return [PemBlock(labels[0], element.raw, 0)]


def _from_pem(data: bytes, labels: tuple[str, ...], wanted: str, what: str) -> list[PemBlock]:
    blocks = []
    for block in scan_pem(data):
        if isinstance(block, PemBlock):
            blocks.append(block)
        elif block.label in labels:
            line = line_of(data, block.offset)
            raise ParseError(
                f"{what}: the PEM block that begins in line {line} cannot be read: {block.reason}",
                hint="copy the file again, from -----BEGIN to -----END",
            )
    found = [block for block in blocks if block.label in labels]
    if not found:
        others = sorted({_WORDS.get(b.label, f"a block {b.label!r}") for b in blocks})
        raise ParseError(
            f"{what} has no {wanted.split(' ', 1)[-1]}; "
            f"it has {', '.join(others[:10]) or 'only broken PEM'}"
        )
    return found


def line_of(data: bytes, offset: int) -> int:
    """The number of the line in which a byte stands."""
    return data.count(b"\n", 0, offset) + 1


def certificate_ders(data: bytes, what: str = "the file") -> list[bytes]:
    """All certificates of a file, in its order, also those that `cryptography` cannot load.

    From PEM, DER, PKCS #7 and mixtures of them; DER as it was found. ParseError when there is none
    or one is broken. They are never altered; what is wrong with them is in their `marks`.
    """
    from tpmhsm.pki.bundle import read_bundle

    found = read_bundle(data, what, limit=MAX_SIZE)
    found.raise_faults()
    return found.only("certificate", "a certificate")


def load_certificates(data: bytes, what: str = "the file") -> list[x509.Certificate]:
    """All certificates of a file, as objects. ParseError when there is none or one is broken."""
    return [_load(raw, what) for raw in certificate_ders(data, what)]


def load_certificate(data: bytes, what: str = "the file") -> x509.Certificate:
    """The first certificate of a file."""
    return load_certificates(data, what)[0]


def _load(raw: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(raw)
    except (ValueError, x509.InvalidVersion) as error:
        raise ParseError(
            f"{what} has a certificate that cannot be used: {error}",
            hint="see what is wrong with it: tpmhsm cert show",
        ) from error


def what_is(raw: bytes) -> str:
    """In words what DER bytes are, when they are not what was wanted; empty when unknown."""
    from tpmhsm.pki.recognise import in_words, kind_of_der

    try:
        der.read_whole(raw)
    except ParseError as error:
        return error.message
    kind = kind_of_der(raw)
    return f"it is {in_words(kind)}" if kind else ""


def to_pem(raw: bytes, label: str = "CERTIFICATE") -> bytes:
    """PEM of DER bytes (RFC 7468)."""
    text = base64.encodebytes(raw).replace(b"\n", b"")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join(
        (b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b"")
    )
