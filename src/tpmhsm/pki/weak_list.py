"""Keys whose private half is public: the built-in list of Debian weak keys, and lists of others.

The built-in list has the RSA moduli that OpenSSL and OpenSSH made on Debian and Ubuntu from 2006 to
2008 (CVE-2008-0166): OpenSSL's of 1024, 2048, 3072 and 4096 bits on 32- and 64-bit little-endian
and 32-bit big-endian machines, process ids 0 to 32767, in each of three states of its .rnd file,
as the Baseline Requirements (6.1.1.3) ask for; of OpenSSH's, those that were collected by March
2022. ECDSA keys of that time and other sizes are not in it. Where it comes from and how it is made
again: `debian_weak.md` beside it.

Further lists are files that an authority's settings name (`[keys] blocklists` in `tpmhsm.toml`).
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes

from tpmhsm.errors import ParseError

MAGIC = b"tpmhsm/moduli/1\n"
_INDEX = len(MAGIC)
_BUCKETS = 1 << 16
_ENTRIES = _INDEX + 4 * (_BUCKETS + 1)
_SIZE = 4
"""Octets of each entry beside the two that choose its bucket: 48 bits of SHA-256 in all, so one
sound RSA key in 200 million is taken for a weak one."""


def is_debian_weak(modulus: int) -> bool:
    """Whether the built-in list has this RSA modulus."""
    digest = _sha256(modulus.to_bytes((modulus.bit_length() + 7) // 8))
    return _in_table(_built_in(), digest)


@cache
def _built_in() -> mmap.mmap:
    data = map_file(Path(__file__).with_name("debian_weak.bin"))
    if data[:_INDEX] != MAGIC:
        raise ParseError("the built-in list of weak keys is damaged: install tpmhsm again")
    return data


def _in_table(table: mmap.mmap | bytes, digest: bytes) -> bool:
    """The table: magic, 65537 little-endian offsets (entries before each bucket), entries."""
    at = _INDEX + 4 * int.from_bytes(digest[:2])
    first = int.from_bytes(table[at : at + 4], "little")
    end = int.from_bytes(table[at + 4 : at + 8], "little")
    bucket = table[_ENTRIES + _SIZE * first : _ENTRIES + _SIZE * end]
    wanted = digest[2 : 2 + _SIZE]
    return any(bucket[i : i + _SIZE] == wanted for i in range(0, len(bucket), _SIZE))


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def map_file(path: Path) -> mmap.mmap:
    """A file in memory, read when touched. Raises OSError; ParseError when it is empty."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ParseError(f"{path} is empty") from None


# ── lists of others ──────────────────────────────────────────────────────────

_RECORD = 16
_LINE = re.compile(rb"^[ \t]*([0-9a-fA-F]{64}|[0-9a-fA-F]{20})[ \t]*\r?$", re.MULTILINE)
_IDLE_LINE = re.compile(rb"^[ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)


class Blocklist:
    """One file of keys that are known to others, in one of two formats.

    Text, one key a line, `#` begins a comment: 64 hexadecimal digits are the SHA-256 of a DER
    SubjectPublicKeyInfo; 20 are the last 80 bits of the SHA-1 of `Modulus=HEX\\n`, the format of
    Debian's openssl-blacklist and of openssl-vulnkey(1). Anything else is read as badkeys'
    `blocklist.dat`: sorted records of 16 octets, 15 of the SHA-256 of the modulus, of the x
    coordinate or of the raw EdDSA key, and the number of the list they are from.
    """

    def __init__(self, data: mmap.mmap | bytes, what: str) -> None:
        """Raises ParseError when it is in neither format; `what` names the file in it."""
        self.what = what
        self._data = data
        self._lines: frozenset[bytes] | None = None
        if data[:4096].isascii() and b"\0" not in data[:4096]:
            self._lines = _read_lines(bytes(data), what)
        elif len(data) % _RECORD or not self._is_sorted():
            raise ParseError(
                f"{what} is no list of keys",
                hint="a text of hashes, or badkeys' blocklist.dat",
            )

    def _is_sorted(self) -> bool:
        """At 64 places: enough to tell records from anything else."""
        count = len(self._data) // _RECORD
        steps = range(0, count, max(1, count // 64))
        keys = [self._record(i) for i in steps]
        return keys == sorted(keys)

    def _record(self, number: int) -> bytes:
        return bytes(self._data[_RECORD * number : _RECORD * number + _RECORD - 1])

    def __contains__(self, spki: bytes) -> bool:
        """Whether the key in a DER SubjectPublicKeyInfo is on the list."""
        if self._lines is not None:
            return not self._lines.isdisjoint(_line_hashes(spki))
        return any(self._has_record(_sha256(data)[: _RECORD - 1]) for data in _raw_numbers(spki))

    def _has_record(self, wanted: bytes) -> bool:
        low, high = 0, len(self._data) // _RECORD
        while low < high:
            middle = (low + high) // 2
            if self._record(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return self._record(low) == wanted


def _read_lines(data: bytes, what: str) -> frozenset[bytes]:
    found = [line.lower() for line in _LINE.findall(data)]
    number = data.count(b"\n") + (not data.endswith(b"\n"))
    idle = len(_IDLE_LINE.findall(data)) - data.endswith(b"\n")
    if not found or len(found) + idle != number:
        raise ParseError(
            f"{what} is no list of keys: a line is neither 20 nor 64 hexadecimal digits",
            hint="SHA-256 of public keys, or the lines of openssl-blacklist",
        )
    return frozenset(found)


def _line_hashes(spki: bytes) -> Iterator[bytes]:
    yield _sha256(spki).hex().encode()
    from tpmhsm.pki.key_checks import rsa_numbers

    if numbers := rsa_numbers(spki):
        digest = hashes.Hash(hashes.SHA1())  # noqa: S303 (the format's)
        digest.update(b"Modulus=%X\n" % numbers[0])
        yield digest.finalize().hex()[20:].encode()


def _raw_numbers(spki: bytes) -> Iterator[bytes]:
    """What badkeys hashes of a key: big-endian, no zeros before it."""
    from tpmhsm.pki.key_checks import point_of, rsa_numbers

    if numbers := rsa_numbers(spki):
        yield numbers[0].to_bytes((numbers[0].bit_length() + 7) // 8)
    elif point := point_of(spki):
        size = (len(point) - 1) // 2
        yield (point[1 : 1 + size] if point[0] == 4 else point).lstrip(b"\0")
