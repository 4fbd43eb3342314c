"""Why a certificate is revoked: RFC 5280 section 5.3.1, and who may say what for whom.

The TLS Baseline Requirements (section 7.2.2) allow fewer: no holds, and for CA certificates always
a reason.
"""

from __future__ import annotations

from tpmhsm.errors import RefusedError, UsageError

UNSPECIFIED = "unspecified"
HOLD = "certificateHold"
KEY_COMPROMISE, CA_COMPROMISE = "keyCompromise", "cACompromise"

CODES = {
    UNSPECIFIED: 0,
    KEY_COMPROMISE: 1,
    CA_COMPROMISE: 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    HOLD: 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}
"""CRLReason by name; 7 is not used."""

NAMES = {code: name for name, code in CODES.items()}

_FOLDED = {name.lower(): name for name in CODES}
_OFFERED = [name for name in CODES if name not in (HOLD, "removeFromCRL", "aACompromise")]
_TLS = frozenset(_OFFERED) - {UNSPECIFIED, CA_COMPROMISE}


def reason_name(text: str) -> str:
    """The reason that a person means, in RFC 5280's spelling. UsageError lists those there are.

    Upper and lower case, dashes and underscores do not matter.
    """
    found = _FOLDED.get(text.replace("-", "").replace("_", "").lower())
    if found is None:
        raise UsageError(
            f"{text!r} is no reason for a revocation",
            hint=f"one of {', '.join(_OFFERED)}",
            code="bad-reason",
        )
    return found


def check_reason(reason: str, *, ca: bool, lint: str = "pkix") -> None:
    """Refuse a reason (from `reason_name`) that does not fit the certificate.

    `ca` says that it is a CA's. Raises UsageError, or RefusedError for what `tls-br` forbids.
    """
    if reason == HOLD:
        raise _bad(f"{HOLD} is a hold, not a revocation", "tpmhsm ca hold NAME SERIAL")
    if reason == "removeFromCRL":
        raise _bad("removeFromCRL ends a hold, in delta CRLs", "tpmhsm ca release NAME SERIAL")
    if reason == "aACompromise":
        raise _bad("aACompromise is for attribute certificates", "keyCompromise is for others")
    if reason == CA_COMPROMISE and not ca:
        raise _bad("cACompromise is for CA certificates, and this is none", "keyCompromise")
    if lint == "tls-br" and ca and reason == UNSPECIFIED:
        raise RefusedError(
            "a CA certificate is revoked for a reason (TLS Baseline Requirements 7.2.2)",
            hint=f"--reason, one of {', '.join(sorted(_TLS | {CA_COMPROMISE}))}",
            code="reason-needed",
        )


def check_hold(lint: str, *, web: bool) -> str:
    """What is to be said of a hold; empty for nothing. `web`: of a TLS server's certificate.

    RefusedError where the TLS Baseline Requirements (4.9.13) forbid holds.
    """
    if not web:
        return ""
    if lint == "tls-br":
        raise RefusedError(
            'TLS server certificates under lint = "tls-br" cannot be put on hold (4.9.13)',
            hint="tpmhsm ca revoke NAME SERIAL --reason R; others, for TLS clients, can be held",
            code="no-holds",
        )
    return "a TLS server's certificate on hold: the public web forbids that (BR 4.9.13)"


def may_replace(old: str, new: str) -> bool:
    """Whether a revoked certificate's reason may become another one.

    Only what was learnt later counts: that the key is compromised (Baseline Requirements 7.2.2).
    """
    return new in (KEY_COMPROMISE, CA_COMPROMISE) and old not in (KEY_COMPROMISE, CA_COMPROMISE)


def _bad(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="bad-reason")
