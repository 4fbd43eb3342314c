"""The one door to a chip: `send(command) -> response`, whole TPM 2.0 commands as bytes.

    DeviceFileDoor   /dev/tpmrm0 or /dev/tpm0: one write and one read a command of at most 4,096
                     bytes, one in flight; tested with a double only: UNTESTED ON HARDWARE so far
    SocketDoor       swtpm's data socket (unix or TCP): commands one after another on a stream
    PytssDoor        any TCTI string, through tpm2-pytss when it is installed

A door that failed, or was interrupted in the middle of a command, is closed for good: the answer to
the lost command might otherwise be taken for the answer to the next one.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tpmhsm.errors import DeviceError

MAX_SIZE = 4096  # bytes; MAX_COMMAND_SIZE and MAX_RESPONSE_SIZE of the PC Client profile
HEADER_SIZE = 10  # tag u16, size u32, code u32 (Part 1, section 18)
TIMEOUT = 300.0  # seconds; the Linux driver gives the creation of a key this long
# seconds; to sleep and be woken takes longer than most answers of a software TPM, and another core
# is at work on them: a socket is first asked again and again, where no other thread has work to do
SPIN = 0.001 if (os.cpu_count() or 1) > 1 else 0.0


class Door(Protocol):
    """A way to one chip. Not safe for two threads at a time.

    `broken`: closed by a failure or an interrupt, so that nobody knows what the chip made of the
    last command.
    """

    broken: bool

    def send(self, command: bytes) -> bytes:
        """Send one whole command, return the whole response. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Let go of the chip. May be called twice."""
        ...


class _BaseDoor(ABC):
    """Checks sizes, closes itself after any failure, and puts failures into words."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.broken = False
        self._closed = False

    def send(self, command: bytes) -> bytes:
        if self._closed:
            raise DeviceError(f"the connection to {self.where} is closed")
        if not HEADER_SIZE <= len(command) <= MAX_SIZE:
            raise DeviceError(f"a command of {len(command)} bytes does not fit {self.where}")
        try:
            response = self._exchange(command)
        except BaseException as error:
            self.broken = True
            self.close()
            if isinstance(error, OSError):
                raise _vanished(self.where, error) from error
            raise
        return response

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._close()

    @abstractmethod
    def _exchange(self, command: bytes) -> bytes: ...

    @abstractmethod
    def _close(self) -> None: ...


class SocketDoor(_BaseDoor):
    """swtpm's data socket. `address` is a unix socket's path or a (host, port)."""

    def __init__(self, address: Path | tuple[str, int], timeout: float = TIMEOUT) -> None:
        where = str(address) if isinstance(address, Path) else f"{address[0]}:{address[1]}"
        super().__init__(where)
        try:
            self._socket = _connect(address, timeout)
        except OSError as error:
            raise _missing(where, error) from error
        # the kernel's timeout, not Python's: that polls first, and gives Python's lock away twice
        self._socket.settimeout(None)
        seconds, rest = divmod(timeout, 1)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            limit = struct.pack("@ll", int(seconds), int(rest * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def _exchange(self, command: bytes) -> bytes:
        self._socket.sendall(command)
        response = self._read()  # nearly always all of it: one answer is all that can be there
        while len(response) < HEADER_SIZE:
            response += self._read()
        size = int.from_bytes(response[2:6], "big")
        if not HEADER_SIZE <= size <= MAX_SIZE:
            raise DeviceError(f"{self.where} is not a TPM 2.0 socket: an answer of {size} bytes")
        while len(response) < size:
            response += self._read()
        if len(response) > size:
            raise DeviceError(f"{self.where} is not a TPM 2.0 socket: more than one answer")
        return response

    def _read(self) -> bytes:
        part = self._spin()
        if part is None:
            try:
                part = self._socket.recv(MAX_SIZE)
            except BlockingIOError:
                raise TimeoutError from None
        if not part:
            raise ConnectionResetError(None, "it closed the connection")
        return part

    def _spin(self) -> bytes | None:
        receive, now = self._socket.recv, time.perf_counter
        give_up = now() + (SPIN if threading.active_count() == 1 else 0.0)
        while now() < give_up:
            try:
                return receive(MAX_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return None

    def _close(self) -> None:
        self._socket.close()


class DeviceFileDoor(_BaseDoor):
    """A TPM character device. UNTESTED ON HARDWARE: its double in the tests is a pseudo-terminal.

    The command is written without blocking, which kernels since 5.0 then run on their own, and the
    answer is polled for: so a wait can be interrupted, and limited (`timeout`, seconds).
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        super().__init__(str(path))
        self._timeout = timeout
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(path, flags)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.close(self._descriptor)
                raise DeviceError(f"{path} is an ordinary file, not a TPM")
        except OSError as error:
            raise _missing(self.where, error) from error

    def _exchange(self, command: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout
        written = self._write(command, deadline)
        if written != len(command):
            raise DeviceError(f"{self.where} took {written} of a command's {len(command)} bytes")
        _wait(self._descriptor, select.POLLIN, deadline)
        response = os.read(self._descriptor, MAX_SIZE)
        if len(response) < HEADER_SIZE or int.from_bytes(response[2:6], "big") != len(response):
            raise DeviceError(f"{self.where} gave {len(response)} bytes that are no TPM response")
        return response

    def _write(self, command: bytes, deadline: float) -> int:
        while True:
            try:
                return os.write(self._descriptor, command)
            except BlockingIOError:  # the driver is still at the command before
                _wait(self._descriptor, select.POLLOUT, deadline)
                time.sleep(0.001)  # the driver says POLLOUT early

    def _close(self) -> None:
        os.close(self._descriptor)


class PytssDoor(_BaseDoor):
    """Any TCTI string ("tabrmd", "mssim:host=…", "spi-helper", …), if tpm2-pytss is installed."""

    def __init__(self, tcti: str, timeout: float = TIMEOUT) -> None:
        super().__init__(f"TCTI {tcti!r}")
        self._timeout = timeout
        self._tcti = _load_tcti(tcti)

    def _exchange(self, command: bytes) -> bytes:
        from tpm2_pytss import TSS2_Exception

        try:
            self._tcti.transmit(command)
            return bytes(self._tcti.receive(timeout=int(self._timeout * 1000)))
        except TSS2_Exception as error:
            raise DeviceError(f"{self.where} failed: {error}") from error

    def _close(self) -> None:
        self._tcti.close()


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = max(0.0, deadline - time.monotonic())
    events = poll.poll(left * 1000)
    if not events:
        raise TimeoutError
    if (events[0][1] & event) == 0:
        raise ConnectionResetError(None, "it closed the connection")


def _load_tcti(tcti: str) -> Any:
    os.environ.setdefault("TSS2_LOG", "all+none")  # it would write to stderr by itself
    try:
        from tpm2_pytss import TCTILdr, TSS2_Exception
    except ImportError as error:
        raise DeviceError(
            f"no such TPM: {tcti!r}; a TCTI string needs tpm2-pytss",
            hint="pip install tpm2-pytss, or --tpm software, device:/dev/tpmrm0, swtpm:PATH",
        ) from error
    name, _, configuration = tcti.partition(":")
    try:
        return TCTILdr(name, configuration or None)
    except (TSS2_Exception, ValueError, RuntimeError) as error:
        raise DeviceError(
            f"no TPM at TCTI {tcti!r}: {error}",
            hint="one of auto, software, device:/dev/tpmrm0, swtpm:PATH, or a TCTI string",
        ) from error


def _connect(address: Path | tuple[str, int], timeout: float) -> socket.socket:
    if isinstance(address, tuple):
        connection = socket.create_connection(address, timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout)
        with _short_path(address) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for a socket: sun_path holds 107 bytes, homes may lie deeper than that."""
    if len(os.fsencode(path)) <= 107:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _vanished(where: str, error: OSError) -> DeviceError:
    why = "it does not answer" if isinstance(error, TimeoutError) else _words(error)
    return DeviceError(f"the TPM at {where} vanished midway: {why}", code="device-vanished")


def _missing(where: str, error: OSError) -> DeviceError:
    hint, code = "", "device-missing"
    if isinstance(error, PermissionError):
        code = "device-permission"
        hint = "run as a member of the group that owns it (tss, for /dev/tpmrm0)"
    elif isinstance(error, FileNotFoundError):
        hint = "--tpm software uses the software TPM of the home"
    return DeviceError(f"no TPM at {where}: {_words(error)}", code=code, hint=hint)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
