"""The second opinion: what tpm2-tss (ESYS, through tpm2-pytss) sends for the same command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.swtpm import RecordingDoor


@contextmanager
def recording_esys(path: Path) -> Iterator[tuple[Any, RecordingDoor]]:
    """An ESAPI on the swtpm at `path`, and the door that keeps what it sends and hears."""
    os.environ.setdefault("TSS2_LOG", "all+none")
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    logging.getLogger("tpm2_pytss").setLevel(logging.CRITICAL)
    door = RecordingDoor(path)

    class Recorder(tss.TCTI.PyTCTI if hasattr(tss.TCTI, "PyTCTI") else tss.PyTCTI):  # type: ignore[misc]
        def do_transmit(self, command: bytes) -> None:
            self.answer = door.send(bytes(command))

        def do_receive(self, timeout: int) -> bytes:
            return self.answer

        def do_finalize(self) -> None:
            door.close()

    tcti = Recorder()
    esys = tss.ESAPI(tcti)
    try:
        yield esys, door
    finally:
        esys.close()


def sent_by(door: RecordingDoor, call: Callable[[], object]) -> tuple[bytes, bytes]:
    """The last command and response of a call, which the chip may have refused."""
    from tpm2_pytss import TSS2_Exception

    before = len(door.commands)
    try:
        call()
    except TSS2_Exception:
        pass
    assert len(door.commands) > before, "nothing was sent"
    return door.commands[before], door.responses[before]
