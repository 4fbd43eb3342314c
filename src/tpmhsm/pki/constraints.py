"""Name constraints: from text, and whether names keep within them (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

from tpmhsm.errors import UsageError
from tpmhsm.pki import der
from tpmhsm.pki.general_names import GeneralName, read_general_names, subject_names
from tpmhsm.pki.hosts import normalize_host
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.sans import format_san
from tpmhsm.pki.subtrees import read_subtrees


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


def constraint_violation(
    constraints: x509.NameConstraints, subject: x509.Name, sans: Iterable[x509.GeneralName]
) -> str:
    """In words which name breaks the constraints, or an empty string."""
    subtrees = read_subtrees(constraints.public_bytes())
    encoded = subject.public_bytes()
    names = subject_names(encoded, _general_names(list(sans)))
    return next((words for name in names if (words := subtrees.violation(name))), "")


def _as_mailbox(name: x509.GeneralName) -> x509.RFC822Name | None:
    """A SmtpUTF8Mailbox as constraints on mail see it (RFC 9598, 6): nobody else's name."""
    text = format_san(name)
    if not isinstance(name, x509.OtherName) or not text.startswith("email:"):
        return None
    return x509.RFC822Name(f"=@{text.rpartition('@')[2]}")


def _general_names(sans: list[x509.GeneralName]) -> tuple[GeneralName, ...]:
    if not sans:
        return ()
    sans = [*sans, *(mail for name in sans if (mail := _as_mailbox(name)) is not None)]
    encoded = x509.SubjectAlternativeName(sans).public_bytes()
    return read_general_names(der.read_whole(encoded).content)
