"""A CRL of many entries is made in seconds, and in memory that a small machine has."""

from __future__ import annotations

import pytest
from bench.crl import count_with_openssl, issuing_home, make_crl, revoke_many

SECONDS, MIB = 3, 600
"""The limits for a million entries."""


@pytest.mark.parametrize(
    "count", [100_000, pytest.param(1_000_000, marks=pytest.mark.long, id="million")]
)
def test_many_entries(count: int) -> None:
    with issuing_home() as home:
        revoke_many(home, count)
        cost = make_crl(home)
        assert cost.mib < MIB
        assert cost.processor < SECONDS  # the clock is the benchmark's: tests share the machine
        assert count_with_openssl(home) == count
