"""What is signed and not shown: whatever the facts of `tbs` and `facts` leave out.

Each extension that has facts is made again from them alone; where that gives other bytes, the
extension says more than the facts do. RFC 5280 sections 4.1.2 and 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.disguise import check_strict
from tpmhsm.pki.facts import (
    EXTENSION_NAMES,
    KEY_USAGES,
    RawExtension,
    decode_extensions,
    key_usage_names,
)
from tpmhsm.pki.tbs import read_request_info, read_tbs_certificate

MAX_SERIAL = 20
"""Octets of a serial number (RFC 5280, 4.1.2.2)."""

MAX_KEY_ID = 32
"""Octets of a key identifier that is a hash; a longer one carries something else."""

_RSA = "1.2.840.113549.1.1."
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_SHOWN_METHODS = (AuthorityInformationAccessOID.CA_ISSUERS, AuthorityInformationAccessOID.OCSP)


class Unshown(NamedTuple):
    """Something that the facts do not say: what it is, and its DER in full."""

    name: str
    data: bytes


def unshown_extensions(items: Iterable[RawExtension]) -> list[Unshown]:
    """The extensions that say more than their facts, and those that have no facts of their own."""
    return [
        Unshown(EXTENSION_NAMES.get(item.oid, item.oid), item.raw)
        for item in items
        if not (_is_plain(item) and _is_der(item))
    ]


def _is_der(item: RawExtension) -> bool:
    critical = der.encode(der.BOOLEAN, b"\xff") if item.critical else b""
    value = der.encode(der.OCTET_STRING, item.value)
    return item.raw == der.encode(der.SEQUENCE, der.encode_oid(item.oid), critical, value)


def _is_plain(item: RawExtension) -> bool:
    decoded, problems = decode_extensions([item])
    if problems or not decoded:
        return False
    value = decoded[0].value
    again = _AGAIN.get(type(value))
    try:
        return again is not None and again(value).public_bytes() == item.value
    except (ValueError, TypeError, NotImplementedError):
        return False  # nothing is left of it, or it cannot be made again


def _usage(value: Any) -> x509.KeyUsage:
    names = key_usage_names(value)
    return x509.KeyUsage(**{field: name in names for name, field in KEY_USAGES.items()})


def _policies(value: Any) -> x509.CertificatePolicies:
    return x509.CertificatePolicies(
        x509.PolicyInformation(policy.policy_identifier, None) for policy in value
    )


def _access(value: Any) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        item for item in value if item.access_method in _SHOWN_METHODS
    )


def _points(value: Any) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints(
        x509.DistributionPoint(point.full_name, None, None, None) for point in value
    )


def _own_id(value: Any) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier(value.digest[:MAX_KEY_ID])


def _authority_id(value: Any) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(value.key_identifier[:MAX_KEY_ID], None, None)


_AGAIN: dict[type[x509.ExtensionType], Callable[[Any], x509.ExtensionType]] = {
    x509.BasicConstraints: lambda value: value,
    x509.KeyUsage: _usage,
    x509.ExtendedKeyUsage: lambda value: value,
    x509.SubjectAlternativeName: lambda value: value,
    x509.NameConstraints: lambda value: value,
    x509.CertificatePolicies: _policies,
    x509.AuthorityInformationAccess: _access,
    x509.CRLDistributionPoints: _points,
    x509.SubjectKeyIdentifier: _own_id,
    x509.AuthorityKeyIdentifier: _authority_id,
}


def unshown_fields(data: bytes) -> list[Unshown]:
    """The unique identifiers of a TBSCertificate, and an algorithm's unusual parameters."""
    fields = read_tbs_certificate(data)
    parts = der.children(der.read_whole(data).content)
    names = {0x81: "issuerUniqueID", 0x82: "subjectUniqueID"}
    found = [Unshown(names[part.tag], part.raw) for part in parts if part.tag in names]
    if not _is_usual_algorithm(fields.algorithm):
        found.append(Unshown("parameters of the signature algorithm", fields.algorithm))
    return found


def _is_usual_algorithm(algorithm: bytes) -> bool:
    from tpmhsm.pki.signatures import algorithm_oid

    try:
        oid = algorithm_oid(algorithm)
    except ParseError:
        return False
    null = der.encode(der.NULL) if oid.startswith(_RSA) else b""
    return algorithm == der.encode(der.SEQUENCE, der.encode_oid(oid), null)


def unshown_attributes(data: bytes) -> list[Unshown]:
    """The attributes of a CertificationRequestInfo, but for its extensions."""
    read_request_info(data)
    parts = der.children(der.read_whole(data).content)
    found = []
    for attribute in der.children(parts[3].content) if len(parts) == 4 else []:
        oid = der.decode_oid(der.children(attribute.content)[0].content)
        if oid != _EXTENSION_REQUEST:
            found.append(Unshown(f"attribute {oid}", attribute.raw))
    return found


def oddities(data: bytes, facts: dict[str, Any]) -> Iterator[str]:
    """In words: what is unusual in the encoding of a TBSCertificate or CertificationRequestInfo.

    `facts` are those of `tbs_facts` or `request_info_facts`.
    """
    try:
        check_strict(data)
    except ParseError as error:
        yield f"not strict DER: {error.message}"
    size = (len(facts.get("serial", "").lstrip("-")) + 1) // 2
    if size > MAX_SERIAL:
        yield f"the serial number has {size} octets, more than {MAX_SERIAL}"
    for extension in facts["extensions"]:
        name = extension["name"]
        if extension["critical"]:
            continue
        if name == "nameConstraints" or (name == "basicConstraints" and facts["ca"]):
            yield f"{name} is not critical: some software need not heed it"
