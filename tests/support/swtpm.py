"""A bare swtpm for tests of wire and chip: no manufacture, no keeper, no lock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tpmhsm.tpm.door import SocketDoor


@contextmanager
def bare_swtpm() -> Iterator[Path]:
    """The socket of a new swtpm, which has the state of a chip that never had an owner."""
    if not shutil.which("swtpm"):
        pytest.skip("swtpm is not installed")
    folder = Path(tempfile.mkdtemp(prefix="swtpm-"))
    path = folder / "s"
    command = ["swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"]
    command += ["--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={path}.ctrl"]
    process = subprocess.Popen(
        [*command, "--tpmstate", f"dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(path)  # which swtpm makes last, after its control channel
        yield path
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
            return
        except OSError:
            assert time.monotonic() < deadline, "swtpm did not start"
            time.sleep(0.01)


class RecordingDoor:
    """Passes everything on, keeps it, and may change it on the way (an active attacker)."""

    def __init__(self, path: Path) -> None:
        self._inner = SocketDoor(path)
        self.commands: list[bytes] = []
        self.responses: list[bytes] = []
        self.change_command = lambda data: data
        self.change_response = lambda data: data

    def send(self, command: bytes) -> bytes:
        command = self.change_command(command)
        self.commands.append(command)
        response = self.change_response(self._inner.send(command))
        self.responses.append(response)
        return response

    def close(self) -> None:
        self._inner.close()
