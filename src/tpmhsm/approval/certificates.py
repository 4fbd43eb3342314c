"""TBSCertificates and CertificationRequestInfos, as a person has to see them (RFC 5280, 2986)."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

from tpmhsm.approval import differences, warnings
from tpmhsm.approval.content import Content, Flag, Listing, Row, few
from tpmhsm.approval.csr_evidence import evidence_lines
from tpmhsm.approval.memory import Certified, Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of, readable
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError, ParseError
from tpmhsm.pki.facts import RawExtension
from tpmhsm.pki.oddities import (
    Unshown,
    oddities,
    unshown_attributes,
    unshown_extensions,
    unshown_fields,
)
from tpmhsm.pki.tbs import (
    read_request_info,
    read_tbs_certificate,
    request_info_facts,
    tbs_facts,
)
from tpmhsm.wire.constants import ALG

SHOWN = 6
"""More names than these go to pages of their own."""

SHOWN_BYTES = 32
"""So much is shown of an extension that is not decoded."""

_ALGORITHMS = {
    (int(ALG.ECDSA), "sha256"): "ecdsa-with-SHA256",
    (int(ALG.ECDSA), "sha384"): "ecdsa-with-SHA384",
    (int(ALG.RSASSA), "sha256"): "sha256WithRSAEncryption",
    (int(ALG.RSASSA), "sha384"): "sha384WithRSAEncryption",
}


def certificate_facts(kind: str, data: bytes) -> dict[str, str]:
    """Short facts of a TBSCertificate or CertificationRequestInfo. ParseError if it is none."""
    facts = tbs_facts(data) if kind == "certificate" else request_info_facts(data)
    keys = ("subject", "issuer", "serial", "not_before", "not_after")
    short = {key: readable(facts[key]) for key in keys if key in facts}
    names = ", ".join(readable(san) for san in facts["sans"])
    short["key"] = facts["key"]["sha256"]
    short["names"] = names if len(names) <= 500 else f"{len(facts['sans'])} names"
    short["ca"] = _ca_words(facts) if facts["ca"] else "no"
    short["extensions"] = ", ".join(e["name"] or e["oid"] for e in facts["extensions"])
    return short


def algorithm_of(key: ChipKey) -> str:
    """The name of the signature algorithm that a key signs with."""
    return _ALGORITHMS[(key.scheme.scheme, key.hash_name)]


def read_certificate(request: Request, key: ChipKey, memory: Memory, now: datetime) -> Content:
    """Decode a TBSCertificate that `key` would sign; ApprovalRefusedError if it is none.

    `now` is the approver's own time, which dates are compared with.
    """
    facts = _decoded(request, tbs_facts)
    spki = read_tbs_certificate(request.content).spki
    wanted = algorithm_of(key)
    if facts["signature_algorithm"] != wanted:
        raise _refused(
            f"the certificate says it is signed with {facts['signature_algorithm']},"
            f" the key signs with {wanted}"
        )
    facts["own_key"] = spki == key.spki
    facts["values"] = _values(read_tbs_certificate(request.content).extensions)
    subject = readable(facts["subject"])
    validity = f"{facts['not_before'][:10]} → {facts['not_after'][:10]}"
    rows = [
        Row("Subject", subject or "(empty)"),
        Row("Issuer", readable(facts["issuer"]), "KEY"),
        Row("Valid", f"{validity} ({facts['valid_days']} days)"),
        Row("Serial", groups_of(facts["serial"])),
        _key_row(facts, spki, memory),
        *_extension_rows(facts),
    ]
    evidence = list(evidence_lines(request, spki, now))
    rows += [one for one in evidence if isinstance(one, Row)]
    unshown = _unshown(read_tbs_certificate(request.content).extensions, facts)
    unshown += unshown_fields(request.content)
    known = memory.certified(sha256(spki).digest())
    own = memory.certified(sha256(key.spki).digest())
    flags = [
        *warnings.certificate_flags(facts, request, known, now),
        *warnings.finding_flags(facts, read_tbs_certificate(request.content).subject, spki),
        *warnings.issuer_flags(facts, request, own),
        *differences.csr_flags(facts, spki, request),
        *differences.previous_flags(facts, request, key.name, memory),
        *(one for one in evidence if isinstance(one, Flag)),
        *_oddity_flags(request.content, facts, unshown),
    ]
    return Content(
        title=_title(facts),
        rows=tuple(rows),
        flags=tuple(flags),
        listings=(*warnings.odd_listings(facts), *_listings(facts), *_hex_listings(unshown)),
        certified=(Certified(sha256(spki).digest(), subject, facts["ca"]),),
        facts=certificate_facts("certificate", request.content),
        issued=differences.kept(request, facts, key.name),
    )


def read_csr(request: Request, key: ChipKey, memory: Memory, now: datetime) -> Content:
    """Decode a CertificationRequestInfo of `key` itself; ApprovalRefusedError if it is none."""
    facts = _decoded(request, request_info_facts)
    spki = read_request_info(request.content).spki
    if spki != key.spki:
        raise _refused("the CSR is for another key than the one that would sign it")
    facts["values"] = _values(read_request_info(request.content).extensions)
    subject = readable(facts["subject"])
    rows = [
        Row("Subject", subject or "(empty)", "KEY"),
        _key_row(facts, spki, memory),
        *_extension_rows(facts),
    ]
    if facts["attributes"]:
        rows.append(Row("Also", f"attributes {', '.join(facts['attributes'])}"))
    evidence = list(evidence_lines(request, spki, now))
    rows += [one for one in evidence if isinstance(one, Row)]
    unshown = _unshown(read_request_info(request.content).extensions, facts)
    unshown += unshown_attributes(request.content)
    known = memory.certified(sha256(spki).digest())
    flags = [
        *warnings.name_flags(facts, request, known),
        *warnings.finding_flags(facts, read_request_info(request.content).subject, spki),
        *(one for one in evidence if isinstance(one, Flag)),
        *_oddity_flags(request.content, facts, unshown),
    ]
    return Content(
        title="CSR for a CA certificate" if facts["ca"] else "certificate signing request (CSR)",
        rows=tuple(rows),
        flags=tuple(flags),
        listings=(*warnings.odd_listings(facts), *_listings(facts), *_hex_listings(unshown)),
        certified=(Certified(sha256(spki).digest(), subject, facts["ca"]),),
        facts=certificate_facts("csr", request.content),
    )


def _unshown(extensions: list[RawExtension], facts: dict[str, Any]) -> list[Unshown]:
    """The extensions of which the rows do not say everything."""
    in_full = {
        e["name"] or e["oid"]
        for e, raw in zip(facts["extensions"], extensions, strict=True)
        if e["name"] not in _IN_ROWS and len(raw.value) <= SHOWN_BYTES
    }
    return [one for one in unshown_extensions(extensions) if one.name not in in_full]


def _oddity_flags(data: bytes, facts: dict[str, Any], unshown: list[Unshown]) -> list[Flag]:
    flags = few(Flag("ODD", words) for words in oddities(data, facts))
    words = "says more than is shown above; all of it is below, in hex"
    return flags + few(Flag("NOT SHOWN ABOVE", f"{one.name} {words}") for one in unshown)


def _hex_listings(unshown: list[Unshown]) -> tuple[Listing, ...]:
    return tuple(
        Listing(
            f"{one.name}, {len(one.data):,} bytes",
            tuple(groups_of(one.data[i : i + 24].hex()) for i in range(0, len(one.data), 24)),
        )
        for one in unshown
    )


def _decoded(request: Request, read: Any) -> dict[str, Any]:
    what = {"certificate": "certificate to be signed", "csr": "CSR"}[request.kind]
    try:
        facts: dict[str, Any] = read(request.content)
    except ParseError as e:
        raise _refused(f"these bytes are no {what}: {e.message}") from None
    if facts["problems"]:
        raise _refused(f"this {what} cannot be shown in full: {facts['problems'][0]}")
    return facts


def _refused(message: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(message, code="content-refused")


def _title(facts: dict[str, Any]) -> str:
    if facts["ca"]:
        return "root CA certificate" if facts["own_key"] else "intermediate CA certificate"
    purposes = {
        "serverAuth": "TLS server certificate",
        "clientAuth": "TLS client certificate",
        "codeSigning": "code signing certificate",
        "timeStamping": "timestamping certificate",
        "OCSPSigning": "OCSP signing certificate",
        "emailProtection": "e-mail certificate",
    }
    found = (purposes[use] for use in facts["extended_key_usage"] if use in purposes)
    return next(found, "certificate")


def _key_row(facts: dict[str, Any], spki: bytes, memory: Memory) -> Row:
    digest = facts["key"]["sha256"]
    text = f"{facts['key']['text']} {digest[:8]} {digest[8:16]}"
    if memory.certified(sha256(spki).digest()):
        return Row("Key", text, "certified before")
    return Row("Key", text, "never certified before")


def _ca_words(facts: dict[str, Any]) -> str:
    limit = facts["path_length"]
    return "CA:TRUE" + (f", pathlen {limit}" if limit is not None else ", no pathlen")


def _extension_rows(facts: dict[str, Any]) -> list[Row]:
    usage = [" ".join([*facts["key_usage"], *facts["extended_key_usage"]])]
    if facts["ca"]:
        usage.append(_ca_words(facts))
    rows = [Row("Usage", ", ".join(part for part in usage if part) or "none stated")]
    rows += _name_rows(facts)
    if facts["policies"]:
        rows.append(Row("Policies", ", ".join(facts["policies"])))
    urls = [*facts["aia"]["ca_issuers"], *facts["aia"]["ocsp"], *facts["crl_urls"]]
    if urls:
        rows.append(Row("URLs", _some([readable(url) for url in urls])))
    if other := _other_extensions(facts):
        rows.append(Row("Also", _some(other)))
    return rows


def _name_rows(facts: dict[str, Any]) -> list[Row]:
    rows = []
    if facts["sans"]:
        rows.append(Row("Names", _some([readable(san) for san in facts["sans"]])))
    limits = facts["name_constraints"] or {}
    for side, word in (("permitted", "only"), ("excluded", "never")):
        if limits.get(side):
            rows.append(Row("Names", f"{word} {_some([readable(n) for n in limits[side]])}"))
    return rows


# Extensions whose content stands in a row of its own.
_IN_ROWS = {
    "basicConstraints",
    "keyUsage",
    "extKeyUsage",
    "subjectAltName",
    "nameConstraints",
    "certificatePolicies",
    "authorityInfoAccess",
    "cRLDistributionPoints",
    "subjectKeyIdentifier",
    "authorityKeyIdentifier",
}


def _other_extensions(facts: dict[str, Any]) -> list[str]:
    return [
        (e["name"] or e["oid"])
        + (" (critical)" if e["critical"] else "")
        + f" = {facts['values'].get(e['oid'], '')}"
        for e in facts["extensions"]
        if e["name"] not in _IN_ROWS
    ]


def _values(extensions: list[RawExtension]) -> dict[str, str]:
    """The values of extensions in hex, for those that have no row of their own."""
    return {
        e.oid: e.value[:SHOWN_BYTES].hex()
        + (f"… ({len(e.value):,} bytes)" if len(e.value) > SHOWN_BYTES else "")
        for e in extensions
    }


def _some(names: list[str]) -> str:
    if len(names) <= SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, … {len(names):,} in all, listed below"


def _listings(facts: dict[str, Any]) -> tuple[Listing, ...]:
    limits = facts["name_constraints"] or {"permitted": [], "excluded": []}
    lists = {
        "names": facts["sans"],
        "permitted names": limits["permitted"],
        "excluded names": limits["excluded"],
        "URLs": [*facts["aia"]["ca_issuers"], *facts["aia"]["ocsp"], *facts["crl_urls"]],
        "other extensions": _other_extensions(facts),
    }
    return tuple(
        Listing(f"all {len(items):,} {title}", tuple(readable(item) for item in items))
        for title, items in lists.items()
        if len(items) > SHOWN
    )
