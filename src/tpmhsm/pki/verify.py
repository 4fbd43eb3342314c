"""Verifying a certificate: path, dates, revocation, purpose and host, with reasons in words.

`path_engine` finds a path or the fault that tells most; here faults become sentences, and what
belongs to the certificate alone is judged: its key, purpose, host and profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.chains import AnyCertificate
from tpmhsm.pki.crl_file import read_path_crl
from tpmhsm.pki.describe import certificate_der, days_left
from tpmhsm.pki.facts import extension_facts
from tpmhsm.pki.keys import sha256_hex
from tpmhsm.pki.names import format_dn_der
from tpmhsm.pki.path_certificate import Fault, PathCertificate, read_path_certificate
from tpmhsm.pki.path_engine import TOO_COMPLEX, Answer, Question, find_path
from tpmhsm.pki.path_keys import Budget, TooComplexError, is_dsa_signature
from tpmhsm.pki.path_rules import Rules
from tpmhsm.pki.path_search import Finding, Forest, Path, Search
from tpmhsm.pki.policy_graph import PolicyInput
from tpmhsm.pki.purposes import Purpose, get_purpose, host_fault, purpose_fault
from tpmhsm.pki.signatures import is_signed_by
from tpmhsm.pki.tbs import rfc3339, serial_hex
from tpmhsm.pki.web_profile import key_faults, leaf_profile_faults


@dataclass(frozen=True)
class VerifyOptions:
    """`purpose` as in `purposes` or `any`; `host` a name, address or mailbox; `at` the moment.

    `crls` is DER. When there are any, one must cover the leaf, and CAs are checked as far as they
    are covered; `require_crl` demands one for each certificate below the anchor. `max_depth` is
    the most intermediate CAs allowed. `policies` (dotted OIDs; none: any), `explicit_policy`,
    `inhibit_mapping` and `inhibit_any` are the inputs of RFC 5280 section 6.1.1.
    """

    purpose: str = "any"
    host: str = ""
    at: datetime | None = None
    crls: tuple[bytes, ...] = ()
    require_crl: bool = False
    max_depth: int | None = None
    policies: tuple[str, ...] = ()
    explicit_policy: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


@dataclass(frozen=True)
class Verified:
    """A path that holds. `chain` is DER, leaf first, anchor last; `facts` JSON-ready."""

    chain: tuple[bytes, ...]
    facts: dict[str, Any]


def verify_certificate(
    leaf: AnyCertificate,
    trust: Iterable[AnyCertificate],
    untrusted: Iterable[AnyCertificate] = (),
    options: VerifyOptions | None = None,
) -> Verified:
    """The validated path. VerificationError says in words why there is none.

    Its `details` have `reason` (a stable word), `certificate` (whose subject is at fault) and
    `chain` (subjects, leaf first, as far as it was found).
    """
    options = options or VerifyOptions()
    question = _question(leaf, trust, untrusted, options)
    at = question.rules.at
    answer = find_path(question)
    if not answer.path:
        _explain_missing(question, answer)
    chain = [_shown(item, at) for item in answer.path]
    if answer.findings:
        _explain(answer, chain, at)
    _check_leaf(answer.path[0], chain, question.rules.purpose, options)
    return Verified(tuple(item.raw for item in answer.path), _success(answer, chain, at, options))


def _question(
    leaf: AnyCertificate,
    trust: Iterable[AnyCertificate],
    untrusted: Iterable[AnyCertificate],
    options: VerifyOptions,
) -> Question:
    purpose = get_purpose(options.purpose)
    at = options.at or datetime.now(UTC)
    if at.tzinfo is None:
        raise UsageError("the moment needs a time zone (RFC 3339: 2027-01-01T00:00:00Z)")
    anchors = [certificate_der(item) for item in trust]
    if not anchors:
        raise UsageError("nothing is trusted", hint="name the root: cert verify F --trust ROOT")
    for policy in options.policies:
        der.encode_oid(policy)
    pool = (certificate_der(item) for item in untrusted)
    return Question(
        read_path_certificate(certificate_der(leaf)),
        Forest(_readable(anchors), _readable(pool)),
        # Dates in certificates are whole seconds, and the last one is inside.
        Rules(at.astimezone(UTC).replace(microsecond=0), purpose, options.max_depth),
        PolicyInput(
            frozenset(options.policies),
            options.explicit_policy,
            options.inhibit_mapping,
            options.inhibit_any,
        ),
        [read_path_crl(raw) for raw in options.crls],
        options.require_crl,
        options.purpose == "server",
    )


def _readable(ders: Iterable[bytes]) -> Iterator[PathCertificate]:
    """Those that are certificates at all; what is none can stand in no path."""
    for raw in ders:
        try:
            yield read_path_certificate(raw)
        except ParseError:
            continue


def _shown(certificate: PathCertificate, at: datetime) -> dict[str, Any]:
    """What is said of one certificate, spelled as `describe_certificate` spells it."""
    names = certificate.extensions.get("2.5.29.17")
    return {
        "subject": format_dn_der(certificate.subject),
        "issuer": format_dn_der(certificate.issuer),
        "sans": extension_facts([names])["sans"] if names else [],
        "serial": serial_hex(certificate.serial),
        "sha256": sha256_hex(certificate.raw),
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
        "days_left": days_left(certificate.not_after, at),
        "expired": at > certificate.not_after,
        "not_yet_valid": at < certificate.not_before,
    }


def _success(
    answer: Answer, chain: list[dict[str, Any]], at: datetime, options: VerifyOptions
) -> dict[str, Any]:
    notes = []
    unchecked = [c["subject"] for i, c in enumerate(chain[:-1]) if i not in answer.crl_checked]
    if unchecked and options.crls:
        notes.append(f"no CRL given covers {'; '.join(name or '(empty)' for name in unchecked)}")
    elif unchecked:
        notes.append("revocation was not checked: no CRL was given")
    if any(is_dsa_signature(item.algorithm) for item in answer.path[:-1]):
        notes.append("the chain is signed with DSA and SHA-1, which is not relied on any more")
    return {
        "valid": True,
        "at": rfc3339(at),
        "purpose": options.purpose,
        "host": options.host or None,
        "chain": [
            {
                name: item[name]
                for name in ("subject", "sans", "serial", "sha256", "not_after", "days_left")
            }
            for item in chain
        ],
        "policies": sorted(answer.policies),
        "crl_checked": [chain[i]["sha256"] for i in answer.crl_checked],
        "notes": notes,
    }


def _fail(
    reason: str, message: str, subject: str, chain: Sequence[dict[str, Any]], hint: str = ""
) -> NoReturn:
    raise VerificationError(
        message,
        hint=hint,
        details={
            "reason": reason,
            "certificate": subject,
            "chain": [item["subject"] for item in chain],
        },
    )


_HINTS = {
    "crl-stale": "give the CA's current CRL with --crl; with --at, one of that time",
    "crl-missing": "give that CA's current CRL, too: --crl may be repeated",
    "profile": "without the rules for this purpose it can be verified with --purpose any",
    "too-complex": "leave certificates out that do not belong to the chain",
}


def _fail_fault(fault: Fault, item: dict[str, Any], chain: Sequence[dict[str, Any]]) -> NoReturn:
    """`{}` in a fault's words stands for the certificate; otherwise it is where they begin."""
    before, here, after = fault.words.partition("{}")
    message = f"{before}{_name(item)}{after}" if here else f"{_name(item)} {fault.words}"
    _fail(fault.reason, message, item["subject"], chain, _HINTS.get(fault.reason, ""))


def _explain(answer: Answer, chain: list[dict[str, Any]], at: datetime) -> NoReturn:
    """Of several faults the dates first: they are the commonest, and are told all at once."""
    _check_dates(chain, at)
    position, fault = _worst(answer.findings)
    _fail_fault(fault, chain[position], chain)


def _worst(findings: tuple[Finding, ...]) -> Finding:
    """What RFC 5280 says outweighs what the profile of a purpose says."""
    return min(findings, key=lambda item: item.fault.reason == "profile")


def _check_dates(chain: list[dict[str, Any]], at: datetime) -> None:
    """Of all certificates, the anchor too: OpenSSL and browsers refuse an expired root."""
    faults, first, reason = [], "", ""
    for position, item in enumerate(chain):
        who = f"{_role(position, len(chain))} {_name(item)}"
        if item["expired"]:
            faults.append(f"{who} expired {item['not_after']}")
        elif item["not_yet_valid"]:
            faults.append(f"{who} is not valid until {item['not_before']}")
        else:
            continue
        first = first or item["subject"]
        reason = reason or ("expired" if item["expired"] else "not-yet-valid")
    if faults:
        hint = f"judged at {rfc3339(at)}; another moment is chosen with --at"
        _fail(reason, "; ".join(faults), first, chain, hint)


def _role(position: int, length: int) -> str:
    if position == 0:
        return "the certificate"
    return "the root" if position == length - 1 else "the intermediate CA"


def _name(facts: dict[str, Any]) -> str:
    return facts["subject"] or ", ".join(facts["sans"]) or f"serial {facts['serial']}"


def _check_leaf(
    leaf: PathCertificate,
    chain: list[dict[str, Any]],
    purpose: Purpose | None,
    options: VerifyOptions,
) -> None:
    facts = chain[0]
    if problems := extension_facts(leaf.extensions.values())["problems"]:
        message = f"the certificate: {'; '.join(problems)}"
        _fail("broken", message, facts["subject"], chain)
    if purpose is not None:
        for fault in key_faults(leaf):
            _fail_fault(fault, facts, chain)
        if words := purpose_fault(purpose, leaf):
            _fail("wrong-purpose", words, facts["subject"], chain)
    if options.host and (words := host_fault(options.host, leaf)):
        _fail("wrong-host", words, facts["subject"], chain)
    if purpose is not None:
        for fault in leaf_profile_faults(purpose.name, leaf):
            _fail_fault(fault, facts, chain)


def _explain_missing(question: Question, answer: Answer) -> NoReturn:
    """No path reached an anchor: say how far it went and what is missing there."""
    path, namesake = _climb(question)
    chain = [_shown(item, question.rules.at) for item in path]
    last = chain[-1]
    if answer.spent:
        _fail_fault(TOO_COMPLEX, chain[0], chain)
    if path[-1].self_issued and is_signed_by(path[-1].raw, path[-1].spki):
        what = "the certificate signs itself and" if len(chain) == 1 else f"the root {_name(last)}"
        _fail(
            "untrusted-root",
            f"{what} is not among the trusted ones",
            last["subject"],
            chain,
            "if you trust it, give its file with --trust",
        )
    if namesake:
        _fail(
            "bad-signature",
            f"the signature of {_name(last)} was not made by any key of {last['issuer']} given",
            last["subject"],
            chain,
        )
    _fail(
        "unknown-issuer",
        f"the issuer of {_name(last)} is not here: {last['issuer'] or '(empty name)'}",
        last["subject"],
        chain,
        "give the missing CA's file with --untrusted, or with --trust if it is the root",
    )


def _climb(question: Question) -> tuple[Path, bool]:
    try:
        search = Search(question.forest, question.rules, Budget(300, 3000))
        return search.climb(question.leaf)
    except TooComplexError:
        return (question.leaf,), False
