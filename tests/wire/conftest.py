"""One swtpm with ESYS in front of it, for the whole room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.oracle import recording_esys
from tests.support.swtpm import RecordingDoor, bare_swtpm


@pytest.fixture(scope="session")
def esys() -> Iterator[tuple[Any, RecordingDoor]]:
    """ESYS on a swtpm of its own, and what it says and hears."""
    with bare_swtpm() as path, recording_esys(path) as both:
        yield both
