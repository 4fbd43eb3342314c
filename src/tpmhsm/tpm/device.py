"""A device: one TPM, hardware or software, and the transactions in which it is spoken to.

    with open_device("auto", home).transaction() as chip:
        chip.send(…)

A transaction holds the device's advisory lock and one connection; nobody else of ours speaks to the
chip meanwhile. It should last milliseconds, and never while a person is waited for. At its end
everything that it made in the chip (sessions, transient objects) is flushed, whatever happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpmhsm.errors import ChipRefusedError, DeviceError, UsageError
from tpmhsm.tpm import housekeeping, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.door import DeviceFileDoor, Door, PytssDoor, SocketDoor
from tpmhsm.tpm.journal import NAME, Journal
from tpmhsm.tpm.lock import DEFAULT_TIMEOUT, Hold, Lock

Kind = Literal["software TPM", "hardware", "other TPM"]

DEVICE_FILE = Path("/dev/tpmrm0")

SHELF = "live"
"""The directory of sessions that wait, beside the chip's state or in the home."""


@dataclass(frozen=True)
class Device:
    """One TPM. Made by `open_device`; may be used by several threads at a time.

    `kind` is where the chip was found, not evidence of what it is: only the EK certificate's root
    tells hardware from an emulator. `exclusive`: all sessions and transient objects in the chip are
    ours, so that what a killed holder left may be flushed by the next one (a software TPM; on
    hardware the kernel's resource manager does that). `check` raises DeviceError when there is
    nothing to connect to, in better words than a missing file would. `shelf` is a directory for
    what waits between transactions; it need not be there yet. `passwords`: see `Chip`. `journal`:
    where audited commands are written down (`tpmhsm.tpm.journal`).
    """

    kind: Kind
    where: str
    connect: Callable[[], Door]
    lock: Lock | None
    exclusive: bool
    check: Callable[[], None] | None = None
    shelf: Path | None = None
    passwords: Callable[[int], bytes] | None = None
    journal: Path | None = None

    def describe(self) -> str:
        """Kind and place in a line: "software TPM in /home/x/.tpmhsm"."""
        return f"{self.kind} {'in' if self.check else 'at'} {self.where}"

    def is_waited_for(self) -> bool:
        """Whether others wait for the chip that is in somebody's hand; True if nobody knows."""
        return self.lock is None or self.lock.is_waited_for()

    @contextmanager
    def transaction(self, timeout: float = DEFAULT_TIMEOUT) -> Iterator[Chip]:
        """The chip, for this caller alone. Waits up to `timeout` seconds for others to be done.

        Raises DeviceError: busy, missing, no permission, vanished.
        """
        if self.check:
            self.check()
        if self.lock is None:
            with self._connected(None) as chip:
                yield chip
            return
        with self.lock.held(timeout) as hold, self._connected(hold) as chip:
            yield chip

    @contextmanager
    def _connected(self, hold: Hold | None) -> Iterator[Chip]:
        door = self.connect()
        journal = Journal(self.journal) if self.journal else None
        try:
            if hold and hold.dirty and self.exclusive:
                housekeeping.flush_everything(door)
            if hold:
                hold.mark()
            chip = Chip(door, shelf=self.shelf, passwords=self.passwords, journal=journal)
            try:
                if self.shelf is not None and self.shelf.is_dir():
                    _keep_up(chip)
                yield chip
            finally:
                if self._settle(chip, door) and hold:
                    hold.clear()
        finally:
            door.close()
            if journal is not None:
                journal.close()

    def _settle(self, chip: Chip, door: Door) -> bool:
        """Leave nothing behind; returns whether that is certain.

        After a failure or an interrupt in the middle of a command the door is broken, and nobody
        knows what the chip made of that command; then everything goes, through a new door.
        """
        with suppress(DeviceError, ChipRefusedError):
            chip.flush_all()
            if not door.broken:
                return True
        if not self.exclusive:
            return True  # the resource manager flushes when the door closes
        with suppress(DeviceError):
            door.close()
            again = self.connect()
            try:
                housekeeping.flush_everything(again)
            finally:
                again.close()
            return True
        return False


def _keep_up(chip: Chip) -> None:
    from tpmhsm.tpm.live import keep_up

    keep_up(chip)


def open_device(spec: str, home: Path) -> Device:
    """The device that `--tpm` names. Nothing is connected to or started yet.

        auto              the home's software TPM if it has one; else /dev/tpmrm0 if the user may
                          open it; else a software TPM in the home
        software          the software TPM in the home
        device:PATH       a TPM character device, as device:/dev/tpmrm0
        swtpm:PATH        a running swtpm's data socket: a path, or HOST:PORT
        anything else     a TCTI string ("tabrmd", "mssim:host=…,port=…"), with tpm2-pytss

    Raises UsageError for an empty one.
    """
    kind, _, rest = spec.partition(":")
    if kind == "auto" and not rest:
        return _automatic(home)
    if kind == "software" and not rest:
        return _software(home)
    if kind == "device" and rest:
        return _device_file(Path(rest), home)
    if kind == "swtpm" and rest and "=" not in rest:
        return _swtpm(rest, home)
    if not spec:
        raise UsageError(
            "no TPM is named",
            hint="--tpm auto, software, device:/dev/tpmrm0, swtpm:PATH, or a TCTI string",
        )
    lock, shelf = _home_lock(home), home / SHELF
    return Device(
        "other TPM",
        spec,
        lambda: PytssDoor(spec),
        lock,
        exclusive=False,
        shelf=shelf,
        journal=home / NAME,
    )


def _automatic(home: Path) -> Device:
    """What a home began with it keeps: its keys exist on that chip alone."""
    if software.is_manufactured(software.directory_of(home)) or not _may_open(DEVICE_FILE):
        return _software(home)
    return _device_file(DEVICE_FILE, home)


def _may_open(path: Path) -> bool:
    return path.exists() and os.access(path, os.R_OK | os.W_OK)


def _software(home: Path) -> Device:
    directory = software.directory_of(home)
    lock = software.lock_of(directory)
    return Device(
        "software TPM",
        str(home),
        connect=lambda: software.connect(directory),
        lock=lock,
        exclusive=True,
        check=lambda: software.check(directory),
        shelf=directory / SHELF,
        journal=home / NAME,
    )


def _device_file(path: Path, home: Path) -> Device:
    return Device(
        "hardware",
        str(path),
        lambda: DeviceFileDoor(path),
        _home_lock(home),
        exclusive=False,
        shelf=home / SHELF,
        journal=home / NAME,
    )


def _swtpm(where: str, home: Path) -> Device:
    """An swtpm that somebody else runs. It serves one client at a time, so it is ours meanwhile."""
    host, _, port = where.rpartition(":")
    if host and port.isdigit() and "/" not in where:
        address = (host, int(port))
        lock = _home_lock(home)
        return Device(
            "software TPM",
            where,
            lambda: SocketDoor(address),
            lock,
            exclusive=True,
            shelf=home / SHELF,
            journal=home / NAME,
        )
    path = Path(where).absolute()
    file_lock = Lock(path.with_name(path.name + ".lock"), f"the software TPM at {path}")
    return Device(
        "software TPM",
        str(path),
        lambda: SocketDoor(path),
        file_lock,
        exclusive=True,
        shelf=home / SHELF,
        journal=home / NAME,
    )


def _home_lock(home: Path) -> Lock | None:
    """Keeps our own processes apart where somebody else sees to the chip's one connection.

    Steps that belong together (find a free index, make it) then are not mixed. No home, no lock:
    nothing of ours is kept anywhere.
    """
    return Lock(home / "device.lock", "the TPM") if home.is_dir() else None
