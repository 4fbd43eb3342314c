"""Distinguished names as text, both ways (RFC 4514).

What is printed is safe on a terminal: control, format and bidirectional characters are written as
hexadecimal escapes, which RFC 4514 section 2.4 allows for any character. Names are printed from
their DER, so that names which break the rules (unordered sets, strange string types) print too.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from typing import NoReturn

from cryptography import x509

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import attributes, der
from tpmhsm.pki.general_names import read_rdns
from tpmhsm.pki.recall import recalled

_SPECIAL = '"+,;<>\\'
_PLAIN = re.compile("[A-Za-z0-9._*:/@-]+")  # as most values are: nothing to be escaped
_ESCAPABLE = ' "#+,;<=>\\'
PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
DECODERS = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
    0x12: "ascii",  # NumericString
    0x14: "latin-1",  # TeletexString: what everyone does
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_STRING_TAGS = {
    "utf8": der.UTF8_STRING,
    "printable": der.PRINTABLE_STRING,
    "ia5": der.IA5_STRING,
}


def format_dn(name: x509.Name) -> str:
    """RFC 4514 text, the last RDN first: `CN=Example Root,O=Example`."""
    return format_dn_der(name.public_bytes())


@recalled
def format_dn_der(encoded: bytes) -> str:
    """The same from a DER Name, whatever is inside. ParseError if it is no sequence of sets."""
    return ",".join([
        "+".join([_format_attribute(oid, value) for oid, value in rdn])
        for rdn in reversed(read_rdns(encoded))
    ])  # fmt: skip


def show_dn(encoded: bytes) -> str:
    """The same for a Name in any state: what cannot be read is there as `#` and hexadecimal."""
    try:
        return format_dn_der(encoded)
    except ParseError:
        pass
    try:
        rdns = der.children(der.read_whole(encoded, lenient=True).content, lenient=True)
    except ParseError:
        return f"#{encoded.hex()}"
    return ",".join(_show_rdn(rdn) for rdn in reversed(rdns))


def _show_rdn(rdn: der.Element) -> str:
    try:
        items = der.children(_expect(rdn, der.SET), lenient=True)
        return "+".join(_show_attribute(item) for item in items)
    except ParseError:
        return f"#{rdn.raw.hex()}"


def _expect(element: der.Element, tag: int) -> bytes:
    if element.tag != tag:
        raise ParseError("this is no distinguished name")
    return element.content


def _show_attribute(item: der.Element) -> str:
    parts = der.children(_expect(item, der.SEQUENCE), lenient=True)
    if len(parts) != 2:
        raise ParseError("an attribute of a distinguished name that is no pair of type and value")
    return _format_attribute(der.decode_oid(_expect(parts[0], der.OID)), parts[1])


def _format_attribute(oid: str, value: der.Element) -> str:
    known = attributes.BY_OID.get(oid)
    encoding = DECODERS.get(value.tag)
    if known is None or encoding is None:
        return f"{known.names[0] if known else oid}=#{value.raw.hex()}"
    try:
        return f"{known.names[0]}={_escape(value.content.decode(encoding))}"
    except UnicodeDecodeError:
        return f"{known.names[0]}=#{value.raw.hex()}"


def _escape(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    out = [_escape_character(character) for character in text]
    if text[:1] in (" ", "#"):
        out[0] = "\\" + text[0]
    if text[-1:] == " ":
        out[-1] = "\\ "
    return "".join(out)


def _escape_character(character: str) -> str:
    if character in _SPECIAL:
        return "\\" + character
    if not character.isprintable() and unicodedata.category(character) != "Zs":
        return "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))
    return character


def parse_dn(text: str) -> x509.Name:
    """A name from RFC 4514 text; spaces around `,` `+` `=` are ignored; `""` is the empty name.

    Attribute types by name (`CN`, `serialNumber` …) or dotted OID; `#` and hexadecimal digits give
    the DER of a value. UsageError says at which character and why.
    """
    if text.startswith("/"):
        raise UsageError(
            f"{text!r} is in OpenSSL's slash form",
            hint="write the name as CN=…,O=…,C=… (RFC 4514), the most specific part first",
        )
    return _Reader(text).name()


class _Reader:
    """A cursor over the text of one name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def name(self) -> x509.Name:
        if not self.text.strip():
            return x509.Name([])
        rdns = [self._rdn()]
        while self.at < len(self.text):
            self.at += 1  # the comma at which _value stopped
            rdns.append(self._rdn())
        return x509.Name(list(reversed(rdns)))

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        position = (self.at if at is None else at) + 1
        raise UsageError(
            f"the name {self.text!r} does not parse at character {position}: {reason}",
            hint='write names as CN=…,O=…,C=…; put a backslash before , + " \\ < > ; in a value',
        )

    def _rdn(self) -> x509.RelativeDistinguishedName:
        start = self.at
        items = [self._attribute()]
        while self.text[self.at : self.at + 1] == "+":
            self.at += 1
            items.append(self._attribute())
        try:
            return x509.RelativeDistinguishedName(items)
        except ValueError:
            self._fail("one attribute stands twice in one RDN", start)

    def _attribute(self) -> x509.NameAttribute[str | bytes]:
        start = self.at
        end = self.text.find("=", start)
        if end < 0:
            self._fail("an attribute without '='")
        oid, known = self._type(self.text[start:end].strip(), start)
        self.at = end + 1
        self._skip_spaces()
        value_at = self.at
        if self.text[self.at : self.at + 1] == "#":
            return self._from_hex(oid)
        value = self._value()
        if not value:
            self._fail("an empty value", value_at)
        try:
            return make_attribute(oid, value, known)
        except UsageError as error:
            self._fail(error.message, value_at)

    def _type(  # noqa: RET503 (_fail does not return)
        self, word: str, at: int
    ) -> tuple[str, attributes.AttributeType | None]:
        if known := attributes.BY_NAME.get(word.lower()):
            return known.oid, known
        dotted = word[4:] if word.lower().startswith("oid.") else word
        if dotted[:1].isdigit():
            try:
                der.encode_oid(dotted)
                return dotted, attributes.BY_OID.get(dotted)
            except ParseError as error:
                self._fail(error.message, at)
        self._fail(f"{word!r} is no attribute type known here (a dotted OID may be used)", at)

    def _skip_spaces(self) -> None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1

    def _value(self) -> str:
        """Reads up to an unescaped `,` or `+`; unescapes; drops unescaped trailing spaces."""
        out, keep = bytearray(), 0
        while self.at < len(self.text) and self.text[self.at] not in ",+":
            character = self.text[self.at]
            if character == "\\":
                out += self._escaped()
                keep = len(out)
                continue
            if character in '";<>\0':
                self._fail(f"{character!r} needs a backslash before it")
            out += character.encode("utf-8", "surrogatepass")
            keep = keep if character == " " else len(out)
            self.at += 1
        try:
            return bytes(out[:keep]).decode()
        except UnicodeDecodeError:
            self._fail("the escapes do not make UTF-8")

    def _escaped(self) -> bytes:  # noqa: RET503 (_fail does not return)
        pair = self.text[self.at + 1 : self.at + 3]
        if pair[:1] and pair[0] in _ESCAPABLE:
            self.at += 2
            return pair[0].encode()
        if len(pair) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in pair):
            self.at += 3
            return bytes.fromhex(pair)
        self._fail("a backslash before a character that is not escaped")

    def _from_hex(self, oid: str) -> x509.NameAttribute[str | bytes]:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ",+":
            self.at += 1
        try:
            value = der.read_whole(bytes.fromhex(self.text[start + 1 : self.at].strip()))
        except (ValueError, ParseError):
            self._fail("after '#' come the hexadecimal digits of one DER value", start)
        pair = der.encode(der.SEQUENCE, der.encode_oid(oid), value.raw)
        encoded = der.encode(der.SEQUENCE, der.encode(der.SET, pair))
        try:
            return next(iter(read_name(encoded)))
        except ParseError:
            self._fail("a value of a type that names do not have", start)


def make_attribute(
    oid: str, value: str, known: attributes.AttributeType | None = None
) -> x509.NameAttribute[str | bytes]:
    """One attribute in the string type that RFC 5280 gives it; UsageError beyond its bounds."""
    known = known or attributes.BY_OID.get(oid)
    if known is not None:
        _check_bounds(known, value)
    string = known.string if known else "utf8"
    pair = der.encode(
        der.SEQUENCE, der.encode_oid(oid), der.encode(_STRING_TAGS[string], value.encode())
    )
    return next(iter(read_name(der.encode(der.SEQUENCE, der.encode(der.SET, pair)))))


def _check_bounds(known: attributes.AttributeType, value: str) -> None:
    label = known.names[0]
    if known.string == "printable" and not PRINTABLE.issuperset(value):
        raise UsageError(f"{label} takes letters, digits and '()+,-./:=? only, not {value!r}")
    if known.string == "ia5" and not value.isascii():
        raise UsageError(f"{label} takes ASCII only, not {value!r}")
    if label in ("C", "jurisdictionC") and not (len(value) == 2 and value.isalpha()):
        raise UsageError(f"{label} is a country code of two letters, not {value!r}")
    # cryptography counts the octets of a CN, RFC 5280 its characters; the stricter bound serves.
    size = len(value.encode()) if label == "CN" else len(value)
    if known.limit and size > known.limit:
        raise UsageError(f"{label} is longer than {known.limit} characters: {value!r}")


@recalled
def read_name(encoded: bytes) -> x509.Name:
    """A DER Name as an object. ParseError where `cryptography` refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # lengths that RFC 5280 does not allow: read all the same
            return x509.Name.from_bytes(encoded)
    except ValueError as error:
        raise ParseError(f"this distinguished name cannot be read: {error}") from error
