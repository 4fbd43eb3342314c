"""Host names for certificates (RFC 1123 section 2.1, RFC 5890, RFC 6125, RFC 9525)."""

from __future__ import annotations

import ipaddress
import re

from tpmhsm.errors import UsageError

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # browsers read it as a part of an IPv4 address
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# labels that nothing of the following can be wrong with, the last one beginning with a letter
_PLAIN = re.compile(rf"(?:{_LABEL.pattern}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")


def normalize_host(text: str, *, wildcard: bool = True) -> str:
    """The host name in lower case with A-labels. UsageError says which name is none, and why.

    A wildcard stands alone, leftmost, with two labels or more after it.
    """
    host = text.strip().lower()
    if not host.isascii():
        host = _to_a_labels(text)
    if "--" not in host and len(host) <= 253 and _PLAIN.fullmatch(host):
        return host
    if not host or len(host) > 253:
        raise _not_a_host(text, "it is empty" if not host else "it is longer than 253 characters")
    if host.endswith("."):
        raise _not_a_host(text, "it ends with a dot, which names in certificates do not")
    labels = host.split(".")
    if labels[0] == "*":
        if not wildcard:
            raise _not_a_host(text, "a wildcard has no place here")
        labels = labels[1:]
        if len(labels) < 2:
            raise _not_a_host(text, "a wildcard needs two labels or more after it")
    for label in labels:
        if reason := _label_fault(label):
            raise _not_a_host(text, reason)
    if _NUMBER.fullmatch(labels[-1]):
        raise _not_a_host(text, "its last label is a number (for an address write ip:…)")
    return host


def _not_a_host(text: str, reason: str) -> UsageError:
    return UsageError(f"{text!r} is no host name: {reason}", code="not-a-host")


def _label_fault(label: str) -> str:  # noqa: PLR0911 (one line a rule)
    if not label:
        return "it has an empty label (two dots together, or one at an end)"
    if "*" in label:
        return "a wildcard must be the whole leftmost label"
    if "_" in label:
        return f"the label {label!r} has an underscore"
    if len(label) > 63:
        return f"the label {label!r} is longer than 63 characters"
    if not _LABEL.fullmatch(label):
        return f"the label {label!r} is not letters, digits and inner hyphens"
    if label.startswith("xn--"):
        return _a_label_fault(label)
    if label[2:4] == "--":
        return f"the label {label!r} is reserved (-- in third place without xn)"
    return ""


def _a_label_fault(label: str) -> str:
    try:
        import idna
    except ImportError:
        return ""
    try:
        shown = idna.decode(label)
        if (again := idna.encode(shown).decode()) != label:
            return f"the label {label!r} is not how '{shown}' is encoded ({again})"
    except (idna.IDNAError, UnicodeError) as error:
        return f"the label {label!r} is no internationalised label ({error})"
    return ""


def _to_a_labels(text: str) -> str:
    try:
        import idna
    except ImportError:
        raise _not_a_host(
            text, "it is not ASCII, and without the package idna it cannot be converted"
        ) from None
    prefix, bare = ("*.", text.strip()[2:]) if text.strip().startswith("*.") else ("", text.strip())
    try:
        return prefix + idna.encode(bare, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise _not_a_host(text, str(error)) from None


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, brackets of a URI allowed; None when the text is no address."""
    if "%" in text:  # a zone is a matter of one machine
        return None
    try:
        bare = text.strip().strip("[]")
        if ":" not in bare and not bare[-1:].isdigit():  # a host name, nearly always
            return None
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


def match_host(pattern: str, host: str) -> bool:
    """Whether a dNSName covers a host name; a wildcard is one whole label (RFC 9525, 6.3)."""
    pattern, host = pattern.lower().rstrip("."), host.lower().rstrip(".")
    if pattern.startswith("*."):
        head, _, rest = host.partition(".")
        return bool(head) and rest == pattern[2:] and "." in rest
    return pattern == host
