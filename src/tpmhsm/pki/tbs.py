"""To-be-signed structures: recognising them, and what they say (RFC 5280, 2986, 6960).

`tbs_facts` is what an approver is shown of the bytes that are signed: it reads the DER itself and
fails rather than guess. `tbs_kind` is the opposite: it recognises anything that some lenient
verifier might take for one of these structures, so that it is never signed as plain data.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import RawExtension, extension_facts, raw_extensions
from tpmhsm.pki.keys import describe_spki
from tpmhsm.pki.names import format_dn_der
from tpmhsm.pki.recall import recalled

_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"

SIGNATURE_NAMES = {
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
}


WEAK_SIGNATURES = frozenset({"ecdsa-with-SHA1", "md5WithRSAEncryption", "sha1WithRSAEncryption"})
"""Names of signature algorithms that prove nothing any more."""


class TbsCertificate(NamedTuple):
    """The fields of a TBSCertificate, DER where not yet decoded."""

    version: int
    serial: int
    algorithm: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    subject: bytes
    spki: bytes
    extensions: list[RawExtension]


class RequestInfo(NamedTuple):
    """The fields of a CertificationRequestInfo; `attributes` are OIDs other than extensions."""

    subject: bytes
    spki: bytes
    extensions: list[RawExtension]
    attributes: list[str]


@recalled
def read_tbs_certificate(data: bytes) -> TbsCertificate:
    """The fields of TBSCertificate bytes. ParseError when they are anything else."""
    parts = der.children(_sequence(der.read_whole(data), "a TBSCertificate"))
    version = 1
    if parts and parts[0].tag == 0xA0:
        version = _integer(der.read_whole(parts.pop(0).content)) + 1
    tags = [part.tag for part in parts[:6]]
    if tags != [der.INTEGER, *[der.SEQUENCE] * 5]:
        raise ParseError("this is no TBSCertificate: its fields are of other types")
    not_before, not_after = _validity(parts[3])
    return TbsCertificate(
        version,
        _integer(parts[0]),
        parts[1].raw,
        parts[2].raw,
        not_before,
        not_after,
        parts[4].raw,
        parts[5].raw,
        _trailing_extensions(parts[6:]),
    )


def _trailing_extensions(parts: list[der.Element]) -> list[RawExtension]:
    tags = [part.tag for part in parts]
    if any(tag not in (0x81, 0x82, 0xA3) for tag in tags) or tags != sorted(set(tags)):
        raise ParseError("this is no TBSCertificate: unknown fields follow the public key")
    if 0xA3 not in tags:
        return []
    return raw_extensions(_sequence(der.read_whole(parts[-1].content), "a list of extensions"))


def _sequence(element: der.Element, what: str) -> bytes:
    if element.tag != der.SEQUENCE:
        raise ParseError(f"this is not {what}: it does not begin with a SEQUENCE")
    return element.content


def _integer(element: der.Element) -> int:
    if element.tag != der.INTEGER or not element.content:
        raise ParseError("an INTEGER is missing or empty")
    return int.from_bytes(element.content, "big", signed=True)


def _validity(element: der.Element) -> tuple[datetime, datetime]:
    times = der.children(element.content)
    if len(times) != 2:
        raise ParseError("the validity is not two times")
    return read_time(times[0]), read_time(times[1])


def read_time(element: der.Element) -> datetime:
    """UTCTime or GeneralizedTime as UTC (RFC 5280, 4.1.2.5; missing seconds are read as 0)."""
    return _time(element.tag, element.content)


@lru_cache(256)  # certificates of one second have the same times
def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii", "replace")
    if tag == der.UTC_TIME and text[:2].isdigit():
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != der.GENERALIZED_TIME:
        raise ParseError("a time that is neither UTCTime nor GeneralizedTime")
    digits, zone = text[:-1], text[-1:]
    if zone == "Z" and digits.isascii() and digits.isdigit() and len(digits) in (12, 14):
        numbers = [int(digits[:4]), *(int(digits[i : i + 2]) for i in range(4, len(digits), 2))]
        try:
            return datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type, misc]
        except ValueError:
            pass
    raise ParseError(f"{text!r} is no time")


@recalled
def read_request_info(data: bytes) -> RequestInfo:
    """The fields of CertificationRequestInfo bytes (RFC 2986, 4.1). ParseError otherwise."""
    parts = der.children(_sequence(der.read_whole(data), "a CertificationRequestInfo"))
    tags = [part.tag for part in parts]
    if tags not in ([0x02, 0x30, 0x30, 0xA0], [0x02, 0x30, 0x30]) or _integer(parts[0]) != 0:
        raise ParseError("this is no CertificationRequestInfo: its fields are of other types")
    extensions: list[RawExtension] = []
    others = []
    for attribute in der.children(parts[3].content) if len(parts) == 4 else []:
        pair = der.children(_sequence(attribute, "an attribute"))
        if [item.tag for item in pair] != [der.OID, der.SET]:
            raise ParseError("an attribute that is no identifier and set of values")
        oid = der.decode_oid(pair[0].content)
        if oid == _EXTENSION_REQUEST:
            value = der.read_whole(pair[1].content)
            extensions += raw_extensions(_sequence(value, "a list of extensions"))
        else:
            others.append(oid)
    return RequestInfo(parts[1].raw, parts[2].raw, extensions, others)


def tbs_facts(data: bytes) -> dict[str, Any]:
    """JSON-ready facts of TBSCertificate bytes. ParseError when they are anything else."""
    fields = read_tbs_certificate(data)
    facts: dict[str, Any] = {
        "version": fields.version,
        "subject": format_dn_der(fields.subject),
        "issuer": format_dn_der(fields.issuer),
        "self_issued": fields.subject == fields.issuer,
        "serial": serial_hex(fields.serial),
        "not_before": rfc3339(fields.not_before),
        "not_after": rfc3339(fields.not_after),
        "valid_days": valid_days(fields.not_before, fields.not_after),
        "key": describe_spki(fields.spki),
        "signature_algorithm": signature_name(fields.algorithm),
    }
    return facts | extension_facts(fields.extensions)


def request_info_facts(data: bytes) -> dict[str, Any]:
    """JSON-ready facts of CertificationRequestInfo bytes. ParseError for anything else."""
    fields = read_request_info(data)
    facts: dict[str, Any] = {
        "subject": format_dn_der(fields.subject),
        "key": describe_spki(fields.spki),
        "attributes": fields.attributes,
    }
    return facts | extension_facts(fields.extensions)


def serial_hex(serial: int) -> str:
    """Lower-case hexadecimal, whole octets; a minus sign before what RFC 5280 forbids."""
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + digits.zfill(len(digits) + len(digits) % 2)


@lru_cache(256)
def rfc3339(moment: datetime) -> str:
    """`2026-11-23T10:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def valid_days(not_before: datetime, not_after: datetime) -> int:
    """Days of validity, begun ones counted; both ends are inside (RFC 5280, 4.1.2.5)."""
    return -int(-((not_after - not_before).total_seconds() + 1) // 86400)


@recalled
def signature_name(algorithm: bytes) -> str:
    """The name of a DER AlgorithmIdentifier of a signature, else its OID."""
    from tpmhsm.pki.signatures import algorithm_oid

    try:
        oid = algorithm_oid(algorithm)
    except ParseError:
        return "unknown"
    return SIGNATURE_NAMES.get(oid, oid)


def tbs_kind(data: bytes) -> str | None:
    """`certificate`, `crl`, `ocsp` or `csr` when these bytes are the signed part of one.

    Lenient: BER is recognised, and so are bytes that begin with such a structure, whatever follows.
    """
    parts = _leading(data)
    tags = [part.tag for part in parts]
    if tags[:1] == [0xA0]:  # an explicit version: certificate or OCSP
        parts, tags = parts[1:], tags[1:]
    if tags[:6] == [der.INTEGER, *[der.SEQUENCE] * 5] and _is_times(parts[3]):
        return "certificate"
    if len(tags) >= 3 and tags[0] in (0xA1, 0xA2) and tags[1:3] == [der.GENERALIZED_TIME, 0x30]:
        return "ocsp"
    if tags[:3] == [der.INTEGER, der.SEQUENCE, der.SEQUENCE] and _is_spki(parts[2]):
        return "csr"
    crl = tags[1:] if tags[:1] == [der.INTEGER] else tags
    if crl[:2] == [der.SEQUENCE, der.SEQUENCE] and crl[2:3] and crl[2] in _TIMES:
        return "crl"
    return None


def _leading(data: bytes) -> list[der.Element]:
    """The elements at the start of a SEQUENCE, up to the first that is none."""
    parts: list[der.Element] = []
    try:
        outer, _ = der.read(data, lenient=True)
        position = 0 if outer.tag == der.SEQUENCE else len(outer.content)
        while position < len(outer.content) and len(parts) < 8:
            element, position = der.read(outer.content, position, lenient=True)
            parts.append(element)
    except ParseError:
        pass
    return parts


def _is_times(element: der.Element) -> bool:
    return [part.tag in _TIMES for part in _leading(element.raw)[:2]] == [True, True]


def _is_spki(element: der.Element) -> bool:
    return [part.tag for part in _leading(element.raw)[:2]] == [der.SEQUENCE, der.BIT_STRING]


def structure_kind(data: bytes) -> str | None:
    """As `tbs_kind`, and the same for whole signed structures, PEM included.

    A key that signs certificates signs none of these as data: `key sign` refuses them all.
    """
    from tpmhsm.pki.load import pem_blocks

    blobs = [data, *(block.der for block in pem_blocks(data))]
    for blob in blobs:
        if kind := tbs_kind(blob) or _signed_kind(blob):
            return kind
    return None


def _signed_kind(data: bytes) -> str | None:
    parts = _leading(data)
    tags = [part.tag for part in parts]
    if tags[:3] == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        return tbs_kind(parts[0].raw)
    if tags[:1] == [0x0A] and tags[1:] in ([], [0xA0]):  # OCSPResponse: status, [0] bytes
        return "ocsp"
    return None
