"""PKCS #7 and CMS SignedData as containers of certificates and CRLs (RFC 2315, RFC 5652).

Read as BER, for that is what much software writes; certificates come out as the bytes they went in,
since signatures cover those. Written as DER: "degenerate", certificates and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.recognise import NETSCAPE_SEQUENCE

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
CONTENT_TYPES = {
    DATA: "data",
    SIGNED_DATA: "signedData",
    "1.2.840.113549.1.7.3": "envelopedData",
    "1.2.840.113549.1.7.4": "signedAndEnvelopedData",
    "1.2.840.113549.1.7.5": "digestedData",
    "1.2.840.113549.1.7.6": "encryptedData",
    "1.2.840.113549.1.9.16.1.2": "authData",
    "1.2.840.113549.1.9.16.1.4": "TSTInfo",
    "1.2.840.113549.1.9.16.1.9": "compressedData",
    "1.2.840.113549.1.9.16.1.23": "authEnvelopedData",
    "1.3.6.1.4.1.311.2.1.4": "Authenticode",
    "1.3.6.1.5.5.7.12.2": "CMC request",
    "1.3.6.1.5.5.7.12.3": "CMC response",
}


class SignedData(NamedTuple):
    """What is in a SignedData. `content` is None where it is elsewhere (detached).

    Certificates and CRLs come once each; `repeated` counts further copies, and `others` what stands
    among them and is neither. `signers` are the SignerInfos.
    """

    content_type: str
    content: bytes | None
    certificates: list[bytes]
    crls: list[bytes]
    others: int
    signers: list[der.Element]
    repeated: int = 0


def content_info(raw: bytes) -> tuple[str, bytes]:
    """The type (dotted OID) of a ContentInfo, and its content, empty where it has none.

    ParseError for anything else.
    """
    outer = der.read_whole(raw, lenient=True)
    parts = der.children(outer.content, lenient=True) if outer.tag == der.SEQUENCE else []
    tags = [part.tag for part in parts]
    if tags not in ([der.OID], [der.OID, 0xA0]):
        raise ParseError("this is no PKCS #7 or CMS structure")
    return der.decode_oid(parts[0].content), parts[1].content if len(parts) == 2 else b""


def read_signed_data(raw: bytes) -> SignedData:
    """What is in a PKCS #7 or CMS SignedData, or a Netscape certificate sequence. ParseError."""
    kind, content = content_info(raw)
    if kind == NETSCAPE_SEQUENCE:
        items = der.children(der.read_whole(content, lenient=True).content, lenient=True)
        found = list(dict.fromkeys(item.raw for item in items))
        return SignedData(kind, None, found, [], 0, [], len(items) - len(found))
    if kind != SIGNED_DATA:
        raise ParseError(f"this CMS structure is {CONTENT_TYPES.get(kind, kind)}, not signed data")
    fields = der.children(der.read_whole(content, lenient=True).content, lenient=True)
    if [field.tag for field in fields[:3]] != [der.INTEGER, der.SET, der.SEQUENCE]:
        raise ParseError("this SignedData has other fields than RFC 5652 gives it")
    certificates, crls = _items(fields, 0xA0), _items(fields, 0xA1)
    sets = [field for field in fields[3:] if field.tag == der.SET]
    known = [item.raw for item in certificates if item.tag == der.SEQUENCE]
    lists = [item.raw for item in crls if item.tag == der.SEQUENCE]
    once, lists_once = list(dict.fromkeys(known)), list(dict.fromkeys(lists))
    return SignedData(
        *_encapsulated(fields[2]),
        once,
        lists_once,
        len(certificates) - len(known) + len(crls) - len(lists),
        der.children(sets[0].content, lenient=True) if sets else [],
        len(known) - len(once) + len(lists) - len(lists_once),
    )


def _items(fields: list[der.Element], tag: int) -> list[der.Element]:
    found = [field for field in fields[3:] if field.tag == tag]
    return der.children(found[0].content, lenient=True) if found else []


def _encapsulated(field: der.Element) -> tuple[str, bytes | None]:
    parts = der.children(field.content, lenient=True)
    if not parts or parts[0].tag != der.OID:
        raise ParseError("this SignedData does not say of what type its content is")
    kind = der.decode_oid(parts[0].content)
    if len(parts) < 2:
        return kind, None
    inner = der.read_whole(parts[1].content, lenient=True)
    string = inner.tag & ~0x20 == der.OCTET_STRING
    return kind, der.octets(inner) if string else inner.raw  # PKCS #7 has other types there


def certificates_only(certificates: Iterable[bytes], crls: Iterable[bytes] = ()) -> bytes:
    """DER of a SignedData with nothing signed: how PKCS #7 carries certificates (RFC 5652, 5.1)."""
    lists = der.encode(0xA1, *sorted(crls))
    signed = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        der.encode(der.SET),
        der.encode(der.SEQUENCE, der.encode_oid(DATA)),
        der.encode(0xA0, *sorted(certificates)),
        lists if len(lists) > 2 else b"",
        der.encode(der.SET),
    )
    return der.encode(der.SEQUENCE, der.encode_oid(SIGNED_DATA), der.encode(0xA0, signed))
