"""What the web demands of certificates beyond a valid path: profiles of the purposes.

`server`: the profile of RFC 5280 section 4 and the CA/Browser Forum's TLS Baseline Requirements
section 7.1, as far as a verifier can see them. `email`: the S/MIME Baseline Requirements section
7.1. Where the two contradict RFC 5280 they win: name constraints need not be critical.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

from tpmhsm.errors import UsageError
from tpmhsm.pki.facts import EKU_NAMES, EKU_OIDS
from tpmhsm.pki.general_names import COMMON_NAME, attribute_texts, attribute_types
from tpmhsm.pki.path_certificate import ANY_USAGE, Fault, PathCertificate
from tpmhsm.pki.path_keys import has_explicit_curve, loaded_key
from tpmhsm.pki.signatures import verify_signed
from tpmhsm.pki.subtrees import is_sound_host
from tpmhsm.pki.suffixes import is_public_suffix

_AKI, _SKI, _AIA = "2.5.29.35", "2.5.29.14", "1.3.6.1.5.5.7.1.1"
_SAN, _BASIC, _POLICY_CONSTRAINTS, _EKU = "2.5.29.17", "2.5.29.19", "2.5.29.36", "2.5.29.37"
_COUNTRY = "2.5.4.6"
_PRECERTIFICATE = "1.3.6.1.4.1.11129.2.4.4"
_FOREIGN_USAGES = {
    "server": {"codeSigning", "emailProtection", "timeStamping", "OCSPSigning"},
    "email": {"serverAuth", "codeSigning", "timeStamping"},
}
_KEY_EXCHANGE = {
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "encipherOnly",
    "decipherOnly",
}


def profile_faults(purpose: str, issuer: PathCertificate, *, anchor: bool) -> Iterator[Fault]:
    """Faults of a CA in a path that serves a purpose."""
    yield from key_faults(issuer)
    match purpose:
        case "server":
            yield from _profile(_server_authority(issuer, anchor))
        case "email":
            yield from _profile(_mail_authority(issuer, anchor))


def leaf_profile_faults(purpose: str, leaf: PathCertificate) -> Iterator[Fault]:
    """Faults of the certificate itself."""
    yield from key_faults(leaf)
    match purpose:
        case "server":
            yield from _profile(_server_leaf(leaf))
        case "email":
            yield from _profile(_mail_leaf(leaf))


def _profile(words: Iterator[str]) -> Iterator[Fault]:
    return (Fault("profile", text) for text in words)


def key_faults(certificate: PathCertificate) -> Iterator[Fault]:
    """A key that is too weak to be relied on."""
    from tpmhsm.pki.keys import check_public_key, load_spki

    key: Any = loaded_key(certificate.spki)
    if key is not None and type(key).__name__.startswith("MLDSA"):
        return
    try:
        check_public_key(load_spki(certificate.spki))
        if has_explicit_curve(certificate.spki):
            yield Fault("weak-key", "has a key on a curve given by numbers, not by name (RFC 5480)")
    except UsageError as error:
        yield Fault("weak-key", f"has a key that is not relied on: {error.message}")


def _common(certificate: PathCertificate) -> Iterator[str]:
    """RFC 5280, 4.1.2.2 and the criticality that section 4.2 gives each extension."""
    if certificate.version != 3:
        yield f"is of version {certificate.version}, not 3"
    if certificate.serial <= 0 or certificate.serial.bit_length() > 160:
        yield "has a serial number that is not positive or longer than 20 octets"
    for fault in certificate.minor_faults:
        yield fault.words
    yield from _criticality(certificate)


def _criticality(certificate: PathCertificate) -> Iterator[str]:
    for oid, name in ((_AKI, "authorityKeyIdentifier"), (_SKI, "subjectKeyIdentifier"),
                      (_AIA, "authorityInfoAccess")):  # fmt: skip
        if certificate.is_critical(oid):
            yield f"marks {name} as critical, which is forbidden"
    if _POLICY_CONSTRAINTS in certificate.extensions and not certificate.is_critical(
        _POLICY_CONSTRAINTS
    ):
        yield "does not mark policyConstraints as critical"


def _identifiers(certificate: PathCertificate) -> Iterator[str]:
    """RFC 5280, 4.2.1.1: whose key signed it. What its own key signed need not say."""
    found = certificate.authority_key
    if found is None and (certificate.self_issued or _is_self_signed(certificate)):
        return
    if found is None or found.key is None:
        yield "has no authorityKeyIdentifier with a key identifier"


def _is_self_signed(certificate: PathCertificate) -> bool:
    return verify_signed(
        loaded_key(certificate.spki), certificate.algorithm, certificate.signature, certificate.tbs
    )


def _server_authority(issuer: PathCertificate, anchor: bool) -> Iterator[str]:
    root = anchor and issuer.self_issued
    if not issuer.subject_key:
        yield "is a CA with an empty name"
    if issuer.basic is not None and not issuer.is_critical(_BASIC):
        yield "does not mark basicConstraints as critical"
    if issuer.subject_id is None:
        yield "is a CA without subjectKeyIdentifier"
    yield from _identifiers(issuer)
    if root:
        yield from _criticality(issuer)
        yield from _root(issuer)
    else:
        yield from _common(issuer)


def _root(issuer: PathCertificate) -> Iterator[str]:
    """Baseline Requirements 7.1.2.1.2 and 7.1.2.1.3."""
    if issuer.usages is not None:
        yield "is a root with extended key usages, which is forbidden"
    found = issuer.authority_key
    if found is not None and (found.names or found.key != issuer.subject_id):
        yield "is a root whose authorityKeyIdentifier is not its own key identifier alone"


def _server_leaf(leaf: PathCertificate) -> Iterator[str]:
    """Baseline Requirements 7.1.2.7."""
    yield from _common(leaf)
    yield from _end_entity(leaf)
    yield from _identifiers(leaf)
    yield from _server_usages(leaf)
    yield from _server_names(leaf)


def _end_entity(leaf: PathCertificate) -> Iterator[str]:
    usage = leaf.key_usage or frozenset()
    if leaf.is_ca:
        yield "is a CA and must not be used as anything else"
    elif "keyCertSign" in usage:
        yield "may sign certificates with its key, but is no CA"
    if leaf.subtrees is not None:
        yield "has name constraints, but is no CA"
    key: Any = loaded_key(leaf.spki)
    if type(key).__name__.startswith("MLDSA") and usage & _KEY_EXCHANGE:
        yield "has an ML-DSA key that is to exchange keys (RFC 9881, 5)"


def _server_usages(leaf: PathCertificate) -> Iterator[str]:
    """Baseline Requirements 7.1.2.7.6 and 7.1.2.7.10."""
    if leaf.usages is None:
        yield "has no extended key usage; a server's has serverAuth"
        return
    if leaf.is_critical(_EKU):
        yield "marks extKeyUsage as critical, which is forbidden"
    foreign = {EKU_OIDS[name] for name in _FOREIGN_USAGES["server"]} | {ANY_USAGE, _PRECERTIFICATE}
    if found := foreign & set(leaf.usages):
        names = ", ".join(sorted(EKU_NAMES.get(oid, oid) for oid in found))
        yield f"has extended key usages that a server's must not have ({names})"


def _server_names(leaf: PathCertificate) -> Iterator[str]:
    """Baseline Requirements 7.1.2.7.12, 3.2.2.6 and 7.1.4.3."""
    if leaf.sans is None:
        yield "has no subjectAltName"
        return
    yield from _name_criticality(leaf)
    hosts = [name.value for name in leaf.sans if name.kind == "dns"]
    for host in hosts:
        if not is_sound_host(host):
            yield f"names a host that is none ({host!r})"
        elif host.startswith("*.") and is_public_suffix(host[2:].lower()):
            yield f"has a wildcard for everything below a public suffix ({host})"
    yield from _common_name(leaf, hosts)


def _name_criticality(leaf: PathCertificate) -> Iterator[str]:
    if leaf.is_critical(_SAN) == bool(leaf.subject_key):
        state = "beside a subject" if leaf.subject_key else "without a subject beside it"
        wrong = "marks" if leaf.subject_key else "does not mark"
        yield f"{wrong} subjectAltName as critical {state}"


def _common_name(leaf: PathCertificate, hosts: list[str]) -> Iterator[str]:
    """A common name that names a host repeats one of the alternative names, letter by letter.

    Judged where the subject is nothing but a common name: software old enough to take it for the
    host does so there. A name with an organisation describes, and so does the domain above the
    hosts; suites of browsers accept both (BetterTLS; x509-limbo).
    """
    if attribute_types(leaf.subject) - {COMMON_NAME, _COUNTRY}:
        return
    addresses = [str(_address(n.value)) for n in leaf.sans or () if n.kind == "ip"]
    for name in attribute_texts(leaf.subject, COMMON_NAME):
        if _is_address(name):
            wanted = addresses
        elif _looks_like_host(name):
            wanted = hosts
        else:
            continue
        above = any(host.endswith(f".{name}") for host in hosts)
        if wanted and name not in wanted and not above:
            yield f"has a common name {name!r} that is none of its alternative names"


def _address(octets: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(octets)


def _is_address(text: str) -> bool:
    """Also in the spellings that only inet_aton takes: hexadecimal, leading zeros."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not text[:1].isdigit() or not text.isascii():
            return False
        try:
            socket.inet_aton(text)
        except OSError:
            return False
        return " " not in text
    return True


def _looks_like_host(text: str) -> bool:
    return "." in text.strip(".") and not any(c.isspace() or c in "@/:" for c in text)


def _mail_authority(issuer: PathCertificate, anchor: bool) -> Iterator[str]:
    """S/MIME Baseline Requirements 7.1.2.1 and 7.1.2.2."""
    if anchor:
        if issuer.self_issued and issuer.usages is not None:
            yield "is a root with extended key usages, which is forbidden"
        return
    if issuer.key_usage is not None and "cRLSign" not in issuer.key_usage:
        yield "may not sign CRLs with its key (cRLSign)"
    if issuer.usages is not None:
        yield from _mail_usages(issuer)


def _mail_leaf(leaf: PathCertificate) -> Iterator[str]:
    """S/MIME Baseline Requirements 7.1.2.3."""
    yield from _end_entity(leaf)
    if leaf.key_usage is None:
        yield "has no key usage"
    elif "cRLSign" in leaf.key_usage:
        yield "may sign CRLs with its key, but is no CA"
    if leaf.usages is None:
        yield "has no extended key usage; a mailbox's has emailProtection"
    else:
        yield from _mail_usages(leaf)
    if not any(name.kind == "email" for name in leaf.sans or ()):
        yield "names no mailbox in subjectAltName"
    elif leaf.subject_key and leaf.is_critical(_SAN):
        yield "marks subjectAltName as critical beside a subject"


def _mail_usages(certificate: PathCertificate) -> Iterator[str]:
    foreign = {EKU_OIDS[name] for name in _FOREIGN_USAGES["email"]} | {ANY_USAGE}
    if found := foreign & set(certificate.usages or ()):
        names = ", ".join(sorted(EKU_NAMES.get(oid, oid) for oid in found))
        yield f"has extended key usages that mail must not have ({names})"
