"""Checks of the home, the disk below it, `tpmhsm.toml` and the database. Pure."""

from __future__ import annotations

from tpmhsm.doctor.facts import Facts, Trouble
from tpmhsm.doctor.judging import (
    Judged,
    Registry,
    attention,
    broken,
    check,
    must_be_usable,
    records_of,
)

CHECKS: Registry = {}

FULL, LITTLE = 4 << 20, 100 << 20
"""Bytes: below the first, a command may fail in the middle; below the second, soon."""

SHARED = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "vboxsf")
"""File systems of several machines: their locks do not keep processes apart for certain."""


@check(CHECKS, "home")
def home(facts: Facts) -> Judged:
    """Whether the directory is there and this user may use it."""
    found, user = facts.home.directory, facts.home.user
    if found.state == "missing":
        yield broken(
            f"there is no home {found.path}",
            where=found.path,
            why="keys, database and settings are kept there",
            next="tpmhsm init makes one; --home DIR or TPMHSM_HOME names another",
        )
    elif found.state == "hidden" or not found.usable:
        whose = f" (mode {found.mode:04o}, {found.owner})" if found.state == "there" else ""
        yield broken(
            f"{user} may not use the home {found.path}{whose}",
            where=found.path,
            why="nothing in it can be read, so nothing more can be said of it",
            next=f"chmod 700 {found.path}"
            if found.owner == user
            else f"sudo -u {found.owner or 'OWNER'} tpmhsm …, or if it is yours: "
            f"sudo chown -R {user}: {found.path}",
        )
    return found.path


@check(CHECKS, "owners")
def owners(facts: Facts) -> Judged:
    """Files of another user: a command was once run as root, say."""
    must_be_usable(facts)
    directory, others = facts.home.directory, facts.home.others
    if others:
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        yield attention(
            f"{others[0].path} is {others[0].owner}'s{more}; the home is {directory.owner}'s",
            where=directory.path,
            why=f"{directory.owner} cannot write them: commands fail one by one",
            next=f"sudo chown -R {directory.owner}: {directory.path}",
        )
    return f"all of {directory.owner}"


@check(CHECKS, "privacy")
def privacy(facts: Facts) -> Judged:
    """Whether others on this machine can read or write what is the owner's alone."""
    must_be_usable(facts)
    directory = facts.home.directory
    for file in facts.home.open:
        write = file.mode & 0o022
        yield (broken if write else attention)(
            f"others may {'write' if write else 'read'} {file.path} (mode {file.mode:04o})",
            where=file.path,
            why="the state of the software TPM, wrapped keys and requests are for one user"
            + (": who writes there can put files of theirs in their place" if write else ""),
            next=f"chmod 700 {directory.path}",
        )
    return f"mode {directory.mode:04o}"


@check(CHECKS, "disk")
def disk(facts: Facts) -> Judged:
    """Room on the disk, and whether it can be written at all."""
    must_be_usable(facts)
    where, free = facts.home.directory.path, facts.home.free
    if facts.home.read_only:
        yield broken(
            "the file system of the home is read-only",
            where=where,
            why="nothing can be signed: what is signed is written down first",
            next=f'dmesg | tail says why; then mount -o remount,rw "$(df --output=target {where}'
            ' | tail -1)"',
        )
    if free is not None and free < LITTLE:
        full = free < FULL
        yield (broken if full else attention)(
            f"the disk is full: {_size(free)} are left" if full else f"{_size(free)} are left",
            where=where,
            why="a command that cannot write down what it does refuses to do it",
            next=f"df -h {where}; make room",
        )
    return f"{_size(free)} free" if free is not None else "unknown"


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.0f} {name}"
    return f"{count} bytes"


@check(CHECKS, "file-system")
def file_system(facts: Facts) -> Judged:
    """A file system whose locks can be relied on."""
    must_be_usable(facts)
    kind, where = facts.home.filesystem, facts.home.directory.path
    if kind in SHARED:
        yield attention(
            f"the home is on {kind}, which several machines may share",
            where=where,
            why="SQLite and the chip's lock rely on locks that such file systems may not keep",
            next="--home on a local disk, or --db postgresql://… for a database that is shared",
        )
    return kind or "unknown"


@check(CHECKS, "settings")
def settings(facts: Facts) -> Judged:
    """`tpmhsm.toml`, and the files that it names."""
    must_be_usable(facts)
    found = facts.home.settings
    if found:
        yield broken(
            found.message,
            where=f"{facts.home.directory.path}/tpmhsm.toml",
            why="no authority issues anything while it cannot be read",
            next=found.hint or f"edit {facts.home.directory.path}/tpmhsm.toml",
        )
    for name, file in facts.home.lost.items():
        yield attention(
            f"{name} names {file}, which cannot be read as a file",
            where=f"{facts.home.directory.path}/tpmhsm.toml",
            why="what needs it fails when it is needed",
            next=f"put {file} there, or edit {facts.home.directory.path}/tpmhsm.toml",
        )
    return "tpmhsm.toml"


_MENDS = {
    "missing": "tpmhsm restore FILE, from a backup; in a new home tpmhsm init",
    "busy": "fuser -v {home}/tpmhsm.db shows who holds it; end that, then tpmhsm doctor",
    "corrupt": "tpmhsm restore FILE, from a backup: keys cannot be used without their records",
    "denied": "sudo chown -R {user}: {home}",
    "full": "df -h {home}; make room",
    "lost": "start the database server; --db names it",
}


@check(CHECKS, "database")
def database(facts: Facts) -> Judged:
    """Whether the database can be opened, read, and written."""
    found = facts.records
    if isinstance(found, Trouble):
        if facts.at_home:
            must_be_usable(facts)
        yield broken(
            found.message,
            where="the database",
            why="requests, certificates and the wrapped keys are in it",
            next=_MENDS[found.code].format(home=facts.home.directory.path, user=facts.home.user)
            if facts.at_home and found.code in _MENDS
            else found.hint or "tpmhsm doctor store",
        )
        return ""
    return found.where


@check(CHECKS, "log")
def log(facts: Facts) -> Judged:
    """The end of the log is whole."""
    found = records_of(facts)
    if found.log:
        yield broken(
            found.log.message,
            where="the audit log",
            why="somebody changed what was written down, or the database is damaged",
            next="tpmhsm doctor store looks at all of it; restore a backup, and compare",
        )
    return f"{found.entries:,} entries, the last ones whole"
