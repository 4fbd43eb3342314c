"""A certificate as path validation reads it: every field decoded once, every fault noted.

Nothing here raises for an odd extension: what does not decode becomes a `Fault` of that
certificate, so that another path may still be found around it. RFC 5280 section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import EXTENSION_NAMES, KEY_USAGES, RawExtension
from tpmhsm.pki.general_names import (
    GeneralName,
    NameKey,
    name_key,
    rdn_key,
    read_general_names,
    subject_names,
)
from tpmhsm.pki.loose import read_loosely
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.subtrees import Subtrees, read_subtrees
from tpmhsm.pki.tbs import TbsCertificate, read_tbs_certificate

ANY_POLICY = "2.5.29.32.0"
ANY_USAGE = "2.5.29.37.0"

# What validation processes, or may leave unprocessed although it is critical.
UNDERSTOOD = frozenset(
    "2.5.29." + number
    for number in "14 15 17 18 19 30 31 32 33 35 36 37 46 54".split()  # noqa: SIM905
) | {"1.3.6.1.5.5.7.1.1"}


class Fault(NamedTuple):
    """Why something does not hold: a stable word, and the rest of a sentence about its subject."""

    reason: str
    words: str


class BasicConstraints(NamedTuple):
    """`path_length` None when there is no limit."""

    ca: bool
    path_length: int | None


class PolicyConstraints(NamedTuple):
    """Certificates that may follow; None when the field is absent."""

    require_explicit: int | None
    inhibit_mapping: int | None


class AuthorityKey(NamedTuple):
    """The authorityKeyIdentifier; `names` tells whether it names issuer or serial number."""

    key: bytes | None
    names: bool


class DistributionPoint(NamedTuple):
    """Where CRLs are. `names` None without fullName; `relative` an RDN's key; `reasons` all = None.

    `issuers` are the directory names of cRLIssuer.
    """

    names: tuple[GeneralName, ...] | None
    relative: tuple[Any, ...] | None
    reasons: frozenset[int] | None
    issuers: tuple[NameKey, ...]


@dataclass(frozen=True, eq=False)
class PathCertificate:
    """The fields of a certificate. Extensions that are absent are None."""

    raw: bytes
    tbs: bytes
    algorithm: bytes
    signature: bytes
    version: int
    serial: int
    issuer: bytes
    subject: bytes
    issuer_key: NameKey
    subject_key: NameKey
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: Mapping[str, RawExtension]
    faults: tuple[Fault, ...]
    basic: BasicConstraints | None = None
    key_usage: frozenset[str] | None = None
    usages: tuple[str, ...] | None = None
    sans: tuple[GeneralName, ...] | None = None
    subtrees: Subtrees | None = None
    policies: frozenset[str] | None = None
    mappings: tuple[tuple[str, str], ...] | None = None
    policy_constraints: PolicyConstraints | None = None
    inhibit_any: int | None = None
    authority_key: AuthorityKey | None = None
    subject_id: bytes | None = None
    points: tuple[DistributionPoint, ...] | None = None
    minor_faults: tuple[Fault, ...] = field(default=())

    @property
    def self_issued(self) -> bool:
        """Issuer and subject are the same name (RFC 5280, 3.2)."""
        return self.issuer_key == self.subject_key

    @property
    def is_ca(self) -> bool:
        """basicConstraints says so."""
        return self.basic is not None and self.basic.ca

    def is_critical(self, oid: str) -> bool:
        """Whether it has this extension, marked critical."""
        return oid in self.extensions and self.extensions[oid].critical

    @cached_property
    def names(self) -> tuple[GeneralName, ...]:
        """All names that name constraints speak of (RFC 5280, 4.2.1.10)."""
        return subject_names(self.subject, self.sans or ())


@lru_cache(maxsize=4096)
def read_path_certificate(raw: bytes) -> PathCertificate:
    """From DER. ParseError when not even the outer fields can be told apart."""
    tbs, algorithm, signature = split_signed(raw)
    fields = read_tbs_certificate(tbs)
    found = _Extensions(fields.extensions)
    return PathCertificate(
        raw,
        tbs,
        algorithm,
        signature,
        fields.version,
        fields.serial,
        fields.issuer,
        fields.subject,
        name_key(fields.issuer),
        name_key(fields.subject),
        fields.not_before,
        fields.not_after,
        fields.spki,
        MappingProxyType(found.items),
        (*_outer_faults(fields, algorithm), *found.faults),
        minor_faults=tuple(found.minor),
        **found.values,
    )


def read_path_certificate_loosely(raw: bytes) -> PathCertificate:
    """The same of a certificate that breaks rules of DER outside of its extensions, as some that
    are burnt into chips do: BER where it is BER, what breaks in `minor_faults`.

    ParseError when its times or names cannot be read either.
    """
    try:
        return read_path_certificate(raw)
    except ParseError:
        loose = read_loosely(raw)
    if loose.not_before is None or loose.not_after is None:
        raise ParseError("a certificate whose validity cannot be read")
    found = _Extensions(loose.extensions)
    told = (Fault("broken", f"breaks rules of its encoding: {words}") for words in loose.faults)
    return PathCertificate(
        loose.raw,
        loose.tbs,
        loose.outer_algorithm,
        loose.signature,
        loose.version,
        loose.serial_number,
        loose.issuer,
        loose.subject,
        name_key(loose.issuer),
        name_key(loose.subject),
        loose.not_before,
        loose.not_after,
        loose.spki,
        MappingProxyType(found.items),
        (*_clash(loose.algorithm, loose.outer_algorithm), *found.faults),
        minor_faults=(*found.minor, *told, Fault("broken", "is not in strict DER")),
        **found.values,
    )


def _outer_faults(fields: TbsCertificate, algorithm: bytes) -> Iterator[Fault]:
    """RFC 5280, 4.1.1.2 and 4.1.2.1."""
    yield from _clash(fields.algorithm, algorithm)
    if fields.version not in (1, 2, 3) or (fields.extensions and fields.version != 3):
        yield Fault("broken", f"is of version {fields.version}, which clashes with what it has")


def _clash(inner: bytes, outer: bytes) -> Iterator[Fault]:
    if inner != outer:
        yield Fault("broken", "names two different signature algorithms")


class _Extensions:
    """The extensions of one certificate, decoded one by one; what does not decode is a fault."""

    def __init__(self, extensions: list[RawExtension]) -> None:
        self.items: dict[str, RawExtension] = {}
        self.values: dict[str, Any] = {}
        self.faults: list[Fault] = []
        self.minor: list[Fault] = []
        for item in extensions:
            if item.oid in self.items:
                self.faults.append(Fault("broken", f"has the extension {_label(item)} twice"))
                continue
            self.items[item.oid] = item
            self._decode(item)
        unknown = [i.oid for i in extensions if i.critical and i.oid not in UNDERSTOOD]
        if unknown:
            words = f"has critical extensions unknown here: {', '.join(unknown)}"
            self.faults.append(Fault("unknown-critical", words))

    def _decode(self, item: RawExtension) -> None:
        attribute, reader = _READERS.get(item.oid, ("", None))
        if reader is None:
            return
        try:
            value = reader(item.value)
        except (ParseError, ValueError, IndexError) as error:
            fault = Fault("broken", f"has a malformed extension {_label(item)}: {error}")
            (self.minor if item.oid in _MINOR else self.faults).append(fault)
            return
        if attribute:
            self.values[attribute] = value


def _label(item: RawExtension) -> str:
    return EXTENSION_NAMES.get(item.oid, item.oid)


def _sequence(value: bytes) -> list[der.Element]:
    element = der.read_whole(value)
    if element.tag != der.SEQUENCE:
        raise ParseError("it is no sequence")
    return der.children(element.content)


def integer(element: der.Element, tag: int = der.INTEGER) -> int:
    """A non-negative INTEGER, perhaps with an implicit tag."""
    if element.tag != tag or not element.content:
        raise ParseError("a number is missing")
    value = int.from_bytes(element.content, "big", signed=True)
    if value < 0:
        raise ParseError("a number is negative")
    return value


def bits(content: bytes) -> frozenset[int]:
    """The numbers of the bits set in the content of a BIT STRING."""
    if not content or content[0] > 7:
        raise ParseError("a bit string without its bits")
    octets = content[1:]
    return frozenset(i for i in range(len(octets) * 8) if octets[i // 8] & (0x80 >> (i % 8)))


def boolean(element: der.Element) -> bool:
    """A BOOLEAN's content, whatever its tag."""
    if len(element.content) != 1:
        raise ParseError("a truth value that is none")
    return element.content != b"\0"


def _basic(value: bytes) -> BasicConstraints:
    parts = _sequence(value)
    ca = boolean(parts.pop(0)) if parts and parts[0].tag == der.BOOLEAN else False
    length = integer(parts.pop(0)) if parts else None
    if parts:
        raise ParseError("something follows")
    return BasicConstraints(ca, length)


def _key_usage(value: bytes) -> frozenset[str]:
    element = der.read_whole(value)
    if element.tag != der.BIT_STRING:
        raise ParseError("it is no bit string")
    names = list(KEY_USAGES)
    found = frozenset(names[i] for i in bits(element.content) if i < len(names))
    if not found:
        raise ParseError("it allows nothing at all")
    return found


def _oids(value: bytes) -> tuple[str, ...]:
    parts = _sequence(value)
    if not parts or any(part.tag != der.OID for part in parts):
        raise ParseError("it is no list of identifiers")
    return tuple(der.decode_oid(part.content) for part in parts)


def _alternative_names(value: bytes) -> tuple[GeneralName, ...]:
    names = read_general_names(der.read_whole(value).content)
    for name in names:
        if name.kind == "ip" and len(name.value) not in (4, 16):
            raise ParseError("an address that is none")
    return names


def _policies(value: bytes) -> frozenset[str]:
    found = []
    for item in _sequence(value):
        parts = der.children(item.content)
        if item.tag != der.SEQUENCE or not parts or parts[0].tag != der.OID:
            raise ParseError("a policy without its identifier")
        found.append(der.decode_oid(parts[0].content))
    if not found or len(found) != len(set(found)):
        raise ParseError("no policy, or one twice")
    return frozenset(found)


def _mappings(value: bytes) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in _sequence(value):
        parts = der.children(item.content)
        if [part.tag for part in parts] != [der.OID, der.OID]:
            raise ParseError("a policy mapping that is no pair")
        pairs.append((der.decode_oid(parts[0].content), der.decode_oid(parts[1].content)))
    if not pairs:
        raise ParseError("no policy mapping")
    return tuple(pairs)


def _policy_constraints(value: bytes) -> PolicyConstraints:
    parts = {part.tag: part for part in _sequence(value)}
    if not parts or set(parts) - {0x80, 0x81}:
        raise ParseError("policy constraints that constrain nothing")
    explicit, mapping = parts.get(0x80), parts.get(0x81)
    return PolicyConstraints(
        None if explicit is None else integer(explicit, 0x80),
        None if mapping is None else integer(mapping, 0x81),
    )


def read_authority_key(value: bytes) -> AuthorityKey:
    """The authorityKeyIdentifier extension (of CRLs, too)."""
    parts = {part.tag: part.content for part in _sequence(value)}
    return AuthorityKey(parts.get(0x80), bool({0xA1, 0x82} & set(parts)))


def _subject_id(value: bytes) -> bytes:
    element = der.read_whole(value)
    if element.tag != der.OCTET_STRING:
        raise ParseError("it is no octet string")
    return element.content


def _points(value: bytes) -> tuple[DistributionPoint, ...]:
    return tuple(_point(der.children(item.content)) for item in _sequence(value))


def _point(parts: list[der.Element]) -> DistributionPoint:
    fields = {part.tag: part.content for part in parts}
    names, relative = read_point_name(fields.get(0xA0))
    reasons = bits(fields[0x81]) if 0x81 in fields else None
    issuers = read_general_names(fields[0xA2]) if 0xA2 in fields else ()
    keys = tuple(name.value for name in issuers if name.kind == "dirname")
    return DistributionPoint(names, relative, reasons, keys)


def read_point_name(
    content: bytes | None,
) -> tuple[tuple[GeneralName, ...] | None, tuple[Any, ...] | None]:
    """(fullName, key of nameRelativeToCRLIssuer) of a DistributionPointName; one is None."""
    if content is None:
        return None, None
    choice = der.read_whole(content)
    if choice.tag == 0xA0:
        return read_general_names(choice.content), None
    if choice.tag != 0xA1:
        raise ParseError("a distribution point with an unknown name")
    return None, rdn_key(choice.content)


def _access(value: bytes) -> None:
    parts = _sequence(value)
    if not parts or any(p.tag != der.SEQUENCE or len(der.children(p.content)) != 2 for p in parts):
        raise ParseError("it is no list of access descriptions")


_READERS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "2.5.29.14": ("subject_id", _subject_id),
    "2.5.29.15": ("key_usage", _key_usage),
    "2.5.29.17": ("sans", _alternative_names),
    "2.5.29.19": ("basic", _basic),
    "2.5.29.30": ("subtrees", read_subtrees),
    "2.5.29.31": ("points", _points),
    "2.5.29.32": ("policies", _policies),
    "2.5.29.33": ("mappings", _mappings),
    "2.5.29.35": ("authority_key", read_authority_key),
    "2.5.29.36": ("policy_constraints", _policy_constraints),
    "2.5.29.37": ("usages", _oids),
    "2.5.29.54": ("inhibit_any", lambda value: integer(der.read_whole(value))),
    "1.3.6.1.5.5.7.1.1": ("", _access),
}
# Malformed, these do no harm to a path by themselves; profiles for the web refuse them.
_MINOR = frozenset({"2.5.29.14", "2.5.29.31", "2.5.29.35", "1.3.6.1.5.5.7.1.1"})
