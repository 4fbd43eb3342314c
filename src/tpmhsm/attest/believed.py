"""Whose word counts when somebody says that a key is an attestation key of a chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tpmhsm.attest.roots import is_pins, parse_pins
from tpmhsm.errors import UsageError
from tpmhsm.pki.load import certificate_ders

_NAME = 34  # of an object whose Name is by SHA-256


@dataclass(frozen=True)
class Believed:
    """Roots (DER) that certify attestation keys, with the class of each, one of `roots.KINDS` or
    empty where nobody said it; what helps to build paths to them (DER); and Names of such keys
    that somebody activated himself (`tpmhsm attest challenge`).
    """

    roots: Mapping[bytes, str] = field(default_factory=dict)
    intermediates: tuple[bytes, ...] = ()
    names: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.roots or self.names)


def read_believed(files: Iterable[tuple[str, bytes]], names: Iterable[str] = ()) -> Believed:
    """From files, each its name and content: certificates, which get no class, or a list of roots
    with their classes (`tpmhsm attest roots`); and Names in hexadecimal. ParseError, UsageError.
    """
    roots: dict[bytes, str] = {}
    intermediates: list[bytes] = []
    for file, data in files:
        if is_pins(data):
            pins = parse_pins(data)
            roots |= {one.der: one.kind for one in pins.roots}
            intermediates += pins.intermediates
        else:
            for der in certificate_ders(data, file):
                roots.setdefault(der, "")
    return Believed(roots, tuple(intermediates), frozenset(map(_name, names)))


def _name(text: str) -> bytes:
    digits = text.replace(":", "").lower()
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if len(found) != _NAME or found[:2] != b"\0\x0b":
        raise UsageError(
            f"{text!r} is no Name of an attestation key",
            hint="68 hexadecimal digits that begin with 000b; tpmhsm csr show tells it",
        )
    return found
