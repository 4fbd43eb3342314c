"""EK certificates as chips keep them, and what they say of the chip.

TCG EK Credential Profile for TPM Family 2.0, sections 2.2 (NV) and 3.1 (certificate); TCG PC Client
Specific Implementation Specification 1.21, section 7.3.2 (headers). Dumps of NV have headers,
lengths, padding, several certificates. What the certificate says of maker and model are hints:
anyone can type them, and only the root that it ends at tells who did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tpmhsm.attest.ek_headers import skip_header
from tpmhsm.attest.makers import MAKERS, known_letters
from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import RawExtension
from tpmhsm.pki.loose import read_loosely

MAX_DUMP = 1 << 17
_MOST = 32
_DEEPEST = 12
_MANUFACTURER, _MODEL, _VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"
_SPECIFICATION = "2.23.133.2.16"
_LONGEST = 100


@dataclass(frozen=True)
class EkDump:
    """The certificates of a dump, DER, the first the EK's; `notes` say what was cut off."""

    certificates: tuple[bytes, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EkHints:
    """What a certificate says of its chip: nothing here is proven.

    `letters` as in `makers.MAKERS` (empty: unknown), `maker` in words, or the digits as written.
    `specification` as "2.0 level 0 revision 138".
    """

    letters: str = ""
    maker: str = ""
    model: str = ""
    version: str = ""
    specification: str = ""

    @property
    def text(self) -> str:
        """In one line; empty when the certificate says nothing."""
        return ", ".join(part for part in (self.maker, self.model, self.version) if part)


def read_ek_dump(data: bytes) -> EkDump:
    """The certificates in what was read from NV, or in a file. ParseError when there is none."""
    if len(data) > MAX_DUMP:
        raise ParseError(f"{len(data):,} bytes are no EK certificate: no chip keeps so many")
    if b"-----BEGIN " in data or data[:1] == b"M":
        from tpmhsm.pki.load import certificate_ders

        return EkDump(tuple(certificate_ders(data, "the EK certificate")[:_MOST]))
    begin, notes = skip_header(data)
    found: list[bytes] = []
    position = begin
    while len(found) < _MOST and data[position : position + 1] == b"\x30":
        try:
            element, end = der.read(data, position, lenient=True)
            read_loosely(element.raw)
        except ParseError as error:
            if not found:
                raise ParseError(f"this is no EK certificate: {error.message}") from error
            break
        found.append(element.raw)
        position = end
    if not found:
        raise ParseError("this is no EK certificate: no DER begins there, and no header is known")
    if left := len(data) - position:
        rest = data[position:]
        filled = not rest.strip(rest[:1]) and rest[:1] in (b"\0", b"\xff")
        what = f"padding ({rest[:1].hex()})" if filled else "nothing that is known here"
        notes.append(f"{left} bytes follow: {what}")
    return EkDump(tuple(found), tuple(notes))


def read_hints(extensions: Sequence[RawExtension]) -> EkHints:
    """What the extensions say of the chip, wherever in them; malformed ones say nothing."""
    said: dict[str, str] = {}
    for item in extensions:
        if item.oid in ("2.5.29.17", "2.5.29.9"):
            try:
                element = der.read_whole(item.value, lenient=True)
            except ParseError:
                continue
            for oid, value in _attributes(element, _DEEPEST):
                said.setdefault(oid, value)
    letters = known_letters(said.get(_MANUFACTURER, ""))
    return EkHints(
        letters,
        MAKERS.get(letters, said.get(_MANUFACTURER, "")),
        said.get(_MODEL, ""),
        said.get(_VERSION, "").removeprefix("id:"),
        said.get(_SPECIFICATION, ""),
    )


def _attributes(element: der.Element, depth: int) -> Iterator[tuple[str, str]]:
    """Pairs of an identifier of the TCG and its value: real names stand under tags of all kinds."""
    if not depth or not element.tag & 0x20:
        return
    try:
        parts = der.children(element.content, lenient=True)
        if len(parts) == 2 and parts[0].tag == der.OID:
            oid = der.decode_oid(parts[0].content)
            if oid.startswith("2.23.133.2."):
                yield oid, _value(oid, parts[1])
            return
    except ParseError:
        return
    for part in parts[:_MOST]:
        yield from _attributes(part, depth - 1)


def _value(oid: str, element: der.Element) -> str:
    """A string; of a specification family, level and revision (3.1.4)."""
    while element.tag == der.SET:
        inner = der.children(element.content, lenient=True)
        if not inner:
            return ""
        element = inner[0]
    if oid == _SPECIFICATION and element.tag == der.SEQUENCE:
        parts = der.children(element.content, lenient=True)
        if [part.tag for part in parts[:3]] == [der.UTF8_STRING, der.INTEGER, der.INTEGER]:
            level, revision = (int.from_bytes(part.content[:8], "big") for part in parts[1:3])
            return f"{_string(parts[0])} level {level} revision {revision}"
    return "" if element.tag & 0x20 else _string(element)


def _string(element: der.Element) -> str:
    encoding = "utf-16-be" if element.tag == 0x1E else "utf-8"
    return element.content[: 2 * _LONGEST].decode(encoding, "replace").strip("\0 ")[:_LONGEST]
