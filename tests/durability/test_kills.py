"""`kill -9` at random moments of issuance: of this program, of the software TPM, of its keeper.

After each, database and chip agree; what was promised is there; no serial is used twice; what was
interrupted is reported and, in time, given up.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from datetime import timedelta
from unittest import mock

import pytest
from tests.durability.load import loaded
from tests.support.shell import Shell

from tpmhsm.ca import issuance
from tpmhsm.store import Store
from tpmhsm.tpm import software

COUNT, PARTS = 20, 10
LONGEST = 0.2
"""Seconds after the first certificate at which the latest kill comes."""

VICTIMS = ("process", "process", "swtpm", "keeper")


@pytest.fixture
def approvals(governed: Shell) -> Iterator[Iterator[bytes]]:
    """Bob's approvals, each the last that its request needs."""

    def made() -> Iterator[bytes]:
        while True:
            number = str(governed.ask("ca", "sign", "root-ca", "web.csr"))
            digest = governed.json("request", "show", number)["digest"]
            governed.approve(number, "alice", digest)
            governed("request", "export", number, "--out", "asked")
            governed(
                *("approve", "asked", "--as", "bob", "-i", "bob.key", "--expect", digest),
                *("--passphrase-file", "passphrase", "--out", "bobs", "--force"),
            )
            (governed.path / "asked").unlink()
            yield (governed.path / "bobs").read_bytes()

    yield made()


def kill(machine: Shell, victim: str) -> None:
    state = software.state(machine.tpm)
    pid = state.swtpm if victim == "swtpm" else state.keeper
    if pid is not None:  # not while it is started again
        os.kill(pid, signal.SIGKILL)


def look(machine: Shell, promises: list[str]) -> int:
    """Everything agrees; returns how many were interrupted, which is all that is reported."""
    with Store.open(machine.home) as store, store.reading() as tx:
        for promise in promises:
            kind, value = promise.split()
            if kind == "certificate":
                kept = tx.certificates.find(value)
                assert kept is not None, promise
                assert tx.serials.get("open-ca", kept.serial).state == "issued"
            else:
                assert tx.requests.get(int(value)).state == "executed", promise
        orphans = {row.serial for row in tx.serials.all(state="reserved") if row.request_id is None}
        serials = [row.serial for row in tx.certificates.all(authority="open-ca")]
        assert len(serials) == len(set(serials))
    found = machine.json("doctor", "store", code=1 if orphans else 0)
    said = [one["what"] for check in found["checks"] for one in check["findings"]]
    assert len(said) == len(orphans), said
    assert all(any(serial in words for serial in orphans) for words in said), said
    assert all("was interrupted" in words for words in said)
    return len(orphans)


def recover(machine: Shell, taken: list[bytes]) -> None:
    """What comes next: approvals again, a certificate after a quarter of an hour."""
    for data in taken:
        (machine.path / "again").write_bytes(data)
        machine("request", "import", "again")
    with mock.patch.object(issuance, "STALE", timedelta(seconds=-5)):
        machine("ca", "sign", "open-ca", "web.csr")
    assert look(machine, []) == 0
    with Store.open(machine.home) as store, store.reading() as tx:
        abandoned = {row.serial for row in tx.serials.all(state="abandoned")}
        logged = {row.facts["serial"] for row in tx.audit.each("abandoned")}
        assert abandoned >= logged
        assert [row.state for row in tx.requests.all()].count("waiting") == 0


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, PARTS))]
)
def test_kills_at_random_moments(governed: Shell, approvals: Iterator[bytes], part: int) -> None:
    csr = (governed.path / "web.csr").read_bytes()
    promised, interrupted = 0, 0
    for moment in range(COUNT):
        seed = random.randrange(1 << 32)
        chosen = random.Random(seed)
        victim = VICTIMS[moment % len(VICTIMS)]
        mine = [next(approvals)]
        with loaded(governed.home, [csr], mine, workers=chosen.randrange(5) // 4) as load:
            load.wait(chosen.uniform(0, LONGEST))
            if victim == "process":
                load.kill()
            else:
                kill(governed, victim)
                load.wait(0.2)
                load.end()
        try:
            interrupted += look(governed, load.promises)
            recover(governed, mine)
        except AssertionError as error:
            raise AssertionError(f"moment {moment}, {victim}, seed {seed}: {error}") from error
        promised += len(load.promises)
    print(f"{COUNT} kills: {promised} promises kept, {interrupted} interrupted and reported")
    assert promised > COUNT
    assert interrupted > 0
