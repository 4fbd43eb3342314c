"""What the checks of keys and names say of a CSR, whatever profile it is meant for."""

from __future__ import annotations

from collections.abc import Iterator

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki.findings import Finding, refusal
from tpmhsm.pki.host_checks import san_findings
from tpmhsm.pki.key_checks import spki_findings
from tpmhsm.pki.sans import parse_san
from tpmhsm.pki.subject_checks import subject_findings
from tpmhsm.pki.tbs import RequestInfo


def csr_findings(info: RequestInfo, sans: list[str]) -> list[Finding]:
    """Findings of a CSR's key, subject and names; `sans` as `format_san` writes them."""
    return [*spki_findings(info.spki), *_subject(info.subject), *_names(sans)]


def _subject(subject: bytes) -> list[Finding]:
    try:
        return list(subject_findings(subject))
    except ParseError as error:
        return [refusal("dn-encoding", f"the subject: {error.message}", "RFC 5280, 4.1.2.4")]


def _names(sans: list[str]) -> Iterator[Finding]:
    good = []
    for san in sans:
        try:
            parse_san(san)
            good.append(san)
        except UsageError as error:
            yield refusal("name-malformed", error.message, "RFC 5280, 4.2.1.6")
    yield from san_findings(good)
