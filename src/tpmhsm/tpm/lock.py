"""The advisory lock that lets several processes use one chip, one transaction at a time.

swtpm serves one client and lets a second one hang, so every process takes this lock, connects,
speaks, disconnects and lets go. The lock file also says whether its holder left in good order: a
holder writes `1` and its pid when it enters and `0` when it has cleaned up; whoever finds `1` in a
free lock knows that the holder died and that the chip still has its sessions and objects.

Two files: `flock` alone is unfair, and a process that takes the lock a thousand times a second
starves the others. So everybody queues on FILE.queue first, and keeps that place until it has FILE.

Only the standard library is used: the keeper, which must stay small, imports this module.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpmhsm.errors import DeviceError

DEFAULT_TIMEOUT = 60.0  # seconds; a chip may think about one RSA-4096 key for most of a minute
_RECORD = 24  # bytes: one flag, a space, the holder's pid, padding, newline


class Hold:
    """A lock that is held. `dirty`: the last holder did not clean up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.dirty = _read_flag(descriptor)

    def mark(self) -> None:
        """Say that the chip holds things of ours (and whose: this process)."""
        self._write(b"1")

    def clear(self) -> None:
        """Say that everything was cleaned up."""
        self._write(b"0")

    def _write(self, flag: bytes) -> None:
        record = flag + b" %d" % os.getpid()
        try:
            os.pwrite(self._descriptor, record.ljust(_RECORD - 1) + b"\n", 0)
        except OSError as error:  # a full disk, the first time
            raise DeviceError(f"cannot write the lock file: {_why(error)}") from error


class Lock:
    """The lock at `path`, for threads and processes. One object a process is enough, not needed."""

    def __init__(self, path: Path, what: str = "the chip") -> None:
        self.path = path
        self._what = what
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._waiting: set[int] = set()

    def is_waited_for(self) -> bool:
        """Whether anybody waits for it, here or in another process. Asking hinders nobody."""
        return bool(self._waiting) or is_locked(self._queue)

    @property
    def _queue(self) -> Path:
        return self.path.with_name(self.path.name + ".queue")

    @contextmanager
    def held(self, timeout: float = DEFAULT_TIMEOUT) -> Iterator[Hold]:
        """Hold the lock. Raises DeviceError after `timeout` seconds, or if there can be no file."""
        if self._owner == threading.get_ident():
            raise DeviceError(f"this thread is already in a transaction with {self._what}")
        deadline = time.monotonic() + timeout
        self._waiting.add(threading.get_ident())
        try:
            if not self._mutex.acquire(timeout=max(timeout, 0)):
                raise self._taken(timeout)
        finally:
            self._waiting.discard(threading.get_ident())
        try:
            self._owner = threading.get_ident()
            with self._locked_file(deadline, timeout) as hold:
                yield hold
        finally:
            self._owner = None
            self._mutex.release()

    @contextmanager
    def _locked_file(self, deadline: float, timeout: float) -> Iterator[Hold]:
        try:
            queue = _open(self._queue)
            try:
                descriptor = _open(self.path)
            except BaseException:
                os.close(queue)
                raise
        except OSError as error:
            raise DeviceError(f"cannot lock {self._what}: {_why(error)}: {self.path}") from error
        try:
            try:
                got = _wait(queue, deadline) and _wait(descriptor, deadline)
            finally:
                os.close(queue)
            if not got:
                raise self._taken(timeout)
            yield Hold(descriptor)
        finally:
            os.close(descriptor)  # lets go

    def _taken(self, timeout: float) -> DeviceError:
        holder = holder_of(self.path)
        who = f"process {holder}" if holder not in (None, os.getpid()) else "another process"
        if holder == os.getpid():
            who = "another thread of this process"
        return DeviceError(
            f"{who} has held {self._what} for {timeout:.0f} s",
            code="device-busy",
            hint="try again when it is done",
            details={"holder": holder, "seconds": timeout},
        )


def holder_of(path: Path) -> int | None:
    """The pid that last wrote itself into the lock file as holder, or None."""
    try:
        record = path.read_bytes()[:_RECORD].split()
        return int(record[1]) if record[0] == b"1" else None
    except (OSError, ValueError, IndexError):
        return None


def is_dirty(path: Path) -> bool:
    """Whether the lock file says that a holder is at work or died at it."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _read_flag(descriptor: int) -> bool:
    return os.pread(descriptor, 1, 0) == b"1"


def try_flock(descriptor: int) -> bool:
    """Take an exclusive flock now, or say that another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds an exclusive flock on the file. Asking hinders no other asker."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _wait(descriptor: int, deadline: float) -> bool:
    """Poll for the flock: fast at first, for transactions last milliseconds, then patiently.

    flock itself cannot time out without a signal, and signals belong to the program, not to us.
    """
    pause = 0.0002
    while not try_flock(descriptor):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.2, 0.01)
    return True


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
