"""What firmware and boot loaders measured: the event log of a TCG platform, read and replayed.

TCG PC Client Platform Firmware Profile, sections 10.2 (structures) and 10.4 (events): the crypto
agile log, which begins with `Spec ID Event03`, and the older one with SHA-1 alone. A log is the
host's word. Only what replays to PCRs that the chip quoted was measured, and of that only the
digests: whether an event's data are what its digest says is asked of each event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tpmhsm.errors import ParseError

MAX_LOG = 4 << 20
"""Octets of a log; those of real machines have 10 to 300 KiB."""

MAX_EVENTS = 20_000
"""Events of a log; those of real machines have some hundreds."""

_HASHES = {
    0x0004: ("sha1", 20),
    0x000B: ("sha256", 32),
    0x000C: ("sha384", 48),
    0x000D: ("sha512", 64),
    0x0012: ("sm3_256", 32),
    0x0027: ("sha3_256", 32),
    0x0028: ("sha3_384", 48),
    0x0029: ("sha3_512", 64),
}
"""TPM_ALG_ID, as the TCG Algorithm Registry numbers hashes."""

_MAX_ALGORITHMS = 16
_MAX_DIGEST = 1024
_MAX_PCR = 31
_SPEC_ID = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
_SHA1_HEADER = 32

EV_NO_ACTION = 3
EV_SEPARATOR = 4
EV_EFI_HCRTM_EVENT = 0x80000010

EVENT_NAMES = {
    0x00: "EV_PREBOOT_CERT",
    0x01: "EV_POST_CODE",
    0x02: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    EV_SEPARATOR: "EV_SEPARATOR",
    0x05: "EV_ACTION",
    0x06: "EV_EVENT_TAG",
    0x07: "EV_S_CRTM_CONTENTS",
    0x08: "EV_S_CRTM_VERSION",
    0x09: "EV_CPU_MICROCODE",
    0x0A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0B: "EV_TABLE_OF_DEVICES",
    0x0C: "EV_COMPACT_HASH",
    0x0D: "EV_IPL",
    0x0E: "EV_IPL_PARTITION_DATA",
    0x0F: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x13: "EV_POST_CODE2",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    EV_EFI_HCRTM_EVENT: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}
"""Table 27 (Events) of the profile, 1.06."""


@dataclass(frozen=True)
class Event:
    """One event: `digests` by the name of the hash (`0x1234` for one unknown here), `data` as
    logged, `offset` in the log.
    """

    number: int
    pcr: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes
    offset: int

    @property
    def name(self) -> str:
        """`EV_SEPARATOR`; the number of a type that the profile does not have."""
        return EVENT_NAMES.get(self.type, f"{self.type:#010x}")

    @property
    def is_extended(self) -> bool:
        """Whether it changed its PCR."""
        return self.type != EV_NO_ACTION

    @property
    def startup_locality(self) -> int | None:
        """The locality of TPM2_Startup, if this is the event that tells it (10.4.5.3)."""
        said = not self.is_extended and self.pcr == 0 and self.data.startswith(_LOCALITY)
        return self.data[len(_LOCALITY)] if said and len(self.data) > len(_LOCALITY) else None

    def is_digest_of(self, data: bytes) -> bool:
        """Whether every digest of a hash known here is the one of these bytes."""
        known = [(name, value) for name, value in self.digests.items() if can_hash(name)]
        return bool(known) and all(_digest(name, data) == value for name, value in known)


@dataclass(frozen=True)
class EventLog:
    """A log. `algorithms` are the hashes that it names, with their lengths in octets; `agile` says
    of which form it is; `remarks` what is odd about it, in words.
    """

    events: tuple[Event, ...]
    algorithms: Mapping[str, int]
    agile: bool
    remarks: tuple[str, ...] = ()

    def replay(self) -> dict[str, dict[int, bytes]]:
        """The PCRs as the log says they ended: by the name of the bank, then by number.

        PCRs that no event names, and banks of hashes unknown here, are absent.
        """
        replay = _Replay(self.algorithms)
        for event in self.events[self.agile :]:  # the header of an agile log names no PCR
            replay.take(event)
        return replay.pcrs


class _Replay:
    """PCRs while events are taken (TPM 2.0 Library Part 1, section 17)."""

    def __init__(self, algorithms: Mapping[str, int]) -> None:
        self.pcrs: dict[str, dict[int, bytes]] = {}
        self._sizes = {name: size for name, size in algorithms.items() if can_hash(name)}
        self._first = 0
        self._begun = False

    def take(self, event: Event) -> None:
        if event.pcr == 0 and not self._begun:
            self._start(event)
        if event.pcr > _MAX_PCR:
            return
        for name, digest in event.digests.items():
            if name not in self._sizes:
                continue
            bank = self.pcrs.setdefault(name, {})
            old = bank.setdefault(event.pcr, self._initial(name, event.pcr))
            if event.is_extended:
                bank[event.pcr] = _digest(name, old + digest)

    def _start(self, event: Event) -> None:
        """Who started the chip stands in the last octet of PCR 0 before it is extended: 3 for
        locality 3, 4 for a hardware root of trust (H-CRTM).
        """
        first = 4 if event.type == EV_EFI_HCRTM_EVENT else event.startup_locality
        if first is not None and (first or not self._first):
            self._first = first
            for name, bank in self.pcrs.items():
                if 0 in bank:
                    bank[0] = self._initial(name, 0)
        self._begun = event.is_extended

    def _initial(self, name: str, pcr: int) -> bytes:
        """Zeros; also of PCRs 17 to 22, into which nothing is measured before a dynamic launch."""
        return bytes(self._sizes[name] - 1) + bytes([self._first if pcr == 0 else 0])


def can_hash(name: str) -> bool:
    """Whether a bank of this name can be replayed here."""
    return name in _HASHERS


def _hasher(name: str) -> Callable[[bytes], bytes] | None:
    try:
        begun = hashlib.new({"sm3_256": "sm3"}.get(name, name), usedforsecurity=False)
    except ValueError:  # SM3 is not in every OpenSSL
        return None

    def digest(data: bytes) -> bytes:
        hasher = begun.copy()  # a third of the time of a new one
        hasher.update(data)
        return hasher.digest()

    return digest


_HASHERS = {name: found for name, _ in _HASHES.values() if (found := _hasher(name))}


def _digest(name: str, data: bytes) -> bytes:
    return _HASHERS[name](data)


def is_event_log(data: bytes) -> bool:
    """Whether bytes begin as an event log does: with an EV_NO_ACTION of the profile."""
    head = data[:_SHA1_HEADER]
    if len(head) < _SHA1_HEADER or head[:28] != b"\0\0\0\0\3\0\0\0" + bytes(20):
        return False
    said = data[_SHA1_HEADER : _SHA1_HEADER + 16]
    return said.startswith((b"Spec ID Event", b"StartupLocality", b"SP800-155 Event"))


def may_be_event_log(data: bytes) -> bool:
    """Whether bytes may be an older log without a header: an event that a TPM may have extended."""
    if len(data) < _SHA1_HEADER or not data[8:28].strip(b"\0"):
        return False
    pcr, kind, size = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4, 28))
    return pcr <= 23 and kind in EVENT_NAMES and size <= len(data) - _SHA1_HEADER


def parse_event_log(data: bytes) -> EventLog:
    """An event log. ParseError says at which byte it breaks; never takes long."""
    if len(data) > MAX_LOG:
        raise ParseError(f"an event log of {len(data):,} bytes: {MAX_LOG:,} are the most")
    if len(data) < _SHA1_HEADER:
        raise ParseError(f"{len(data)} bytes are no event log: the first event alone has 32")
    if not data.strip(b"\0"):
        raise ParseError("an event log of nothing but zeros")
    reader = _Reader(data)
    first = reader.sha1_event(0)
    if first.type == EV_NO_ACTION and first.data.startswith(_SPEC_ID):
        algorithms = _spec_id(first.data, reader.remarks)
        events = (first, *reader.events(algorithms))
        named = {_name(number): size for number, size in algorithms.items()}
        return EventLog(events, MappingProxyType(named), True, tuple(reader.remarks))
    events = (first, *reader.events(None))
    return EventLog(events, MappingProxyType({"sha1": 20}), False, tuple(reader.remarks))


def _name(number: int) -> str:
    return _HASHES[number][0] if number in _HASHES else f"{number:#06x}"


def _spec_id(data: bytes, remarks: list[str]) -> dict[int, int]:
    """TCG_EfiSpecIdEvent (10.4.5.1): the hashes of the log and their lengths."""
    count = int.from_bytes(data[24:28], "little")
    end = 28 + 4 * count
    if len(data) < 29 or not 1 <= count <= _MAX_ALGORITHMS or len(data) <= end:
        raise ParseError(f"the first event of the log names {count} hashes, and has no room")
    if data[21] != 2:
        raise ParseError(f"an event log of version {data[21]}.{data[20]}; 2 is known")
    found: dict[int, int] = {}
    for at in range(28, end, 4):
        number = int.from_bytes(data[at : at + 2], "little")
        size = int.from_bytes(data[at + 2 : at + 4], "little")
        wanted = _HASHES.get(number, ("", size))[1]
        if number in found or size != wanted or not 1 <= size <= _MAX_DIGEST:
            raise ParseError(f"the log names the hash {_name(number)} with {size} octets, or twice")
        found[number] = size
    if len(data) != end + 1 + data[end]:
        remarks.append("the first event is longer or shorter than what it holds")
    return found


class _Reader:
    """Walks over the bytes of a log. Numbers are little endian."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._filled = min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))
        self.remarks: list[str] = []

    def events(self, algorithms: Mapping[int, int] | None) -> Iterator[Event]:
        """All but the first. `algorithms` None for a log of SHA-1."""
        number = 1
        while self._at < len(self._data) and not self._is_padding():
            if number >= MAX_EVENTS:
                raise ParseError(f"an event log of more than {MAX_EVENTS:,} events")
            if algorithms is None:
                yield self.sha1_event(number)
            else:
                yield self._agile_event(number, algorithms)
            number += 1

    def _is_padding(self) -> bool:
        """Firmware hands over a whole area, of which the rest is zeros, or FF as in flash."""
        if self._at < self._filled:
            return False
        left = len(self._data) - self._at
        self.remarks.append(f"{left} bytes of {self._data[-1]:02x} follow the last event")
        return True

    def sha1_event(self, number: int) -> Event:
        """TCG_PCR_EVENT (10.2.1)."""
        start = self._at
        pcr, kind = self._number(4, number), self._number(4, number)
        digest = self._take(20, number)
        data = self._take(self._number(4, number), number)
        return _event(Event(number, pcr, kind, {"sha1": digest}, data, start))

    def _agile_event(self, number: int, algorithms: Mapping[int, int]) -> Event:
        """TCG_PCR_EVENT2 (10.2.2)."""
        start = self._at
        pcr, kind = self._number(4, number), self._number(4, number)
        count = self._number(4, number)
        if count > len(algorithms):
            raise ParseError(
                f"event {number}, at byte {start}, has {count} digests; the log names "
                f"{len(algorithms)} hashes"
            )
        digests: dict[str, bytes] = {}
        for _ in range(count):
            hash_ = self._number(2, number)
            if hash_ not in algorithms or _name(hash_) in digests:
                raise ParseError(
                    f"event {number}, at byte {start}, has a digest of {_name(hash_)}, which the "
                    "log does not name, or two"
                )
            digests[_name(hash_)] = self._take(algorithms[hash_], number)
        data = self._take(self._number(4, number), number)
        return _event(Event(number, pcr, kind, digests, data, start))

    def _number(self, size: int, event: int) -> int:
        return int.from_bytes(self._take(size, event), "little")

    def _take(self, size: int, event: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ParseError(
                f"the event log is cut off: event {event} needs {end - len(self._data):,} more "
                f"bytes, at byte {self._at}"
            )
        part = self._data[self._at : end]
        self._at = end
        return part


def _event(event: Event) -> Event:
    """An event that can be. ParseError."""
    if event.is_extended and event.pcr > _MAX_PCR:
        raise ParseError(
            f"event {event.number}, at byte {event.offset}, is of PCR {event.pcr}, which no TPM has"
        )
    return event
