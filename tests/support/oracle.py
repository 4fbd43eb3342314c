"""The second opinion: what tpm2-tss (ESYS, through tpm2-pytss) sends for the same command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.swtpm import RecordingDoor

_RETRY = (0x922).to_bytes(4, "big")


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
        door.close()  # the TCTI's own do_finalize is not called


def sent_by(door: RecordingDoor, call: Callable[[], object]) -> tuple[bytes, bytes]:
    """The first command of a call, and the answer, which may be a refusal."""
    from tpm2_pytss import TSS2_Exception

    before = len(door.commands)
    with suppress(TSS2_Exception):
        call()
    assert len(door.commands) > before, "nothing was sent"
    while door.responses[before][6:10] == _RETRY:  # ESYS sends again by itself
        before += 1
    return door.commands[before], door.responses[before]
