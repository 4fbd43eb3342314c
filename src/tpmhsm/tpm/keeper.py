"""The keeper: a small process that starts one software TPM, looks after it, and ends with it.

    python -m tpmhsm.tpm.keeper DIRECTORY

`tpmhsm.tpm.software.start` runs it; it goes into the background, and its foreground half exits 0
when the TPM can be used, or 1 with the reason on stderr. It holds DIRECTORY/keeper.lock for as long
as it lives, so that there is one in a directory. Twice a second it looks whether

* swtpm died: it ends too, and the next command starts both anew (within a tick: SIGCHLD);
* the directory vanished: it stops swtpm and ends;
* a client died in a transaction (the lock is free and says 1): it flushes what that one left;
* nothing has been asked for ten minutes, and no wrong PIN is counted, which would come back only
  while the TPM runs: it shuts the TPM down in good order and ends.

SIGTERM shuts down in good order; SIGUSR1 does so for a sender who holds the transaction lock.

Files, all in DIRECTORY: chip/state (swtpm's own), swtpm.sock (appears, by a rename, only when the
TPM may be used: platform hierarchy off), live/ (what is waited for; gone with each start), lock and
lock.queue (transactions), start.lock (held by clients who start a keeper), keeper.lock ("keeper's
pid, swtpm's pid"), keeper.log, swtpm.log.
Only the standard library and three small modules are imported: it stays for hours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tpmhsm.errors import DeviceError
from tpmhsm.tpm import housekeeping
from tpmhsm.tpm.door import SocketDoor
from tpmhsm.tpm.lock import Lock, is_dirty, try_flock

TICK = 0.5  # seconds
IDLE_LIMIT = 600.0  # seconds without a transaction
START_LIMIT = 15.0  # seconds for swtpm to answer
LOG_LIMIT = 65536  # bytes; swtpm writes a line whenever a client leaves

SOCKET = Path("swtpm.sock")
NEW_SOCKET = Path("swtpm.sock.new")
LOCK = Path("lock")
LIVE = Path("live")
LONGEST_WAIT = 26 * 3600.0  # seconds
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}


def main(arguments: list[str]) -> int:
    """Run the keeper of the directory `arguments[0]`; returns the exit code."""
    directory = Path(arguments[0])
    os.umask(0o077)
    os.chdir(directory)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            complaint = pipe.read()
        if complaint != b"ok":
            sys.stderr.write(complaint.decode(errors="replace") or "the keeper died at its start")
            return 1
        return 0
    os.close(reader)
    try:
        _leave_terminal()
        claim = _claim_directory()
        if claim is None:
            os.write(writer, b"ok")
        else:
            _Keeper(directory, claim).run(writer)
    except (DeviceError, OSError) as error:
        with suppress(OSError):
            os.write(writer, str(error).encode())
        return 1
    return 0


def _leave_terminal() -> None:
    """Nothing of the caller's stays open: a pipe that a caller reads must end with the caller."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open("keeper.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


class _Keeper:
    """One software TPM and its directory, which is the working directory of this process."""

    def __init__(self, directory: Path, claim: int) -> None:
        self._directory = directory
        here = os.stat(".")
        self._identity = (here.st_dev, here.st_ino)
        self._lock = Lock(LOCK)
        self._last_use: tuple[int, float] = (0, time.monotonic())
        self._claim = claim
        self._log = os.open("swtpm.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

    def run(self, ready: int) -> None:
        _stop_stray(_take_record(self._claim))
        _remove_sockets()
        _forget_waiting()
        self._swtpm = _spawn(self._log)
        try:
            _await_chip(self._swtpm)
            os.pwrite(self._claim, b"%d %d\n" % (os.getpid(), self._swtpm.pid), 0)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_STOP_SIGNALS})
            NEW_SOCKET.rename(SOCKET)
            os.write(ready, b"ok")
            os.close(ready)
            while self._tick():
                pass
        finally:
            self._end()

    def _tick(self) -> bool:
        """Sleep, look around; returns whether to go on."""
        received = signal.sigtimedwait({signal.SIGCHLD, *_STOP_SIGNALS}, TICK)
        if self._swtpm.poll() is not None:
            return False
        if received and received.si_signo in _STOP_SIGNALS:
            self._stop(holding=received.si_signo != signal.SIGUSR1, patience=3.0)
            return False
        if not self._directory_is_there():
            self._shut_down()
            return False
        if is_dirty(LOCK):
            self._clean_up_after_the_dead()
        if os.fstat(self._log).st_size > LOG_LIMIT:
            os.ftruncate(self._log, 0)
        return not (self._is_idle() and self._stop(holding=True, patience=0.0, only_if_idle=True))

    def _directory_is_there(self) -> bool:
        try:
            there = os.stat(self._directory)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._identity

    def _is_idle(self) -> bool:
        """By the lock file's time of change, but counted on a clock that nobody sets."""
        if _is_awaited():
            return False
        try:
            changed = LOCK.stat().st_mtime_ns
        except OSError:
            changed = 0
        if changed != self._last_use[0]:
            self._last_use = (changed, time.monotonic())
        return time.monotonic() - self._last_use[1] > IDLE_LIMIT

    def _is_needed(self) -> bool:
        """Whether wrong PINs are counted; then nobody asks again for another ten minutes."""
        with suppress(DeviceError):
            door = SocketDoor(SOCKET, timeout=5)
            try:
                if housekeeping.failed_tries(door):
                    self._last_use = (self._last_use[0], time.monotonic())
                    return True
            finally:
                door.close()
        return False

    def _clean_up_after_the_dead(self) -> None:
        with suppress(DeviceError), self._lock.held(timeout=0) as hold:
            if hold.dirty:
                door = SocketDoor(SOCKET, timeout=10)
                try:
                    housekeeping.flush_everything(door)
                finally:
                    door.close()
                hold.clear()

    def _stop(self, *, holding: bool, patience: float, only_if_idle: bool = False) -> bool:
        """Shut down; with the transaction lock if `holding`, waiting for it up to `patience` s."""
        if not holding:
            self._shut_down()
            return True
        try:
            with self._lock.held(patience):
                if only_if_idle and (not self._is_idle() or self._is_needed()):
                    return False
                self._shut_down()
                self._end()  # before the lock is let go: the next holder must find no socket
        except DeviceError:
            if only_if_idle:
                return False
            self._shut_down()
        return True

    def _shut_down(self) -> None:
        with suppress(DeviceError):
            door = SocketDoor(SOCKET, timeout=5)
            try:
                housekeeping.shut_down(door)
            finally:
                door.close()

    def _end(self) -> None:
        _remove_sockets()
        if self._swtpm.poll() is None:
            self._swtpm.terminate()
            try:
                self._swtpm.wait(5)
            except subprocess.TimeoutExpired:
                self._swtpm.kill()
                self._swtpm.wait()


def _forget_waiting() -> None:
    """A TPM that starts knows no session and no window of before."""
    with suppress(OSError):
        for path in LIVE.iterdir():
            path.unlink()


def _is_awaited() -> bool:
    """Whether a session waits in the TPM for people, or a window is open: a stop would end both.

    Files of `tpmhsm.tpm.live`, whose time of change is when they are over; a day ahead at most.
    """
    now = time.time()
    with suppress(OSError):
        return any(now < path.stat().st_mtime < now + LONGEST_WAIT for path in LIVE.iterdir())
    return False


def _claim_directory() -> int | None:
    """Hold keeper.lock for life; None if another keeper turns out to be at work.

    The one before may still be on its way out. Or another may be starting, for a client that was
    killed meanwhile: then that one will do.
    """
    claim = os.open("keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + START_LIMIT
    while not try_flock(claim):
        if time.monotonic() > deadline:
            raise DeviceError("another keeper of this software TPM neither works nor ends")
        with suppress(DeviceError):
            SocketDoor(SOCKET, timeout=1).close()
            return None
        time.sleep(0.02)
    return claim


def _take_record(claim: int) -> int | None:
    """The pid of the swtpm of the keeper before this one, and nobody is to find it any more."""
    words = os.pread(claim, 64, 0).split()
    os.ftruncate(claim, 0)
    return int(words[1]) if len(words) == 2 and words[1].isdigit() else None


def _stop_stray(pid: int | None) -> None:
    """End the swtpm of a keeper that was killed, if the kernel has not done so already."""
    if pid is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 3
        while _is_our_swtpm(pid) and time.monotonic() < deadline:
            with suppress(OSError):
                os.kill(pid, number)
            time.sleep(0.02)


def _is_our_swtpm(pid: int) -> bool:
    """Whether `pid` is an swtpm that works here, and no stranger that got its number."""
    try:
        process = Path("/proc") / str(pid)
        name = (process / "comm").read_text().strip()
        return name == "swtpm" and (process / "cwd").samefile(".")
    except OSError:
        return False


def _remove_sockets() -> None:
    for path in (SOCKET, NEW_SOCKET):
        with suppress(OSError):
            path.unlink()


def _spawn(log: int) -> subprocess.Popen[bytes]:
    """Start swtpm. Paths are relative: a socket's may hold 107 bytes, and no comma at all."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def die_with_the_keeper() -> None:
        libc.prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    command = ["swtpm", "socket", "--tpm2"]
    command += ["--server", f"type=unixio,path={NEW_SOCKET},mode=0600"]
    command += ["--tpmstate", "dir=chip/state,mode=0600"]
    command += ["--flags", "not-need-init,startup-clear"]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=die_with_the_keeper,  # noqa: PLW1509  one thread only
    )


def _await_chip(swtpm: subprocess.Popen[bytes]) -> None:
    """Wait until swtpm answers, and switch the platform hierarchy off before anybody else may."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if swtpm.poll() is not None:
            break
        try:
            door = SocketDoor(NEW_SOCKET, timeout=10)
        except DeviceError:
            time.sleep(0.005)
            continue
        try:
            housekeeping.disable_platform_hierarchy(door)
        finally:
            door.close()
        return
    last = Path("swtpm.log").read_text(errors="replace").strip().splitlines()[-1:]
    raise DeviceError(f"swtpm did not start: {last[0] if last else 'it said nothing'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
