"""An event log in words: what started, under which Secure Boot, and which of it was measured.

TCG PC Client Platform Firmware Profile, section 10.4; UEFI Specification, sections 10.3 (device
paths), 3.1.3 (load options) and 32.4 (signature lists). Data of an event are words of the host
until they hash to its digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from tpmhsm.attest.event_log import EV_NO_ACTION, EV_SEPARATOR, Event, EventLog
from tpmhsm.errors import ParseError

_LONGEST = 200
_MOST_NODES = 32
_MOST_CERTIFICATES = 200
_X509_LIST = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_SWITCHES = {"SecureBoot": ("off", "on"), "SetupMode": ("off", "on"), "DeployedMode": ("off", "on")}


class Variable(NamedTuple):
    """UEFI_VARIABLE_DATA: a variable's vendor, name and bytes."""

    vendor: UUID
    name: str
    data: bytes


@dataclass(frozen=True)
class Told:
    """One event for people: `words`, and whether the chip's digest is that of what they say.

    `proven` None where there is nothing to prove: the event changed no PCR.
    """

    event: Event
    words: str
    proven: bool | None


def tell(event: Event) -> Told:
    """An event in words. What cannot be decoded is told as it stands; never fails."""
    try:
        words = _reader(event)(event)
    except (ParseError, ValueError, IndexError) as error:
        reason = error.message if isinstance(error, ParseError) else "it does not decode"
        words = f"{_as_text(event.data)} ({reason})"
    return Told(event, _short(words), is_measured(event) if event.is_extended else None)


def is_measured(event: Event) -> bool:
    """Whether the digests are those of the data, or of the part of them that is measured.

    Firmware measured variables' contents alone before 2013; GRUB measures commands without the
    word before them (10.4.1; its documentation, section 19.4).
    """
    return any(event.is_digest_of(part) for part in _measured_parts(event))


def _measured_parts(event: Event) -> Iterator[bytes]:
    yield event.data
    if _is_variable(event):
        try:
            yield read_variable(event.data).data
        except ParseError:
            return
    if event.type == 0x0D and b" " in event.data[:32]:
        rest = event.data.split(b" ", 1)[1]
        yield rest
        yield rest.rstrip(b"\0")


def secure_boot(log: EventLog) -> bool | None:
    """Whether Secure Boot was on, as PCR 7 was told; None if the log does not prove it."""
    for event in log.events:
        if event.type == 0x80000001 and event.pcr == 7 and event.is_digest_of(event.data):
            try:
                variable = read_variable(event.data)
            except ParseError:
                continue
            if variable.name == "SecureBoot":
                return variable.data == b"\1"
    return None


def errors(log: EventLog) -> list[Event]:
    """The separators that say that something went wrong before the system was started (10.4.4)."""
    return [
        event for event in log.events if event.type == EV_SEPARATOR and event.data == b"\1\0\0\0"
    ]


def read_variable(data: bytes) -> Variable:
    """UEFI_VARIABLE_DATA (10.2.6). ParseError."""
    if len(data) < 32:
        raise ParseError("too short for a variable")
    letters = int.from_bytes(data[16:24], "little")
    size = int.from_bytes(data[24:32], "little")
    begin = 32 + 2 * letters
    if begin + size > len(data):
        raise ParseError("a variable that is longer than its event")
    name = data[32:begin].decode("utf-16-le", "replace").rstrip("\0")
    return Variable(UUID(bytes_le=data[:16]), name, data[begin : begin + size])


def _is_variable(event: Event) -> bool:
    return event.type in (0x80000001, 0x80000002, 0x8000000C, 0x800000E0)


def _reader(event: Event) -> Callable[[Event], str]:
    return _READERS.get(event.type, lambda one: _as_text(one.data))


def _no_action(event: Event) -> str:
    if (locality := event.startup_locality) is not None:
        return f"the chip was started from locality {locality}"
    if event.data.startswith(b"Spec ID Event"):
        return f"the log's own header, version {event.data[21]}.{event.data[20]}"
    if event.data.startswith(b"SP800-155 Event"):
        return "where the maker's reference values are (SP 800-155)"
    return _as_text(event.data)


def _separator(event: Event) -> str:
    if event.data in (bytes(4), b"\xff" * 4):
        return "separator: what follows was measured after the firmware"
    if event.data == b"\1\0\0\0":
        return "ERROR: the firmware failed before this point"
    return f"separator with {event.data[:16].hex()}"


def _variable(event: Event) -> str:
    variable = read_variable(event.data)
    if variable.name in _SWITCHES and not variable.data:
        return f"{variable.name}: off, there is no such variable"
    if variable.name in _SWITCHES and len(variable.data) == 1:
        return f"{variable.name}: {_SWITCHES[variable.name][variable.data[0] == 1]}"
    if variable.name in ("PK", "KEK", "db", "dbx", "dbr", "dbt"):
        return f"{variable.name}: {_signature_lists(variable.data)}"
    if variable.name == "BootOrder":
        order = (variable.data[i : i + 2] for i in range(0, len(variable.data) - 1, 2))
        return "BootOrder: " + " ".join(f"{int.from_bytes(one, 'little'):04X}" for one in order)
    if re.fullmatch(r"(Boot|Driver|SysPrep)[0-9A-Fa-f]{4}", variable.name):
        return f"{variable.name}: {_load_option(variable.data)}"
    return f"{variable.name}: {_as_text(variable.data)}"


def _authority(event: Event) -> str:
    """EFI_SIGNATURE_DATA that let something start; shim measures other things so, too."""
    variable = read_variable(event.data)
    for begin in (16, 0):  # shim tells the certificate alone
        if variable.data[begin : begin + 2] == b"\x30\x82":
            return f"allowed by {_subject(variable.data[begin:])} in {variable.name}"
    return f"{variable.name}: {_as_text(variable.data)}"


def _signature_lists(data: bytes) -> str:
    """EFI_SIGNATURE_LISTs: the certificates by name, hashes by their number."""
    names: list[str] = []
    hashes = others = at = 0
    while at + 28 <= len(data):
        kind = UUID(bytes_le=data[at : at + 16])
        size, header, each = (
            int.from_bytes(data[at + i : at + i + 4], "little") for i in (16, 20, 24)
        )
        if size < 28 + header or at + size > len(data) or each < 17:
            raise ParseError("a signature list that is longer than its variable")
        body = data[at + 28 + header : at + size]
        if kind == _X509_LIST and len(names) < _MOST_CERTIFICATES:
            names.append(_subject(body[16:each]))
        elif each == 48:
            hashes += len(body) // each
        else:
            others += len(body) // each
        at += size
    counted = [f"{hashes} hashes"] * bool(hashes) + [f"{others} more"] * bool(others)
    return ", ".join([*names, *counted]) or "empty"


def _subject(raw: bytes) -> str:
    from tpmhsm.pki import der
    from tpmhsm.pki.loose import read_loosely
    from tpmhsm.pki.names import show_dn

    try:
        return show_dn(read_loosely(der.read(raw, lenient=True)[0].raw).subject)
    except ParseError:
        return f"{len(raw)} bytes that are no certificate"


def _load_option(data: bytes) -> str:
    """EFI_LOAD_OPTION: attributes, length of the path, description, path."""
    if len(data) < 8:
        return "empty"
    end = 6
    while end + 1 < len(data) and data[end : end + 2] != b"\0\0":
        end += 2
    size = int.from_bytes(data[4:6], "little")
    description = data[6:end].decode("utf-16-le", "replace")
    return f"{description} {_device_path(data[end + 2 : end + 2 + size])}".strip()


def _image(event: Event) -> str:
    """UEFI_IMAGE_LOAD_EVENT (10.2.3)."""
    if len(event.data) < 32:
        raise ParseError("too short for a program that is loaded")
    return f"started {_device_path(event.data[32:]) or 'a program without a path'}"


def _device_path(data: bytes) -> str:
    """The nodes of a path that people know: files, firmware volumes, network and disks."""
    found, at = [], 0
    for _ in range(_MOST_NODES):
        kind, sub = data[at : at + 1], data[at + 1 : at + 2]
        size = int.from_bytes(data[at + 2 : at + 4], "little")
        if size < 4 or at + size > len(data) or kind == b"\x7f":
            break
        found.append(_node(kind[0], sub[0], data[at + 4 : at + size]))
        at += size
    return " ".join(part for part in found if part)


def _node(kind: int, sub: int, body: bytes) -> str:
    match kind, sub:
        case 4, 4:
            return body.decode("utf-16-le", "replace").rstrip("\0")
        case 4, 1:
            return f"partition {int.from_bytes(body[:4], 'little')}"
        case 4, (6 | 7) if len(body) == 16:
            return f"firmware {UUID(bytes_le=body)}"
        case 3, 11:
            return f"network card {body[:6].hex(':')}"
    return _BUSES.get((kind, sub), "")


_BUSES = {(3, 5): "USB", (3, 15): "USB", (3, 16): "USB", (3, 18): "SATA", (3, 23): "NVMe"}


def _partitions(event: Event) -> str:
    """UEFI_GPT_DATA: the header of a disk and its partitions (10.2.4)."""
    data = event.data
    if len(data) < 100 or data[:8] != b"EFI PART":
        raise ParseError("no partition table")
    count = int.from_bytes(data[92:100], "little")
    return f"partition table of disk {UUID(bytes_le=data[56:72])}, {count} partitions"


def _blob(event: Event) -> str:
    """UEFI_PLATFORM_FIRMWARE_BLOB, or words (10.2.5)."""
    if len(event.data) == 16:
        base, size = (int.from_bytes(event.data[i : i + 8], "little") for i in (0, 8))
        return f"firmware, {size:,} bytes at {base:#x}"
    return _as_text(event.data)


def _version(event: Event) -> str:
    text = event.data.decode("utf-16-le", "replace").rstrip("\0")
    if len(event.data) == 16:
        return f"version {UUID(bytes_le=event.data)}"
    return f"version {text if text.isascii() and text.isprintable() else event.data[:32].hex()}"


def _as_text(data: bytes) -> str:
    """Printable words of the data; else hexadecimal."""
    for encoding in ("utf-8", "utf-16-le"):
        try:
            text = data[: 2 * _LONGEST].decode(encoding).rstrip("\0")
        except UnicodeDecodeError:
            continue
        if text and text.isprintable() and (encoding == "utf-8" or text.isascii()):
            return text
    return data[:32].hex() + ("…" if len(data) > 32 else "")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_READERS: dict[int, Callable[[Event], str]] = {
    EV_NO_ACTION: _no_action,
    EV_SEPARATOR: _separator,
    0x01: _blob,
    0x07: _blob,
    0x08: _version,
    0x80000001: _variable,
    0x80000002: _variable,
    0x8000000C: _variable,
    0x80000003: _image,
    0x80000004: _image,
    0x80000005: _image,
    0x80000006: _partitions,
    0x8000000D: _partitions,
    0x80000008: _blob,
    0x800000E0: _authority,
}
