"""What must never be signed as plain data, because signed it would say something of its own.

Verifiers read more than DER: OpenSSL takes lengths padded with zeros to any size, tags in the long
form and strings in pieces (ITU-T X.690, 8.1). Recognising each such form is a race that a reader of
its own loses; so data that begins as a SEQUENCE or SET is plain data only when all of it is strict
DER, where a structure has one shape, and that shape is none of the known ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der

_WORDS = {
    "certificate": "a certificate, or the signed part of one",
    "crl": "a certificate revocation list, or the signed part of one",
    "ocsp": "an OCSP response, or the signed part of one",
    "csr": "a certificate signing request, or the signed part of one",
}
_ENUMERATED = 0x0A
_ATTRIBUTE_CERTIFICATE = [der.INTEGER, der.SEQUENCE, None, der.SEQUENCE, der.INTEGER, der.SEQUENCE]
_FIRST_OCTETS = (der.SEQUENCE, der.SET, 0x3F)  # 0x3F: a constructed tag in the long form
_TLS13 = b" " * 64 + b"TLS 1.3, "
_SSH_CERTIFICATE = b"-cert-v01@openssh.com"
_MAX_DEPTH = 64


def signed_structure(data: bytes) -> str | None:
    """What these bytes would be, once signed, in words that follow "this is"; None for plain data.

    Whole signed structures and PEM count as well: nobody sees what they say when they are signed
    as a file. Sources: RFC 5280, 2986, 6960, 5755, 4211, 5652 (5.4), 8446 (4.4.3), OpenSSH's
    PROTOCOL.sshsig and PROTOCOL.certkeys.
    """
    from tpmhsm.pki.tbs import structure_kind

    if kind := structure_kind(data):
        return _WORDS[kind]
    if message := _message(data):
        return message
    if not data or data[0] not in _FIRST_OCTETS or is_text(data):
        return None
    try:
        check_strict(data)
    except ParseError:
        return "an ASN.1 structure that is not strict DER: other software may read more in it"
    return _other_structure(data)


def _message(data: bytes) -> str | None:
    """What protocols sign that is no ASN.1."""
    if data.startswith(_TLS13):
        return "what a TLS handshake signs"
    if data.startswith(b"SSHSIG"):
        return "what an SSH signature is made over"
    if data.startswith(b"\0\0\0") and _SSH_CERTIFICATE in data[:80]:
        return "an SSH certificate"
    return None


def is_text(data: bytes) -> bool:
    """UTF-8 with nothing but printable characters, line ends and tabs.

    Text is no structure, though it may begin with "0" (the octet of SEQUENCE): each structure has
    an identifier or a time in it, whose tags are control characters in every encoding.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\n\r\t" for c in text)


def _other_structure(data: bytes) -> str | None:
    """The kinds that `structure_kind` does not know, in strict DER."""
    outer = der.read_whole(data)
    parts = der.children(outer.content)
    tags = [part.tag for part in parts]
    if outer.tag == der.SET:
        return "the signed attributes of a CMS message" if _is_attribute(parts[:1]) else None
    if len(tags) >= 6 and all(
        want in (tag, None) for want, tag in zip(_ATTRIBUTE_CERTIFICATE, tags, strict=False)
    ):
        return "an attribute certificate's signed part"
    if tags == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        return "a signed structure"
    if tags == [der.SEQUENCE, der.IA5_STRING]:
        return "a browser's request for a certificate (SPKAC)"
    if tags[:2] == [der.INTEGER, der.SEQUENCE] and _is_template(parts[1]):
        return "a request for a certificate (CRMF)"
    return None


def _is_attribute(parts: list[der.Element]) -> bool:
    if not parts or parts[0].tag != der.SEQUENCE:
        return False
    return [part.tag for part in der.children(parts[0].content)] == [der.OID, der.SET]


def _is_template(element: der.Element) -> bool:
    fields = der.children(element.content)
    return bool(fields) and all(field.tag & 0xC0 == 0x80 for field in fields)


def check_strict(data: bytes) -> None:
    """ParseError, saying why, unless `data` is one DER element and DER all the way down.

    Lengths and tags in their shortest form, strings and times primitive, times in the one form of
    RFC 5280, nothing after the end. Tags above 30 are not taken. The order in a SET OF is not
    looked at: it hides nothing.
    """
    _check(der.read_whole(data), 0)


def _check(element: der.Element, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ParseError("ASN.1 elements are nested too deeply")
    if element.tag & 0xC0 == 0:
        constructed = bool(element.tag & 0x20)
        if constructed != (element.tag in (der.SEQUENCE, der.SET)) or element.tag in (0x10, 0x11):
            raise ParseError(f"tag {element.tag:#04x} is in a form that DER does not have")
        fine = _PRIMITIVES.get(element.tag)
        if fine is not None and not fine(element.content):
            raise ParseError(f"a value of tag {element.tag:#04x} is not in its one form of DER")
    if element.tag & 0x20:
        for part in der.children(element.content):
            _check(part, depth + 1)


def _fine_integer(content: bytes) -> bool:
    if len(content) < 2:
        return bool(content)
    return (content[0], content[1] >> 7) not in ((0, 0), (0xFF, 1))


def _fine_bits(content: bytes) -> bool:
    if not content or content[0] > 7 or (len(content) == 1 and content[0]):
        return False
    return len(content) == 1 or content[-1] & ((1 << content[0]) - 1) == 0


def _matches(pattern: bytes) -> Callable[[bytes], Any]:
    return re.compile(pattern, re.DOTALL).fullmatch


_PRIMITIVES: dict[int, Callable[[bytes], Any]] = {
    0x00: lambda content: False,  # end-of-contents
    der.BOOLEAN: lambda content: content in (b"\0", b"\xff"),
    der.INTEGER: _fine_integer,
    _ENUMERATED: _fine_integer,
    der.BIT_STRING: _fine_bits,
    der.NULL: lambda content: not content,
    der.OID: _matches(rb"(?:[\x81-\xff][\x80-\xff]*[\0-\x7f]|[\0-\x7f])+"),
    der.UTC_TIME: _matches(rb"[0-9]{12}Z"),
    der.GENERALIZED_TIME: _matches(rb"[0-9]{14}Z"),
}
