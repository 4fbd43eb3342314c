"""Checks of the finished bytes: what is about to be signed is read again and judged by itself.

RFC 5280 section 4; TLS Baseline Requirements sections 6.3.2, 7.1.2 and 7.1.4 for `tls-br`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki.findings import Finding
from tpmhsm.pki.general_names import COMMON_NAME, attribute_texts
from tpmhsm.pki.host_checks import san_findings
from tpmhsm.pki.profiles import Profile
from tpmhsm.pki.subject_checks import subject_findings
from tpmhsm.pki.tbs import SIGNATURE_NAMES, WEAK_SIGNATURES, read_tbs_certificate, tbs_facts
from tpmhsm.pki.validity import tls_max_days

_SIGNATURES = frozenset(SIGNATURE_NAMES.values()) - WEAK_SIGNATURES
_RESERVED_POLICIES = {f"2.23.140.1.2.{n}" for n in (1, 2, 3)} | {"2.23.140.1.1"}


def check_tbs(tbs: bytes, profile: Profile, lint: str = "pkix") -> dict[str, Any]:
    """The facts of sound TBSCertificate bytes; UsageError lists everything that is wrong."""
    facts = tbs_facts(tbs)
    faults = [*_general(facts), *(_ca(facts, profile) if profile.ca else _end_entity(facts))]
    found = [one for one in name_findings(tbs, facts, lint) if one.severity == "refusal"]
    faults += [one.text for one in found]
    if not profile.ca:
        faults += _names(facts, read_tbs_certificate(tbs).subject, profile)
    if lint == "tls-br":
        faults += _tls_br(facts, profile, tbs)
    if faults:
        raise UsageError(
            f"the certificate would break its rules: {'; '.join(faults)}",
            code="lint",
            details={
                "faults": faults,
                "findings": [one.to_json() for one in found],
                "lint": lint,
                "profile": profile.name,
            },
        )
    return facts


def name_findings(tbs: bytes, facts: dict[str, Any], lint: str = "pkix") -> list[Finding]:
    """What the checks of names say of TBSCertificate bytes, read as `facts` by `tbs_facts`."""
    subject = read_tbs_certificate(tbs).subject
    return [
        *subject_findings(subject, lint, ca=facts["ca"]),
        *san_findings(facts["sans"], lint),
    ]


def _general(facts: dict[str, Any]) -> Iterator[str]:
    serial = facts["serial"]
    if facts["version"] != 3:
        yield f"version {facts['version']} instead of 3"
    if serial.startswith("-") or not 64 < int(serial, 16).bit_length() < 160:
        yield f"the serial {serial} is not between 64 and 159 bits"
    if facts["not_before"] > facts["not_after"]:
        yield "it ends before it begins"
    if facts["signature_algorithm"] not in _SIGNATURES:
        yield f"the signature algorithm {facts['signature_algorithm']}"
    if facts["unknown_critical"]:
        yield f"unknown critical extensions: {', '.join(facts['unknown_critical'])}"
    if not facts["issuer"]:
        yield "no issuer"
    if not facts["aki"]:
        yield "no authority key identifier"
    yield from facts["problems"]


def common_names(subject: bytes) -> list[str]:
    """All CN of a DER Name; none of one that cannot be read."""
    try:
        return attribute_texts(subject, COMMON_NAME)
    except ParseError:
        return []


def _critical(facts: dict[str, Any]) -> set[str]:
    return {item["name"] for item in facts["extensions"] if item["critical"]}


def _ca(facts: dict[str, Any], profile: Profile) -> Iterator[str]:
    if not facts["ca"] or "basicConstraints" not in _critical(facts):
        yield "a CA without critical CA:TRUE"
    if "keyCertSign" not in facts["key_usage"] or "keyUsage" not in _critical(facts):
        yield "a CA without critical keyCertSign"
    if not facts["ski"] or not facts["subject"]:
        yield "a CA without subject or subject key identifier"
    if facts["self_issued"] != profile.self_signed:
        yield "a root must name itself as its issuer, an intermediate must not"
    if facts["name_constraints"] is not None and "nameConstraints" not in _critical(facts):
        yield "name constraints that are not critical"


def _end_entity(facts: dict[str, Any]) -> Iterator[str]:
    if facts["ca"] or {"keyCertSign", "cRLSign"} & set(facts["key_usage"]):
        yield "an end entity that could act as a CA"
    if facts["self_issued"]:
        yield "an end entity with the name of its issuer"
    if not facts["subject"] and "subjectAltName" not in _critical(facts):
        yield "an empty subject without critical alternative names"


def _names(facts: dict[str, Any], subject: bytes, profile: Profile) -> Iterator[str]:
    if profile.needs_san and not facts["sans"]:
        yield "no host names"
    if missing := set(profile.extended_key_usage) - set(facts["extended_key_usage"]):
        yield f"no {', '.join(sorted(missing))}"
    for san in facts["sans"]:
        if san.partition(":")[0] not in profile.san_types:
            yield f"the name {san} has no place in {profile.name}"
    if profile.tls:
        values = {san.partition(":")[2] for san in facts["sans"]}
        for name in common_names(subject):
            if name not in values:
                yield f"CN={name} is none of the alternative names"


def _tls_br(facts: dict[str, Any], profile: Profile, tbs: bytes) -> Iterator[str]:
    if not profile.self_signed:
        reserved = _RESERVED_POLICIES & set(facts["policies"])
        if len(reserved) != 1 and "2.5.29.32.0" not in facts["policies"]:
            yield "not exactly one of the CA/Browser Forum's policies (7.1.6.1)"
        if not facts["crl_urls"] or not facts["aia"]["ca_issuers"]:
            yield "no CRL or issuer URL: set base_url for this authority (7.1.2)"
        urls = [*facts["crl_urls"], *facts["aia"]["ca_issuers"], *facts["aia"]["ocsp"]]
        for url in urls:
            if not url.startswith("http://"):
                yield f"{url} must be http (7.1.2.11.2)"
    if facts["key"]["text"] in ("Ed25519", "Ed448"):
        yield f"{facts['key']['text']} keys (6.1.5)"
    if not profile.ca:
        yield from _tls_br_leaf(facts, profile, tbs)


def _tls_br_leaf(facts: dict[str, Any], profile: Profile, tbs: bytes) -> Iterator[str]:
    if not profile.tls:
        yield f"the profile {profile.name} is outside the TLS Baseline Requirements"
        return
    most = tls_max_days(read_tbs_certificate(tbs).not_before)
    if facts["valid_days"] > most:
        yield f"{facts['valid_days']} days, where {most} are allowed (6.3.2)"
