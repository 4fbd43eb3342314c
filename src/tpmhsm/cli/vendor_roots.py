"""Where a verifier keeps its pinned vendor roots: a file of its home, no chip, no database."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.cli.app import App
from tpmhsm.cli.files import naming, read_input, write_output

if TYPE_CHECKING:
    from tpmhsm.attest.roots import Pins

FILE = "vendor-roots.json"
_LARGEST = 1 << 26


def pins_of(app: App) -> Pins:
    """All that is pinned in this home; nothing where nothing was. Raises ParseError, UsageError."""
    from tpmhsm.attest.roots import Pins, parse_pins

    path = app.home / FILE
    if not path.exists():
        return Pins()
    with naming(str(path)):
        return parse_pins(read_input(str(path), limit=_LARGEST))


@contextmanager
def changing(app: App) -> Iterator[Path]:
    """Nobody else changes the pins inside of the block; what it yields is for `keep`."""
    app.home.mkdir(parents=True, exist_ok=True)
    path = app.home / FILE
    descriptor = os.open(app.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)


def keep(path: Path, pins: Pins) -> None:
    """Write the pins, whole or not at all."""
    from tpmhsm.attest.roots import format_pins

    write_output(str(path), format_pins(pins), force=True)
