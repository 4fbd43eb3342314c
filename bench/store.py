"""A store of a million certificates against one of ten thousand: pages and searches.

Each figure is the time in the large store as a multiple of that in the small one: medians of many
looks, taken in turns. The stores are filled through the store itself.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median

from tpmhsm.store import Store, Transaction
from tpmhsm.store.certificates import CertificateRow, Wanted

CHUNK = 10_000
LOOKS = 300

Look = Callable[[Transaction, CertificateRow], object]


def digest(kind: str, number: int) -> str:
    return sha256(f"{kind} {number}".encode()).hexdigest()


def row(number: int) -> CertificateRow:
    """A certificate as large as real ones; its bytes are none."""
    host = f"host-{number}.example-{number % 5000}.com"
    return CertificateRow(
        sha256=digest("der", number),
        der=(number.to_bytes(8, "big") * 90)[:700],
        subject=f"CN={host}",
        issuer="CN=Issuing,O=Example",
        serial=digest("serial", number)[:32],
        not_before="2026-11-01T00:00:00Z",
        not_after=f"2027-{1 + number % 12:02}-{1 + number % 28:02}T00:00:00Z",
        spki_sha256=digest("spki", number),
        ski=digest("ski", number)[:40],
        aki="11" * 20,
        authority="issuing",
        source="issued",
        name=host,
        names=host,
    )


def filled(path: Path, count: int) -> Store:
    store = Store.create(path)
    began = time.perf_counter()
    for start in range(0, count, CHUNK):
        rows = [row(n) for n in range(start, min(count, start + CHUNK))]
        with store.transaction() as tx:  # one for all of them would be gigabytes of WAL
            tx.certificates.add_all(rows)
    seconds = time.perf_counter() - began
    print(f"{count:,} certificates kept in {seconds:.0f} s: {count / seconds:.0f}/s", flush=True)
    return store


LOOK: dict[str, Look] = {
    "list": lambda tx, _: tx.certificates.page(Wanted(), 100),
    "older": lambda tx, one: tx.certificates.page(Wanted(before=5_000), 100),
    "name": lambda tx, one: tx.certificates.page(Wanted(name=one.name), 100),
    "serial": lambda tx, one: tx.certificates.page(Wanted(serial=one.serial), 100),
    "key": lambda tx, one: tx.certificates.page(Wanted(spki_sha256=one.spki_sha256), 100),
    "fingerprint": lambda tx, one: tx.certificates.page(Wanted(sha256=one.sha256[:16]), 100),
    "show": lambda tx, one: tx.certificates.get(one.name),
}


def seconds(store: Store, look: Look, one: CertificateRow) -> float:
    began = time.perf_counter()
    with store.reading() as tx:
        found = look(tx, one)
    assert found
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench store", description=__doc__)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    asked = parser.parse_args()
    chosen = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="tpmhsm-") as folder:
        sizes = (asked.small, asked.large)
        stores = [filled(Path(folder) / str(size), size) for size in sizes]
        for name, look in LOOK.items():
            times: list[list[float]] = [[], []]
            for _ in range(LOOKS):
                for place, store in enumerate(stores):
                    one = row(chosen.randrange(sizes[place]))
                    times[place].append(seconds(store, look, one))
            small, large = (median(found) for found in times)
            words = f"{small * 1e3:.2f} ms of {sizes[0]:,}, {large * 1e3:.2f} ms of {sizes[1]:,}"
            print(f"{name}: {words}")
            print(f"RESULT store {name} {large / small:.2f}", flush=True)
        for store in stores:
            store.close()


if __name__ == "__main__":
    main()
