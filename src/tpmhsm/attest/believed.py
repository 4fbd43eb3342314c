"""Whose word counts when somebody says that a key is an attestation key of a chip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from tpmhsm.attest.roots import PinnedRoot, Pins, is_pins, parse_pins
from tpmhsm.errors import UsageError
from tpmhsm.pki.load import certificate_ders

_NAME = 34  # of an object whose Name is by SHA-256


@dataclass(frozen=True)
class Believed:
    """Roots that certify attestation keys, and Names of such keys that somebody activated himself
    (`tpmhsm attest challenge`).
    """

    pins: Pins = field(default_factory=Pins)
    names: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.pins.roots or self.names)


def read_believed(files: Iterable[tuple[str, bytes]], names: Iterable[str] = ()) -> Believed:
    """From files, each its name and content: certificates, which get no class, or a list of roots
    with their classes (`tpmhsm attest roots`); and Names in hexadecimal. ParseError, UsageError.
    """
    pins = Pins()
    for file, data in files:
        if is_pins(data):
            more = parse_pins(data)
            pins = pins.with_more(more.roots, more.intermediates)
            continue
        ders = certificate_ders(data, file)
        pins = pins.with_more([PinnedRoot(sha256(d).hexdigest(), d, "", "") for d in ders], ())
    return Believed(pins, frozenset(map(_name, names)))


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
