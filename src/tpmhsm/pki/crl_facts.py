"""What a CRL says, also one of a million entries, or one that breaks rules (RFC 5280 section 5).

Entries are counted where they stand, without a copy and without decoding each: most of them end in
one of a few ways (a reason, or nothing), and each way is decoded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import EXTENSION_NAMES, RawExtension, read_extension
from tpmhsm.pki.keys import sha256_hex
from tpmhsm.pki.names import show_dn
from tpmhsm.pki.sans import sans_anyway
from tpmhsm.pki.tbs import read_time, rfc3339, serial_hex, signature_name

SHOWN = 20
"""Entries that are shown one by one."""

REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "7",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
)
_NAMES = EXTENSION_NAMES | {
    "2.5.29.20": "cRLNumber",
    "2.5.29.21": "reasonCode",
    "2.5.29.24": "invalidityDate",
    "2.5.29.27": "deltaCRLIndicator",
    "2.5.29.28": "issuingDistributionPoint",
    "2.5.29.29": "certificateIssuer",
    "2.5.29.60": "expiredCertsOnCRL",
    "1.3.6.1.4.1.311.21.1": "caVersion",
    "1.3.6.1.4.1.311.21.4": "nextPublish",
}
_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)
_CONSTRUCTED = 0x20
_MAX_TAILS = 4096
_FLAGS = {0x81: "only_user", 0x82: "only_ca", 0x84: "indirect", 0x85: "only_attribute"}


def describe_crl(raw: bytes) -> dict[str, Any]:
    """JSON-ready facts of a CRL. ParseError for what is none; its signature is not checked.

    `entries` is their number, `reasons` how many have which, `revoked` the first of them one by
    one; `delta_base` the number of the CRL that a delta is about; `idp` its distribution point.
    """
    try:
        facts = _describe(raw)
    except ParseError:
        facts = _describe(der.definite(raw))  # BER with indefinite lengths: rare, and slower
        facts["marks"].insert(0, "not DER: it has lengths that are indefinite")
    facts["sha256"] = sha256_hex(raw)
    return facts


def _describe(raw: bytes) -> dict[str, Any]:
    parts = _spans(raw, 0, len(raw), what="a CRL")
    if len(parts) != 1 or raw[0] != der.SEQUENCE:
        raise ParseError("this is not a CRL: it does not begin with a SEQUENCE")
    outer = _spans(raw, *parts[0][1:], what="a CRL")
    if [tag for tag, _, _ in outer] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise ParseError("this is not a CRL: its three parts are of other types")
    fields = _spans(raw, *outer[0][1:], what="a CRL")
    problems: list[str] = []
    version = _version(raw, fields)
    tags = [tag & ~_CONSTRUCTED for tag, _, _ in fields]  # some software is careless with it
    if tags[:2] != [0x10, 0x10] or len(tags) < 3 or tags[2] not in _TIMES:
        raise ParseError("this is not a CRL: its fields are of other types")
    times = [span for span in fields[2:4] if span[0] & ~_CONSTRUCTED in _TIMES]
    rest = fields[2 + len(times) :]
    entries = rest.pop(0) if rest and rest[0][0] == der.SEQUENCE else None
    facts: dict[str, Any] = {
        "issuer": show_dn(_encoded(raw, fields[1])),
        "version": version,
        "number": None,
        "this_update": _moment(raw, times[0], problems),
        "next_update": _moment(raw, times[1], problems) if len(times) > 1 else None,
        "delta_base": None,
        "idp": None,
        "aki": None,
        **_entries(raw, entries, problems),
        "signature_algorithm": signature_name(_encoded(raw, outer[1])),
    }
    extensions = _extensions(raw, rest, problems)
    for extension in extensions:
        _read_extension(extension, facts, problems)
    facts["extensions"] = [
        {"oid": item.oid, "name": _NAMES.get(item.oid), "critical": item.critical}
        for item in extensions
    ]
    if extensions and version != 2:
        problems.append(f"version {version} with extensions, which version 2 alone has")
    facts["marks"] = list(dict.fromkeys(problems))[:100]
    return facts


Span = tuple[int, int, int]
"""Tag, begin and end of the content of an element."""


def _spans(data: bytes, start: int, end: int, *, what: str) -> list[Span]:
    """The elements between two offsets."""
    found = []
    while start < end:
        tag, body, stop = der.span(data, start)
        if stop > end:
            raise ParseError(f"this is not {what}: it is cut off, at byte {start}")
        found.append((tag, body, stop))
        start = stop
    return found


def _encoded(raw: bytes, span: Span) -> bytes:
    """The element again; its header was the shortest or is made so."""
    return der.encode(span[0], raw[span[1] : span[2]])


def _version(raw: bytes, fields: list[Span]) -> int:
    if not fields or fields[0][0] != der.INTEGER:
        return 1
    _, body, end = fields.pop(0)
    return int.from_bytes(raw[body : min(end, body + 8)], "big") + 1


def _moment(raw: bytes, span: Span, problems: list[str]) -> str | None:
    content = raw[span[1] : span[2]]
    try:
        return rfc3339(read_time(der.Element(span[0], content, b"")))
    except ParseError as error:
        problems.append(error.message)
        return None


def _entries(raw: bytes, span: Span | None, problems: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"entries": 0, "reasons": {}, "revoked": []}
    if span is None:
        return facts
    tails: Counter[bytes] = Counter()
    reasons: Counter[str] = Counter()
    for number, (serial, time, tail) in enumerate(_each(raw, span[1], span[2], problems), 1):
        facts["entries"] = number
        if number <= SHOWN:
            facts["revoked"].append(
                {
                    "serial": serial_hex(int.from_bytes(raw[slice(*serial)], "big", signed=True)),
                    "date": _moment(raw, time, problems),
                    "reason": _reason(tail),
                }
            )
        if tail in tails or len(tails) < _MAX_TAILS:
            tails[tail] += 1
        else:
            reasons[_reason(tail) or "none"] += 1
    for tail, count in tails.items():
        reasons[_reason(tail) or "none"] += count
    facts["reasons"] = dict(reasons.most_common())
    return facts


def _each(
    raw: bytes, position: int, end: int, problems: list[str]
) -> Iterator[tuple[tuple[int, int], Span, bytes]]:
    """Of each entry where its serial and its time stand, and what follows them."""
    while position < end:
        try:
            _, body, stop = der.span(raw, position)
            _, serial, after = der.span(raw, body)
            time_tag, time, tail = der.span(raw, after)
        except ParseError as error:
            problems.append(f"an entry that cannot be read: {error.message}")
            return
        if stop > end or tail > stop:
            problems.append(f"an entry that is cut off, at byte {position}")
            return
        yield (serial, after), (time_tag, time, tail), raw[tail:stop]
        position = stop


def _reason(tail: bytes) -> str | None:
    """The reason in the extensions of an entry, if it states one."""
    if not tail:
        return None
    try:
        for item in der.children(der.read_whole(tail, lenient=True).content, lenient=True):
            extension = read_extension(item, lenient=True)
            if extension.oid == "2.5.29.21":
                value = der.read_whole(extension.value, lenient=True).content
                code = int.from_bytes(value[:4], "big")
                return REASONS[code] if code < len(REASONS) else str(code)
    except ParseError:
        return "unreadable"
    return None


def _extensions(raw: bytes, rest: list[Span], problems: list[str]) -> list[RawExtension]:
    for tag, body, end in rest:
        if tag != 0xA0:
            problems.append(f"an unknown field (tag {tag:#04x}) follows the entries")
            continue
        try:
            items = der.children(der.read_whole(raw[body:end], lenient=True).content, lenient=True)
            return [read_extension(item, lenient=True) for item in items[:100]]
        except ParseError as error:
            problems.append(f"the extensions cannot be read: {error.message}")
    return []


def _read_extension(item: RawExtension, facts: dict[str, Any], problems: list[str]) -> None:
    try:
        value = der.read_whole(item.value, lenient=True)
        if item.oid == "2.5.29.20":
            facts["number"] = _number(value)
        elif item.oid == "2.5.29.27":
            facts["delta_base"] = _number(value)
        elif item.oid == "2.5.29.28":
            facts["idp"] = _distribution_point(value)
        elif item.oid == "2.5.29.35":
            parts = der.children(value.content, lenient=True)
            facts["aki"] = next((part.content.hex() for part in parts if part.tag == 0x80), None)
    except ParseError as error:
        name = _NAMES.get(item.oid, item.oid)
        problems.append(f"the extension {name} does not decode: {error.message}")


def _number(value: der.Element) -> str:
    """As hexadecimal when it is too large for a number in JSON."""
    if value.tag != der.INTEGER:
        raise ParseError("it is no number")
    number = int.from_bytes(value.content[:64], "big", signed=True)
    return str(number) if number.bit_length() <= 128 else f"0x{serial_hex(number)}"


def _distribution_point(value: der.Element) -> dict[str, Any]:
    found: dict[str, Any] = {"names": []}
    for part in der.children(value.content, lenient=True):
        if part.tag in _FLAGS:
            found[_FLAGS[part.tag]] = part.content != b"\0"
        elif part.tag == 0x83:
            found["only_some_reasons"] = True
        elif part.tag == 0xA0:
            name = der.read_whole(part.content, lenient=True)
            if name.tag == 0xA0:
                found["names"] = sans_anyway(der.encode(der.SEQUENCE, name.content))
            else:
                found["names"] = [f"relative:#{name.content.hex()}"]
    return found


def crl_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) pairs of `describe_crl` in the order people read them."""
    reasons = ", ".join(f"{count:,} {name}" for name, count in facts["reasons"].items())
    idp = facts["idp"] or {}
    scope = [*idp.get("names", ()), *(name.replace("_", " ") for name in idp if idp[name] is True)]
    listed = [
        f"{one['serial']}  {one['date'] or '?'}  {one['reason'] or ''}".rstrip()
        for one in facts["revoked"]
    ]
    if facts["entries"] > len(listed):
        listed.append(f"and {facts['entries'] - len(listed):,} more")
    rows = [
        ("Issuer", facts["issuer"] or "(empty)"),
        ("Number", facts["number"] or ""),
        ("Delta", f"to the CRL of number {facts['delta_base']}" if facts["delta_base"] else ""),
        ("This update", facts["this_update"] or "?"),
        ("Next update", facts["next_update"] or "(none is promised)"),
        ("Entries", f"{facts['entries']:,}" + (f" ({reasons})" if reasons else "")),
        ("Revoked", "\n".join(listed)),
        ("For", ", ".join(scope)),
        ("Marks", "\n".join(facts["marks"])),
        ("Signed", f"{facts['signature_algorithm']}, not checked"),
        ("SHA-256", facts["sha256"]),
    ]
    return [(label, text) for label, text in rows if text]
