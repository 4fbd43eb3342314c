"""Path validation by pyhanko-certvalidator (RFC 5280 section 6), behind one function.

Imported only when a path is validated: the library takes 150 ms to import. It decodes with
asn1crypto, so certificates that `cryptography` does not load can be validated, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asn1crypto import crl, x509
from pyhanko_certvalidator import errors, policy_decl
from pyhanko_certvalidator.authority import CertTrustAnchor, TrustQualifiers
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.name_trees import (
    default_excluded_subtrees,
    default_permitted_subtrees,
    process_general_subtrees,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    CertRevTrustPolicy,
    PKIXValidationParams,
    RevocationCheckingPolicy,
    RevocationCheckingRule,
)
from pyhanko_certvalidator.registry import SimpleTrustManager
from pyhanko_certvalidator.validate import async_validate_path

_MAX_PATHS = 32
_MAX_POLICY_WORK = 10_000


@dataclass(frozen=True)
class PathInput:
    """DER of everything that goes in. `require_crl`: a CRL must cover every certificate."""

    leaf: bytes
    trust: Sequence[bytes]
    untrusted: Sequence[bytes]
    crls: Sequence[bytes]
    at: datetime
    require_crl: bool = False


@dataclass(frozen=True)
class PathFailure:
    """Why one candidate path fails. `chain` is its DER, leaf first; `error` the library's.

    `position` in the chain is that of the certificate whose validation failed.
    """

    chain: tuple[bytes, ...]
    error: Exception
    position: int = 0


class _AtPosition(Exception):  # noqa: N818 (it carries an error from one place to another)
    """An error about the certificate at one position of the chain."""

    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(str(error))
        self.position = position
        self.error = error


@dataclass(frozen=True)
class PathResult:
    """The first path that holds (leaf first, anchor last), or the failures of all candidates.

    `crl_checked` are positions in `chain` that a CRL covered.
    """

    chain: tuple[bytes, ...] = ()
    failures: tuple[PathFailure, ...] = ()
    crl_checked: tuple[int, ...] = ()
    policies: tuple[str, ...] = ()


def find_path(given: PathInput) -> PathResult:
    """Builds candidate paths and validates them until one holds. Never raises on bad input."""
    try:
        return asyncio.run(_find_path(given))
    except errors.PathBuildingError:
        return PathResult()
    except Exception as error:  # noqa: BLE001 (hostile input in a foreign parser: refuse, never crash)
        return PathResult(failures=(PathFailure((given.leaf,), error),))


async def _find_path(given: PathInput) -> PathResult:
    rules = RevocationCheckingRule
    rule = rules.CRL_REQUIRED if given.require_crl else rules.NO_CHECK
    context = _context(given, rule, rule)
    leaf = x509.Certificate.load(given.leaf, strict=True)
    failures: list[PathFailure] = []
    paths: Any = context.path_builder.async_build_paths_lazy(leaf)
    try:
        async for path in paths:
            chain = _chain(path)
            try:
                return await _validate(given, context, path, chain)
            except _AtPosition as found:
                failures.append(PathFailure(chain, found.error, found.position))
            except Exception as error:  # noqa: BLE001 (as above; the next path may hold)
                failures.append(PathFailure(chain, error))
            if len(failures) >= _MAX_PATHS:
                break
    finally:
        await paths.cancel()
    return PathResult(failures=tuple(failures))


async def _validate(
    given: PathInput, context: ValidationContext, path: ValidationPath, chain: tuple[bytes, ...]
) -> PathResult:
    _check_policy_work(path)
    await async_validate_path(context, path)
    below = len(chain) - 1
    if given.require_crl:
        checked = tuple(range(below))
    else:
        checked = tuple(
            i for i in range(below) if _covered(given, path, below - i) or (given.crls and i == 0)
        )
        for position in reversed(checked):  # a CA that is revoked says more than its leaf
            try:
                await _check_crl(given, path, below - position)
            except Exception as error:
                raise _AtPosition(position, error) from error
    policies = sorted(p.user_domain_policy_id for p in path.qualified_policies() or ())
    return PathResult(chain=chain, crl_checked=checked, policies=tuple(policies))


def _context(given: PathInput, leaf_rule: Any, ca_rule: Any) -> ValidationContext:
    policy = RevocationCheckingPolicy(leaf_rule, ca_rule)
    algorithms: Any = policy_decl.DisallowWeakAlgorithmsPolicy
    anchors = [_anchor(x509.Certificate.load(raw, strict=True)) for raw in given.trust]
    others = [x509.Certificate.load(raw, strict=True) for raw in given.untrusted]
    return ValidationContext(
        trust_manager=SimpleTrustManager.build(trust_roots=anchors),
        other_certs=others,
        moment=given.at,
        crls=[crl.CertificateList.load(raw, strict=True) for raw in given.crls],
        revinfo_policy=CertRevTrustPolicy(policy),
        algorithm_usage_policy=algorithms(
            # Not 3192 bits, the library's own default for DSA, which no DSA key ever has.
            dsa_key_size_threshold=2048
        ),
    )


def _anchor(certificate: x509.Certificate) -> CertTrustAnchor:
    """What the anchor's certificate says of path length and names is taken at its word.

    RFC 5280 leaves this open; RFC 5937 and OpenSSL do it.
    """
    constraints = certificate.name_constraints_value
    parameters = None
    if constraints is not None:
        permitted, excluded = constraints["permitted_subtrees"], constraints["excluded_subtrees"]
        parameters = PKIXValidationParams(
            initial_permitted_subtrees=default_permitted_subtrees() | _subtrees(permitted),
            initial_excluded_subtrees=default_excluded_subtrees() | _subtrees(excluded),
        )
    qualifiers = TrustQualifiers(
        standard_parameters=parameters, max_path_length=certificate.max_path_length
    )
    return CertTrustAnchor(certificate, qualifiers)


def _subtrees(value: Any) -> Any:
    return process_general_subtrees(value) if isinstance(value, x509.GeneralSubtrees) else {}


def _check_policy_work(path: ValidationPath) -> None:
    """Policy trees of library versions before 0.33 grow as the product of mappings (RFC 9618)."""
    work = 1
    for item in path.iter_certs(include_root=False):
        policies, mappings = item.certificate_policies_value, item.policy_mappings_value
        work *= max(1, len(mappings or ()), len(policies or ()) // 8)
        if work > _MAX_POLICY_WORK:
            raise ValueError("the certificate policies of this chain are too many to process")


def _chain(path: ValidationPath) -> tuple[bytes, ...]:
    return tuple(item.dump() for item in reversed(list(path.iter_certs(include_root=True))))


def _covered(given: PathInput, path: ValidationPath, position: int) -> bool:
    certificate = list(path.iter_certs(include_root=True))[position]
    lists = [crl.CertificateList.load(raw) for raw in given.crls]
    return any(item.issuer == certificate.issuer for item in lists)


async def _check_crl(given: PathInput, path: ValidationPath, position: int) -> None:
    """Validates the path down to one certificate once more, its CRL now being required."""
    rules = RevocationCheckingRule
    context = _context(given, rules.CRL_REQUIRED, rules.NO_CHECK)
    certificates = list(path.iter_certs(include_root=False))
    part = ValidationPath(
        path.trust_anchor, certificates[: position - 1], certificates[position - 1]
    )
    await async_validate_path(context, part)


def revocation_of(error: Exception) -> tuple[datetime, str] | None:
    """(when, why) of an error that says a certificate is revoked."""
    if isinstance(error, errors.RevokedError):
        return error.revocation_dt, str(error.reason.human_friendly)
    return None


def kind_of(error: Exception) -> str:
    """A stable word for the library's error."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (errors.RevokedError, "revoked"),
        (errors.StaleRevinfoError, "crl-stale"),
        (errors.InsufficientRevinfoError, "crl-missing"),
        (errors.ExpiredError, "expired"),
        (errors.NotYetValidError, "not-yet-valid"),
        (errors.DisallowedAlgorithmError, "weak-algorithm"),
        (errors.PathValidationError, "path"),
    )
    return next((word for kind, word in kinds if isinstance(error, kind)), "broken")


def is_about_another_path(error: Exception) -> bool:
    """Whether the error speaks of the path of a CRL's issuer, not of the one asked about."""
    return isinstance(error, errors.PathValidationError) and bool(error.is_side_validation)
