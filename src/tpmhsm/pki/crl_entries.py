"""One entry of a CRL's revokedCertificates, as DER and back (RFC 5280 section 5.1.2.6 and 5.3).

Entries are written once, when a certificate is revoked, and joined when a CRL is made: a million
of them take about a second, where building them anew takes minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.facts import raw_extensions
from tpmhsm.pki.reasons import CODES, NAMES, UNSPECIFIED
from tpmhsm.pki.tbs import read_time

_REASON, _INVALIDITY = "2.5.29.21", "2.5.29.24"
_ENUMERATED = 0x0A

# UTCTime, then nothing or the reason alone, as `encode_entry` writes them.
_USUAL = re.compile(
    rb"\x17\x0d(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z"
    rb"(\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01(.))?",
    re.DOTALL,
)
_DIGITS = {b"%02d" % number: number for number in range(100)}
_STATED = {bytes((code,)): name for name, code in CODES.items() if name != UNSPECIFIED}


class Entry(NamedTuple):
    """A revoked certificate. `reason` is empty when none is stated; `odd` says in words what an
    entry has that this program never writes.
    """

    serial: int
    revoked: datetime
    reason: str = ""
    invalidity: datetime | None = None
    odd: tuple[str, ...] = ()


def encode_entry(entry: Entry) -> bytes:
    """DER of an entry. An unspecified reason is left out, as RFC 5280 section 5.3.1 wants it.

    UsageError for a reason that is none.
    """
    if entry.reason and entry.reason not in CODES:
        raise UsageError(f"{entry.reason!r} is no reason for a revocation", code="bad-reason")
    extensions = []
    if entry.reason and entry.reason != UNSPECIFIED:
        code = der.encode(_ENUMERATED, bytes((CODES[entry.reason],)))
        extensions.append(der.encode_extension(_REASON, code))
    if entry.invalidity is not None:
        extensions.append(der.encode_extension(_INVALIDITY, der.generalized_time(entry.invalidity)))
    return der.encode(
        der.SEQUENCE,
        der.encode_integer(entry.serial),
        der.encode_time(entry.revoked),
        der.encode(der.SEQUENCE, *extensions) if extensions else b"",
    )


def split_entries(content: bytes) -> Iterator[bytes]:
    """The entries that fill the content of revokedCertificates, each whole and undecoded."""
    position, end = 0, len(content)
    while position < end:
        size = content[position + 1] if position + 1 < end else 0x80
        if content[position] == der.SEQUENCE and size < 0x80 and position + 2 + size <= end:
            yield content[position : position + 2 + size]  # nearly all; the rest goes the long way
            position += 2 + size
            continue
        element, position = der.read(content, position)
        if element.tag != der.SEQUENCE:
            raise ParseError("an entry of a CRL that is no SEQUENCE")
        yield element.raw


def serial_of(raw: bytes) -> bytes:
    """The DER of an entry's serial, without looking at the rest. ParseError when it has none."""
    if len(raw) > 4 and raw[1] < 0x80 and raw[2] == der.INTEGER and len(raw) > 4 + raw[3]:
        return raw[2 : 4 + raw[3]]
    parts = der.children(der.read_whole(raw).content)
    if not parts or parts[0].tag != der.INTEGER:
        raise ParseError("an entry of a CRL without a serial")
    return parts[0].raw


def read_entry(raw: bytes) -> Entry:
    """Decode an entry. ParseError when it is none."""
    if (usual := usual_entry(raw)) is not None:
        return usual
    parts = der.children(der.read_whole(raw).content)
    tags = [part.tag for part in parts]
    if len(parts) not in (2, 3) or tags[0] != der.INTEGER or tags[2:] not in ([], [der.SEQUENCE]):
        raise ParseError("an entry of a CRL whose fields are of other types")
    serial = int.from_bytes(parts[0].content, "big", signed=True)
    entry = Entry(serial, read_time(parts[1]))
    odd = [] if der.encode_time(entry.revoked) == parts[1].raw else ["its date is written oddly"]
    seen = set()
    for item in raw_extensions(parts[2].content) if len(parts) == 3 else []:
        if item.oid in seen:
            odd.append(f"the extension {item.oid} twice")
        seen.add(item.oid)
        if item.critical or item.oid not in (_REASON, _INVALIDITY):
            odd.append(f"the {'critical ' * item.critical}extension {item.oid}")
        if item.oid == _REASON:
            entry = entry._replace(reason=_read_reason(item.value, odd))
        elif item.oid == _INVALIDITY:
            entry = entry._replace(invalidity=read_time(der.read_whole(item.value)))
    return entry._replace(odd=tuple(odd))


def usual_entry(raw: bytes) -> Entry | None:
    """An entry of exactly the form that `encode_entry` gives most of them, thirty times as fast;
    None for the others, which may be sound.
    """
    if len(raw) < 20 or raw[0] != der.SEQUENCE or raw[1] != len(raw) - 2 or raw[2] != der.INTEGER:
        return None
    size = raw[3]
    serial, rest = raw[4 : 4 + size], raw[4 + size :]
    if not 0 < size < 0x80 or serial[0] >= 0x80:
        return None
    if size > 1 and not serial[0] and serial[1] < 0x80:
        return None
    said = _usual_rest(rest)
    return None if said is None else Entry(int.from_bytes(serial, "big"), *said)


def _usual_rest(rest: bytes) -> tuple[datetime, str] | None:
    found = _USUAL.fullmatch(rest)
    if found is None:
        return None
    reason = _STATED.get(found[8], "")
    if found[8] and not reason:
        return None
    # RFC 5280, 4.1.2.5.1: two digits from 50 on are of the last century
    year, *others = [_DIGITS[two] for two in found.groups()[:6]]
    try:
        return datetime(year + (2000 if year < 50 else 1900), *others, tzinfo=UTC), reason  # type: ignore[misc, arg-type]
    except ValueError:
        return None


def _read_reason(value: bytes, odd: list[str]) -> str:
    element = der.read_whole(value)
    if element.tag != _ENUMERATED or len(element.content) != 1:
        raise ParseError("a reason that is no ENUMERATED")
    code = element.content[0]
    if code not in NAMES or code == CODES[UNSPECIFIED]:
        odd.append(f"the reason {NAMES.get(code, code)}, written out")
    return NAMES.get(code, str(code))
