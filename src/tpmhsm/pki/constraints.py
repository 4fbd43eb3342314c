"""Name constraints: from text, and whether names keep within them (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki.facts import decode_extensions
from tpmhsm.pki.hosts import normalize_host
from tpmhsm.pki.names import parse_dn, read_name
from tpmhsm.pki.sans import format_san
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.tbs import read_tbs_certificate


def parse_constraint(text: str) -> x509.GeneralName:
    """`dns:example.com`, `ip:10.0.0.0/8`, `email:example.com`, `uri:example.com`, `dirname:O=…`.

    An empty `dns:` or `uri:` stands for every name of that kind. UsageError says why not.
    """
    kind, separator, value = text.partition(":")
    value = value.strip()
    match kind.strip().lower() if separator else "":
        case "dns":
            return x509.DNSName(_domain(value))
        case "ip":
            return x509.IPAddress(_network(value))
        case "email" if value:
            local, at, domain = value.rpartition("@")
            return x509.RFC822Name(f"{local}{at}{_domain(domain)}")
        case "uri":
            return x509.UniformResourceIdentifier(_domain(value))
        case "dirname":
            return x509.DirectoryName(parse_dn(value))
    raise UsageError(
        f"{text!r} is no name constraint",
        hint="write dns:example.com, ip:10.0.0.0/8, email:example.com, uri:… or dirname:O=…",
    )


def _domain(value: str) -> str:
    if not value:
        return ""
    dot = "." if value.startswith(".") else ""
    return dot + normalize_host(value.removeprefix("."), wildcard=False)


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is no network such as 10.0.0.0/8: {error}") from None


def build_constraints(
    permitted: Iterable[str], excluded: Iterable[str]
) -> x509.NameConstraints | None:
    """The extension from texts; None when both lists are empty."""
    allow = [parse_constraint(text) for text in permitted]
    deny = [parse_constraint(text) for text in excluded]
    return x509.NameConstraints(allow or None, deny or None) if allow or deny else None


def constraints_of(raw: bytes) -> x509.NameConstraints | None:
    """The name constraints in a certificate (DER), None when it has none that decode."""
    found = [item.value for item in _extensions(raw)]
    return next((value for value in found if isinstance(value, x509.NameConstraints)), None)


def names_of(raw: bytes) -> tuple[x509.Name, list[x509.GeneralName]]:
    """Subject and alternative names of a certificate (DER); an undecodable subject is empty."""
    values = [item.value for item in _extensions(raw)]
    sans = [n for value in values if isinstance(value, x509.SubjectAlternativeName) for n in value]
    try:
        return read_name(read_tbs_certificate(split_signed(raw)[0]).subject), sans
    except ParseError:
        return x509.Name([]), sans


def _extensions(raw: bytes) -> list[x509.Extension[x509.ExtensionType]]:
    return decode_extensions(read_tbs_certificate(split_signed(raw)[0]).extensions)[0]


def constraint_violation(
    constraints: x509.NameConstraints, subject: x509.Name, sans: Iterable[x509.GeneralName]
) -> str:
    """In words which name breaks the constraints, or an empty string."""
    names = [*sans, *([x509.DirectoryName(subject)] if subject.rdns else [])]
    if not any(isinstance(name, x509.RFC822Name) for name in names):
        mails = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        names += [x509.RFC822Name(str(mail.value)) for mail in mails if str(mail.value).isascii()]
    permitted = constraints.permitted_subtrees or []
    excluded = constraints.excluded_subtrees or []
    for name in names:
        same = [base for base in permitted if type(base) is type(name)]
        if same and not any(_within(name, base) for base in same):
            allowed = ", ".join(format_san(base) for base in same)
            return f"{format_san(name)} is outside what the issuer may certify ({allowed})"
        for base in excluded:
            if type(base) is type(name) and _within(name, base, touch=True):
                return f"{format_san(name)} is excluded by the issuer ({format_san(base)})"
    return ""


def _within(name: x509.GeneralName, base: x509.GeneralName, *, touch: bool = False) -> bool:
    """Whether `name` lies in the subtree; with `touch` also a wildcard that reaches into it."""
    match name, base:
        case x509.DNSName(), x509.DNSName():
            return _dns_within(name.value, base.value, touch)
        case x509.IPAddress(), x509.IPAddress():
            return _ip_within(name.value, base.value)
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(name.value, base.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _host_within(urlsplit(name.value).hostname or "", base.value)
        case x509.DirectoryName(), x509.DirectoryName():
            return _dn_within(name.value, base.value)
    return False


def _dns_within(host: str, base: str, touch: bool) -> bool:
    host, base = host.lower(), base.lower()
    if touch and host.startswith("*.") and base.partition(".")[2] == host[2:]:
        return True
    bare = host.removeprefix("*.") if not base.startswith(".") else host
    return not base or bare == base or bare.endswith(base if base[0] == "." else f".{base}")


def _ip_within(value: object, base: object) -> bool:
    network = ipaddress.ip_network(str(base), strict=False)
    address = ipaddress.ip_network(str(value), strict=False)
    return address.version == network.version and address.subnet_of(network)  # type: ignore[arg-type]


def _mail_within(mail: str, base: str) -> bool:
    if "@" in base:
        local, _, domain = base.rpartition("@")
        theirs, _, host = mail.rpartition("@")
        return local == theirs and domain.lower() == host.lower()
    return _host_within(mail.rpartition("@")[2], base)


def _host_within(host: str, base: str) -> bool:
    host, base = host.lower(), base.lower()
    return not base or (host.endswith(base) if base.startswith(".") else host == base)


def _dn_within(name: x509.Name, base: x509.Name) -> bool:
    return [_folded(rdn) for rdn in name.rdns[: len(base.rdns)]] == [_folded(r) for r in base.rdns]


def _folded(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str]]:
    """Compared without case and without repeated spaces (RFC 5280 section 7.1, RFC 4518)."""
    return frozenset(
        (item.oid.dotted_string, " ".join(str(item.value).casefold().split())) for item in rdn
    )
