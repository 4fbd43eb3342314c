"""Fixtures of the approval tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.approval.doubles import World
from tests.support.machines import governed, governed_template, place, plain_template


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def vectors(test_data: Callable[[str], Path]) -> Any:
    return json.loads(test_data("policy-vectors/policy-vectors.json").read_text())


__all__ = ["governed", "governed_template", "place", "plain_template"]
