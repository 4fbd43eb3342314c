"""A database that is lost or damaged, and one that was put back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.story.recovery import Town


def break_it(file: Path, how: str) -> None:
    if how == "removed":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:50_000])
    else:
        data = bytearray(file.read_bytes())
        data[4096:60_000] = random.Random(7).randbytes(60_000 - 4096)
        file.write_bytes(data)


@pytest.mark.parametrize("how", ["removed", "truncated", "overwritten"])
def test_the_database_is_lost_or_damaged(town: Town, how: str) -> None:
    host = town.machine()
    host("backup", "-o", "ca.backup")
    town.issue("stolen")
    used = host.json("ca", "crl", "issuing-ca")["number"]
    break_it(host.home / "tpmhsm.db", how)
    assert host.attempt("doctor", "store").code in (1, 5)
    town.follow("The database is lost or damaged")
    assert host.json("ca", "crl", "issuing-ca", "--existing")["number"] > used
    town.issue("next")
