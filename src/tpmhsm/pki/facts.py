"""Extensions of certificates and CSRs as JSON-ready facts (RFC 5280 section 4.2).

Each extension is decoded alone when the whole set does not decode, so that one malformed extension
hides nothing but itself and is named in `problems`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.recall import SMALL, recalled
from tpmhsm.pki.sans import format_san, printable, sans_anyway

EKU_NAMES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "1.3.6.1.5.5.7.3.17": "ipsecIKE",
    "1.3.6.1.5.5.7.3.21": "secureShellClient",
    "1.3.6.1.5.5.7.3.22": "secureShellServer",
    "1.3.6.1.5.5.7.3.36": "documentSigning",
    "1.3.6.1.4.1.311.20.2.2": "smartcardLogon",
    "1.3.6.1.5.2.3.5": "pkinitKDC",
    "2.23.133.8.1": "tcg-kp-EKCertificate",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}
EKU_OIDS = {name: oid for oid, name in EKU_NAMES.items()}

KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}

EXTENSION_NAMES = {
    "2.5.29.9": "subjectDirectoryAttributes",
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.16": "privateKeyUsagePeriod",
    "2.5.29.17": "subjectAltName",
    "2.5.29.18": "issuerAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.30": "nameConstraints",
    "2.5.29.31": "cRLDistributionPoints",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.33": "policyMappings",
    "2.5.29.35": "authorityKeyIdentifier",
    "2.5.29.36": "policyConstraints",
    "2.5.29.37": "extKeyUsage",
    "2.5.29.46": "freshestCRL",
    "2.5.29.54": "inhibitAnyPolicy",
    "1.3.6.1.5.5.7.1.1": "authorityInfoAccess",
    "1.3.6.1.5.5.7.1.11": "subjectInfoAccess",
    "1.3.6.1.5.5.7.1.24": "tlsFeature",
    "1.3.6.1.5.5.7.48.1.5": "ocspNoCheck",
    "1.3.6.1.4.1.11129.2.4.2": "signedCertificateTimestamps",
    "1.3.6.1.4.1.11129.2.4.3": "precertificatePoison",
}
# What a reader of these facts has been shown in full; anything else that is critical is "unknown".
_UNDERSTOOD = frozenset(
    "2.5.29." + number
    for number in ("14", "15", "17", "18", "19", "30", "31", "32", "33", "35", "36", "37", "54")
) | {"1.3.6.1.5.5.7.1.1"}


_UNDECODABLE = (
    ValueError,
    TypeError,
    KeyError,  # of a TLS feature without a name
    OverflowError,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class RawExtension(NamedTuple):
    """One extension undecoded: `value` is the content of its OCTET STRING."""

    oid: str
    critical: bool
    value: bytes
    raw: bytes


def raw_extensions(content: bytes) -> list[RawExtension]:
    """The items of an Extensions SEQUENCE (given its content). ParseError when it is none."""
    return [_read_strictly(item.raw) for item in der.children(content)]


@recalled
def _read_strictly(raw: bytes) -> RawExtension:
    return read_extension(der.read_whole(raw))


def read_extension(item: der.Element, *, lenient: bool = False) -> RawExtension:
    """One Extension; `lenient` takes BER. ParseError when it is none."""
    parts = der.children(item.content, lenient=lenient) if item.tag == der.SEQUENCE else []
    tags = [part.tag for part in parts]
    if lenient and tags[-1:] == [der.OCTET_STRING | 0x20]:
        tags[-1] = der.OCTET_STRING
    if tags == [der.OID, der.OCTET_STRING]:
        critical = False
    elif tags == [der.OID, der.BOOLEAN, der.OCTET_STRING]:
        critical = parts[1].content != b"\0"
    else:
        raise ParseError("an extension that is no sequence of identifier, criticality and value")
    value = der.octets(parts[-1]) if lenient else parts[-1].content
    return RawExtension(der.decode_oid(parts[0].content), critical, value, item.raw)


def decode_extensions(
    items: Iterable[RawExtension],
) -> tuple[list[x509.Extension[x509.ExtensionType]], list[str]]:
    """The extensions that `cryptography` can decode, and in words what it cannot."""
    problems: list[str] = []
    found = []
    for item in _once(items, problems):
        try:
            found.append(_decode(item.raw, item))
        except _UNDECODABLE as error:
            problems.append(_undecodable(item, error))
    return found, problems


def _once(items: Iterable[RawExtension], problems: list[str]) -> Iterator[RawExtension]:
    seen = set()
    for item in items:
        if item.oid in seen:
            label = EXTENSION_NAMES.get(item.oid, item.oid)
            problems.append(f"the extension {label} is there twice")
            continue
        seen.add(item.oid)
        yield item


def _undecodable(item: RawExtension, error: Exception) -> str:
    return f"the extension {EXTENSION_NAMES.get(item.oid, item.oid)} does not decode: {error}"


@recalled
def _decode(_: bytes, item: RawExtension) -> x509.Extension[x509.ExtensionType]:
    """By way of a certificate around it: `cryptography` decodes extensions nowhere else."""
    reader = _QUICK.get(item.oid)
    if reader and (value := reader(item.value)) is not None:
        return x509.Extension(value.oid, item.critical, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of values that are wrong but readable
        return next(iter(x509.load_der_x509_certificate(_carrier(item)).extensions))


_DNS = 0x82


def _hosts(value: bytes) -> x509.SubjectAlternativeName | None:
    """Alternative names that are host names, as nearly all are; None for everything else."""
    try:
        whole = der.read_whole(value)
        names = der.children(whole.content)
    except ParseError:
        return None
    if whole.tag != der.SEQUENCE or not names:
        return None
    for name in names:
        if name.tag != _DNS or not name.content.isascii():
            return None
    return x509.SubjectAlternativeName([x509.DNSName(name.content.decode()) for name in names])


def _key_digest(value: bytes) -> x509.SubjectKeyIdentifier | None:
    """A key identifier of SHA-1; None for everything else."""
    if len(value) != 22 or value[:2] != b"\x04\x14":
        return None
    return x509.SubjectKeyIdentifier(value[2:])


_QUICK: dict[str, Callable[[bytes], x509.ExtensionType | None]] = {
    "2.5.29.14": _key_digest,
    "2.5.29.17": _hosts,
}
"""What differs from certificate to certificate is read without a certificate around it."""


def _carrier(item: RawExtension) -> bytes:
    before, after = _around()
    # encoded anew: of what is around the value, real certificates write out even the defaults
    plain = der.encode_extension(item.oid, item.value, critical=item.critical)
    extensions = der.encode(0xA3, der.encode(der.SEQUENCE, plain))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, before, extensions), after)


@cache
def _around() -> tuple[bytes, bytes]:
    """What stands before and after the extensions of a certificate that says nothing else."""
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2"))
    name = der.encode(der.SEQUENCE)
    date = der.encode(der.UTC_TIME, b"260101000000Z")
    point = der.encode(der.BIT_STRING, b"\0\4" + bytes(64))
    curve = der.encode(
        der.SEQUENCE, der.encode_oid("1.2.840.10045.2.1"), der.encode_oid("1.2.840.10045.3.1.7")
    )
    before = (
        der.encode(0xA0, der.encode_integer(2)),
        der.encode_integer(1),
        algorithm,
        name,
        der.encode(der.SEQUENCE, date, date),
        name,
        der.encode(der.SEQUENCE, curve, point),
    )
    return b"".join(before), algorithm + der.encode(der.BIT_STRING, b"\0")


def extension_facts(items: Iterable[RawExtension]) -> dict[str, Any]:
    """Every extension as facts of stable names; absent ones as null, false or empty lists."""
    items = list(items)
    frame = _frame(tuple([(i.oid, i.critical) if i.oid in _OWN else i for i in items]))
    own = [_shown(item.raw, item) for item in items if item.oid in _OWN] if frame else []
    if not own or any(problem for _, problem in own):
        return _all_facts(items)
    facts = frame | {"problems": []}
    for shown, _ in own:
        facts |= shown
    return facts


_OWN = frozenset({"2.5.29.14", "2.5.29.17"})
"""The identifier of a key and alternative names, by which certificates of one authority differ. All
their other extensions are alike, and so are the facts of those.
"""


@lru_cache(64)
def _frame(kinds: tuple[RawExtension | tuple[str, bool], ...]) -> dict[str, Any]:
    """The facts of all but a certificate's own extensions; none where anything is amiss or long."""
    others = [kind for kind in kinds if isinstance(kind, RawExtension)]
    if len({kind[0] for kind in kinds}) < len(kinds) or sum(len(o.raw) for o in others) > SMALL:
        return {}
    facts = _all_facts(others)
    return {} if facts["problems"] else facts | {"extensions": _listed(kinds)}


def _listed(items: Iterable[RawExtension | tuple[str, bool]]) -> list[dict[str, Any]]:
    return [
        {"oid": oid, "name": EXTENSION_NAMES.get(oid), "critical": critical}
        for oid, critical, *_ in items
    ]


def _all_facts(items: Iterable[RawExtension]) -> dict[str, Any]:
    problems: list[str] = []
    facts: dict[str, Any] = {
        "ca": False,
        "path_length": None,
        "sans": [],
        "key_usage": [],
        "extended_key_usage": [],
        "policies": [],
        "name_constraints": None,
        "aia": {"ca_issuers": [], "ocsp": []},
        "crl_urls": [],
        "ski": None,
        "aki": None,
    }
    for item in _once(items, problems):
        shown, problem = _shown(item.raw, item)
        facts |= shown
        if problem:
            problems.append(problem)
    if not facts["sans"]:
        facts["sans"] = _sans_anyway(items)
    facts["extensions"] = _listed(items)
    facts["unknown_critical"] = [
        item.oid for item in items if item.critical and item.oid not in _UNDERSTOOD
    ]
    facts["problems"] = problems
    return facts


@recalled
def _shown(raw: bytes, item: RawExtension) -> tuple[dict[str, Any], str]:
    """Its facts, and in words why there are none."""
    try:
        value = _decode(raw, item).value
    except _UNDECODABLE as error:
        return {}, _undecodable(item, error)
    reader = _READERS.get(type(value))
    try:
        return (reader(value) if reader else {}), ""
    except (ValueError, ParseError) as error:
        return {}, f"the extension {EXTENSION_NAMES[item.oid]} cannot be shown: {error}"


def _basic_constraints(value: Any) -> dict[str, Any]:
    return {"ca": value.ca, "path_length": value.path_length}


def key_usage_names(value: x509.KeyUsage) -> list[str]:
    """The names of RFC 5280 in the order of their bits."""
    skip = () if value.key_agreement else ("encipher_only", "decipher_only")
    return [
        name for name, field in KEY_USAGES.items() if field not in skip and getattr(value, field)
    ]


def _key_usage(value: Any) -> dict[str, Any]:
    return {"key_usage": key_usage_names(value)}


def _extended_key_usage(value: Any) -> dict[str, Any]:
    oids = [oid.dotted_string for oid in value]
    return {"extended_key_usage": [EKU_NAMES.get(oid, oid) for oid in oids]}


def _sans(value: Any) -> dict[str, Any]:
    return {"sans": [format_san(name) for name in value]}


def _sans_anyway(items: Iterable[RawExtension]) -> list[str]:
    """Of names that do not decode as a whole, those that do."""
    values = [item.value for item in items if item.oid == "2.5.29.17"]
    return sans_anyway(values[0]) if values else []


def _policies(value: Any) -> dict[str, Any]:
    return {"policies": [policy.policy_identifier.dotted_string for policy in value]}


def _name_constraints(value: Any) -> dict[str, Any]:
    def side(names: Iterable[x509.GeneralName] | None) -> list[str]:
        return [format_san(name) for name in names or ()]

    constraints = {
        "permitted": side(value.permitted_subtrees),
        "excluded": side(value.excluded_subtrees),
    }
    return {"name_constraints": constraints}


def _urls(names: Iterable[x509.GeneralName]) -> list[str]:
    return [
        printable(name.value)
        if isinstance(name, x509.UniformResourceIdentifier)
        else format_san(name)
        for name in names
    ]


def _aia(value: Any) -> dict[str, Any]:
    methods = AuthorityInformationAccessOID

    def at(method: x509.ObjectIdentifier) -> list[str]:
        return _urls(item.access_location for item in value if item.access_method == method)

    return {"aia": {"ca_issuers": at(methods.CA_ISSUERS), "ocsp": at(methods.OCSP)}}


def _crl_urls(value: Any) -> dict[str, Any]:
    return {"crl_urls": [url for point in value for url in _urls(point.full_name or ())]}


def _ski(value: Any) -> dict[str, Any]:
    return {"ski": value.digest.hex()}


def _aki(value: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"aki": value.key_identifier.hex() if value.key_identifier else None}
    if value.authority_cert_issuer:
        facts["aki_issuer"] = [format_san(name) for name in value.authority_cert_issuer]
        facts["aki_serial"] = f"{value.authority_cert_serial_number or 0:x}"
    return facts


def _policy_constraints(value: Any) -> dict[str, Any]:
    constraints = {
        "require_explicit_policy": value.require_explicit_policy,
        "inhibit_policy_mapping": value.inhibit_policy_mapping,
    }
    return {"policy_constraints": constraints}


def _issuer_alt_name(value: Any) -> dict[str, Any]:
    return {"issuer_alt_names": [format_san(name) for name in value]}


def _tls_feature(value: Any) -> dict[str, Any]:
    return {"tls_features": [feature.name for feature in value]}


_READERS: dict[type[x509.ExtensionType], Callable[[Any], dict[str, Any]]] = {
    x509.BasicConstraints: _basic_constraints,
    x509.KeyUsage: _key_usage,
    x509.ExtendedKeyUsage: _extended_key_usage,
    x509.SubjectAlternativeName: _sans,
    x509.IssuerAlternativeName: _issuer_alt_name,
    x509.CertificatePolicies: _policies,
    x509.NameConstraints: _name_constraints,
    x509.AuthorityInformationAccess: _aia,
    x509.CRLDistributionPoints: _crl_urls,
    x509.SubjectKeyIdentifier: _ski,
    x509.AuthorityKeyIdentifier: _aki,
    x509.PolicyConstraints: _policy_constraints,
    x509.TLSFeature: _tls_feature,
    x509.InhibitAnyPolicy: lambda value: {"inhibit_any_policy": value.skip_certs},
}
