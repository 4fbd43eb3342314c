"""What a certificate says that its CSR, or the one before it of the same subject, did not."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from tpmhsm.approval.content import Flag
from tpmhsm.approval.memory import ApprovedCertificate, Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import readable
from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.pki.facts import EXTENSION_NAMES, RawExtension
from tpmhsm.pki.tbs import read_tbs_certificate, request_info_facts, tbs_facts

LARGEST = 1 << 16
"""Bytes of a TBSCertificate that is kept, to be compared with the next one."""


def kept(request: Request, facts: dict[str, Any], key_name: bytes) -> ApprovedCertificate | None:
    """What to remember of a certificate after its approval; None of one that is very long."""
    if len(request.content) > LARGEST:
        return None
    return ApprovedCertificate(key_name, _holder(facts), request.content)


def _holder(facts: dict[str, Any]) -> bytes:
    """Whom a certificate is made out to: its subject, or its names where that is empty."""
    names = facts["subject"] or "\n".join(sorted(facts["sans"]))
    return sha256(f"{bool(facts['subject'])}\n{names}".encode()).digest()


def previous_flags(
    facts: dict[str, Any], request: Request, key_name: bytes, memory: Memory
) -> Iterator[Flag]:
    """What differs from the certificate that this home approved last for the same subject and
    signing key. Serial number and dates always do; how long it is good is compared.
    """
    last = memory.approved_certificate(key_name, _holder(facts))
    if last is None or last == request.content:
        return
    try:
        before = tbs_facts(last)
        found = [
            *_key_difference(request.content, last),
            *_differences(facts, before),
            *_value_differences(request.content, last),
        ]
    except ParseError:  # of an older program, which read more
        return
    if facts["path_length"] != before["path_length"]:
        found.append(f"pathlen was {_pathlen(before)}")
    if facts["valid_days"] != before["valid_days"]:
        found.append(f"{before['valid_days']:,} days before")
    words = ", ".join(found) or "nothing but serial number and dates"
    yield Flag("LAST", f"{before['not_before'][:10]}: {words}", mark="Δ")


def _pathlen(facts: dict[str, Any]) -> str:
    return "none" if facts["path_length"] is None else str(facts["path_length"])


def _key_difference(now: bytes, last: bytes) -> Iterator[str]:
    new, old = read_tbs_certificate(now), read_tbs_certificate(last)
    yield "the same key" if new.spki == old.spki else "another key"
    if new.issuer != old.issuer:
        yield "another issuer's name"


def _value_differences(now: bytes, last: bytes) -> Iterator[str]:
    """Extensions that both have, with other values."""
    old = {e.oid: e for e in read_tbs_certificate(last).extensions}
    for one in read_tbs_certificate(now).extensions:
        before = old.get(one.oid)
        if one.oid in _SAID_ALREADY | _USAGE or before is None:
            continue
        if (one.value, one.critical) != (before.value, before.critical):
            yield f"other {_called(one)}"


def _called(extension: RawExtension) -> str:
    name = EXTENSION_NAMES.get(extension.oid, "")
    return _words({"name": name, "oid": extension.oid})


def csr_flags(facts: dict[str, Any], spki: bytes, request: Request) -> Iterator[Flag]:
    """What the certificate says that the CSR, which the host shows, did not ask for."""
    if not request.claims.csr:
        return
    from tpmhsm.pki.csr import load_csr, verify_csr
    from tpmhsm.pki.tbs import read_request_info

    try:
        csr = load_csr(request.claims.csr, "the CSR")
        verify_csr(csr)
        asked = request_info_facts(csr.tbs_certrequest_bytes)
        wanted = read_request_info(csr.tbs_certrequest_bytes)
    except TpmHsmError as e:
        yield Flag("CSR", f"the CSR that the host shows does not hold: {readable(e.message)}")
        return
    if wanted.spki != spki:
        yield Flag("KEY", "not the key of the CSR that the host shows")
    if differences := list(_differences(facts, asked)):
        yield Flag("CSR", ", ".join(differences), mark="Δ")


def _differences(facts: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    if facts["subject"] != asked["subject"]:
        yield f"subject was {readable(asked['subject']) or '(empty)'}"
    if facts["ca"] and not asked["ca"]:
        yield "+ CA:TRUE"
    yield from _list_difference(facts["sans"], asked["sans"])
    uses = [*facts["key_usage"], *facts["extended_key_usage"]]
    before = [*asked["key_usage"], *asked["extended_key_usage"]]
    if before:
        yield from _list_difference(uses, before)
    said = _SAID_ALREADY | (set() if before else _USAGE)
    had = {e["oid"] for e in asked["extensions"]} | said
    has = {e["oid"] for e in facts["extensions"]} | said
    yield from (f"+ {_words(e)}" for e in facts["extensions"] if e["oid"] not in had)
    yield from (f"− {_words(e)}" for e in asked["extensions"] if e["oid"] not in has)


def _list_difference(now: list[str], before: list[str]) -> Iterator[str]:
    old, new = set(before), set(now)
    added = [item for item in now if item not in old]
    removed = [item for item in before if item not in new]
    for sign, items in (("+", added), ("−", removed)):
        yield from (f"{sign} {readable(item)}" for item in items[:3])
        if len(items) > 3:
            yield f"{sign} {len(items) - 3:,} more"


# Key identifiers, which every issuer adds; basic constraints and names, whose values are compared.
_SAID_ALREADY = {"2.5.29.14", "2.5.29.35", "2.5.29.19", "2.5.29.17"}
# A CSR that wants no usage in particular leaves it to the issuer; a row says which one it is.
_USAGE = {"2.5.29.15", "2.5.29.37"}

_WORDS = {
    "nameConstraints": "name constraint",
    "cRLDistributionPoints": "CRL URL",
    "authorityInfoAccess": "issuer and OCSP URLs",
    "certificatePolicies": "policies",
    "basicConstraints": "basic constraints",
    "keyUsage": "key usage",
    "extKeyUsage": "extended key usage",
    "subjectAltName": "alternative names",
}


def _words(extension: dict[str, Any]) -> str:
    name = extension["name"]
    return _WORDS.get(name) or str(name or extension["oid"])
