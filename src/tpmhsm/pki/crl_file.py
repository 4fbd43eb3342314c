"""CRLs as path validation reads them: outer fields at once, entries only when looked up.

RFC 5280 section 5. A list of a million entries is searched, not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import RawExtension, raw_extensions
from tpmhsm.pki.general_names import GeneralName, NameKey, name_key, read_general_names
from tpmhsm.pki.path_certificate import bits, boolean, integer, read_point_name
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.tbs import read_time

REASONS = (
    "unspecified",
    "key compromise",
    "CA compromise",
    "affiliation changed",
    "superseded",
    "cessation of operation",
    "certificate hold",
    "",
    "removed from the CRL",
    "privilege withdrawn",
    "AA compromise",
)
REMOVED = 8
MAX_SIZE = 256 << 20

_CRL_NUMBER, _DELTA, _IDP, _AUTHORITY_KEY = "2.5.29.20", "2.5.29.27", "2.5.29.28", "2.5.29.35"
_UNDERSTOOD = {_CRL_NUMBER, _DELTA, _IDP, _AUTHORITY_KEY, "2.5.29.18", "2.5.29.46"}
_REASON, _INVALIDITY, _CERTIFICATE_ISSUER = "2.5.29.21", "2.5.29.24", "2.5.29.29"
_ENTRY_UNDERSTOOD = {_REASON, _INVALIDITY, _CERTIFICATE_ISSUER, "2.5.29.23"}
_UNDERSTOOD_OIDS = {der.encode_oid(oid) for oid in _ENTRY_UNDERSTOOD}
_CRITICAL = bytes((der.BOOLEAN, 1, 0xFF, der.OCTET_STRING))
_LONGEST_OID = 64
_MAX_TWINS = 200_000


class IssuingPoint(NamedTuple):
    """The issuingDistributionPoint: what a CRL speaks of. `reasons` None: all."""

    names: tuple[GeneralName, ...] | None
    relative: tuple[Any, ...] | None
    only_user: bool
    only_ca: bool
    reasons: frozenset[int] | None
    indirect: bool
    only_attribute: bool


class Entry(NamedTuple):
    """One revoked certificate. `unknown`: it has a critical extension unknown here."""

    when: datetime
    reason: int
    unknown: bool


@dataclass(frozen=True, eq=False)
class PathCrl:
    """One CRL. `entries` are the octets of revokedCertificates; `unknown` critical extensions."""

    raw: bytes
    tbs: bytes
    algorithm: bytes
    signature: bytes
    issuer_key: NameKey
    this_update: datetime
    next_update: datetime | None
    odd_times: bool
    entries: bytes
    extensions: dict[str, RawExtension]
    unknown: tuple[str, ...]
    number: int | None
    delta_base: int | None
    point: IssuingPoint | None

    @property
    def number_is_proper(self) -> bool:
        """It has a number, not marked critical (RFC 5280, 5.2.3)."""
        return self.number is not None and not self.extensions[_CRL_NUMBER].critical

    def same_scope(self, other: PathCrl) -> bool:
        """Issuer, distribution point and key identifier are the same (RFC 5280, 6.3.3 (c))."""

        def of(crl: PathCrl) -> list[bytes]:
            found = (crl.extensions.get(oid) for oid in (_IDP, _AUTHORITY_KEY))
            return [item.value if item else b"" for item in found]

        return self.issuer_key == other.issuer_key and of(self) == of(other)

    def find(self, serial: int, issuer: NameKey) -> Entry | None:
        """The entry of a certificate. ParseError for entries that do not decode."""
        entry = self._find(der.encode_integer(serial), issuer)
        if entry is None and self.has_strange_entries:
            raise ParseError("it has entries with critical extensions unknown here")
        return entry

    def _find(self, wanted: bytes, issuer: NameKey) -> Entry | None:
        if self.point is None or not self.point.indirect:
            return None if issuer != self.issuer_key else self._find_direct(wanted)
        current = self.issuer_key
        for start, end in _spans(self.entries):
            parts = der.children(self.entries[start:end])
            _check_entry(parts)
            extensions = _entry_extensions(parts)
            if named := extensions.get(_CERTIFICATE_ISSUER):
                names = read_general_names(der.read_whole(named.value).content)
                current = next((n.value for n in names if n.kind == "dirname"), ())
            if parts[0].raw == wanted and current == issuer:
                return _entry(parts)
        return None

    def _find_direct(self, wanted: bytes) -> Entry | None:
        at, doubtful = self.entries.find(wanted), False
        while at >= 0:
            for header in self._headers(at):
                doubtful = True
                try:
                    element, _ = der.read(self.entries, at - header)
                    if len(element.raw) - len(element.content) == header:
                        return _entry(der.children(element.content))
                except ParseError:
                    continue
            at = self.entries.find(wanted, at + 1)
        return self._walk(wanted) if doubtful else None

    def _headers(self, at: int) -> Iterator[int]:
        """How many octets before `at` the header of an entry, DER or not, may begin there."""
        for header in range(2, min(at, 10) + 1):
            first = self.entries[at - header + 1]
            if self.entries[at - header] == der.SEQUENCE and (
                first <= 0x80 if header == 2 else first == 0x80 | header - 2
            ):
                yield header

    def _walk(self, wanted: bytes) -> Entry | None:
        """Entry by entry, where the octets of the number stand in something that is no neat entry:
        a revoked certificate whose entry breaks rules is not a good one.
        """
        for start, end in _spans(self.entries):
            if self.entries.startswith(wanted, start):
                return _entry(der.children(self.entries[start:end]))
        return None

    @cached_property
    def has_strange_entries(self) -> bool:
        """Whether an entry has a critical extension unknown here: nothing may be concluded from
        such a CRL, whomever the entry is about (RFC 5280, 5.3).
        """
        at = self.entries.find(_CRITICAL)
        while at >= 0:
            for start in range(at - 3, max(at - _LONGEST_OID, 0) - 1, -1):
                if self.entries[start] == der.OID and self.entries[start + 1] == at - start - 2:
                    if self.entries[start:at] not in _UNDERSTOOD_OIDS:
                        return True
                    break
            at = self.entries.find(_CRITICAL, at + 1)
        return False

    @cached_property
    def has_twins(self) -> bool:
        """Whether a serial number stands twice; lists longer than 200,000 are not looked through.

        Only for direct CRLs: in an indirect one two issuers may have used one number.
        """
        seen: set[bytes] = set()
        for start, _ in _spans(self.entries):
            serial = der.read(self.entries, start)[0].content
            if serial in seen:
                return True
            seen.add(serial)
            if len(seen) > _MAX_TWINS:
                break
        return False


def _spans(entries: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of the content of each entry."""
    position, end = 0, len(entries)
    while position < end:
        if position + 2 > end or entries[position] != der.SEQUENCE:
            raise ParseError("the CRL's entries are cut off")
        length, body = entries[position + 1], position + 2
        if length >= 0x80:
            count = length & 0x7F
            length, body = int.from_bytes(entries[body : body + count], "big"), body + count
        position = body + length
        if position > end:
            raise ParseError("the CRL's entries are cut off")
        yield body, position


def _entry_extensions(parts: list[der.Element]) -> dict[str, RawExtension]:
    found = raw_extensions(parts[2].content) if len(parts) > 2 else []
    return {item.oid: item for item in found}


def _check_entry(parts: list[der.Element]) -> None:
    if len(parts) not in (2, 3) or parts[0].tag != der.INTEGER:
        raise ParseError("a CRL entry of another form")


def _entry(parts: list[der.Element]) -> Entry:
    _check_entry(parts)
    extensions = _entry_extensions(parts)
    reason = 0
    if coded := extensions.get(_REASON):
        reason = int.from_bytes(der.read_whole(coded.value).content, "big")
    unknown = any(i.critical and i.oid not in _ENTRY_UNDERSTOOD for i in extensions.values())
    return Entry(read_time(parts[1]), reason, unknown)


@lru_cache(maxsize=16)
def read_path_crl(raw: bytes) -> PathCrl:
    """From DER. ParseError when it is no CRL, or not of version 1 or 2."""
    tbs, algorithm, signature = split_signed(raw, "a CRL")
    parts = der.children(der.read_whole(tbs).content)
    if parts and parts[0].tag == der.INTEGER and integer(parts.pop(0)) != 1:
        raise ParseError("the CRL's version is neither 1 nor 2")
    if len(parts) < 3 or [parts[0].tag, parts[1].tag] != [der.SEQUENCE, der.SEQUENCE]:
        raise ParseError("this is no CRL: its fields are of other types")
    if parts[0].raw != algorithm:
        raise ParseError("the CRL names two different signature algorithms")
    times = [parts[2]]
    rest = parts[3:]
    if rest and rest[0].tag in (der.UTC_TIME, der.GENERALIZED_TIME):
        times.append(rest.pop(0))
    entries = rest.pop(0).content if rest and rest[0].tag == der.SEQUENCE else b""
    extensions = _extensions(rest.pop(0)) if rest and rest[0].tag == 0xA0 else {}
    if rest:
        raise ParseError("this is no CRL: unknown fields follow")
    moments = [read_time(item) for item in times]
    return PathCrl(
        raw,
        tbs,
        algorithm,
        signature,
        name_key(parts[1].raw),
        moments[0],
        moments[1] if len(moments) > 1 else None,
        any(
            t.tag == der.GENERALIZED_TIME and m.year < 2050
            for t, m in zip(times, moments, strict=True)
        ),
        entries,
        extensions,
        tuple(i.oid for i in extensions.values() if i.critical and i.oid not in _UNDERSTOOD),
        _optional(extensions, _CRL_NUMBER, _number),
        _optional(extensions, _DELTA, _number),
        _optional(extensions, _IDP, _issuing_point),
    )


def _extensions(element: der.Element) -> dict[str, RawExtension]:
    items = raw_extensions(der.read_whole(element.content).content)
    found = {item.oid: item for item in items}
    if len(found) != len(items):
        raise ParseError("the CRL has an extension twice")
    return found


def _optional(extensions: dict[str, RawExtension], oid: str, reader: Callable[[bytes], Any]) -> Any:
    return reader(extensions[oid].value) if oid in extensions else None


def _number(value: bytes) -> int:
    return integer(der.read_whole(value))


def _issuing_point(value: bytes) -> IssuingPoint:
    fields = {part.tag: part for part in der.children(der.read_whole(value).content)}

    def flag(tag: int) -> bool:
        return tag in fields and boolean(fields[tag])

    names, relative = read_point_name(fields[0xA0].content if 0xA0 in fields else None)
    reasons = bits(fields[0x83].content) if 0x83 in fields else None
    return IssuingPoint(names, relative, flag(0x81), flag(0x82), reasons, flag(0x84), flag(0x85))


def crl_ders(data: bytes, what: str = "the file") -> list[bytes]:
    """DER of all CRLs of a file, PEM or DER, up to 256 MiB. ParseError when there is none."""
    from tpmhsm.pki.load import find_der, pem_blocks

    if len(data) > MAX_SIZE:
        raise ParseError(f"{what} is {len(data)} bytes; CRLs here are 256 MiB at most")
    if data[:1] == b"\x30":
        found = [data]
    elif b"-----BEGIN X509 CRL-----" in data:
        found = [block.der for block in pem_blocks(data) if block.label == "X509 CRL"]
    else:
        found = [block.der for block in find_der(data, ("X509 CRL",), "a CRL", what)]
    try:
        for raw in found:
            read_path_crl(raw)
    except ParseError as error:
        raise ParseError(f"{what} is no CRL that can be read: {error.message}") from error
    return found
