"""What a certificate may be used for (RFC 5280 section 4.2.1.12, RFC 3161, RFC 6960, RFC 9525)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tpmhsm.errors import UsageError
from tpmhsm.pki.facts import EKU_NAMES, EKU_OIDS, KEY_USAGES
from tpmhsm.pki.general_names import format_general_name
from tpmhsm.pki.hosts import match_host, normalize_host, parse_ip
from tpmhsm.pki.path_certificate import ANY_USAGE, Fault, PathCertificate


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


def _named(oids: Iterable[str]) -> str:
    return ", ".join(EKU_NAMES.get(oid, oid) for oid in oids)


def purpose_fault(purpose: Purpose, leaf: PathCertificate) -> str:
    """In words why the certificate does not serve the purpose; empty when it does."""
    usages = leaf.usages or ()
    accepted = {EKU_OIDS[purpose.usage]} | (set() if purpose.explicit else {ANY_USAGE})
    if (usages or purpose.explicit) and not accepted & set(usages):
        has = f"it is for {_named(usages)}" if usages else "it says nothing of extended usages"
        return f"the certificate is not for the purpose {purpose.name} ({purpose.usage}): {has}"
    if leaf.key_usage is not None and not set(purpose.key_usages) & leaf.key_usage:
        allowed = ", ".join(name for name in KEY_USAGES if name in leaf.key_usage)
        return (
            f"the certificate's key may do {allowed} only, "
            f"which does not serve the purpose {purpose.name}"
        )
    if purpose.name == "timestamp" and not _is_timestamp_only(leaf):
        return "a timestamp certificate must have timeStamping alone, marked critical (RFC 3161)"
    return ""


def authority_fault(purpose: Purpose, issuer: PathCertificate) -> Iterator[Fault]:
    """Extended usages of a CA limit what it may certify for."""
    if purpose.name == "ocsp":  # issued by the CA itself; the usages of CAs do not speak of it
        return
    limits = set(issuer.usages or ())
    if limits and not limits & {EKU_OIDS[purpose.usage], ANY_USAGE}:
        words = f"may certify for {_named(sorted(limits))} only, not for the purpose {purpose.name}"
        yield Fault("wrong-purpose", words)


def _is_timestamp_only(leaf: PathCertificate) -> bool:
    return leaf.usages == (EKU_OIDS["timeStamping"],) and leaf.is_critical("2.5.29.37")


def host_fault(host: str, leaf: PathCertificate) -> str:
    """In words why the certificate is not this host's, or this mailbox's; empty when it is.

    The common name is not looked at (RFC 9525, 2).
    """
    wanted_kinds = ("email",) if "@" in host else ("dns", "ip")
    names = [name for name in leaf.sans or () if name.kind in wanted_kinds]
    if any(_matches(host, name.kind, name.value) for name in names):
        return ""
    listed = ", ".join(format_general_name(name).partition(":")[2] for name in names)
    what = "mailbox" if "@" in host else "host"
    return f"the certificate is not for {host}: it names {listed or f'no {what} at all'}"


def _matches(host: str, kind: str, value: str | bytes) -> bool:
    if isinstance(value, bytes):
        address = parse_ip(host)
        return address is not None and address.packed == value
    if kind == "email":
        local, _, domain = host.rpartition("@")
        theirs, _, their_domain = value.rpartition("@")
        return local == theirs and domain.lower() == their_domain.lower()
    if parse_ip(host) is not None:
        return False
    return match_host(value, normalize_host(host.rstrip("."), wildcard=False))
