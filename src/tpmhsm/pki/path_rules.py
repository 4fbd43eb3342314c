"""What RFC 5280 section 6.1 asks of each certificate in a path, one step up at a time.

A path is built from its end upwards. Every rule but the policies' speaks of one CA and of what
stands below it, so a step that breaks a rule is known at once, and whatever is above it is not
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from tpmhsm.pki.path_certificate import Fault, PathCertificate
from tpmhsm.pki.path_keys import broken_hash
from tpmhsm.pki.purposes import Purpose, authority_fault
from tpmhsm.pki.tbs import rfc3339
from tpmhsm.pki.web_profile import profile_faults

MAX_COMPARISONS = 250_000
"""Names times name constraints in one path, as other verifiers bound it."""


@dataclass(frozen=True)
class Rules:
    """`at` the moment; `purpose` None for any; `max_depth` CAs between, self-issued ones aside."""

    at: datetime
    purpose: Purpose | None = None
    max_depth: int | None = None


def own_faults(certificate: PathCertificate, rules: Rules) -> Iterator[Fault]:
    """What is wrong with a certificate wherever it stands: dates and malformed fields."""
    yield from certificate.faults
    yield from date_faults(certificate, rules.at)


def date_faults(certificate: PathCertificate, at: datetime) -> Iterator[Fault]:
    """Step (a) (2) of 6.1.3; both ends are inside (4.1.2.5)."""
    if at > certificate.not_after:
        yield Fault("expired", f"expired {rfc3339(certificate.not_after)}")
    elif at < certificate.not_before:
        yield Fault("not-yet-valid", f"is not valid until {rfc3339(certificate.not_before)}")


def signature_faults(certificate: PathCertificate) -> Iterator[Fault]:
    """The algorithm with which a certificate below an anchor is signed."""
    if name := broken_hash(certificate.algorithm):
        yield Fault("weak-algorithm", f"is signed with a weak algorithm ({name})")


def issuer_faults(
    issuer: PathCertificate, below: Sequence[PathCertificate], rules: Rules, *, anchor: bool
) -> Iterator[Fault]:
    """Faults of a CA above `below` (leaf first, the certificate it issued last)."""
    yield from own_faults(issuer, rules)
    yield from _authority_faults(issuer, anchor)
    yield from _length_faults(issuer, below, rules, anchor)
    if not anchor:
        yield from signature_faults(issuer)
    if rules.purpose is not None:
        yield from authority_fault(rules.purpose, issuer)
        yield from profile_faults(rules.purpose.name, issuer, anchor=anchor)


def _authority_faults(issuer: PathCertificate, anchor: bool) -> Iterator[Fault]:
    """Steps (k) and (n) of 6.1.4. An anchor of version 1 is a CA because it is trusted."""
    by_trust = anchor and issuer.version < 3
    if not (issuer.is_ca or by_trust):
        yield Fault("not-a-ca", "is no CA, but issued a certificate")
    if issuer.key_usage is not None and "keyCertSign" not in issuer.key_usage:
        yield Fault("not-a-ca", "may not sign certificates with its key (keyCertSign)")


def _length_faults(
    issuer: PathCertificate, below: Sequence[PathCertificate], rules: Rules, anchor: bool
) -> Iterator[Fault]:
    """Steps (l) and (m) of 6.1.4; the end of the path and self-issued CAs do not count."""
    count = sum(not item.self_issued for item in below[1:])
    limit = issuer.basic.path_length if issuer.basic else None
    if limit is not None and count > limit:
        words = f"allows a path length of {limit}; below it are {count} CAs"
        yield Fault("path-length", words)
    depth = count + (0 if anchor or issuer.self_issued else 1)
    if rules.max_depth is not None and depth > rules.max_depth:
        yield Fault("path-length", f"is one CA more than the {rules.max_depth} asked for")


def constraint_fault(
    issuer: PathCertificate, below: Sequence[PathCertificate]
) -> tuple[int, Fault] | None:
    """Steps (b) and (c) of 6.1.3: the first name below that the CA may not certify, and whose."""
    if issuer.subtrees is None:
        return None
    judged = [(i, c) for i, c in enumerate(below) if i == 0 or not c.self_issued]
    if sum(len(c.names) for _, c in judged) * issuer.subtrees.size > MAX_COMPARISONS:
        return 0, Fault("too-complex", "has too many names for the name constraints above it")
    for position, certificate in reversed(judged):
        for name in certificate.names:
            if words := issuer.subtrees.violation(name):
                words = f"breaks the name constraints above it: {words}"
                return position, Fault("name-constraint", words)
    return None
