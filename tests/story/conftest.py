"""The town in which the pages of docs/recovery.md are followed: founded once, copied for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.story.recovery import Town


@pytest.fixture(scope="session")
def founded() -> Iterator[Town]:
    if not shutil.which("swtpm"):
        pytest.skip("swtpm is not installed")
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))  # Unix sockets have short names
    town = Town(path)
    try:
        town.found()
    finally:
        town.stop()
    yield town
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def town(founded: Town) -> Iterator[Town]:
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    copy = founded.copy(path / "t")
    yield copy
    copy.stop()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
