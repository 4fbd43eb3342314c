"""What a certificate or a CSR says, as JSON-ready facts and as lines for people.

Works on DER alone, so it shows certificates that `cryptography` refuses to load, too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tpmhsm.pki.facts import extension_facts
from tpmhsm.pki.keys import describe_spki, sha256_hex
from tpmhsm.pki.loose import read_loosely
from tpmhsm.pki.marks import certificate_marks
from tpmhsm.pki.names import show_dn
from tpmhsm.pki.signatures import is_signed_by, split_signed
from tpmhsm.pki.tbs import (
    read_request_info,
    request_info_facts,
    rfc3339,
    serial_hex,
    signature_name,
    valid_days,
)


def certificate_der(certificate: x509.Certificate | bytes) -> bytes:
    """DER of a certificate object, or the DER itself."""
    return certificate if isinstance(certificate, bytes) else _encoded(certificate)


@lru_cache(64)  # issuers, for the most part: encoding one anew takes longer than a look
def _encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def describe_certificate(
    certificate: x509.Certificate | bytes, now: datetime | None = None
) -> dict[str, Any]:
    """All facts of one certificate. `now` (default: the clock) counts `days_left`.

    `problems` is what cannot be read, `marks` all that is wrong with it (`tpmhsm.pki.marks`). Times
    that are none are null, and what follows from them. ParseError for what is no certificate.
    """
    raw = certificate_der(certificate)
    fields = read_loosely(raw)
    facts: dict[str, Any] = {
        "version": fields.version,
        "subject": show_dn(fields.subject),
        "issuer": show_dn(fields.issuer),
        "self_issued": fields.subject == fields.issuer,
        "serial": serial_hex(fields.serial_number),
        **_period(fields.not_before, fields.not_after, now or datetime.now(UTC)),
        "key": describe_spki(fields.spki),
        "signature_algorithm": signature_name(fields.outer_algorithm),
        **extension_facts(fields.extensions),
        "sha256": sha256_hex(raw),
        "self_signed": fields.subject == fields.issuer and is_signed_by(raw, fields.spki),
    }
    facts["problems"] = [*fields.faults, *facts["problems"]]
    facts["marks"] = certificate_marks(fields, facts)
    return facts


def _period(begin: datetime | None, end: datetime | None, now: datetime) -> dict[str, Any]:
    both = begin is not None and end is not None
    return {
        "not_before": rfc3339(begin) if begin else None,
        "not_after": rfc3339(end) if end else None,
        "valid_days": valid_days(begin, end) if both else None,  # type: ignore[arg-type]
        "days_left": days_left(end, now) if end else None,
        "expired": now > end if end else None,
        "not_yet_valid": now < begin if begin else None,
    }


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days until `not_after`; negative once it is past."""
    return int((not_after - now).total_seconds() // 86400)


def describe_csr(csr: x509.CertificateSigningRequest | bytes) -> dict[str, Any]:
    """All facts of one CSR; `signature_valid` tells whether it proves possession of its key.

    `findings` are those of its key and names, and `problems` has, among others, the refusals.
    """
    from tpmhsm.pki.csr_checks import csr_findings

    raw = csr if isinstance(csr, bytes) else csr.public_bytes(Encoding.DER)
    signed, algorithm, _ = split_signed(raw, "a CSR")
    info, facts = read_request_info(signed), request_info_facts(signed)
    found = csr_findings(info, facts["sans"])
    facts["signature_algorithm"] = signature_name(algorithm)
    facts["signature_valid"] = is_signed_by(raw, info.spki)
    facts["problems"] += [f"refused: {one.text}" for one in found if one.severity == "refusal"]
    facts["findings"] = [one.to_json() for one in found]
    facts["sha256"] = sha256_hex(raw)
    return facts


def certificate_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) pairs of `describe_certificate` in the order people read them."""
    rows = [
        ("Subject", facts["subject"] or "(empty)"),
        ("Issuer", "itself" if facts["self_signed"] else facts["issuer"] or "(empty)"),
        ("Serial", facts["serial"]),
        ("Valid", _valid_text(facts)),
        *common_lines(facts),
        ("Signed", facts["signature_algorithm"]),
        ("SHA-256", facts["sha256"]),
    ]
    return [(label, text) for label, text in rows if text]


def _valid_text(facts: dict[str, Any]) -> str:
    left = facts["days_left"]
    if left is None:
        state = "no one knows how long"
    elif facts["not_yet_valid"]:
        state = "NOT YET VALID"
    else:
        state = f"{left} days left" if left >= 0 else f"EXPIRED {-left} days ago"
    return f"{facts['not_before'] or '?'} → {facts['not_after'] or '?'} ({state})"


def csr_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) pairs of `describe_csr`."""
    signed = "holds" if facts["signature_valid"] else "DOES NOT HOLD"
    rows = [
        ("Subject", facts["subject"] or "(empty)"),
        *common_lines(facts),
        ("Asks also", ", ".join(facts["attributes"])),
        ("Note", "\n".join(_warnings(facts["findings"]))),
        ("Signature", f"{facts['signature_algorithm']}, {signed}"),
        ("SHA-256", facts["sha256"]),
    ]
    return [(label, text) for label, text in rows if text]


def _warnings(findings: list[dict[str, str]]) -> list[str]:
    warned = (one for one in findings if one["severity"] == "warning")
    return list(dict.fromkeys(f"{one['message']} ({one['source']})" for one in warned))


def common_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines that certificates, CSRs and to-be-signed bytes share."""
    key = facts["key"]
    constraints = facts["name_constraints"] or {"permitted": [], "excluded": []}
    return [
        ("Names", ", ".join(facts["sans"])),
        ("Key", f"{key['text']} {key['sha256']}"),
        ("CA", ca_text(facts)),
        ("Usage", ", ".join([*facts["key_usage"], *facts["extended_key_usage"]])),
        ("Only names", ", ".join(constraints["permitted"])),
        ("Not names", ", ".join(constraints["excluded"])),
        ("Policies", ", ".join(facts["policies"])),
        ("CRL", ", ".join(facts["crl_urls"])),
        ("OCSP", ", ".join(facts["aia"]["ocsp"])),
        ("CA file", ", ".join(facts["aia"]["ca_issuers"])),
        ("Unknown", ", ".join(f"critical {oid}" for oid in facts["unknown_critical"])),
        ("Marks", "\n".join(facts.get("marks", ()))),
        ("Problem", "" if "marks" in facts else _problems(facts)),
    ]


def ca_text(facts: dict[str, Any]) -> str:
    """`CA:TRUE, pathlen 0`, or empty for an end entity."""
    if not facts["ca"]:
        return ""
    length = facts["path_length"]
    return "CA:TRUE" if length is None else f"CA:TRUE, pathlen {length}"


def _problems(facts: dict[str, Any]) -> str:
    key_problem = facts["key"].get("problem")
    return "; ".join(dict.fromkeys([*facts["problems"], *([key_problem] if key_problem else [])]))
