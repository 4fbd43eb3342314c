"""What is wrong with a certificate that is kept and shown all the same, in words.

Rules of RFC 5280 (4.1, 4.2, appendix A) and of DER (X.690) that real certificates break. Nothing
here refuses: refusing is for who issues (`lint`) and who validates (`verify`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cryptography import x509

from tpmhsm.errors import ParseError
from tpmhsm.pki import attributes, der
from tpmhsm.pki.disguise import check_strict
from tpmhsm.pki.loose import LooseCertificate
from tpmhsm.pki.names import DECODERS, PRINTABLE
from tpmhsm.pki.recall import recalled

MAX_MARKS = 100
_DIRECTORY_STRINGS = (der.UTF8_STRING, der.PRINTABLE_STRING, 0x14, 0x1C, 0x1E)
_ALLOWED = {
    "utf8": _DIRECTORY_STRINGS,
    "printable": (der.PRINTABLE_STRING,),
    "ia5": (der.IA5_STRING,),
}
_ASCII_NAMES = ("dns:", "email:", "uri:")
_STRINGS = {
    der.UTF8_STRING: "UTF8String",
    der.PRINTABLE_STRING: "PrintableString",
    der.IA5_STRING: "IA5String",
    0x12: "NumericString",
    0x14: "TeletexString",
    0x1A: "VisibleString",
    0x1C: "UniversalString",
    0x1E: "BMPString",
}


def certificate_marks(certificate: LooseCertificate, facts: dict[str, Any]) -> list[str]:
    """All that is wrong, each thing once, in the order of the fields.

    `facts` are those of `describe_certificate`; its `problems` (what cannot be read) are among the
    marks.
    """
    found: dict[str, None] = {}
    for mark in _marks(certificate, facts):
        found[mark] = None
        if len(found) == MAX_MARKS:
            found["and more"] = None
            break
    return list(found)


def _marks(certificate: LooseCertificate, facts: dict[str, Any]) -> Iterator[str]:
    yield from facts["problems"]
    if problem := facts["key"].get("problem"):
        yield problem
    try:
        check_strict(certificate.raw)
    except ParseError as error:
        yield f"not strict DER: {error.message}"
    yield from _refusal(certificate.raw)
    yield from _version_marks(certificate)
    yield from _serial_marks(certificate.serial)
    if certificate.algorithm != certificate.outer_algorithm:
        yield "the algorithm of the signature is another outside than inside"
    yield from _marks_of_name(certificate.issuer, "the issuer")
    yield from _time_marks(certificate)
    yield from _marks_of_name(certificate.subject, "the subject")
    yield from _empty_marks(certificate, facts)
    if any(not name.isascii() for name in facts["sans"] if name.startswith(_ASCII_NAMES)):
        yield "an alternative name is not ASCII"
    if facts["path_length"] is not None and not facts["ca"]:
        yield "a path length without CA:TRUE"


def _refusal(raw: bytes) -> Iterator[str]:
    """Whether a strict reader takes it; if it does not, why, in that reader's words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it refuses in later versions
            x509.load_der_x509_certificate(raw)
    except (ValueError, x509.InvalidVersion) as error:
        found = re.search(r"kind: (\w+).*?location: \[(.*)\]", str(error))
        why = f"{found[1]} in {found[2]}" if found else str(error)
        yield f"strict software refuses it: {why.replace(chr(34), '')}"


def _version_marks(certificate: LooseCertificate) -> Iterator[str]:
    if certificate.extensions and certificate.version != 3:
        yield f"version {certificate.version} with extensions, which version 3 alone has"
    if certificate.unique_ids and certificate.version < 2:
        yield "version 1 with unique identifiers, which it does not have"


def _serial_marks(serial: bytes) -> Iterator[str]:
    number = int.from_bytes(serial, "big", signed=True)
    if number < 0:
        yield "the serial number is negative"
    elif number == 0:
        yield "the serial number is zero"
    if len(serial) > 20:
        yield f"the serial number has {len(serial)} octets, more than 20"


def _time_marks(certificate: LooseCertificate) -> Iterator[str]:
    begin, end = certificate.not_before, certificate.not_after
    for name, moment, tag in zip(
        ("notBefore", "notAfter"), (begin, end), _time_tags(certificate), strict=False
    ):
        if moment is not None and (tag == der.UTC_TIME) != _is_utc_year(moment):
            yield f"{name}: {moment.year} is in the wrong type of time"
    if begin is not None and end is not None and end < begin:
        yield "it ends before it begins"


def _time_tags(certificate: LooseCertificate) -> list[int]:
    content = der.read_whole(certificate.validity, lenient=True).content
    try:
        return [part.tag for part in der.children(content, lenient=True)]
    except ParseError:
        return []


def _is_utc_year(moment: datetime) -> bool:
    return 1950 <= moment.year < 2050


def _empty_marks(certificate: LooseCertificate, facts: dict[str, Any]) -> Iterator[str]:
    if not facts["issuer"]:
        yield "the issuer's name is empty"
    if facts["subject"]:
        return
    sans = [item for item in certificate.extensions if item.oid == "2.5.29.17"]
    if not sans:
        yield "the subject is empty, and there are no alternative names"
    elif not sans[0].critical:
        yield "the subject is empty, and the alternative names are not critical"
    if facts["ca"]:
        yield "the subject of a CA is empty"


@recalled
def _marks_of_name(encoded: bytes, whose: str) -> tuple[str, ...]:
    return tuple(_name_marks(encoded, whose))


def _name_marks(encoded: bytes, whose: str) -> Iterator[str]:
    try:
        for rdn in der.children(der.read_whole(encoded, lenient=True).content, lenient=True):
            yield from _rdn_marks(rdn, whose)
    except ParseError as error:
        yield f"{whose}: {error.message}"


def _rdn_marks(rdn: der.Element, whose: str) -> Iterator[str]:
    items = der.children(rdn.content, lenient=True)
    encodings = [item.raw for item in items]
    if rdn.tag != der.SET or not items:
        yield f"{whose} has an RDN that is no set of attributes"
    if encodings != sorted(encodings):
        yield f"{whose} has an RDN of several values that are out of order (not DER)"
    if len(set(encodings)) < len(encodings):
        yield f"{whose} has one attribute twice in one RDN"
    for item in items:
        parts = der.children(item.content, lenient=True)
        if [part.tag for part in parts[:1]] != [der.OID] or len(parts) != 2:
            yield f"{whose} has an attribute that is no pair of type and value"
        else:
            yield from _value_marks(der.decode_oid(parts[0].content), parts[1], whose)


def _value_marks(oid: str, value: der.Element, whose: str) -> Iterator[str]:
    known = attributes.BY_OID.get(oid)
    label = f"{whose}'s {known.names[0] if known else oid}"
    allowed = _ALLOWED[known.string] if known else tuple(DECODERS)
    if value.tag not in allowed:
        kind = _STRINGS.get(value.tag, f"value of tag {value.tag:#04x}")
        yield f"{label} is a {kind}, which it may not be"
    if value.tag not in DECODERS:
        return
    try:
        text = value.content.decode(DECODERS[value.tag])
    except UnicodeDecodeError:
        yield f"{label} does not decode as {_STRINGS[value.tag]}"
        return
    if not text:
        yield f"{label} is empty"
    if value.tag == der.PRINTABLE_STRING and not PRINTABLE.issuperset(text):
        yield f"{label} has characters that a PrintableString has not"
    if known and known.limit and len(text) > known.limit:
        yield f"{label} is longer than {known.limit} characters"
    if known and known.names[0] == "C" and not (len(text) == 2 and text.isalpha()):
        yield f"{label} is no code of two letters"
