"""What a certificate may be used for (RFC 5280 section 4.2.1.12, RFC 3161, RFC 6960, RFC 9525)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tpmhsm.errors import UsageError
from tpmhsm.pki.hosts import match_host, normalize_host, parse_ip


@dataclass(frozen=True)
class Purpose:
    """One purpose: its extended key usage, the key usages of which one must be there.

    `explicit`: the extended usage must stand in the certificate, and `any` does not stand for it.
    """

    name: str
    usage: str
    key_usages: tuple[str, ...]
    explicit: bool = False


PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        purpose.name: purpose
        for purpose in (
            Purpose(
                "server", "serverAuth", ("digitalSignature", "keyEncipherment", "keyAgreement")
            ),
            Purpose("client", "clientAuth", ("digitalSignature", "keyAgreement")),
            Purpose(
                "email",
                "emailProtection",
                ("digitalSignature", "nonRepudiation", "keyEncipherment", "keyAgreement"),
            ),
            Purpose("code", "codeSigning", ("digitalSignature",), explicit=True),
            Purpose(
                "timestamp", "timeStamping", ("digitalSignature", "nonRepudiation"), explicit=True
            ),
            Purpose("ocsp", "OCSPSigning", ("digitalSignature",), explicit=True),
        )
    }
)


def get_purpose(name: str) -> Purpose | None:
    """The purpose of that name, None for `any`. UsageError names those there are."""
    if name == "any":
        return None
    if name not in PURPOSES:
        names = ", ".join((*PURPOSES, "any"))
        raise UsageError(f"there is no purpose {name!r}", hint=f"the purposes are {names}")
    return PURPOSES[name]


def purpose_fault(purpose: Purpose, chain: list[dict[str, Any]]) -> str:
    """In words why the chain (facts, leaf first) does not serve the purpose; empty when it does."""
    leaf = chain[0]
    usages = leaf["extended_key_usage"]
    accepted = {purpose.usage} | (set() if purpose.explicit else {"anyExtendedKeyUsage"})
    if (usages or purpose.explicit) and not accepted & set(usages):
        has = f"it is for {', '.join(usages)}" if usages else "it says nothing of extended usages"
        return f"the certificate is not for the purpose {purpose.name} ({purpose.usage}): {has}"
    if leaf["key_usage"] and not set(purpose.key_usages) & set(leaf["key_usage"]):
        return (
            f"the certificate's key may do {', '.join(leaf['key_usage'])} only, "
            f"which does not serve the purpose {purpose.name}"
        )
    if purpose.name == "timestamp" and not _is_timestamp_only(leaf):
        return "a timestamp certificate must have timeStamping alone, marked critical (RFC 3161)"
    if purpose.name == "ocsp":  # issued by the CA itself; the usages of CAs do not speak of it
        return ""
    for authority in chain[1:]:
        limits = set(authority["extended_key_usage"])
        if limits and not limits & {purpose.usage, "anyExtendedKeyUsage"}:
            return (
                f"the CA {authority['subject']} may certify for {', '.join(sorted(limits))} only, "
                f"not for the purpose {purpose.name}"
            )
    return ""


def _is_timestamp_only(leaf: dict[str, Any]) -> bool:
    critical = {item["name"] for item in leaf["extensions"] if item["critical"]}
    return leaf["extended_key_usage"] == ["timeStamping"] and "extKeyUsage" in critical


def host_fault(host: str, leaf: dict[str, Any]) -> str:
    """In words why the certificate is not this host's; empty when it is. CN is not looked at."""
    names = [tuple(san.split(":", 1)) for san in leaf["sans"]]
    address = parse_ip(host)
    if address is not None:
        found = any(kind == "ip" and parse_ip(value) == address for kind, value in names)
    else:
        wanted = normalize_host(host.rstrip("."), wildcard=False)
        found = any(kind == "dns" and match_host(value, wanted) for kind, value in names)
    if found:
        return ""
    listed = ", ".join(value for kind, value in names if kind in ("dns", "ip"))
    return f"the certificate is not for {host}: it names {listed or 'no host at all'}"
