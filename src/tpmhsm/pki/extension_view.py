"""Every extension of a certificate for people: its name, whether it is critical, and what is in it.

What is known is decoded elsewhere (`tpmhsm.pki.facts`); here nothing is left out: the value of any
extension is drawn as the ASN.1 that it is, and as hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.facts import EKU_NAMES, EXTENSION_NAMES, RawExtension
from tpmhsm.pki.loose import read_loosely
from tpmhsm.pki.sans import printable
from tpmhsm.pki.tbs import read_time, rfc3339

_DEEPEST, _MOST, _SHOWN = 12, 200, 64
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x1A: "ascii", 0x1E: "utf-16-be"}
_NAMES = {
    0x01: "BOOLEAN", 0x02: "INTEGER", 0x03: "BIT STRING", 0x04: "OCTET STRING", 0x05: "NULL",
    0x06: "OID", 0x0A: "ENUMERATED", 0x0C: "UTF8String", 0x13: "PrintableString",
    0x16: "IA5String", 0x17: "UTCTime", 0x18: "GeneralizedTime", 0x1A: "VisibleString",
    0x1E: "BMPString", 0x30: "SEQUENCE", 0x31: "SET",
}  # fmt: skip


def extensions_of(raw: bytes) -> list[dict[str, Any]]:
    """Of each extension of a certificate (DER), in its order: `oid`, `name` (null when unknown),
    `critical`, `size` in octets, `value` as ASN.1 (a list of lines), `hex`.

    ParseError for what is no certificate.
    """
    return [_view(item) for item in read_loosely(raw).extensions]


def _view(item: RawExtension) -> dict[str, Any]:
    return {
        "oid": item.oid,
        "name": EXTENSION_NAMES.get(item.oid),
        "critical": item.critical,
        "size": len(item.value),
        "value": _drawn(item.value),
        "hex": item.value.hex(),
    }


def _drawn(value: bytes) -> list[str]:
    """ASN.1, a line an element; empty where it is none."""
    found: list[str] = []
    try:
        for line in _lines(der.read_whole(value, lenient=True), 0):
            if len(found) >= _MOST:
                return [*found, "…"]
            found.append(line)
    except ParseError:
        return []
    return found


def _lines(element: der.Element, depth: int) -> Iterator[str]:
    indent, tag = "  " * depth, element.tag
    if tag & 0x20 and depth < _DEEPEST:
        name = _NAMES.get(tag) or f"[{tag & 0x1F}]"
        children = der.children(element.content, lenient=True)
        yield f"{indent}{name}{'' if children else ' (empty)'}"
        for child in children:
            yield from _lines(child, depth + 1)
        return
    name = _NAMES.get(tag) or f"[{tag & 0x1F}]"
    yield f"{indent}{name} {_said(tag, element)}".rstrip()


def _said(tag: int, element: der.Element) -> str:
    content = element.content
    if tag == der.OID:
        oid = der.decode_oid(content)
        name = EKU_NAMES.get(oid) or EXTENSION_NAMES.get(oid)
        return f"{oid} {name}" if name else oid
    if tag == der.BOOLEAN:
        return "FALSE" if content == b"\0" else "TRUE"
    if tag in (der.INTEGER, 0x0A) and 0 < len(content) <= 8:
        return str(int.from_bytes(content, "big", signed=True))
    if tag in (der.UTC_TIME, der.GENERALIZED_TIME):
        return rfc3339(read_time(element))
    if tag in _TEXTS or (tag & 0xC0 == 0x80 and content and _is_text(content)):
        return _short(printable(content.decode(_TEXTS.get(tag, "ascii"), "backslashreplace")))
    return _short(content.hex())


def _is_text(content: bytes) -> bool:
    return all(0x20 <= octet < 0x7F for octet in content)


def _short(text: str) -> str:
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}… ({len(text)} characters)"


def extension_lines(views: list[dict[str, Any]]) -> str:
    """The extensions for people."""
    if not views:
        return "no extensions"
    found = []
    for view in views:
        critical = ", critical" if view["critical"] else ""
        known = f"{view['name']} ({view['oid']})" if view["name"] else f"{view['oid']} (unknown)"
        found.append(f"{known}{critical}, {view['size']} bytes")
        found += [f"  {line}" for line in view["value"] or [_short(view["hex"]) or "(empty)"]]
    return "\n".join(found)
