"""A manufactured software TPM per session, a copy of it per test, and a leak check after each."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tpmhsm.errors import DeviceError
from tpmhsm.tpm import housekeeping, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import Device, open_device
from tpmhsm.tpm.lock import is_dirty


@pytest.fixture(scope="session")
def manufactured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A software TPM that is never started: tests work on copies."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    home = tmp_path_factory.mktemp("manufactured")
    assert software.manufacture(software.directory_of(home))
    return home


@pytest.fixture
def software_home(manufactured: Path, tmp_path: Path) -> Iterator[Path]:
    """A home with a software TPM of its own. At the end: nothing left in the chip, all stopped."""
    home = tmp_path / "home"
    source, directory = software.directory_of(manufactured), software.directory_of(home)
    directory.mkdir(parents=True)
    shutil.copytree(source / "chip", directory / "chip")
    try:
        yield home
        if software.running(directory):
            assert left_behind(directory) == []
            assert not is_dirty(directory / "lock")
    finally:
        end(directory)


@pytest.fixture
def device(software_home: Path) -> Device:
    """A software TPM, not started yet."""
    return open_device("software", software_home)


@pytest.fixture
def chip(device: Device) -> Iterator[Chip]:
    """A conversation with a software TPM, in one transaction as long as the test."""
    with device.transaction() as chip:
        yield chip


def left_behind(directory: Path) -> list[int]:
    """The transient handles and sessions in a software TPM."""
    with software.lock_of(directory).held(10):
        door = software.connect(directory)
        try:
            return housekeeping.leftovers(door)
        finally:
            door.close()


def end(directory: Path) -> None:
    """Stop the software TPM in `directory`, with force if it must be."""
    state = software.state(directory)
    try:
        software.stop(directory, timeout=5)
    except DeviceError:
        for pid in (state.keeper, state.swtpm):
            with suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
