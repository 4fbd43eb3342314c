"""A way for tpm2-tools to a home's software TPM: python -m tpmhsm.cli.attacks.bridge HOME

The tools' TCTI "cmd" runs it and speaks through its pipes. It holds the chip's lock meanwhile, and
afterwards takes away the objects that a tool left loaded: the tools keep their contexts in files.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from tpmhsm.errors import TpmHsmError
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import open_device
from tpmhsm.tpm.door import HEADER_SIZE, Door
from tpmhsm.wire.constants import HT


def main(home: Path) -> int:
    """Carry commands and answers until the tool has done. Returns the exit code."""
    device = open_device("software", home)
    assert device.lock is not None  # noqa: S101 - a software TPM has one
    try:
        with device.lock.held():
            door = device.connect()
            try:
                _carry(door)
            finally:
                _tidy(door)
    except TpmHsmError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - there is nobody else to say it to
        return 1
    return 0


def _carry(door: Door) -> None:
    while head := sys.stdin.buffer.read(HEADER_SIZE):
        size = int.from_bytes(head[2:6], "big")
        sys.stdout.buffer.write(door.send(head + sys.stdin.buffer.read(size - HEADER_SIZE)))
        sys.stdout.buffer.flush()


def _tidy(door: Door) -> None:
    with suppress(TpmHsmError):
        chip = Chip(door)
        for handle in chip.handles(HT.TRANSIENT):
            chip.flush(handle)
    door.close()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
