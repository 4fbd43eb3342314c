"""A backup's file: a tar archive of a manifest and the files that it names, checked byte for byte.

    manifest.json     what is in it: names, sizes, SHA-256; whose home, of which day
    tpmhsm.db         the database, as SQLite
    …                 other files of the home
    manifest.sha256   SHA-256 of manifest.json, for sha256sum -c

Any tar unpacks it (POSIX.1-1988 ustar). What is not exactly what this program writes is refused, so
that no byte of it can change unnoticed; who changed it on purpose is not found: encrypt it.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from tpmhsm.errors import ParseError

FORMAT = "tpmhsm/home-backup/1"
FAMILY = "tpmhsm/home-backup/"
MANIFEST, DIGEST = "manifest.json", "manifest.sha256"
DATABASE, SETTINGS, CHIP = "tpmhsm.db", "tpmhsm.toml", "tpm/chip/"

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_PIECE = 1 << 20
_MAX_MANIFEST = 1 << 20
_CHIP_FILE = re.compile(r"tpm/chip/[\w.-]+(?:/[\w.-]+){0,3}", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}")


class Sink(Protocol):
    """Where a backup is written."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""
        ...


class Source(Protocol):
    """Where a backup is read."""

    def read(self, size: int, /) -> bytes:
        """So many bytes; fewer at the end alone."""
        ...


@dataclass(frozen=True)
class Part:
    """One file: its name in the home, bytes, SHA-256 (hexadecimal)."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself: `facts` JSON-ready, as `tpmhsm.home.backup` writes them;
    `digest`: SHA-256 of the manifest's bytes, hexadecimal.
    """

    facts: dict[str, Any]
    parts: tuple[Part, ...]
    digest: str = field(default="", compare=False)

    def encode(self) -> bytes:
        """The bytes of `manifest.json`."""
        files = [{"name": p.name, "size": p.size, "sha256": p.sha256} for p in self.parts]
        document = {"format": FORMAT, **self.facts, "files": files}
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

    def has(self, prefix: str) -> bool:
        """Whether a file of this name, or below this folder, is in it."""
        return any(part.name.startswith(prefix) for part in self.parts)


def part_of(name: str, file: Path) -> Part:
    """Measure a file. Raises OSError."""
    with file.open("rb") as opened:
        size, digest = 0, sha256()
        while piece := opened.read(_PIECE):
            size += len(piece)
            digest.update(piece)
    return Part(name, size, digest.hexdigest())


def write_backup(out: Sink, facts: Mapping[str, Any], files: Mapping[str, Path]) -> Manifest:
    """Write a backup of these files, by their names in the home. Raises OSError.

    They must not change meanwhile: each is read twice, and ParseError is raised if one did.
    """
    parts = tuple(part_of(name, file) for name, file in files.items())
    made = Manifest(dict(facts), parts)
    data = made.encode()
    digest = sha256(data).hexdigest()
    _write(out, MANIFEST, data)
    for part in parts:
        out.write(_header(part.name, part.size))
        if _copy(files[part.name], out) != (part.size, part.sha256):
            raise ParseError(f"{files[part.name]} changed while it was copied")
        out.write(_padding(part.size))
    _write(out, DIGEST, _digest_line(digest))
    out.write(_END)
    return Manifest(made.facts, parts, digest)


def read_backup(source: Source, into: Path | None = None) -> Manifest:
    """Check all of a backup, and unpack it into a directory if there is one (files of mode 0600).

    Raises ParseError for anything that this program would not have written, OSError for what
    cannot be written here; the directory then holds a part of it.
    """
    manifest = read_manifest(source)
    for part in manifest.parts:
        _expect(source, _header(part.name, part.size), f"before {part.name}")
        with _target(into, part.name) as keep:
            if _take(source, part.size, keep) != part.sha256:
                raise damaged(f"{part.name} is not what was backed up")
        _expect(source, _padding(part.size), f"after {part.name}")
    line = _digest_line(manifest.digest)
    _expect(source, _member(DIGEST, line), "at the manifest's digest")
    _expect(source, _END, "at the end")
    if source.read(1):
        raise damaged("something follows the end")
    return manifest


def read_manifest(source: Source) -> Manifest:
    """The beginning alone: nothing is checked but that it is a manifest. Raises ParseError."""
    header = source.read(_BLOCK)
    try:
        size = int(header[124:135], 8)
    except ValueError:
        raise ParseError("this is no backup") from None
    if size > _MAX_MANIFEST or header != _header(MANIFEST, size):
        raise ParseError("this is no backup")
    data = source.read(size)
    if len(data) != size:
        raise damaged("it ends in the manifest")
    _expect(source, _padding(size), "after the manifest")
    return parse_manifest(data)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises ParseError."""
    try:
        document = json.loads(data)
        form = document.pop("format")
        if form != FORMAT:
            raise _other_format(form)
        parts = tuple(_part(one) for one in document.pop("files"))
        made = Manifest(document, parts, sha256(data).hexdigest())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged("its manifest cannot be read") from error
    names = [part.name for part in parts]
    if made.encode() != data or len(set(names)) != len(names) or names[:1] != [DATABASE]:
        raise damaged("its manifest is not as it was written")
    return made


def _part(found: Mapping[str, Any]) -> Part:
    part = Part(**found)
    known = part.name in {DATABASE, SETTINGS} or (
        _CHIP_FILE.fullmatch(part.name) and not {".", ".."} & set(part.name.split("/"))
    )
    if not known or type(part.size) is not int or not 0 <= part.size < 1 << 33:
        raise ValueError(part.name)
    if not _SHA256.fullmatch(part.sha256):
        raise ValueError(part.sha256)
    return part


def _other_format(form: object) -> ParseError:
    if isinstance(form, str) and form.startswith(FAMILY):
        return ParseError(
            f"this backup is of the format {form!a}, and this version knows {FORMAT}",
            code="other-format",
            hint="the version of tpmhsm that made it reads it",
        )
    return ParseError("this is no backup")


def damaged(why: str) -> ParseError:
    """The error for a backup that is not whole."""
    return ParseError(
        f"the backup is damaged: {why}", code="damaged", hint="take another copy, or an older one"
    )


# ── tar ──────────────────────────────────────────────────────────────────────


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _member(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + _padding(len(data))


def _write(out: Sink, name: str, data: bytes) -> None:
    out.write(_member(name, data))


def _digest_line(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode()


def _expect(source: Source, wanted: bytes, where: str) -> None:
    if source.read(len(wanted)) != wanted:
        raise damaged(f"it differs {where}, or ends there")


def _copy(file: Path, out: Sink) -> tuple[int, str]:
    size, digest = 0, sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            size += len(piece)
            digest.update(piece)
            out.write(piece)
    return size, digest.hexdigest()


def _take(source: Source, size: int, keep: Callable[[bytes], object]) -> str:
    digest = sha256()
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise damaged("it ends too early")
        size -= len(piece)
        digest.update(piece)
        keep(piece)
    return digest.hexdigest()


@contextmanager
def _target(into: Path | None, name: str) -> Iterator[Callable[[bytes], object]]:
    """Where a file's bytes go; on disk when the block is left."""
    if into is None:
        yield len
        return
    path = into / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        yield file.write
        file.flush()
        os.fsync(file.fileno())
