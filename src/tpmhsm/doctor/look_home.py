"""Looking at the home: the directory, whose its files are, the disk below it, `tpmhsm.toml`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.doctor.facts import File, Home, Trouble
from tpmhsm.doctor.look_machine import look_at_file, trouble_of, user_name
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.ca.settings import Settings

_MOST = 100
"""Files that are looked at."""

_MOUNTS = Path("/proc/self/mountinfo")
_PRIVATE = ("tpmhsm.db", "tpmhsm.db-wal", "tpm", "chip.journal")
"""What nobody but the owner has any business to read, or write."""


def look_at_home(path: Path, settings: Callable[[], Settings]) -> Home:
    """The home and what is in it, as this user sees it; `settings` reads `tpmhsm.toml`."""
    directory = look_at_file(path)
    user = user_name(os.geteuid())
    if directory.state != "there":
        return Home(directory, user)
    trouble, lost = _settings(settings)
    free, read_only = _disk(path)
    if read_only and os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        directory = replace(directory, usable=True)  # that nobody can write there is said of it
    files = list(_files(path)) if directory.usable else []
    return Home(
        directory,
        user,
        others=tuple(file for file in files if file.owner not in (directory.owner, "")),
        open=tuple(_open_to_others(directory, files)),
        filesystem=_filesystem(path),
        read_only=read_only,
        free=free,
        settings=trouble,
        lost=lost,
    )


def _files(home: Path) -> Iterator[File]:
    """What is in the home and in the software TPM's directories: sockets and links left out."""
    left = _MOST
    for folder in (home, home / "tpm", home / "tpm" / "chip", home / "tpm" / "chip" / "state"):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path = folder / name
            if left and (path.is_dir() or path.is_file()) and not path.is_symlink():
                left -= 1
                yield look_at_file(path)


def _open_to_others(directory: File, files: list[File]) -> Iterator[File]:
    """A closed home closes all below it; in an open one, secrets must be closed themselves."""
    if directory.mode & stat.S_IWOTH:
        yield directory
    if not directory.mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    for file in files:
        if Path(file.path).name in _PRIVATE and file.mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield file


def _disk(path: Path) -> tuple[int | None, bool]:
    try:
        found = os.statvfs(path)
    except OSError:
        return None, False
    return found.f_bavail * found.f_frsize, bool(found.f_flag & os.ST_RDONLY)


def _filesystem(path: Path) -> str:
    """The type of the file system that a path is on; '' if the kernel does not say."""
    try:
        real, lines = str(path.resolve()), _MOUNTS.read_text(errors="replace").splitlines()
    except (OSError, RuntimeError):
        return ""
    best, kind = "", ""
    for line in lines:
        words, _, rest = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), words.split()[4])
        below = real == point or real.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def _settings(read: Callable[[], Settings]) -> tuple[Trouble | None, Mapping[str, str]]:
    try:
        found = read()
    except (TpmHsmError, OSError, ValueError) as error:
        return trouble_of(error), {}
    named = {
        "[requests] hook": found.hook[0] if found.hook else "",
        "[device] owner_auth_file": found.owner_auth_file,
        "[device] endorsement_auth_file": found.endorsement_auth_file,
        "[approver] pkcs11_module": found.pkcs11_module,
    }
    named |= {f"[keys] blocklists: {Path(f).name}": f for f in found.blocklists}
    return None, {name: file for name, file in named.items() if file and not Path(file).is_file()}
