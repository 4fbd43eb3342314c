"""Certificates as the world has them: read as far as anything in them can be read.

Issuing, approving and validating read strictly (`tbs`). Storing and showing must not lose a
certificate because one field breaks a rule: here each field is read alone, BER where it is BER, and
what breaks is kept as a fault in words. Only what has not the shape of a certificate (RFC 5280,
4.1) is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import RawExtension, read_extension
from tpmhsm.pki.tbs import read_time

MAX_EXTENSIONS = 500
"""More are not decoded: real certificates have about ten."""

_CONSTRUCTED = 0x20
_SHAPE = [der.INTEGER, *[der.SEQUENCE & ~_CONSTRUCTED] * 5]


class LooseCertificate(NamedTuple):
    """The fields of a certificate, DER or BER where not yet decoded.

    `not_before` and `not_after` are None where they are no times; `faults` says in words what could
    not be read, and what was there instead.
    """

    raw: bytes
    tbs: bytes
    outer_algorithm: bytes
    signature: bytes
    version: int
    serial: bytes
    algorithm: bytes
    issuer: bytes
    not_before: datetime | None
    not_after: datetime | None
    validity: bytes
    subject: bytes
    spki: bytes
    unique_ids: int
    extensions: list[RawExtension]
    faults: list[str]

    @property
    def serial_number(self) -> int:
        """The serial number, negative where it was written so."""
        return int.from_bytes(self.serial, "big", signed=True)


def read_loosely(raw: bytes) -> LooseCertificate:
    """The fields of a certificate. ParseError for what has not the shape of one."""
    outer = der.read_whole(raw, lenient=True)
    parts = _children(outer, "a certificate")
    if _plain_tags(parts) != [0x10, 0x10, der.BIT_STRING]:
        raise ParseError("this is not a certificate: its three parts are of other types")
    fields = _children(parts[0], "a TBSCertificate")
    faults: list[str] = []
    version = _version(fields, faults)
    if _plain_tags(fields[:6]) != _SHAPE:
        raise ParseError("this is not a certificate: its fields are of other types")
    not_before, not_after = _times(fields[3], faults)
    extensions, unique_ids = _rest(fields[6:], faults)
    return LooseCertificate(
        raw,
        parts[0].raw,
        parts[1].raw,
        _signature(parts[2], faults),
        version,
        _serial(fields[0], faults),
        fields[1].raw,
        fields[2].raw,
        not_before,
        not_after,
        fields[3].raw,
        fields[4].raw,
        fields[5].raw,
        unique_ids,
        extensions,
        faults,
    )


def _children(element: der.Element, what: str) -> list[der.Element]:
    if element.tag != der.SEQUENCE:
        raise ParseError(f"this is not {what}: it does not begin with a SEQUENCE")
    return der.children(element.content, lenient=True)


def _plain_tags(elements: list[der.Element]) -> list[int]:
    """Without the bit for "constructed", with which some software is careless."""
    return [element.tag & ~_CONSTRUCTED for element in elements]


def _version(fields: list[der.Element], faults: list[str]) -> int:
    if not fields or fields[0].tag != 0xA0:
        return 1
    try:
        number = der.read_whole(fields.pop(0).content, lenient=True)
    except ParseError as error:
        raise ParseError(f"this is not a certificate: {error.message}") from error
    if number.tag != der.INTEGER:
        raise ParseError("this is not a certificate: its version is no INTEGER")
    version = int.from_bytes(number.content[:8], "big", signed=True) + 1
    if version == 1:
        faults.append("version 1 is written out, which DER leaves out")
    elif version not in (2, 3):
        faults.append(f"there is no version {version}")
    return version


def _serial(field: der.Element, faults: list[str]) -> bytes:
    if not field.content:
        faults.append("the serial number is empty")
    return field.content


def _signature(part: der.Element, faults: list[str]) -> bytes:
    if part.tag & 0x20:
        faults.append("the signature is cut into pieces (BER)")
        return b""
    if part.content[:1] != b"\0":
        faults.append("the signature is no whole number of octets")
    return part.content[1:]


def _times(field: der.Element, faults: list[str]) -> tuple[datetime | None, datetime | None]:
    try:
        times = der.children(field.content, lenient=True)
    except ParseError:
        times = []
    if len(times) != 2:
        faults.append("the validity is not two times")
        return None, None
    return _time(times[0], "notBefore", faults), _time(times[1], "notAfter", faults)


def _time(element: der.Element, name: str, faults: list[str]) -> datetime | None:
    try:
        return read_time(element)
    except ParseError as error:
        faults.append(f"{name}: {error.message}")
        return None


def _rest(parts: list[der.Element], faults: list[str]) -> tuple[list[RawExtension], int]:
    """The extensions, and how many unique identifiers there are."""
    extensions: list[RawExtension] = []
    unique_ids = 0
    for part in parts:
        if part.tag == 0xA3:
            extensions += _extensions(part, faults)
        elif part.tag in (0x81, 0x82, 0xA1, 0xA2):
            unique_ids += 1
        else:
            faults.append(f"an unknown field (tag {part.tag:#04x}) follows the public key")
    tags = [part.tag for part in parts]
    if tags != sorted(set(tags)):
        faults.append("the fields after the public key are not in their order")
    return extensions, unique_ids


def _extensions(part: der.Element, faults: list[str]) -> list[RawExtension]:
    try:
        outer = der.read_whole(part.content, lenient=True)
        items = _children(outer, "a list of extensions")
    except ParseError as error:
        faults.append(f"the extensions cannot be read: {error.message}")
        return []
    if len(items) > MAX_EXTENSIONS:
        faults.append(f"only {MAX_EXTENSIONS} of {len(items)} extensions are read")
    found = []
    for number, item in enumerate(items[:MAX_EXTENSIONS], 1):
        try:
            found.append(read_extension(item, lenient=True))
        except ParseError as error:
            faults.append(f"extension {number} cannot be read: {error.message}")
    return found
