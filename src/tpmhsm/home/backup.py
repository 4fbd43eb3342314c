"""Making a backup: what of a home goes into one file, and what does not."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm import __version__
from tpmhsm.errors import DeviceError, RefusedError, UsageError
from tpmhsm.home import container
from tpmhsm.home.container import CHIP, DATABASE, SETTINGS, Manifest, Sink
from tpmhsm.home.sealed import Sealer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpmhsm.keys.host import HostDevice
    from tpmhsm.store import Store
    from tpmhsm.tpm.device import Device


@dataclass(frozen=True)
class Wanted:
    """What a backup is to be: `passphrase` empty for none; `chip`: with the software TPM's state.

    UsageError for a chip's state without a passphrase: it is every key in clear.
    """

    passphrase: bytes = b""
    chip: bool = False

    def __post_init__(self) -> None:
        if self.chip and not self.passphrase:
            raise UsageError(
                "the state of a software TPM is every key of it in clear: the backup must be"
                " encrypted",
                hint="--encrypt, or --passphrase-file F",
                code="not-encrypted",
            )


@dataclass(frozen=True)
class Rooms:
    """What a home consists of while it is at work."""

    home: Path
    store: Store
    device: Callable[[], Device]


def make_backup(rooms: Rooms, out: Sink, stage: Path, wanted: Wanted) -> Manifest:
    """Write a backup; `stage` is an empty directory for what is copied, in private.

    The database is copied in one state while others write. Raises StoreError, OSError; DeviceError
    for a software TPM that is not there.
    """
    from tpmhsm.store.copying import copy_database
    from tpmhsm.store.schema import now

    made = now()
    _take_journal_over(rooms)
    # first the chip, then the database: whoever changes both has the chip in his hand
    with _held(rooms) if wanted.chip else nullcontext():
        if wanted.chip:
            shutil.copytree(rooms.home / CHIP, stage / CHIP)
        facts = copy_database(rooms.store, stage)
    files = {DATABASE: stage / DATABASE}
    if (rooms.home / SETTINGS).is_file():
        shutil.copyfile(rooms.home / SETTINGS, stage / SETTINGS)
        files[SETTINGS] = stage / SETTINGS
    if wanted.chip:
        found = sorted(p for p in (stage / CHIP).rglob("*") if p.is_file())
        files |= {str(path.relative_to(stage)): path for path in found}
    document = {
        "made": made,
        "program": __version__,
        "database": facts,
        "device": _device(rooms.store),
        "approvers": _own_cards(rooms.store),
    }
    if not wanted.passphrase:
        return container.write_backup(out, document, files)
    sealer = Sealer(out, wanted.passphrase, made)
    manifest = container.write_backup(sealer, document, files)
    sealer.finish()
    return manifest


def _take_journal_over(rooms: Rooms) -> None:
    """What the chip signed up to now belongs to the log of now."""
    from tpmhsm.keys.auditing import Auditing
    from tpmhsm.keys.host import find_host

    if find_host(rooms.store) is not None:
        try:
            Auditing(rooms.store, rooms.device()).collect()
        except DeviceError:  # no chip at all: then there is no journal of it either
            return


def _held(rooms: Rooms) -> Any:
    from tpmhsm.tpm import software

    folder = software.directory_of(rooms.home)
    software.check(folder)
    return software.lock_of(folder).held()


def _device(store: Store) -> dict[str, Any] | None:
    host = _host(store)
    return None if host is None else {"kind": host.kind, "ak_name": host.ak_name.hex()}


def _host(store: Store) -> HostDevice | None:
    from tpmhsm.keys.host import find_host

    return find_host(store)


def _own_cards(store: Store) -> list[str]:
    """Approvers whose own home this is: their memory is in it."""
    from tpmhsm.requests.memory import OWN

    with store.reading() as tx:
        return sorted({row.name for row in tx.trusted.all(OWN)})


def check_readable(manifest: Manifest) -> None:
    """RefusedError `newer` for a database that only a newer version of this program knows."""
    from tpmhsm.store.version import HEAD

    schema = str(manifest.facts.get("database", {}).get("schema", ""))
    if schema > HEAD:
        raise RefusedError(
            f"the backup's database is of schema {schema}, and this version knows {HEAD}",
            hint="install the newer version of tpmhsm",
            code="newer",
        )


def left_out(manifest: Manifest) -> list[str]:
    """In words, what a home has and this backup has not."""
    out = [
        "the chip itself: the keys in here open in that chip alone",
        "what is below public/: tpmhsm ca crl NAME --existing writes it anew",
        "files that tpmhsm.toml names: lists of keys, roots, hooks",
        "key files, tokens and passphrases of approvers; the file of --recovery",
    ]
    if manifest.has(CHIP):
        out[0] = ""
    return [line for line in out if line]
