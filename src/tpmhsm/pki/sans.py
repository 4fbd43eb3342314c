"""Subject alternative names as text, both ways (RFC 5280 section 4.2.1.6).

dns:www.example.com   ip:192.0.2.1   email:a@example.com   uri:https://example.com/x
dirname:CN=…,O=…      rid:1.2.3.4    upn:user@example.com
othername:OID;UTF8:text              othername:OID;HEX:der
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.hosts import normalize_host, parse_ip
from tpmhsm.pki.names import format_dn, parse_dn, show_dn

UPN_OID = "1.3.6.1.4.1.311.20.2.3"  # Microsoft's userPrincipalName, a UTF8String
SMTP_UTF8_OID = "1.3.6.1.5.5.7.8.9"  # SmtpUTF8Mailbox, for local parts beyond ASCII (RFC 9598)
_KINDS = ("dns", "ip", "email", "uri", "dirname", "rid", "upn", "othername")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def parse_san(text: str) -> x509.GeneralName:
    """One name from `TYPE:VALUE`. UsageError says which text and why."""
    kind, separator, value = text.partition(":")
    kind = kind.strip().lower()
    parser = _PARSERS.get(kind)
    if not separator or parser is None:
        raise UsageError(
            f"{text!r} has no name type known here",
            hint=f"write TYPE:VALUE with a type of {', '.join(_KINDS)}; for a host: dns:{text}",
        )
    if not value.strip():
        raise UsageError(f"{text!r} has no value after the colon")
    return parser(value)


def parse_sans(texts: Iterable[str]) -> tuple[x509.GeneralName, ...]:
    """Names in the order given, each once."""
    return unique(parse_san(text) for text in texts)


def host_san(text: str) -> x509.GeneralName:
    """A bare host name or address, as `--host` takes it, or any `TYPE:VALUE`."""
    if (address := parse_ip(text)) is not None:
        return x509.IPAddress(address)
    kind = text.partition(":")[0].strip().lower()
    if ":" in text and kind in _PARSERS:
        return parse_san(text)
    return x509.DNSName(normalize_host(text))


def unique(names: Iterable[x509.GeneralName]) -> tuple[x509.GeneralName, ...]:
    """The names in their order without repetitions."""
    return tuple(dict.fromkeys(names))


def _dns(value: str) -> x509.GeneralName:
    if parse_ip(value) is not None:
        raise UsageError(
            f"{value!r} is an address, no host name", hint=f"write ip:{value}", code="not-a-host"
        )
    return x509.DNSName(normalize_host(value))


def _ip(value: str) -> x509.GeneralName:
    address = parse_ip(value)
    if address is None:
        raise UsageError(f"{value!r} is no IPv4 or IPv6 address")
    return x509.IPAddress(address)


def _email(value: str) -> x509.GeneralName:
    local, at, domain = value.strip().rpartition("@")
    ascii_part = "".join(c if c.isascii() else "x" for c in local)
    if not at or not _LOCAL_PART.fullmatch(ascii_part) or len(_utf8(local)) > 64:
        raise UsageError(f"{value!r} is no mail address (name@host, unquoted, RFC 5321)")
    host = normalize_host(domain, wildcard=False)
    if local.isascii():
        return x509.RFC822Name(f"{local}@{host}")
    if not local.isprintable() or unicodedata.normalize("NFC", local) != local:
        raise UsageError(f"{value!r} is no mail address: its characters are not composed (NFC)")
    return _other(SMTP_UTF8_OID, der.encode(der.UTF8_STRING, _utf8(f"{local}@{host}")))


def _uri(value: str) -> x509.GeneralName:
    value = value.strip()
    reason = _uri_fault(value)
    if reason:
        raise UsageError(f"{value!r} is no URI for a certificate: {reason}")
    return x509.UniformResourceIdentifier(value)


def _uri_fault(value: str) -> str:
    if not value.isascii() or any(c <= " " or c in '<>"{}|\\^`\x7f' for c in value):
        return "it has characters that must be percent-encoded"
    try:
        parts = urlsplit(value)
    except ValueError as error:
        return str(error)
    if not parts.scheme or len(value) == len(parts.scheme) + 1:
        return "it is not absolute (scheme:…)"
    if parts.hostname is None:
        return "it has no host" if value.startswith("//", len(parts.scheme) + 1) else ""
    if parse_ip(parts.hostname) is None:
        try:
            normalize_host(parts.hostname, wildcard=False)
        except UsageError as error:
            return error.message
    return ""


def _rid(value: str) -> x509.GeneralName:
    try:
        der.encode_oid(value.strip())
        return x509.RegisteredID(x509.ObjectIdentifier(value.strip()))
    except (ParseError, ValueError):
        raise UsageError(f"{value!r} is no object identifier") from None


def _upn(value: str) -> x509.GeneralName:
    user, at, realm = value.strip().partition("@")
    if not (user and at and realm):
        raise UsageError(f"{value!r} is no user principal name (user@realm)")
    return _other(UPN_OID, der.encode(der.UTF8_STRING, _utf8(value.strip())))


def _othername(value: str) -> x509.GeneralName:
    oid, separator, rest = value.partition(";")
    kind, colon, content = rest.partition(":")
    if not separator or not colon or kind.strip().upper() not in ("UTF8", "HEX"):
        raise UsageError(
            f"{value!r} is no otherName", hint="write othername:OID;UTF8:text or OID;HEX:der"
        )
    try:
        der.encode_oid(oid.strip())
        if kind.strip().upper() == "UTF8":
            return _other(oid.strip(), der.encode(der.UTF8_STRING, _utf8(content)))
        return _other(oid.strip(), der.read_whole(bytes.fromhex(content)).raw)
    except (ParseError, ValueError) as error:
        raise UsageError(f"{value!r} is no otherName: {error}") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not UTF-8") from None


def _other(oid: str, value: bytes) -> x509.OtherName:
    return x509.OtherName(x509.ObjectIdentifier(oid), value)


_PARSERS = {
    "dns": _dns,
    "ip": _ip,
    "email": _email,
    "uri": _uri,
    "dirname": lambda value: x509.DirectoryName(parse_dn(value)),
    "rid": _rid,
    "upn": _upn,
    "othername": _othername,
}


def format_san(name: x509.GeneralName) -> str:  # noqa: PLR0911 (one line a type)
    """`TYPE:VALUE` as `parse_san` takes it; control characters escaped."""
    match name:
        case x509.DNSName():
            return f"dns:{printable(name.value)}"
        case x509.IPAddress():
            return f"ip:{name.value}"
        case x509.RFC822Name():
            return f"email:{printable(name.value)}"
        case x509.UniformResourceIdentifier():
            return f"uri:{printable(name.value)}"
        case x509.DirectoryName():
            return f"dirname:{format_dn(name.value)}"
        case x509.RegisteredID():
            return f"rid:{name.value.dotted_string}"
        case x509.OtherName():
            return _format_other(name)
    return f"unknown:{printable(str(name.value))}"


def _format_other(name: x509.OtherName) -> str:
    oid = name.type_id.dotted_string
    try:
        element = der.read_whole(name.value)
        text = element.content.decode() if element.tag == der.UTF8_STRING else None
    except (ParseError, UnicodeDecodeError):
        text = None
    if text is None or printable(text) != text:
        return f"othername:{oid};HEX:{name.value.hex()}"
    if oid == SMTP_UTF8_OID and _is_mailbox(text):
        return f"email:{text}"
    return f"upn:{text}" if oid == UPN_OID else f"othername:{oid};UTF8:{text}"


_TEXT_NAMES = {0x81: "email", 0x82: "dns", 0x86: "uri"}


def sans_anyway(encoded: bytes) -> list[str]:
    """The names of a GeneralNames that as a whole does not decode; what is no name, as hex."""
    try:
        names = der.children(der.read_whole(encoded, lenient=True).content, lenient=True)
    except ParseError:
        return []
    return [_format_anyway(name) for name in names[:1000]]


def _format_anyway(name: der.Element) -> str:
    if kind := _TEXT_NAMES.get(name.tag):
        return f"{kind}:{printable(name.content.decode('latin-1'))}"
    if name.tag == 0x87 and len(name.content) in (4, 16):
        return f"ip:{ip_address(name.content)}"
    if name.tag == 0xA4:
        return f"dirname:{show_dn(name.content)}"
    return f"unknown:#{name.raw.hex()}"


def _is_mailbox(text: str) -> bool:
    """Whether `email:` and this text give the same SmtpUTF8Mailbox again."""
    try:
        name = _email(text)
    except UsageError:
        return False
    return isinstance(name, x509.OtherName) and name.value.endswith(text.encode())


def printable(text: str) -> str:
    """Text with everything that could disturb a terminal written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
