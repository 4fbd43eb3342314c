"""GeneralName and Name from DER, in a form that can be compared (RFC 5280 sections 4.2.1.6, 7.1).

`cryptography` refuses a whole extension for one odd name and compares names by their encoding;
path validation needs each name by itself, and names compared by what they mean.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.recall import recalled

NameKey = tuple[Any, ...]
"""A distinguished name reduced to what is compared: equal keys, equal names."""

_KINDS = {
    0xA0: "othername",
    0x81: "email",
    0x82: "dns",
    0xA3: "x400",
    0xA4: "dirname",
    0xA5: "edi",
    0x86: "uri",
    0x87: "ip",
    0x88: "rid",
}
_ENCODINGS = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
EMAIL_ADDRESS = "1.2.840.113549.1.9.1"
COMMON_NAME = "2.5.4.3"


class GeneralName(NamedTuple):
    """`kind` as in `sans` (dns, ip, email, uri, dirname, rid, othername; x400, edi).

    `value` is text, octets of an address, a `NameKey`, or (OID, DER); `raw` the content octets.
    """

    kind: str
    value: Any
    raw: bytes


def read_general_names(content: bytes) -> tuple[GeneralName, ...]:
    """The names of a GeneralNames (its content). ParseError when there is none or one is broken."""
    names = tuple(read_general_name(item) for item in der.children(content))
    if not names:
        raise ParseError("a list of names that is empty")
    return names


def read_general_name(item: der.Element) -> GeneralName:
    """One name. Addresses may have the length of a range: its place decides what is right."""
    kind = _KINDS.get(item.tag)
    if kind is None:
        raise ParseError(f"a name of an unknown type (tag {item.tag:02x})")
    value: Any = item.content
    if kind in ("email", "dns", "uri"):
        if not item.content.isascii():
            raise ParseError(f"a name of the type {kind} that is not ASCII")
        value = item.content.decode("ascii")
    elif kind == "dirname":
        value = name_key(der.read_whole(item.content).raw)
    elif kind == "othername":
        parts = der.children(item.content)
        if not parts or parts[0].tag != der.OID:
            raise ParseError("an otherName without a type")
        value = (der.decode_oid(parts[0].content), item.content)
    return GeneralName(kind, value, item.content)


def format_general_name(name: GeneralName) -> str:
    """`TYPE:VALUE` for people."""
    from tpmhsm.pki.names import format_dn_der
    from tpmhsm.pki.sans import printable

    if name.kind == "ip":
        return f"ip:{format_address(name.raw)}"
    if name.kind == "dirname":
        return f"dirname:{format_dn_der(name.raw)}"
    text = name.value if isinstance(name.value, str) else name.raw.hex()
    return f"{name.kind}:{printable(text)}"


def format_address(octets: bytes) -> str:
    """An address of 4 or 16 octets, or address and mask of 8 or 32; else hexadecimal."""
    import ipaddress

    if len(octets) in (4, 16):
        return str(ipaddress.ip_address(octets))
    if len(octets) in (8, 32):
        half = len(octets) // 2
        bits = sum(octet.bit_count() for octet in octets[half:])
        return f"{ipaddress.ip_address(octets[:half])}/{bits}"
    return octets.hex()


@lru_cache(maxsize=16384)
def name_key(encoded: bytes) -> NameKey:
    """A DER Name as its key: without case, repeated spaces, order within an RDN, string type.

    RFC 5280 section 7.1, RFC 4518 as far as names in certificates need it. ParseError for no Name.
    """
    element = der.read_whole(encoded)
    if element.tag != der.SEQUENCE:
        raise ParseError("a distinguished name that is no sequence")
    return tuple(_rdn_key(rdn) for rdn in der.children(element.content))


def rdn_key(encoded: bytes) -> tuple[Any, ...]:
    """The key of one RDN given as the content of its SET (nameRelativeToCRLIssuer)."""
    return tuple(sorted(_attribute_key(item) for item in der.children(encoded)))


def _rdn_key(rdn: der.Element) -> tuple[Any, ...]:
    if rdn.tag != der.SET or not rdn.content:
        raise ParseError("a distinguished name whose part is no set")
    return rdn_key(rdn.content)


def _attribute_key(item: der.Element) -> tuple[str, str]:
    oid, value = _attribute(item)
    text = _text(value)
    return (oid, value.raw.hex() if text is None else "=" + _fold(text))


def _attribute(item: der.Element) -> tuple[str, der.Element]:
    parts = der.children(item.content)
    if item.tag != der.SEQUENCE or len(parts) != 2 or parts[0].tag != der.OID:
        raise ParseError("a distinguished name whose attribute is no type and value")
    return der.decode_oid(parts[0].content), parts[1]


def _text(value: der.Element) -> str | None:
    encoding = _ENCODINGS.get(value.tag)
    try:
        return value.content.decode(encoding) if encoding else None
    except UnicodeDecodeError:
        return None


def _fold(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


@recalled
def read_rdns(encoded: bytes) -> tuple[tuple[tuple[str, der.Element], ...], ...]:
    """The parts of a DER Name, in its order: of each its attributes, type (dotted) and value.

    ParseError when it is none.
    """
    whole = der.read_whole(encoded)
    rdns = der.children(whole.content) if whole.tag == der.SEQUENCE else []
    if whole.tag != der.SEQUENCE or any(rdn.tag != der.SET for rdn in rdns):
        raise ParseError("this is no distinguished name")
    return tuple([
        tuple([_attribute(item) for item in der.children(rdn.content)]) for rdn in rdns
    ])  # fmt: skip


def attribute_texts(encoded: bytes, oid: str) -> list[str]:
    """The texts of all attributes of one type in a DER Name; those that are no text left out."""
    texts = [_text(value) for rdn in read_rdns(encoded) for kind, value in rdn if kind == oid]
    return [text for text in texts if text is not None]


def subject_names(subject: bytes, sans: Iterable[GeneralName]) -> tuple[GeneralName, ...]:
    """All names of a certificate that name constraints speak of (RFC 5280, 4.2.1.10).

    `subject` is a DER Name; a mailbox in it counts where the alternative names have none.
    """
    names = list(sans)
    if key := name_key(subject):
        names.append(GeneralName("dirname", key, subject))
    if not any(name.kind == "email" for name in names):
        mails = attribute_texts(subject, EMAIL_ADDRESS)
        names += [GeneralName("email", mail, mail.encode()) for mail in mails]
    return tuple(names)


def attribute_types(encoded: bytes) -> set[str]:
    """The types of the attributes of a DER Name, as dotted OIDs."""
    return {kind for rdn in read_rdns(encoded) for kind, _ in rdn}
