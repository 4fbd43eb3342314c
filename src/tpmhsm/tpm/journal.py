"""The journal: each command that the chip audits, in the chip's own order, as it travelled.

Whoever has the chip in his hand appends to one file, while he holds the device's lock, right after
the chip has answered: so its order is the chip's, whichever process and thread asked, and a process
that is killed afterwards takes nothing with it. What a failure of power loses the chip has
forgotten, too. The database takes the records over at checkpoints (`tpmhsm.keys.auditing`), and
`tpmhsm.attest.audit_records` says what they are.

Without the file nothing is recorded: it is there from the time when auditing is switched on.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tpmhsm.attest.audit_records import Record
from tpmhsm.errors import StoreError

_FIRST = b"tpmhsm journal 1 "
HEADER_SIZE = len(_FIRST) + 33
NAME = "chip.journal"
"""In the home. The file's first line has 16 random bytes in hex: a new file is another one."""


class Journal:
    """The journal of a home, for the holder of the device's lock. Close it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._looked = False

    def add(self, record: Record) -> None:
        """Append a record, if there is a journal. Raises StoreError: the act is not in the log."""
        file = self._open()
        if file is None:
            return
        data = record.encode()
        try:
            written = os.write(file, data)
        except OSError as error:
            raise _failed(self.path, error) from error
        if written != len(data):
            raise _failed(self.path, OSError("the disk is full"))

    def _open(self) -> int | None:
        if not self._looked:
            self._looked = True
            flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            with suppress(FileNotFoundError):
                self._file = os.open(self.path, flags)
        return self._file

    def flush(self) -> None:
        """Have what was appended survive a failure of power."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Let go of the file. It is opened again when it is needed."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._looked = None, False

    def begin(self) -> None:
        """Begin a new, empty file in the place of the old one, if there is one."""
        self.close()
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.unlink(missing_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, _FIRST + os.urandom(16).hex().encode() + b"\n")
                os.fsync(file)
            finally:
                os.close(file)
            new.rename(self.path)
        except OSError as error:
            raise _failed(self.path, error) from error


def read_journal(path: Path, known: str, offset: int) -> tuple[str, int, bytes]:
    """The file's id, where what is new begins, and that: all of it unless `known` is its id.

    Empty id: there is no journal. Raises StoreError.
    """
    try:
        with path.open("rb") as file:
            first = file.read(HEADER_SIZE)
            name = first[len(_FIRST) : -1].decode("ascii", "replace")
            if not first.startswith(_FIRST):
                return "", 0, b""
            start = max(offset, HEADER_SIZE) if name == known else HEADER_SIZE
            file.seek(start)
            return name, start, file.read()
    except FileNotFoundError:
        return "", 0, b""
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the chip's journal {path} cannot be used: {(error.strerror or str(error)).lower()}",
        code="journal",
        hint="what the chip signs now is missing in the log until this is put right",
    )
