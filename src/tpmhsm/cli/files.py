"""Files that commands read and write; `-` is stdin or stdout."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.errors import ExistsError, ParseError, TpmHsmError, UsageError

if TYPE_CHECKING:
    from io import BufferedReader
    from typing import BinaryIO

MAX_INPUT = 1 << 20
"""Files larger than this many bytes are no certificate, CSR, card, request or approval."""

STDIO = "-"


def read_input(path: str, *, limit: int = MAX_INPUT) -> bytes:
    """The bytes of a file or of stdin. Raises UsageError if it cannot be read or is too large."""
    try:
        data = _read(path, limit + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path!r}: {_reason(error)}") from error
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def read_bundle_input(path: str) -> bytes:
    """The same for files of many certificates and for CRLs, which may be far larger.

    What is larger than other files may be must at least look like one.
    """
    from tpmhsm.pki.load import MAX_BUNDLE, looks_whole

    data = read_input(path, limit=MAX_BUNDLE)
    if len(data) > MAX_INPUT and not (looks_whole(data) or _may_be_evidence(data)):
        raise _too_large(path, MAX_INPUT)
    return data


def is_backup(path: str) -> bool:
    """Whether a file begins as backups do: they may be larger than what fits into memory."""
    if path == STDIO:
        return False
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(64)
    except (OSError, ValueError):
        return False
    return beginning.startswith((b"manifest.json\0", b'{"format": "tpmhsm/home-backup/'))


def _may_be_evidence(data: bytes) -> bool:
    from tpmhsm.attest.format import FORMAT, MAX_EVIDENCE

    return data[:1] == b"{" and len(data) <= MAX_EVIDENCE and FORMAT.encode() in data


def _too_large(path: str, limit: int) -> UsageError:
    return UsageError(
        f"{path} is larger than {limit:,} bytes",
        code="too-large",
        hint="is this the file that you meant?",
    )


def _read(path: str, size: int) -> bytes:
    if path == STDIO:
        return sys.stdin.buffer.read(size)
    with Path(path).open("rb") as file:
        return file.read(size)


@contextmanager
def naming(path: str, data: bytes = b"", wanted: str = "") -> Iterator[None]:
    """Errors in the block say which file they are about.

    With the file's `data` and the thing that was `wanted` ("a card"), a ParseError says what the
    file is instead.
    """
    try:
        yield
    except TpmHsmError as error:
        if wanted and isinstance(error, ParseError):
            _say_instead(error, path, data, wanted)
        if path not in error.message:
            error.message = f"{path}: {error.message}"
        raise


def _say_instead(error: ParseError, path: str, data: bytes, wanted: str) -> None:
    from tpmhsm.cli.show import says_it_is

    found = says_it_is(data)
    if found and not found.startswith("a damaged ") and found not in wanted.split(" or "):
        error.message = f"{path} is {found}, not {wanted}"
        error.hint = f"tpmhsm show {path} shows it"


def check_free(path: str, *, force: bool = False) -> None:
    """Refuse a file that is there, or cannot be made, before anything is done for it.

    Raises ExistsError, UsageError.
    """
    if path == STDIO:
        return
    try:
        mode = _mode_of(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a directory, not a file")
        if mode is not None and stat.S_ISREG(mode) and not force:
            raise _kept(path)
        folder = Path(path).absolute().parent
        if mode is None and Path(path).is_symlink():
            raise UsageError(f"{path} is a link to nothing: no file is made through it")
        if mode is None and not folder.is_dir():
            raise UsageError(f"cannot write {path}: there is no directory {folder}")
        if mode is None and not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {path}: no permission in {folder}")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path!r}: {_reason(error)}") from error


def write_output(path: str, data: bytes, *, force: bool = False, secret: bool = False) -> None:
    """Write a whole file or nothing; existing files are kept unless `force`."""
    if path == STDIO:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:  # a full disk behind it, or a reader that went away
            raise UsageError(f"cannot write to stdout: {_reason(error)}") from error
        return
    check_free(path, force=force)
    try:
        mode = _mode_of(path)
        if mode is not None and not stat.S_ISREG(mode):  # a pipe, a terminal, /dev/null
            Path(path).write_bytes(data)
        else:
            # a new file is made under this very name, whatever may stand there meanwhile
            target = Path(path).absolute() if mode is None else Path(os.path.realpath(path))
            _write_whole(target, data, force, 0o600 if secret else 0o644)
    except FileExistsError as error:
        raise _kept(path) from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(error)}") from error


@contextmanager
def new_file(path: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """A private file to be written piece by piece: it has its name, whole, when the block is left,
    and there is none when that failed. `-` is stdout. Raises as `write_output`.
    """
    try:
        if path == STDIO:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        check_free(path, force=force)
        with _written_whole(Path(path).absolute(), force, 0o600) as file:
            yield file
    except FileExistsError as error:
        raise _kept(path) from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(error)}") from error


@contextmanager
def opened_input(path: str) -> Iterator[BufferedReader]:
    """A file, or stdin, to be read piece by piece. Raises UsageError."""
    try:
        if path == STDIO:
            yield sys.stdin.buffer  # type: ignore[misc]
            return
        with Path(path).open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path!r}: {_reason(error)}") from error


def _write_whole(path: Path, data: bytes, force: bool, mode: int) -> None:
    with _written_whole(path, force, mode) as file:
        file.write(data)


@contextmanager
def _written_whole(path: Path, force: bool, mode: int) -> Iterator[BinaryIO]:
    """Write beside, flush to disk, then give it its name: a name never holds half a file."""
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)  # of a process of this number that was killed
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            beside.replace(path)
        else:
            _name_new(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _name_new(beside: Path, path: Path) -> None:
    """Name a file that nobody else has made meanwhile. FileExistsError if somebody has."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # USB sticks know no links: claim the name, then replace what claims it
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        beside.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems without it
            raise
    finally:
        os.close(descriptor)


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _kept(path: str) -> ExistsError:
    return ExistsError(f"{path} exists and is kept", hint="--force overwrites it")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
