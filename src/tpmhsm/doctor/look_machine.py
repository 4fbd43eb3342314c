"""Looking at the machine: device files and rights, programs, versions, the card daemon."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import re
import shutil
import stat
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from tpmhsm.doctor.facts import Cards, File, Machine, Trouble
from tpmhsm.errors import TpmHsmError
from tpmhsm.tpm.device import DEVICE_FILE

PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_localca")
BARE_DEVICE = Path("/dev/tpm0")
_SECONDS = 10
"""How long a program may take to tell its version."""


def look_at_machine(
    device: Path = DEVICE_FILE, identity: str = "", *, yubikeys: bool = False
) -> Machine:
    """The machine as this user sees it. `device`: the chip's device file that is wanted.

    `identity`: an approver's key as `-i` names it. For a YubiKey, or where there are `yubikeys`,
    the card daemon is asked.
    """
    asked = _is_yubikey(identity)
    from cryptography.hazmat.backends.openssl.backend import backend

    programs = {name: shutil.which(name) or "" for name in PROGRAMS}
    return Machine(
        user=user_name(os.geteuid()),
        groups=tuple(sorted({group_name(gid) for gid in (*os.getgroups(), os.getegid())})),
        now=time.time(),
        python=platform.python_version(),
        openssl=backend.openssl_version_text(),
        programs=programs,
        swtpm=_version(programs["swtpm"]),
        device=(found := look_at_file(device)),
        listed=_is_listed(found.group),
        bare=look_at_file(BARE_DEVICE),
        cards=_cards(asked) if asked or yubikeys else None,
    )


def look_at_file(path: Path) -> File:
    """A file or directory; a link is followed."""
    try:
        found = path.stat()
    except PermissionError:
        return File(str(path), "hidden")
    except OSError:
        return File(str(path))
    wanted = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0)
    return File(
        str(path),
        "there",
        _kind(found.st_mode),
        stat.S_IMODE(found.st_mode),
        user_name(found.st_uid),
        group_name(found.st_gid),
        os.access(path, wanted, effective_ids=True),
    )


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISREG(mode):
        return "file"
    return "device" if stat.S_ISCHR(mode) else "other"


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def group_name(gid: int) -> str:
    """The name of a group, or its number."""
    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)


def _is_listed(group: str) -> bool:
    """Whether this user is a member of a group by its list, in this session or not."""
    with suppress(KeyError):
        return user_name(os.geteuid()) in grp.getgrnam(group).gr_mem
    return False


def _version(program: str) -> str:
    """'0.7.1', or '' if the program does not say, or does not run."""
    if not program:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        found = re.search(rb"version (\d+(?:\.\d+)+)", done.stdout + done.stderr)
        return found[1].decode() if found else ""
    return ""


def _is_yubikey(identity: str) -> bool:
    from tpmhsm.approval.identity import scheme_of

    return scheme_of(identity) == "yubikey"


def _cards(asked: bool) -> Cards:
    missing = tuple(name for name in ("yubikit", "smartcard") if find_spec(name) is None)
    if missing:
        return Cards(asked, missing)
    from tpmhsm.approval.piv import readers

    try:
        return Cards(asked, readers=tuple(readers()))
    except TpmHsmError as error:
        return Cards(asked, service=trouble_of(error))


def trouble_of(error: Exception) -> Trouble:
    """An error as a fact."""
    if isinstance(error, TpmHsmError):
        return Trouble(error.code, error.message, error.hint)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return Trouble("os-error", f"{(error.strerror or str(error)).lower()}{where}")
    return Trouble("unreadable", f"{type(error).__name__}: {error}")
