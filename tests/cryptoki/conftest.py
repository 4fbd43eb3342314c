"""Tokens to test with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cryptoki.softhsm import SoftHsm, softhsm
from tests.support.machines import (
    governed,
    governed_template,
    place,
    plain,
    plain_template,
)


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    """SoftHSM without tokens."""
    folder = tmp_path / "hsm"
    folder.mkdir()
    found = softhsm(folder, monkeypatch)
    yield found
    found.again()


__all__ = ["governed", "governed_template", "hsm", "place", "plain", "plain_template"]
