"""Makes src/tpmhsm/pki/debian_weak.bin again from the wheel that debian_weak.md names.

pip download --no-deps badkeys==0.0.3 && python -m tests.pki.make_debian_weak badkeys-*.whl
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

from tpmhsm.pki import weak_list

WHEEL = "ebd2a88236f44513f27980d2d1a48f2266d8a3b4ec195b8fb983be5cffee209f"
LISTS = (3, 4)
"""badkeys' numbers for the keys of OpenSSL and of OpenSSH."""


def table(records: bytes) -> bytes:
    """The built-in list from badkeys' sorted records of 16 octets."""
    wanted = sorted(
        {records[i : i + 6] for i in range(0, len(records), 16) if records[i + 15] in LISTS}
    )
    counts = [0] * 65537
    for entry in wanted:
        counts[int.from_bytes(entry[:2]) + 1] += 1
    offsets, total = bytearray(), 0
    for count in counts:
        total += count
        offsets += total.to_bytes(4, "little")
    return weak_list.MAGIC + bytes(offsets) + b"".join(entry[2:] for entry in wanted)


def main(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL:
        raise SystemExit(f"another wheel than the one this list was made from: {digest}")
    with zipfile.ZipFile(wheel) as archive:
        data = table(archive.read("badkeys/keydata/rsabl.dat"))
    target = Path(weak_list.__file__).with_name("debian_weak.bin")
    target.write_bytes(data)
    print(f"{target}: {len(data):,} octets, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
