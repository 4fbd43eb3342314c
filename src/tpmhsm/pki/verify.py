"""Verifying a certificate: path, dates, revocation, purpose and host, with reasons in words.

The path is validated by a library (`path_engine`); what RFC 5280 leaves to the application is
checked here: the anchor's own dates, the leaf's critical extensions, purpose and host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.pki.chains import AnyCertificate, above, build_chain, fields_of, is_issued_by
from tpmhsm.pki.constraints import constraint_violation, constraints_of, names_of
from tpmhsm.pki.describe import certificate_der, describe_certificate
from tpmhsm.pki.keys import check_public_key, load_spki
from tpmhsm.pki.purposes import get_purpose, host_fault, purpose_fault
from tpmhsm.pki.tbs import rfc3339

if TYPE_CHECKING:
    from tpmhsm.pki.path_engine import PathFailure, PathResult


@dataclass(frozen=True)
class VerifyOptions:
    """`purpose` as in `purposes` or `any`; `host` a name or address; `at` (default now) the moment.

    `crls` is DER. When there are any, one must cover the leaf, and CAs are checked as far as they
    are covered; `require_crl` demands one for each certificate below the anchor.
    """

    purpose: str = "any"
    host: str = ""
    at: datetime | None = None
    crls: tuple[bytes, ...] = ()
    require_crl: bool = False


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
    purpose = get_purpose(options.purpose)
    at = options.at or datetime.now(UTC)
    if at.tzinfo is None:
        raise UsageError("the moment needs a time zone (RFC 3339: 2027-01-01T00:00:00Z)")
    raw, anchors = certificate_der(leaf), [certificate_der(item) for item in trust]
    if not anchors:
        raise UsageError("nothing is trusted", hint="name the root: cert verify F --trust ROOT")
    pool = [certificate_der(item) for item in untrusted]
    if not options.crls:  # whose issuers may have any name
        pool, anchors = above(raw, pool, anchors)
    result = _run_engine(raw, anchors, pool, at, options)
    if not result.chain:
        _explain(raw, anchors, pool, at, result.failures)
    chain = [describe_certificate(item, at) for item in result.chain]
    _check_dates(chain, at)
    _check_leaf(chain)
    _check_constraints(result.chain, chain)
    if purpose is not None:
        _check_keys(result.chain, chain)
    if purpose is not None and (fault := purpose_fault(purpose, chain)):
        _fail("wrong-purpose", fault, chain[0]["subject"], chain)
    if options.host and (fault := host_fault(options.host, chain[0])):
        _fail("wrong-host", fault, chain[0]["subject"], chain)
    return Verified(result.chain, _success(chain, result, at, options))


def _run_engine(
    raw: bytes, anchors: list[bytes], pool: list[bytes], at: datetime, options: VerifyOptions
) -> PathResult:
    from tpmhsm.pki.path_engine import PathInput, find_path

    given = PathInput(raw, anchors, pool, options.crls, at, options.require_crl)
    return find_path(given)


def _success(
    chain: list[dict[str, Any]], result: PathResult, at: datetime, options: VerifyOptions
) -> dict[str, Any]:
    notes = []
    unchecked = [c["subject"] for i, c in enumerate(chain[:-1]) if i not in result.crl_checked]
    if unchecked and options.crls:
        notes.append(f"no CRL given covers {'; '.join(name or '(empty)' for name in unchecked)}")
    elif unchecked:
        notes.append("revocation was not checked: no CRL was given")
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
        "policies": list(result.policies),
        "crl_checked": [chain[i]["sha256"] for i in result.crl_checked],
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
        _fail(reason, "; ".join(faults), first, chain, _date_hint(at))


def _date_hint(at: datetime) -> str:
    return f"judged at {rfc3339(at)}; another moment is chosen with --at"


def _role(position: int, length: int) -> str:
    if position == 0:
        return "the certificate"
    return "the root" if position == length - 1 else "the intermediate CA"


def _name(facts: dict[str, Any]) -> str:
    return facts["subject"] or ", ".join(facts["sans"]) or f"serial {facts['serial']}"


def _check_leaf(chain: list[dict[str, Any]]) -> None:
    leaf = chain[0]
    if unknown := leaf["unknown_critical"]:
        message = f"the certificate has critical extensions unknown here: {', '.join(unknown)}"
        _fail("unknown-critical", message, leaf["subject"], chain)
    if leaf["problems"]:
        _fail("broken", f"the certificate: {'; '.join(leaf['problems'])}", leaf["subject"], chain)


def _check_keys(ders: Sequence[bytes], chain: list[dict[str, Any]]) -> None:
    for raw, item in zip(ders, chain, strict=True):
        try:
            check_public_key(load_spki(fields_of(raw).spki))
        except UsageError as error:
            _fail("weak-key", f"{_name(item)}: {error.message}", item["subject"], chain)


def _check_constraints(ders: Sequence[bytes], chain: list[dict[str, Any]]) -> None:
    """Name constraints once more: library versions before 0.33 compare hosts with their case."""
    for position, raw in reversed(list(enumerate(ders))):
        constraints = constraints_of(raw) if position else None
        if constraints is None:
            continue
        for below in range(position):
            if below and chain[below]["self_issued"]:
                continue  # RFC 5280, 6.1.3 (b)
            if violation := constraint_violation(constraints, *names_of(ders[below])):
                message = f"{_name(chain[below])} breaks the name constraints above it: {violation}"
                _fail("name-constraint", message, chain[below]["subject"], chain)


def _explain(
    raw: bytes,
    anchors: list[bytes],
    pool: list[bytes],
    at: datetime,
    failures: tuple[PathFailure, ...],
) -> NoReturn:
    """The failure that tells most: of several paths, one that broke after all signatures held."""
    if not failures:
        _explain_missing(raw, anchors, pool, at)
    from tpmhsm.pki.path_engine import kind_of

    best = min(failures, key=lambda item: (kind_of(item.error) == "broken", _is_signature(item)))
    chain = [describe_certificate(item, at) for item in best.chain]
    _check_dates(chain, at)
    _explain_failure(best, chain)


def _is_signature(failure: PathFailure) -> bool:
    return "signature" in str(failure.error)


def _explain_missing(raw: bytes, anchors: list[bytes], pool: list[bytes], at: datetime) -> NoReturn:
    """No path reached an anchor: say how far it went and what is missing there."""
    found = build_chain(raw, [*pool, *anchors])
    chain = [describe_certificate(item, at) for item in found]
    last = chain[-1]
    if last["self_signed"]:
        what = "the certificate signs itself and" if len(chain) == 1 else f"the root {_name(last)}"
        _fail(
            "untrusted-root",
            f"{what} is not among the trusted ones",
            last["subject"],
            chain,
            "if you trust it, give its file with --trust",
        )
    if _has_namesake(found[-1], [*pool, *anchors]):
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


def _has_namesake(raw: bytes, pool: list[bytes]) -> bool:
    issuer = fields_of(raw).issuer
    return any(fields_of(item).subject == issuer and not is_issued_by(raw, item) for item in pool)


_WORDS: tuple[tuple[str, str, str], ...] = (
    # (pattern in the library's message, stable word, in words; {} is the certificate at fault)
    (r"permitted namespace", "name-constraint", "{} has a name outside what its CA may certify"),
    (r"are excluded", "name-constraint", "{} has a name that its CA may not certify"),
    (r"signature of .* could not be", "bad-signature", "the signature of {} does not hold"),
    (r"signature parameters", "bad-signature", "the signature of {} has wrong parameters"),
    (
        r"maximum path length",
        "path-length",
        "{} is one CA more than the path length above it allows",
    ),
    (r"is not a CA", "not-a-ca", "{} is no CA, but issued a certificate"),
    (r"not allowed to sign", "not-a-ca", "the key of {} may not sign certificates (keyCertSign)"),
    (r"unsupported critical", "unknown-critical", "{} has critical extensions unknown here"),
    (r"valid set of policies", "policy", "no certificate policy holds from the root down to {}"),
    (r"policy mapping", "policy", "{} maps certificate policies in a way that is forbidden"),
    (r"issuer name", "broken-chain", "{} names another issuer than the CA above it"),
)


def _explain_failure(failure: PathFailure, chain: list[dict[str, Any]]) -> NoReturn:
    from tpmhsm.pki.path_engine import is_about_another_path, kind_of, revocation_of

    error, kind = failure.error, kind_of(failure.error)
    chain = chain[failure.position :]
    item = chain[0] if is_about_another_path(error) else _at_fault(str(error), chain)
    name = _name(item)
    if revoked := revocation_of(error):
        when, why = revoked
        message = f"{name} was revoked on {rfc3339(when)}: {why}"
        _fail("revoked", message, item["subject"], chain)
    if kind in ("crl-stale", "crl-missing"):
        _fail(kind, _crl_words(kind, name, str(error)), item["subject"], chain, _CRL_HINT)
    if kind == "weak-algorithm":
        message = f"{name} is signed with a weak algorithm ({item['signature_algorithm']})"
        _fail(kind, f"{message}{_reason_suffix(str(error))}", item["subject"], chain)
    for pattern, reason, words in _WORDS:
        if re.search(pattern, str(error)):
            _fail(reason, words.format(name) + _extra(str(error), reason), item["subject"], chain)
    _fail("broken", f"{name} cannot be validated: {_detail(str(error))}", item["subject"], chain)


def _crl_words(kind: str, name: str, message: str) -> str:
    if kind == "crl-stale":
        return f"the CRL for {name} is too old: {_detail(message)}"
    if "could not be found" in message:
        return f"no CRL given covers {name}"
    return f"the CRL for {name} does not settle it: {_detail(message)}"


_CRL_HINT = "get the CA's current CRL and give it with --crl"


def _at_fault(message: str, chain: list[dict[str, Any]]) -> dict[str, Any]:
    """The library counts intermediates from the root; "exceeds the path length" names none."""
    if found := re.search(r"intermediate certificate (\d+)", message):
        position = len(chain) - 1 - int(found[1])
        return chain[position] if 0 <= position < len(chain) else chain[0]
    if "maximum path length" in message:
        return chain[min(1, len(chain) - 1)]
    return chain[0]


def _detail(message: str) -> str:
    return re.sub(r"^The path could not be validated because ", "", message).rstrip(".")


def _reason_suffix(message: str) -> str:
    found = re.search(r"Reason: (.*?)\.?$", message)
    return f": {found[1]}" if found else ""


def _extra(message: str, reason: str) -> str:
    """What the library adds about the very name or extension."""
    if reason == "name-constraint":
        found = re.search(r"issuing authority\. (.+)$", message)
    else:
        found = re.search(r"critical extensions?: (.+)$", message)
    return f": {found[1].rstrip('.')}" if found else ""
