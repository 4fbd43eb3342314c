"""Profiles: the rules that turn a CSR into a TBSCertificate.

RFC 5280 section 4.2; TLS Baseline Requirements 2.x section 7.1.2 where `lint` is `tls-br`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tpmhsm.errors import UsageError

DOMAIN_VALIDATED = "2.23.140.1.2.1"
"""The CA/Browser Forum's policy for certificates whose domain names alone were validated."""


@dataclass(frozen=True)
class Profile:
    """One profile. `days` is the default lifetime; `san_types` the kinds of names it grants;
    `limited` a root that must have name constraints. (RFC 5280 does not oblige clients to look at
    a trust anchor's, section 6.1, and Java does not; the intermediate should have them, too.)
    """

    name: str
    title: str
    ca: bool
    days: int
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...] = ()
    san_types: frozenset[str] = frozenset()
    self_signed: bool = False
    needs_san: bool = False
    tls: bool = False
    path_length: int | None = None
    limited: bool = False


_ANY_SAN = frozenset("dns ip email uri dirname rid upn othername".split())  # noqa: SIM905

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "root",
                "root CA certificate",
                ca=True,
                days=7305,
                key_usage=("keyCertSign", "cRLSign"),
                self_signed=True,
            ),
            Profile(
                "limited-root",
                "root CA certificate for some names",
                ca=True,
                days=365,
                key_usage=("keyCertSign", "cRLSign"),
                self_signed=True,
                path_length=1,
                limited=True,
            ),
            Profile(
                "intermediate",
                "intermediate CA certificate",
                ca=True,
                days=1826,
                key_usage=("keyCertSign", "cRLSign"),
                path_length=0,
            ),
            Profile(
                "tls-server",
                "TLS server certificate",
                ca=False,
                days=199,
                key_usage=("digitalSignature",),
                extended_key_usage=("serverAuth",),
                san_types=frozenset({"dns", "ip"}),
                needs_san=True,
                tls=True,
            ),
            Profile(
                "tls-client",
                "TLS client certificate",
                ca=False,
                days=365,
                key_usage=("digitalSignature",),
                extended_key_usage=("clientAuth",),
                san_types=_ANY_SAN,
            ),
        )
    }
)


def get_profile(name: str) -> Profile:
    """The profile of that name. UsageError names those there are."""
    try:
        return PROFILES[name]
    except KeyError:
        raise UsageError(
            f"there is no profile {name!r}", hint=f"the profiles are {', '.join(PROFILES)}"
        ) from None
