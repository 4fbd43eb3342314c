"""Machines to run commands on: made once, copied for each test, checked for leaks at its end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.shell import Shell, govern, new_machine

from tpmhsm.tpm import software


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: Unix sockets cannot have long ones."""
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def plain_template() -> Iterator[Shell]:
    """A machine without a group; its chip is stopped."""
    if not shutil.which("swtpm"):
        pytest.skip("swtpm is not installed")
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = new_machine(path)
    machine("device", "stop")  # which certifies the log
    machine.close()
    yield machine
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def governed_template(plain_template: Shell) -> Iterator[Shell]:
    """A machine with a group; its chip is stopped."""
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = plain_template.copy(path / "m")
    govern(machine)
    machine("device", "stop")
    machine.close()
    yield machine
    shutil.rmtree(path, ignore_errors=True)


def _lent(template: Shell, place: Path) -> Iterator[Shell]:
    machine = template.copy(place / "m")
    try:
        yield machine
        machine.close()
    finally:
        if software.is_manufactured(machine.tpm):
            software.stop(machine.tpm)


@pytest.fixture
def bare(place: Path) -> Shell:
    """A machine on which nothing was ever run."""
    return Shell(place)


@pytest.fixture
def plain(plain_template: Shell, place: Path) -> Iterator[Shell]:
    """A machine with a chip, approvers, the open key `web`, the open authority `open-ca`."""
    yield from _lent(plain_template, place)


@pytest.fixture
def governed(governed_template: Shell, place: Path) -> Iterator[Shell]:
    """The same with the group `officers` (2 of alice, bob, carol), key `root`, CA `root-ca`."""
    yield from _lent(governed_template, place)


__all__ = ["bare", "governed", "governed_template", "place", "plain", "plain_template"]
