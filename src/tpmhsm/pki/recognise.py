"""What bytes are, by their shape: the structures that certificates are found among.

Looks at tags and identifiers of the outermost levels, leniently (BER), and judges nothing. What a
structure says is for `describe` and its neighbours.
"""

from __future__ import annotations

from tpmhsm.errors import ParseError
from tpmhsm.pki import der

_ENUMERATED = 0x0A
_ENOUGH = 1 << 16
"""Octets in which the fields before a CRL's entries, and of all else the first, find room."""

WORDS = {
    "certificate": "a certificate",
    "csr": "a CSR (PKCS #10)",
    "crl": "a CRL",
    "pkcs7": "a PKCS #7 bundle",
    "cms": "a CMS message",
    "pkcs12": "a PKCS #12 file",
    "netscape-sequence": "a Netscape certificate sequence",
    "private-key": "a private key",
    "encrypted-private-key": "an encrypted private key",
    "encrypted-pem-key": "an encrypted private key",
    "public-key": "a public key",
    "tpm-key": "a TPM key",
    "ocsp-request": "an OCSP request",
    "ocsp-response": "an OCSP response",
    "timestamp-request": "a time-stamp request",
    "timestamp-response": "a time-stamp response",
    "attribute-certificate": "an attribute certificate",
    "cmp": "a CMP message",
    "crmf": "a CRMF request for certificates",
    "spkac": "a browser's request for a certificate (SPKAC)",
    "openssh-key": "an OpenSSH private key",
    "ssh-public-key": "an SSH public key",
    "parameters": "parameters of a key",
    "pgp": "an OpenPGP file",
}
"""Words for the kinds, as they follow "it is"."""

LABELS = {
    "CERTIFICATE": "certificate",
    "X509 CERTIFICATE": "certificate",
    "TRUSTED CERTIFICATE": "certificate",
    "CERTIFICATE REQUEST": "csr",
    "NEW CERTIFICATE REQUEST": "csr",
    "X509 CRL": "crl",
    "PKCS7": "pkcs7",
    "PKCS #7 SIGNED DATA": "pkcs7",
    "CMS": "cms",
    "PKCS12": "pkcs12",
    "PRIVATE KEY": "private-key",
    "RSA PRIVATE KEY": "private-key",
    "EC PRIVATE KEY": "private-key",
    "DSA PRIVATE KEY": "private-key",
    "ENCRYPTED PRIVATE KEY": "encrypted-private-key",
    "ENCRYPTED RSA PRIVATE KEY": "encrypted-pem-key",
    "ENCRYPTED EC PRIVATE KEY": "encrypted-pem-key",
    "ENCRYPTED DSA PRIVATE KEY": "encrypted-pem-key",
    "OPENSSH PRIVATE KEY": "openssh-key",
    "SSH2 PUBLIC KEY": "ssh-public-key",
    "PUBLIC KEY": "public-key",
    "RSA PUBLIC KEY": "public-key",
    "TSS2 PRIVATE KEY": "tpm-key",
    "TSS2 KEY BLOB": "tpm-key",
    "ATTRIBUTE CERTIFICATE": "attribute-certificate",
    "DH PARAMETERS": "parameters",
    "X9.42 DH PARAMETERS": "parameters",
    "DSA PARAMETERS": "parameters",
    "EC PARAMETERS": "parameters",
    "PGP PUBLIC KEY BLOCK": "pgp",
    "PGP PRIVATE KEY BLOCK": "pgp",
    "PGP MESSAGE": "pgp",
    "PGP SIGNATURE": "pgp",
    "PGP SIGNED MESSAGE": "pgp",
}
"""PEM labels (RFC 7468, OpenSSL's pem.h, RFC 9580) and the kinds they mean."""

_PKCS7 = "1.2.840.113549.1.7."
_CMS_MORE = "1.2.840.113549.1.9.16.1."
NETSCAPE_SEQUENCE = "2.16.840.1.113730.2.5"
_TPM_KEYS = ("2.23.133.10.1.3", "2.23.133.10.1.4", "2.23.133.10.1.5")


def in_words(kind: str) -> str:
    """`a certificate` for `certificate`; an unknown kind is itself."""
    return WORDS.get(kind, kind)


def kind_of_der(raw: bytes) -> str | None:
    """The kind of one DER or BER structure, a key of `WORDS`; None for what is not known."""
    if raw[:1] != b"\x30":
        return None
    try:
        if raw[1:2] == b"\x80":
            return _kind(leading(der.read(raw, lenient=True)[0].content))
        _, body, end = der.span(raw)
        return _kind(leading(raw, body, end))
    except ParseError:
        return None


def leading(data: bytes, position: int = 0, end: int | None = None) -> list[der.Element]:
    """The first ten elements, up to the first that is none; of long ones the beginning alone."""
    parts: list[der.Element] = []
    end = len(data) if end is None else end
    try:
        while position < end and len(parts) < 10:
            if data[position + 1 : position + 2] == b"\x80":
                element, position = der.read(data, position, lenient=True)
                parts.append(element)
                continue
            tag, body, position = der.span(data, position)
            parts.append(der.Element(tag, data[body : min(position, body + _ENOUGH)], b""))
    except ParseError:
        pass
    return parts


def _kind(parts: list[der.Element]) -> str | None:
    tags = [part.tag for part in parts]
    match tags:
        case [der.OID, *_]:
            return _typed(parts)
        case [der.SEQUENCE, der.SEQUENCE | 0x10, der.BIT_STRING, *_]:
            return _signed(leading(parts[0].content))
        case [_, *_] if tags[0] == _ENUMERATED:
            return "ocsp-response"
        case [der.INTEGER, *_]:
            return _numbered(parts, tags)
        case [der.SEQUENCE, *_]:
            return _nested(parts, tags)
    return None


def _typed(parts: list[der.Element]) -> str | None:
    """SEQUENCE { OBJECT IDENTIFIER, … }: RFC 5652 ContentInfo, TPM keys."""
    oid = _oid(parts[0])
    if oid in _TPM_KEYS:
        return "tpm-key"
    if oid == NETSCAPE_SEQUENCE:
        return "netscape-sequence"
    if oid == _PKCS7 + "2":
        return "pkcs7"
    if oid.startswith((_PKCS7, _CMS_MORE)):
        return "cms"
    return None


def _oid(element: der.Element) -> str:
    try:
        return der.decode_oid(element.content) if element.tag == der.OID else ""
    except ParseError:
        return ""


def _signed(parts: list[der.Element]) -> str | None:
    """What is signed: SEQUENCE { to be signed, algorithm, BIT STRING }."""
    tags = [part.tag for part in parts]
    if tags[:1] == [0xA0]:
        tags = tags[1:]
    if tags[:6] == [der.INTEGER, *[der.SEQUENCE] * 5]:
        return "certificate"
    if len(tags) >= 6 and tags[0] == der.INTEGER and tags[4:6] == [der.INTEGER, der.SEQUENCE]:
        return "attribute-certificate"
    if tags[:1] == [der.INTEGER] and tags[3:4] in ([], [0xA0]) and len(tags) >= 3:
        return "csr"
    times = (der.UTC_TIME, der.GENERALIZED_TIME)
    if tags[:1] == [der.INTEGER]:
        tags = tags[1:]
    if tags[:2] == [der.SEQUENCE] * 2 and len(tags) > 2 and tags[2] & ~0x20 in times:
        return "crl"
    if tags[:2] == [der.SEQUENCE, der.IA5_STRING]:
        return "spkac"
    return None


_PRIVATE = (  # after their version: RFC 8017 A.1.2 and DSA's, RFC 5915, RFC 5208
    [der.INTEGER, der.INTEGER, der.INTEGER],
    [der.OCTET_STRING],
    [der.SEQUENCE, der.OCTET_STRING],
)


def _numbered(parts: list[der.Element], tags: list[int]) -> str | None:
    """SEQUENCE { version INTEGER, … }."""
    if any(tags[1 : 1 + len(shape)] == shape for shape in _PRIVATE):
        return "private-key"
    if tags[1:] == [der.INTEGER]:
        return "public-key"  # RFC 8017 A.1.1
    if tags[1:2] == [der.SEQUENCE]:
        inner = leading(parts[1].content)
        if parts[0].content == b"\3" and inner and _oid(inner[0]).startswith(_PKCS7):
            return "pkcs12"
        if [item.tag for item in inner] == [der.SEQUENCE, der.OCTET_STRING]:
            return "timestamp-request"
    return None


def _nested(parts: list[der.Element], tags: list[int]) -> str | None:  # noqa: PLR0911
    inner = leading(parts[0].content)
    first = [item.tag for item in inner]
    if tags[1:2] == [der.BIT_STRING] and first[:1] == [der.OID]:
        return "public-key"
    if tags[1:] == [der.OCTET_STRING] and first[:1] == [der.OID]:
        return "encrypted-private-key"
    if first[:1] == [der.INTEGER] and len(first) >= 3 and first[1] & first[2] & 0xA0 == 0xA0:
        return "cmp"
    if first[:1] == [der.INTEGER] and len(tags) <= 2:
        wrapped = leading(parts[1].content) if len(parts) == 2 else []
        if wrapped and _oid(wrapped[0]) == _PKCS7 + "2":
            return "timestamp-response"
    if first[:1] == [der.SEQUENCE] and _is_crmf(inner[0]):
        return "crmf"
    if len(tags) <= 2 and first and first[-1] in (der.SEQUENCE, 0xA2) and _is_ocsp(inner):
        return "ocsp-request"
    if len(tags) == 1 and _is_status(inner):
        return "timestamp-response"
    return None


def _is_status(inner: list[der.Element]) -> bool:
    """PKIStatusInfo of a refused time-stamp (RFC 3161, 2.4.2)."""
    tags = [item.tag for item in inner]
    return tags[:1] == [der.INTEGER] and all(tag in (der.SEQUENCE, 3) for tag in tags[1:])


def _is_crmf(element: der.Element) -> bool:
    parts = leading(element.content)
    return [part.tag for part in parts[:2]] == [der.INTEGER, der.SEQUENCE]


def _is_ocsp(inner: list[der.Element]) -> bool:
    lists = [item for item in inner if item.tag == der.SEQUENCE]
    requests = leading(lists[0].content) if lists else []
    certs = leading(requests[0].content) if requests else []
    names = [part.tag for part in leading(certs[0].content)] if certs else []
    return names == [der.SEQUENCE, der.OCTET_STRING, der.OCTET_STRING, der.INTEGER]
