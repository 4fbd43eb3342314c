"""What is noteworthy about well-formed names and addresses: who else may answer to them.

CA/Browser Forum TLS Baseline Requirements 1.6.1 (internal name), 3.2.2.6, 4.2.2 and 7.1.2.7.12;
RFC 6761 and the IANA registry of special-use domain names; RFC 6890; Unicode TS 39. Under `tls-br`
these are refusals; a private CA may certify them, and says what they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from tpmhsm.pki.findings import Finding, Severity
from tpmhsm.pki.recall import recalled
from tpmhsm.pki.scripts import disguise
from tpmhsm.pki.suffixes import public_suffix

_RESERVED = {
    "alt": "RFC 9476",
    "arpa": "RFC 3172",
    "example": "RFC 6761",
    "internal": "ICANN resolution 2024.07.29.06",
    "invalid": "RFC 6761",
    "local": "RFC 6762",
    "localhost": "RFC 6761",
    "onion": "RFC 7686",
    "test": "RFC 6761",
    **dict.fromkeys(("corp", "home", "intranet", "lan", "private"), "RFC 6762, appendix G"),
}
_FOR_DOCUMENTS = "example"
_INTERNAL, _ADDRESS, _WILDCARD = "CABF BR 4.2.2", "CABF BR 4.2.2; RFC 6890", "CABF BR 3.2.2.6"


def san_findings(sans: Iterable[str], lint: str = "pkix") -> Iterator[Finding]:
    """Findings of alternative names as `tpmhsm.pki.sans.format_san` writes them."""
    severity: Severity = "refusal" if lint == "tls-br" else "warning"
    for san in sans:
        yield from _of(san, severity)


@recalled
def _of(san: str, severity: Severity) -> tuple[Finding, ...]:
    kind, _, value = san.partition(":")
    if kind == "dns":
        return tuple(_host_findings(san, value, severity))
    if kind == "ip":
        return tuple(_address_findings(san, value, severity))
    if kind == "email":
        return tuple(_script_findings(san, *value.rpartition("@")[::2]))
    if kind == "uri":
        return tuple(_script_findings(san, _host_of(value)))
    return ()


def _host_of(uri: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


def _host_findings(san: str, host: str, severity: Severity) -> Iterator[Finding]:
    bare = host.removeprefix("*.")
    last = bare.rpartition(".")[2]
    if "." not in bare:
        words = f"{san} is an internal name: one label, which each network resolves by itself"
        yield Finding("name-internal", words, severity, _INTERNAL)
    elif source := _RESERVED.get(last):
        if severity == "refusal" or last != _FOR_DOCUMENTS:
            words = f"{san} is an internal name: nobody owns a name in .{last}"
            yield Finding("name-internal", words, severity, f"{_INTERNAL}; {source}")
    elif severity == "refusal" and not public_suffix(bare):
        words = f"{san} is an internal name: .{last} is no top-level domain of the root zone"
        yield Finding("name-internal", words, severity, _INTERNAL)
    if host != bare and public_suffix(bare) == bare:
        words = f"{san} would be good for everybody below the public suffix {bare}"
        yield Finding("wildcard-suffix", words, severity, _WILDCARD)
    yield from _script_findings(san, bare)


def _script_findings(san: str, *names: str) -> Iterator[Finding]:
    for name in names:
        if name.isascii() and "xn--" not in name:
            continue
        for label in name.split("."):
            if words := disguise(_shown(label)):
                yield Finding("name-disguised", f"{san}: {words}", "warning", "Unicode TS 39")


def _shown(label: str) -> str:
    """The label as a browser may show it."""
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _address_findings(san: str, value: str, severity: Severity) -> Iterator[Finding]:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        words = f"{san} is no address of one host"
        yield Finding("ip-range", words, "refusal", "RFC 5280, 4.2.1.6")
        return
    if address.version == 6 and address.ipv4_mapped:
        words = f"{san} is an IPv4 address in IPv6 clothes: clients look for {address.ipv4_mapped}"
        yield Finding("ip-mapped", words, "refusal", "RFC 4291, 2.5.5.2; RFC 5280, 4.2.1.6")
        return
    everywhere = address.is_multicast or value in ("255.255.255.255", "0.0.0.0", "::")  # noqa: S104
    if everywhere:
        yield Finding("ip-no-host", f"{san} is a reserved address: no host has it", "refusal",
                      _ADDRESS)  # fmt: skip
    elif not address.is_global:
        words = f"{san} is a reserved address: {_kind(address)}"
        yield Finding("ip-reserved", words, severity, _ADDRESS)


def _kind(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_loopback:
        return "each machine's own"
    if address.is_link_local:
        return "one of each link"
    return "another host's in another network"
