"""The published vectors, and people made up on the spot."""

import json
import os
from functools import cache
from pathlib import Path

import pytest


@cache
def _vectors(root):
    return json.loads((Path(root) / "policy-vectors" / "policy-vectors.json").read_bytes())


@pytest.fixture
def vectors():
    root = os.environ.get("TPMHSM_TEST_DATA")
    if not root:
        pytest.skip("policy-vectors: TPMHSM_TEST_DATA is not set")
    return _vectors(root)
