"""A full CRL of a million entries: `tpmhsm ca crl`, the whole command, on the software TPM.

From its start to the CRL that is signed, stored and in its file; wall-clock time and the most
memory that the process had, medians of the rounds. OpenSSL counts the entries of the last one and
checks its signature.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sqlalchemy import insert
from tests.support.cli import Home

from tpmhsm.pki.crl_entries import Entry, encode_entry
from tpmhsm.store import Store
from tpmhsm.store.revocations import revocations
from tpmhsm.tpm import software

ENTRIES = 1_000_000
CHUNK = 20_000
# The kernel counts the most memory of a process from before its exec on: of whoever started it. So
# one that is small starts the command, waits for it and says what it used.
WAITER = """
import os, sys
pid = os.fork()
if not pid:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(pid, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
WHEN = datetime(2026, 11, 1, tzinfo=UTC)
REASONS = ("keyCompromise", "superseded", "cessationOfOperation", "unspecified")


@dataclass(frozen=True)
class Cost:
    """One run: seconds by the clock and of the processor, and the most memory in MiB."""

    seconds: float
    processor: float
    mib: float


@contextmanager
def issuing_home() -> Iterator[Home]:
    """A home with an authority `ca` whose key is open."""
    with tempfile.TemporaryDirectory(prefix="tpmhsm-") as place:
        home = Home(Path(place))
        try:
            home("init")
            home("key", "create", "ca")
            home("ca", "create", "ca", "--key", "ca", "--subject", "CN=Example,O=Example")
            yield home
        finally:
            software.stop(software.directory_of(home.path / "home"))


def revoke_many(home: Home, count: int) -> None:
    """Put revocations into the database, as `ca revoke` would one by one."""
    dice = random.Random(1)
    serials = sorted(dice.getrandbits(126) | 1 << 126 for _ in range(count))
    with Store.open(home.path / "home") as store, store.transaction() as tx:
        changed = tx.audit.append("bench", {"revoked": count}).seq
        for start in range(0, count, CHUNK):
            rows = [
                row(n, serial, changed) for n, serial in enumerate(serials[start : start + CHUNK])
            ]
            tx._connection.execute(insert(revocations), rows)


def row(number: int, serial: int, changed: int) -> dict[str, object]:
    reason = REASONS[number % len(REASONS)]
    return {
        "authority": "ca",
        "serial": f"{serial:032x}",
        "state": "revoked",
        "reason": reason,
        "revoked_at": "2026-11-01T00:00:00Z",
        "invalidity": "",
        "not_after": "2999-01-01T00:00:00Z",
        "sha256": "",
        "entry": encode_entry(Entry(serial, WHEN, reason)),
        "changed": changed,
    }


def make_crl(home: Home) -> Cost:
    """Run the command; the time it took and the memory it had."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", WAITER, *home.command("ca", "crl", "ca")],
        **home.surroundings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    seconds = time.perf_counter() - began
    status, processor, kib = done.stderr.splitlines()[-1].split()
    assert status == b"0", f"ca crl failed: {done.stderr.decode()}"
    return Cost(seconds, float(processor), int(kib) / 1024)


def count_with_openssl(home: Home) -> int:
    """How many entries the published CRL has; its signature holds."""
    home("cert", "export", "ca", "--out", "ca.pem", "--force")
    words = ["openssl", "crl", "-inform", "DER", "-CAfile", "ca.pem", "-noout", "-text", "-in",
             str(home.path / "home" / "public" / "crl" / "ca.crl")]  # fmt: skip
    done = subprocess.run(words, cwd=home.path, capture_output=True, check=True)
    assert b"verify OK" in done.stderr
    return done.stdout.count(b"Serial Number:")


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench crl", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    asked = parser.parse_args()
    with issuing_home() as home:
        revoke_many(home, asked.entries)
        costs = [make_crl(home) for _ in range(asked.rounds)]
        found = count_with_openssl(home)
        assert found == asked.entries, f"{found} entries"
    processor = median(cost.processor for cost in costs)
    print(f"crl: {found:,} entries, medians of {asked.rounds}; {processor:.2f} s of the processor")
    print(f"RESULT crl seconds {median(cost.seconds for cost in costs):.2f}")
    print(f"RESULT crl MiB {median(cost.mib for cost in costs):.0f}", flush=True)


if __name__ == "__main__":
    main()
