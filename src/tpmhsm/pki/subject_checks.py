"""Distinguished names of subjects: what may stand in them, how long, in which order.

RFC 5280 section 4.1.2.4 and appendix A.1 (upper bounds); RFC 4518; ISO 3166-1; CA/Browser Forum TLS
Baseline Requirements 7.1.2.10.2 and 7.1.4.2 where `lint` is `tls-br`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from tpmhsm.pki import attributes, der
from tpmhsm.pki.findings import Finding, Severity, refusal
from tpmhsm.pki.general_names import read_rdns
from tpmhsm.pki.names import DECODERS
from tpmhsm.pki.recall import recalled
from tpmhsm.pki.scripts import disguise

_ORDER = ("DC", "C", "ST", "L", "postalCode", "STREET", "O", "SN", "GN", "OU", "CN")
_REPEATABLE = ("DC", "STREET")
_ISO_3166 = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR"
    " BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ"
    " EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW"
    " GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY"
    " KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV"
    " MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY"
    " QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG"
    " TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XX YE YT ZA"
    " ZM ZW"
)
"""ISO 3166-1 alpha-2 of 2026, and XX, which the Baseline Requirements use for no country."""

_COUNTRIES = frozenset(_ISO_3166.split())

_TELETEX, _UNIVERSAL, _BMP = 0x14, 0x1C, 0x1E
_OLD_STRINGS = {_TELETEX: "TeletexString", _UNIVERSAL: "UniversalString", _BMP: "BMPString"}
_BR, _BOUNDS = "CABF BR 7.1.4.2", "RFC 5280, A.1"


class _Attribute(NamedTuple):
    label: str
    limit: int
    tag: int
    value: str | None


@recalled
def subject_findings(name: bytes, lint: str = "pkix", *, ca: bool = False) -> tuple[Finding, ...]:
    """Findings of a DER Name. ParseError when it is none."""
    return tuple(_findings(name, lint, ca=ca))


def _findings(name: bytes, lint: str, *, ca: bool) -> Iterator[Finding]:
    rdns = [[_read(oid, value) for oid, value in rdn] for rdn in read_rdns(name)]
    severity: Severity = "refusal" if lint == "tls-br" else "warning"
    for rdn in rdns:
        for attribute in rdn:
            yield from _value_findings(attribute, severity)
    labels = [attribute.label for rdn in rdns for attribute in sorted(rdn, key=_rank)]
    if len(labels) > 1:
        yield from _order_findings(labels, lint)
    if lint == "tls-br":
        yield from _br_findings(rdns, labels, ca)


def _read(oid: str, item: der.Element) -> _Attribute:
    known = attributes.BY_OID.get(oid)
    encoding = DECODERS.get(item.tag)
    try:
        value = item.content.decode(encoding) if encoding else None
    except UnicodeDecodeError:
        value = None
    label, limit = (known.names[0], known.limit) if known else (oid, 0)
    return _Attribute(label, limit, item.tag, value)


def _rank(attribute: _Attribute) -> int:
    return _ORDER.index(attribute.label) if attribute.label in _ORDER else len(_ORDER)


def _value_findings(attribute: _Attribute, severity: Severity) -> Iterator[Finding]:
    label, value = attribute.label, attribute.value
    if value is None:
        if attribute.tag in DECODERS:
            yield refusal("dn-encoding", f"{label} does not decode", "RFC 5280, 4.1.2.4")
        return
    if not value.strip():
        yield refusal("dn-empty", f"{label} is empty", "RFC 5280, A.1; " + _BR)
    elif not value.strip("-. "):
        words = f"{label} is {value!r}, which stands for nothing"
        yield Finding("dn-empty", words, severity, _BR)
    elif value != value.strip():
        words = f"{label} begins or ends with a space"
        yield Finding("dn-spaces", words, severity, _BR)
    if not (value.isascii() and value.isprintable()):
        yield from _character_findings(label, value, severity)
    if attribute.limit and len(value) > attribute.limit:
        words = f"{label} has {len(value)} characters, more than {attribute.limit}"
        yield refusal("dn-length", words, _BOUNDS)
    if name := _OLD_STRINGS.get(attribute.tag):
        words = f"{label} is a {name}, which readers decode differently"
        yield Finding("dn-encoding", words, severity, "RFC 5280, 4.1.2.4")
    if label in ("C", "jurisdictionC"):
        yield from _country_findings(label, value, severity)
    for word in value.split():
        if words := disguise(word):
            yield Finding("name-disguised", f"{label}: {words}", "warning", "Unicode TS 39")


def _character_findings(label: str, value: str, severity: Severity) -> Iterator[Finding]:
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cn") for c in value):
        words = f"{label} has control characters: software may read a part of it alone"
        yield refusal("dn-control", words, "RFC 4518, 2.3")
    elif any(unicodedata.category(c) in ("Cf", "Co", "Zl", "Zp") for c in value):
        words = f"{label} has characters that nobody sees"
        yield Finding("dn-hidden", words, severity, "Unicode TS 39")


def _country_findings(label: str, value: str, severity: Severity) -> Iterator[Finding]:
    if len(value) != 2 or not value.isascii() or not value.isalpha():
        words = f"{label} is a country code of two letters, not {value[:40]!r}"
        yield refusal("dn-country", words, _BOUNDS)
    elif value not in _COUNTRIES:
        better = f": write {value.upper()}" if value.upper() in _COUNTRIES else ""
        words = f"{label}={value} is no country of ISO 3166-1{better}"
        yield Finding("dn-country", words, severity, _BR)


def _order_findings(labels: list[str], lint: str) -> Iterator[Finding]:
    ranked = [_ORDER.index(label) for label in labels if label in _ORDER]
    if ranked == sorted(ranked):
        return
    words = "the subject's parts are out of order: the most specific part comes first in text"
    words += ", CN=…,O=…,C=…"
    if lint == "tls-br":
        yield refusal("dn-order", words, _BR)
    elif "CN" in labels and {"DC", "C", "O", "OU"} & set(labels[labels.index("CN") :]):
        yield Finding("dn-order", words, "warning", "RFC 4514, 2.1")


def _br_findings(rdns: list[list[_Attribute]], labels: list[str], ca: bool) -> Iterator[Finding]:
    if any(len(rdn) != 1 for rdn in rdns):
        words = "a relative distinguished name with more than one attribute"
        yield refusal("dn-multiple", words, _BR)
    twice = {one for one in labels if labels.count(one) > 1 and one not in _REPEATABLE}
    for label in sorted(twice):
        yield refusal("dn-twice", f"{label} is there twice", _BR)
    if ca and (missing := [one for one in ("C", "O", "CN") if one not in labels]):
        words = f"the subject of a CA needs {', '.join(missing)}"
        yield refusal("dn-missing", words, "CABF BR 7.1.2.10.2")
