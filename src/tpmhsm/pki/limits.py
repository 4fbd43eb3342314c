"""What an issuer's certificate, and those above it, let it certify.

Relying parties hold the name constraints and extended key usages of every CA in a path against all
that is below it (RFC 5280 sections 4.2.1.10 and 4.2.1.12; Baseline Requirements 7.1.2.10.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from tpmhsm.errors import UsageError
from tpmhsm.pki.applicant import GrantedNames
from tpmhsm.pki.chains import fields_of
from tpmhsm.pki.constraints import constraint_violation
from tpmhsm.pki.facts import EKU_OIDS, decode_extensions
from tpmhsm.pki.issuer import Issuer
from tpmhsm.pki.names import format_dn_der, read_name
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import Profile

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def limits_what_is_below(raw: bytes) -> bool:
    """Whether a CA certificate (DER) has name constraints or extended key usages."""
    return bool(_limits(_decoded(raw)))


def check_limits(
    issuer: Issuer, profile: Profile, names: GrantedNames, options: IssueOptions
) -> list[str]:
    """Notes on what some clients would hold against it. UsageError for what all would refuse.

    `options.above` are the CA certificates above the issuer.
    """
    standing = [("the issuer", _limits_of(issuer))]
    for raw in options.above:
        subject = format_dn_der(fields_of(raw).subject)
        standing.append((f"{subject}, above the issuer,", _limits(_decoded(raw))))
    notes: list[str] = []
    for whose, limits in standing:
        for limit in limits:
            if isinstance(limit, x509.ExtendedKeyUsage):
                _check_usages(limit, whose, profile, options)
            else:
                notes += _check_names(limit, whose, profile, names)
    return list(dict.fromkeys(notes))


@lru_cache(64)
def _limits_of(issuer: Issuer) -> list[x509.NameConstraints | x509.ExtendedKeyUsage]:
    return _limits(issuer.certificate.extensions)


def _decoded(raw: bytes) -> list[x509.Extension[x509.ExtensionType]]:
    return decode_extensions(fields_of(raw).extensions)[0]


def _limits(
    extensions: Iterable[x509.Extension[x509.ExtensionType]],
) -> list[x509.NameConstraints | x509.ExtendedKeyUsage]:
    kinds = (x509.NameConstraints, x509.ExtendedKeyUsage)
    return [item.value for item in extensions if isinstance(item.value, kinds)]


def _check_usages(
    usages: x509.ExtendedKeyUsage, whose: str, profile: Profile, options: IssueOptions
) -> None:
    allowed = {oid.dotted_string for oid in usages}
    wanted = {
        EKU_OIDS.get(u, u) for u in (*profile.extended_key_usage, *options.extended_key_usage)
    }
    if "2.5.29.37.0" not in allowed and not wanted <= allowed:
        raise UsageError(
            f"the extended key usages of {whose} do not cover the profile {profile.name}",
            hint="use another authority, or one without extended key usages",
            code="issuer-usage",
        )


def _check_names(
    constraints: x509.NameConstraints, whose: str, profile: Profile, names: GrantedNames
) -> Iterator[str]:
    subject = read_name(names.subject)
    if violation := constraint_violation(constraints, subject, names.sans):
        raise UsageError(
            f"the name constraints of {whose} forbid this: {violation}",
            code="constraint",
            hint="ask an authority that may certify this name, or leave the name out",
        )
    if any(isinstance(name, x509.DNSName) for name in names.sans):
        return
    for text in _host_like(subject):
        host = x509.DNSName(text)
        if not (violation := constraint_violation(constraints, x509.Name([]), [host])):
            continue
        if "." in text and not profile.ca:
            raise UsageError(
                f"CN={text} reads as a host, and OpenSSL, for one, holds the name constraints of"
                f" {whose} against it: {violation}",
                hint="leave the common name out, or choose one that is no host name",
                code="constraint",
            )
        yield (
            f"CN={text} reads as a host outside the name constraints of {whose}: Java refuses it"
            " (a common name with a space in it is no host)"
        )


def _host_like(subject: x509.Name) -> Iterator[str]:
    """Common names that clients take for hosts where no alternative name is one."""
    for item in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if _HOST.fullmatch(str(item.value)):
            yield str(item.value)
