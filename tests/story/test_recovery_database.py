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


@pytest.mark.parametrize(
    "how", ["removed", "overwritten", pytest.param("truncated", marks=pytest.mark.long)]
)
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


def judged(town: Town, name: str, *more: str) -> tuple[str, set[str]]:
    """The verdict of somebody elsewhere on the log, and the codes of what speaks against it."""
    town.machine()("audit", "prove", "-o", name)
    done = town.machine("alice").attempt(
        "--json", "audit", "verify", name, "--card", "host.card", *more
    )
    found = done.json if done.code == 0 else done.json["error"]
    return found["answer"], {one["code"] for one in found["findings"]}


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_the_log_of_a_restored_database_is_not_proven(town: Town, journal: str) -> None:
    """Not refuted either: the log says itself that it was put back. What comes after is proven."""
    host = town.machine()
    (host.path / "name").write_text(host.json("key", "show", "issuing")["name"])
    host("backup", "-o", "ca.backup")
    town.issue("one")
    judged(town, "lost.proof")  # a checkpoint over entries that will be in no log
    town.issue("two")
    if journal == "lost":
        (host.home / "chip.journal").unlink()
    host("restore", "ca.backup", "--force")
    town.issue("three")
    answer, codes = judged(town, "after.proof")
    assert answer == "not-proven"
    assert "restored" in codes
    host("key", "create", "younger")
    town.issue("four")
    assert judged(town, "younger.proof", "--key", "younger")[0] == "proven"
