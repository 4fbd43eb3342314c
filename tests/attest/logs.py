"""Event logs made by hand, as firmware writes them."""

from __future__ import annotations

import hashlib

SIZES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64}
NAMES = {4: "sha1", 0xB: "sha256", 0xC: "sha384", 0xD: "sha512"}
NO_ACTION, SEPARATOR = 3, 4
VARIABLE, BOOT, AUTHORITY, HCRTM = 0x80000001, 0x80000002, 0x800000E0, 0x80000010


def u(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def old(pcr: int, kind: int, data: bytes, digest: bytes | None = None) -> bytes:
    """TCG_PCR_EVENT."""
    if digest is None:
        digest = bytes(20) if kind == NO_ACTION else hashlib.sha1(data).digest()
    return u(pcr) + u(kind) + digest + u(len(data)) + data


def header(*algorithms: int, sizes: dict[int, int] | None = None, vendor: bytes = b"") -> bytes:
    """The first event of a crypto agile log."""
    known = {**SIZES, **(sizes or {})}
    named = b"".join(u(one, 2) + u(known[one], 2) for one in algorithms)
    data = b"Spec ID Event03\0" + u(0) + bytes((0, 2, 0, 2)) + u(len(algorithms)) + named
    return old(0, NO_ACTION, data + bytes([len(vendor)]) + vendor)


def event(
    pcr: int, kind: int, data: bytes, *algorithms: int, digests: dict[int, bytes] | None = None
) -> bytes:
    """TCG_PCR_EVENT2 of SHA-256, or of the algorithms given."""
    found = [u(pcr), u(kind), u(len(algorithms) or 1)]
    for one in algorithms or (0xB,):
        made = hashlib.new(NAMES.get(one, "sha256"), data).digest()
        digest = bytes(SIZES[one]) if kind == NO_ACTION else made
        found += [u(one, 2), (digests or {}).get(one, digest)]
    return b"".join([*found, u(len(data)), data])


def locality(number: int) -> bytes:
    return b"StartupLocality\0" + bytes([number])


def variable(name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA."""
    return bytes(16) + u(len(name), 8) + u(len(data), 8) + name.encode("utf-16-le") + data


def agile() -> bytes:
    """A small log of two hashes."""
    both = (4, 0xB)
    return b"".join(
        [
            header(*both),
            event(0, NO_ACTION, locality(3), *both),
            event(0, 8, "1.0".encode("utf-16-le"), *both),
            event(7, VARIABLE, variable("SecureBoot", b"\1"), *both),
            event(7, SEPARATOR, bytes(4), *both),
            event(4, 5, b"Calling EFI Application from Boot Option", *both),
        ]
    )
