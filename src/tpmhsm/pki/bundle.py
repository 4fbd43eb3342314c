"""Everything in a file, in its order: certificates, CRLs and whatever else lies between them.

PEM and DER in any mixture, PKCS #7 and PKCS #12 opened. Each item says where in the file it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.load import (
    CERTIFICATE_LABELS,
    MAX_BUNDLE,
    MAX_SIZE,
    Broken,
    bare_base64,
    begins_as_der,
    check_size,
    is_pem,
    plain_text,
    scan_pem,
)

_BLANKS = re.compile(rb"[ \t\r\n\0\x1a]*")
_MANY = 20
_MAX_FAULTS = 200

Ask = Callable[[str], bytes]
"""A function from words for a prompt to a passphrase."""


class Item(NamedTuple):
    """One thing in a file: its kind (`recognise.WORDS`), its bytes, where it stands."""

    kind: str
    der: bytes
    where: str


class Fault(NamedTuple):
    """Something in a file that should be a certificate and cannot be read: where, and why."""

    where: str
    reason: str


@dataclass
class Bundle:
    """What is in the file called `what`. `notes` are what was passed over without harm; what stands
    there again, byte for byte, is counted in `repeated` and is no item.
    """

    what: str
    items: list[Item] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repeated: int = 0

    def of_kind(self, kind: str) -> list[bytes]:
        """The items of a kind, in the order of the file."""
        return [item.der for item in self.items if item.kind == kind]

    def only(self, kind: str, wanted: str) -> list[bytes]:
        """The items of a kind. ParseError, saying what is there instead, when there is none."""
        found = self.of_kind(kind)
        if not found:
            raise ParseError(
                f"{self.what} has no {wanted.split(' ', 1)[-1]}; it is or has {self.summary()}",
                hint=f"tpmhsm show {self.what} --passphrase-file F; cert import takes it, too"
                if self.of_kind("pkcs12")
                else "",
            )
        return found

    def summary(self) -> str:
        """What is in it, in words."""
        from tpmhsm.pki.recognise import in_words

        kinds = dict.fromkeys(item.kind for item in self.items)
        return ", ".join(map(in_words, kinds)) or "nothing that is known here"

    def raise_faults(self) -> None:
        """ParseError when anything could not be read: which, where and why."""
        if not self.faults:
            return
        first = self.faults[0]
        where = f"{self.what}, {first.where}" if first.where else self.what
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        raise ParseError(
            f"{where}: {first.reason}{more}",
            hint="see what is there with: openssl asn1parse -i",
            details={"faults": [fault._asdict() for fault in self.faults[:_MANY]]},
        )


def read_bundle(
    data: bytes,
    what: str = "the file",
    ask: Ask | None = None,
    *,
    limit: int = MAX_BUNDLE,
    opened: bool = True,
) -> Bundle:
    """All that is in a file. PKCS #12 is opened when `ask` is given; nothing if not `opened`.

    ParseError for an empty or too large file, and for what is neither PEM nor DER. What is broken
    inside is in `faults`.
    """
    check_size(data, what, limit)
    found = Bundle(what)
    data = plain_text(data)
    reader = _Reader(found, ask, opened)
    if is_pem(data):
        reader.pem(data, reader.der(data, 0) if begins_as_der(data) else 0)
        return found
    data = bare_base64(data) or data
    if data[:1] != b"\x30":
        raise ParseError(
            f"{what} is neither PEM nor DER, so no certificate",
            hint=f"tpmhsm show {what} says what it is",
        )
    end = reader.der(data, 0)
    if end < len(data) and not found.faults:
        found.notes.append(f"byte {end}: {len(data) - end} bytes follow that are nothing known")
    return found


class _Reader:
    """Fills one Bundle."""

    def __init__(self, found: Bundle, ask: Ask | None, opened: bool) -> None:
        self.found = found
        self.ask = ask
        self.opened = opened
        self.seen: set[bytes] = set()

    def pem(self, data: bytes, end: int) -> None:
        """PEM blocks from an offset on, and DER before, between and after them."""
        line, position = 1, 0
        for number, block in enumerate(scan_pem(data, end), 1):
            self._loose(data, end, block.offset)
            line += data.count(b"\n", position, block.offset)
            position, end = block.offset, block.end
            where = f"PEM block {number} (line {line})"
            if isinstance(block, Broken):
                self._broken(block, where)
            else:
                self._add(block.der, where, block.label)
            if self._has_enough():
                return
        self._loose(data, end, len(data))

    def _has_enough(self) -> bool:
        """Whether it is no use to read on: nobody reads so many faults."""
        return len(self.found.faults) + len(self.found.notes) > _MAX_FAULTS

    def _broken(self, block: Broken, where: str) -> None:
        if block.label in CERTIFICATE_LABELS or block.label == "PKCS7":
            self.found.faults.append(Fault(where, f"the PEM block cannot be read: {block.reason}"))
        else:
            self.found.notes.append(f"{where}: {block.label}: {block.reason}")

    def _loose(self, data: bytes, start: int, end: int) -> None:
        """DER outside of PEM; text there is a comment."""
        start = _BLANKS.match(data, start, end).end()  # type: ignore[union-attr]
        if data[start : start + 1] == b"\x30" and data[start + 1 : start + 2] >= b"\x80":
            self.der(data[start:end], start)

    def der(self, data: bytes, base: int) -> int:
        """DER structures, one after the other; the offset where something else begins."""
        position = 0
        while position < len(data) and data[position] == der.SEQUENCE and not self._has_enough():
            where = f"byte {base + position}" if base + position else ""
            try:
                raw, end = _element(data, position)
            except ParseError as error:
                self.found.faults.append(Fault(where, error.message))
                break
            self._add(raw, where, "")
            position = _BLANKS.match(data, end).end()  # type: ignore[union-attr]
        return position

    def _add(self, raw: bytes, where: str, label: str) -> None:
        """One structure, whatever its label says; containers are opened."""
        from tpmhsm.pki.loose import read_loosely

        try:
            if label == "TRUSTED CERTIFICATE":  # OpenSSL's: a certificate, then trust settings
                raw = der.read(raw, lenient=True)[0].raw
            if self._is_repeated(raw):
                return
            if len(raw) > MAX_SIZE:
                raise ParseError(f"no certificate has {len(raw)} bytes")
            read_loosely(raw)
        except ParseError as error:
            self._add_other(raw, where, label, error.message)
        else:
            self._keep(Item("certificate", raw, where))

    def _keep(self, item: Item) -> None:
        self.seen.add(item.der)
        self.found.items.append(item)

    def _is_repeated(self, raw: bytes) -> bool:
        """Whether these bytes are an item already: thousands of copies cost no more than one."""
        repeated = raw in self.seen
        self.found.repeated += repeated
        return repeated

    def _add_other(self, raw: bytes, where: str, label: str, reason: str) -> None:
        from tpmhsm.pki.recognise import LABELS, kind_of_der

        kind = kind_of_der(raw)
        if kind == "certificate" or (kind is None and label in CERTIFICATE_LABELS):
            self.found.faults.append(Fault(where, f"this is no certificate: {reason}"))
            return
        kind = kind or LABELS.get(label)
        if kind is None:
            reason = f"a PEM block {label!r}" if label else "a structure that is nothing known here"
            self._unknown(where, reason, label)
            return
        item = Item(kind, raw, where)
        for one in self._opened(item) if self.opened else [item]:
            self._keep(one)

    def _unknown(self, where: str, reason: str, label: str) -> None:
        if label:
            self.found.notes.append(f"{where}: {reason}")
        else:
            self.found.faults.append(Fault(where, reason))

    def _opened(self, item: Item) -> Iterator[Item]:
        """What is in a container; the item itself where it is none, or holds none of it."""
        try:
            if item.kind in ("pkcs7", "netscape-sequence"):
                yield from self._signed(item)
                return
            if item.kind == "pkcs12" and self.ask is not None:
                yield from self._pkcs12(item, self.ask)
                return
        except ParseError as error:
            self.found.faults.append(Fault(item.where, error.message))
            return
        yield item

    def _signed(self, item: Item) -> Iterator[Item]:
        from tpmhsm.pki.containers import read_signed_data

        inside = read_signed_data(item.der)
        if not inside.certificates and not inside.crls:
            yield item
            return
        found = _inside(item.where, "PKCS #7")
        for number, raw in enumerate(inside.certificates, 1):
            yield from self._checked(raw, f"{found}, certificate {number}")
        yield from self._crls(inside.crls, found)

    def _pkcs12(self, item: Item, ask: Ask) -> Iterator[Item]:
        from tpmhsm.pki.pkcs12 import open_pkcs12

        inside = open_pkcs12(item.der, lambda: ask(f"Passphrase of {self.found.what}"))
        found = _inside(item.where, "PKCS #12")
        for number, certificate in enumerate(inside.certificates, 1):
            yield from self._checked(certificate.der, f"{found}, certificate {number}")
        yield from self._crls(inside.crls, found)
        yield from (Item("private-key", b"", f"{found}, key") for _ in inside.keys)

    def _checked(self, raw: bytes, where: str) -> Iterator[Item]:
        from tpmhsm.pki.loose import read_loosely

        if self._is_repeated(raw):
            return
        try:
            read_loosely(raw)
        except ParseError as error:
            self.found.faults.append(Fault(where, f"this is no certificate: {error.message}"))
            return
        yield Item("certificate", raw, where)

    def _crls(self, raws: Iterable[bytes], found: str) -> Iterator[Item]:
        yield from (Item("crl", raw, f"{found}, CRL") for raw in raws if not self._is_repeated(raw))


def _element(data: bytes, position: int) -> tuple[bytes, int]:
    """The element there and the offset after it, without a copy of a file that is one element."""
    if position == 0 and data[1:2] != b"\x80" and der.span(data)[2] == len(data):
        return data, len(data)
    element, end = der.read(data, position, lenient=True)
    return element.raw, end


def _inside(where: str, container: str) -> str:
    return f"{where}, in {container}" if where else f"in {container}"
