"""Lists of keys that others know to be compromised: the files of `[keys] blocklists`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tpmhsm.errors import UsageError
from tpmhsm.pki.findings import refusal, refuse
from tpmhsm.pki.key_checks import HINT
from tpmhsm.pki.weak_list import Blocklist, map_file


def check_listed(files: Sequence[str], spki: bytes) -> None:
    """UsageError (`key-known`) for a key (DER SubjectPublicKeyInfo) that is on one of the lists.

    UsageError for a file that cannot be read, ParseError for one that is no list: without its lists
    an authority certifies nothing.
    """
    for file in files:
        if spki in _open(file):
            words = f"it is on the list of compromised keys {file}"
            found = refusal("key-listed", words, "CABF BR 6.1.1.3; 4.9.1.1")
            refuse([found], "the public key", hint=HINT, code="key-known")


def _open(file: str) -> Blocklist:
    try:
        state = Path(file).stat()
        return _load(file, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UsageError(
            f"the list of compromised keys cannot be read: {error}",
            hint="blocklists under [keys] in tpmhsm.toml names it",
            code="bad-settings",
        ) from error


@lru_cache(16)
def _load(file: str, _changed: int, _size: int) -> Blocklist:
    return Blocklist(map_file(Path(file)), file)
