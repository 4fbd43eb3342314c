"""Putting a backup back: everything is made beside, checked, and named at the end.

    fresh        the home is not there, or empty: a directory beside it becomes the home
    in place     the home has something: the database alone is replaced, by one rename

Power may fail between any two steps: what is there is the home of before, or the restored one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.errors import ExistsError, StoreError, UsageError
from tpmhsm.home.backup import check_readable
from tpmhsm.home.container import CHIP, DATABASE, SETTINGS, Manifest, Source, read_backup

if TYPE_CHECKING:
    from tpmhsm.store import Transaction
    from tpmhsm.store.authorities import AuthorityRow

CRLS_AHEAD = 1_000_000
"""CRL numbers that are left out at least: more than one a second for eleven days."""

REQUESTS_AHEAD = 1000
"""Numbers of requests that are left out."""

_NOW = timedelta(minutes=-1)
_KEPT = "tpmhsm.db.before-%Y%m%dT%H%M%SZ"
_STAGE, _NEW = ".restoring", "new"


@dataclass(frozen=True)
class Restored:
    """What was put back. `kept`: the database of before, under its new name; `settings` and `chip`:
    whether the backup's `tpmhsm.toml` and software TPM are in force now, None if it has none;
    `crls`: by authority the number that its next CRL exceeds; `forgot`: an approver's memory is no
    longer relied on.
    """

    manifest: Manifest
    kept: Path | None = None
    settings: bool | None = None
    chip: bool | None = None
    crls: dict[str, int] = field(default_factory=dict)
    forgot: tuple[str, ...] = ()


def is_used(home: Path, db: str) -> bool:
    """Whether there is a database that a backup would take the place of (SQLite)."""
    return not db and (home / DATABASE).exists()


def restore(source: Source, home: Path, *, db: str = "", force: bool = False) -> Restored:
    """Check a backup whole, bring its database up to date, and put it into a home.

    `db`: the URL of a PostgreSQL database to put the rows into, instead of a file in the home.
    Raises ExistsError unless `force` when there is a database; ParseError, RefusedError for what
    is no whole backup; StoreError.
    """
    if is_used(home, db) and not force:
        raise ExistsError(
            f"{home} has a database already", hint="--force replaces it; it is kept under a name"
        )
    try:
        fresh = not home.exists() or not any(home.iterdir())
        with staged(home, beside=fresh) as stage:
            manifest = read_backup(source, stage)
            check_readable(manifest)
            done = _prepare(stage, manifest)
            if db:
                return _into_server(stage, home, db, done, force=force)
            return _as_home(stage, home, done) if fresh else _in_place(stage, home, done)
    except OSError as error:
        code = "full" if error.errno == 28 else "os-error"  # ENOSPC
        raise StoreError(
            f"the backup cannot be put back: {(error.strerror or str(error)).lower()}"
            + (f" ({error.filename})" if error.filename else ""),
            code=code,
            hint="the home is as it was",
        ) from error


@contextmanager
def staged(home: Path, *, beside: bool) -> Iterator[Path]:
    """A private directory in the home's file system; what a killed run left there is removed. The
    one around it is locked (writers of the database take turns at its own directory).
    """
    stage = home.with_name(f".{home.name}{_STAGE}") if beside else home / _STAGE
    stage.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        stage.mkdir(mode=0o700)
    handle = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise StoreError(
                f"{stage} is another user's, who could change what is restored",
                code="denied",
                hint="remove it, or restore below a directory in which others cannot write",
            )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another process restores {home}", code="busy", hint="wait for it"
            ) from None
        try:
            shutil.rmtree(stage / _NEW, ignore_errors=True)
            (stage / _NEW).mkdir(mode=0o700)
            yield stage / _NEW
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    finally:
        os.close(handle)


# ── the database, before it is in force ──────────────────────────────────────


def _prepare(stage: Path, manifest: Manifest) -> Restored:
    """Up to date, whole, and unable to use a number twice that was used after the backup. What was
    being issued in that moment is given up here, whatever became of it.
    """
    from tpmhsm.ca.issuance import abandon_stale
    from tpmhsm.keys.host import find_host
    from tpmhsm.store import Store

    with Store.create(stage) as store:
        store.check()
        approvers = find_host(store) is None
        with store.transaction() as tx:
            crls = {row.name: _skip_crls(tx, row, manifest) for row in tx.authorities.all()}
            for name in crls:
                abandon_stale(tx, name, _NOW)
            tx.requests.skip(REQUESTS_AHEAD)
            forgot = _forget(tx) if approvers else ()
            database = manifest.facts["database"]
            facts = {
                "backup": manifest.digest,
                "made": manifest.facts["made"],
                "entry": database["entries"],
                "crls": crls,
            }
            tx.audit.append("restore", facts | ({"forgot": list(forgot)} if forgot else {}))
    return Restored(manifest, crls={k: v for k, v in crls.items() if v}, forgot=forgot)


def _skip_crls(tx: Transaction, authority: AuthorityRow, manifest: Manifest) -> int:
    number = crls_after(tx.crls.highest(authority.name), manifest.facts["made"])
    if authority.state != "active" or not number:
        return 0
    use_up(tx, authority.name, number)
    return number


def crls_after(last: int, made: str) -> int:
    """A number that no CRL has, of an authority whose last one had `last` at a time (RFC 3339): it
    makes no two within a second. 0 where there was none.
    """
    age = (datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds()
    return last and last + max(CRLS_AHEAD, 2 * int(age))


def use_up(tx: Transaction, authority: str, number: int) -> None:
    """Have an authority's CRLs go on after a number."""
    from tpmhsm.store.revocations import CrlRow

    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    row = CrlRow(authority, number, at, at, upto=tx.audit.head().seq, entries=0)
    tx.crls.abandoned(tx.crls.reserve(row))


def _forget(tx: Transaction) -> tuple[str, ...]:
    """An approver's memory of an earlier day: for changes of groups it is as good as none, so it
    must not date itself by the cards that were made here, or by what it saw.
    """
    from tpmhsm.requests.memory import APPROVER, OWN

    names = tuple(sorted({row.name for row in tx.trusted.all(OWN)}))
    if names:
        tx.trusted.change_kind(OWN, APPROVER)
        tx.memory.undate()
    return names


# ── in force ─────────────────────────────────────────────────────────────────


def _as_home(stage: Path, home: Path, done: Restored) -> Restored:
    _sync_all(stage)
    try:
        stage.rename(home)  # also over an empty directory
    except OSError as error:
        if not home.exists() or not any(home.iterdir()):
            raise
        raise ExistsError(f"{home} has been filled meanwhile", hint="restore it again") from error
    _sync(home.parent)
    return replace(
        done,
        settings=True if done.manifest.has(SETTINGS) else None,
        chip=True if done.manifest.has(CHIP) else None,
    )


def _in_place(stage: Path, home: Path, done: Restored) -> Restored:
    """The database comes last: without one a home is none, and with one it is whole."""
    from tpmhsm.store.copying import put_in_place

    chip = _put_chip(stage, home) if done.manifest.has(CHIP) else None
    settings = put_settings(stage, home) if done.manifest.has(SETTINGS) else None
    kept = _free_name(home)
    found = put_in_place(stage / DATABASE, home, kept)
    return replace(done, kept=kept if found else None, settings=settings, chip=chip)


def _free_name(home: Path) -> Path:
    name = f"{datetime.now(UTC):{_KEPT}}"
    names = chain([name], (f"{name}-{n}" for n in count(2)))
    return next(home / one for one in names if not (home / one).exists())


def put_settings(stage: Path, home: Path) -> bool:
    """Those of the backup where there are none; people write them, and what is there is newer."""
    there = home / SETTINGS
    if not there.exists():
        (stage / SETTINGS).rename(there)
        return True
    return there.read_bytes() == (stage / SETTINGS).read_bytes()


def _put_chip(stage: Path, home: Path) -> bool:
    """Only where there is none: the state of a chip that is there is never put back."""
    there = home / CHIP
    if there.exists():
        return False
    there.parent.mkdir(mode=0o700, exist_ok=True)
    _sync_all(stage / CHIP)
    (stage / CHIP).rename(there)
    _sync(there.parent)
    return True


def _into_server(stage: Path, home: Path, db: str, done: Restored, *, force: bool) -> Restored:
    from tpmhsm.store.copying import copy_into

    if not db.startswith("postgres"):
        raise UsageError(
            "a backup is put into a home, or into PostgreSQL", hint="--home DIR, without --db"
        )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    chip = _put_chip(stage, home) if done.manifest.has(CHIP) else None
    settings = put_settings(stage, home) if done.manifest.has(SETTINGS) else None
    copy_into(stage, db, replace=force)
    return replace(done, settings=settings, chip=chip)


def _sync_all(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        _sync(Path(path))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
