"""What may be chosen for one issuance, beside the profile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

LINTS = ("pkix", "tls-br")


@dataclass(frozen=True)
class IssueOptions:
    """Choices for one certificate; the empty ones leave it to the profile.

    `days` or `not_after` set the end; `permitted` and `excluded` are name constraints as text
    (`dns:example.com`); `policies` dotted OIDs; `extended_key_usage` names or OIDs, added to the
    profile's. `base_url` and `issuer_label` make AIA and CRL URLs, `ocsp` adds the OCSP one.
    `lint` is `pkix` or `tls-br`; `hash_name` the hash that the issuing key's scheme fixes;
    `serial` a number already reserved in the database; `above` the CA certificates (DER) above the
    issuer that limit what it certifies.
    """

    days: int | None = None
    not_after: datetime | None = None
    path_length: int | None = None
    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    base_url: str = ""
    issuer_label: str = ""
    ocsp: bool = False
    lint: str = "pkix"
    hash_name: str | None = None
    serial: int | None = None
    above: tuple[bytes, ...] = ()
