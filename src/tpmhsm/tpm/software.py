"""The embedded software TPM: manufactured once in a directory of the home, started when needed.

It is Debian's swtpm, with EK certificates from a CA of its own (chip/localca). A keeper process
(`tpmhsm.tpm.keeper`) stays with it between commands. Its state is one file that root can copy and
roll back: a software TPM proves nothing about hardware, and every output about it says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tpmhsm.errors import DeviceError
from tpmhsm.tpm import housekeeping
from tpmhsm.tpm.door import SocketDoor
from tpmhsm.tpm.lock import DEFAULT_TIMEOUT, Lock, is_locked

WHAT = "the software TPM"
_START_TIMEOUT = 40.0  # seconds: another process may be starting or manufacturing it first
_INSTALL_HINT = "apt install swtpm swtpm-tools"

_SETUP_CONF = """\
create_certs_tool = {localca}
create_certs_tool_config = localca.conf
create_certs_tool_options = localca.options
active_pcr_banks = sha256
"""
_LOCALCA_CONF = """\
statedir = localca
signingkey = localca/signkey.pem
issuercert = localca/issuercert.pem
certserial = localca/certserial
"""
_LOCALCA_OPTIONS = """\
--platform-manufacturer tpmhsm
--platform-version 1
--platform-model software-TPM
"""


@dataclass(frozen=True)
class State:
    """What a directory holds: a chip or none, and the pids of what runs (None: nothing does)."""

    manufactured: bool
    keeper: int | None
    swtpm: int | None


def directory_of(home: Path) -> Path:
    """Where a home keeps its software TPM."""
    return home / "tpm"


def is_manufactured(directory: Path) -> bool:
    """Whether there is a software TPM in `directory`."""
    return (directory / "chip" / "state").is_dir()


def manufacture(directory: Path) -> bool:
    """Make a software TPM in `directory`, with its own CA; returns False if there was one already.

    Takes about a second. Raises DeviceError when swtpm is not installed or fails. A run that was
    killed leaves nothing that counts as a chip.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceError(f"cannot make {directory}: {error.strerror}") from error
    with _start_lock(directory):
        if is_manufactured(directory):
            return False
        try:
            _manufacture(directory)
        except OSError as error:
            raise DeviceError(f"cannot manufacture a software TPM: {error}") from error
    return True


def check(directory: Path) -> None:
    """Raise DeviceError if there is no software TPM in `directory`."""
    if not is_manufactured(directory):
        raise DeviceError(
            f"there is no software TPM in {directory.parent}",
            code="device-missing",
            hint="in a new home tpmhsm init makes one; a home's keys open in the one that was here "
            "alone: restore its directory from a backup",
        )


def start(directory: Path) -> None:
    """Start the software TPM and its keeper, unless they run. Raises DeviceError.

    Safe when several processes do it at once, and after a kill of swtpm, its keeper or both.
    """
    check(directory)
    _find("swtpm")
    with _start_lock(directory):
        if not usable(directory):
            _run_keeper(directory)


def stop(directory: Path, timeout: float = DEFAULT_TIMEOUT) -> bool:
    """Shut the software TPM down in good order, after the transaction at hand if there is one.

    Returns False if it did not run. Raises DeviceError when it cannot be stopped within `timeout`.
    """
    keeper = state(directory).keeper
    if keeper is None:
        return False
    with Lock(directory / "lock", WHAT).held(timeout):
        with suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGUSR1)
        deadline = time.monotonic() + 15
        while _keeper_lives(directory):
            if time.monotonic() > deadline:
                raise DeviceError(f"the software TPM's keeper, process {keeper}, does not end")
            time.sleep(0.01)
    return True


def running(directory: Path) -> bool:
    """Whether the software TPM runs now (it is started whenever it is needed)."""
    return state(directory).keeper is not None


def state(directory: Path) -> State:
    """What is there and what runs."""
    keeper = swtpm = None
    if _keeper_lives(directory):
        with suppress(OSError, ValueError, IndexError):  # it is starting
            words = (directory / "keeper.lock").read_text().split()
            keeper, swtpm = int(words[0]), int(words[1])
    return State(is_manufactured(directory), keeper, swtpm)


def usable(directory: Path) -> bool:
    """Whether a client can connect now: the socket is there, and somebody looks after the chip."""
    if not (directory / "swtpm.sock").exists() or not _keeper_lives(directory):
        return False
    try:
        SocketDoor(directory / "swtpm.sock", timeout=5).close()
    except DeviceError:
        return False
    return True


def connect(directory: Path) -> SocketDoor:
    """A door to the software TPM, started if need be. The caller holds the transaction lock.

    A chip that was killed a moment ago may still accept a connection, so one command is asked of
    it (40 us) before anybody relies on it.
    """
    for attempt in range(3):
        if attempt or not _keeper_lives(directory):
            start(directory)
        try:
            door = SocketDoor(directory / "swtpm.sock")
            housekeeping.greet(door)
        except DeviceError:
            time.sleep(0.05 * attempt)
            continue
        return door
    start(directory)
    return SocketDoor(directory / "swtpm.sock")


def lock_of(directory: Path) -> Lock:
    """The lock that everybody holds who talks to the software TPM in `directory`."""
    return Lock(directory / "lock", WHAT)


def clean_up(directory: Path) -> int:
    """Flush all sessions and transient objects in the chip, whoever left them; returns how many.

    The caller holds the transaction lock.
    """
    door = connect(directory)
    try:
        return housekeeping.flush_everything(door)
    finally:
        door.close()


def _keeper_lives(directory: Path) -> bool:
    return is_locked(directory / "keeper.lock")  # a keeper holds it for life


@contextmanager
def _start_lock(directory: Path) -> Iterator[None]:
    with Lock(directory / "start.lock", "the start of the software TPM").held(_START_TIMEOUT):
        yield


def _run_keeper(directory: Path) -> None:
    """Run the keeper's foreground half, which ends when the chip can be used."""
    command = [sys.executable, "-P", "-m", "tpmhsm.tpm.keeper", str(directory.absolute())]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=_START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError("the software TPM did not start in time") from error
    except OSError as error:
        raise DeviceError(f"the software TPM's keeper cannot be run: {error}") from error
    if result.returncode:
        complaint = result.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(
            f"the software TPM does not start: {complaint[-1] if complaint else 'no reason given'}",
            hint=_confinement_hint() or f"see {directory}/swtpm.log",
        )


def _manufacture(directory: Path) -> None:
    """Run swtpm_setup in chip.new, on relative paths (no home's name can upset it), and rename."""
    setup, localca = _find("swtpm_setup"), _find("swtpm_localca")
    _find("swtpm")
    new = directory / "chip.new"
    shutil.rmtree(new, ignore_errors=True)
    for folder in (new, new / "state", new / "localca"):
        folder.mkdir(mode=0o700)
    (new / "setup.conf").write_text(_SETUP_CONF.format(localca=localca))
    (new / "localca.conf").write_text(_LOCALCA_CONF)
    (new / "localca.options").write_text(_LOCALCA_OPTIONS)
    command = [setup, "--tpm2", "--tpm-state", "state", "--config", "setup.conf"]
    command += ["--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--overwrite"]
    command += ["--logfile", "setup.log"]
    try:
        result = subprocess.run(
            command,
            cwd=new,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError("swtpm_setup did not end within two minutes") from error
    if result.returncode:
        said = _last_lines(new / "setup.log") or result.stderr.decode(errors="replace").strip()
        raise DeviceError(f"swtpm_setup failed: {said}", hint=_confinement_hint())
    new.rename(directory / "chip")


def _last_lines(log: Path) -> str:
    with suppress(OSError):
        return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    return ""


def _find(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise DeviceError(
            f"{program} is not installed, and the software TPM needs it",
            code="device-missing",
            hint=_INSTALL_HINT,
        )
    return found


def _confinement_hint() -> str:
    """Ubuntu confines swtpm: it may write below users' homes and /tmp, and nowhere else."""
    if Path("/etc/apparmor.d/usr.bin.swtpm").exists():
        return "AppArmor lets swtpm work below /home and /tmp only: choose --home there"
    return ""
