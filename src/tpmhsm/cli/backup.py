"""`tpmhsm backup` and `tpmhsm restore`: a home's database and wrapped keys in one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, prose, table
from tpmhsm.cli.files import STDIO, check_free, new_file, opened_input
from tpmhsm.cli.prompts import ask, at_terminal
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import RefusedError, TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.cli.secrets import Ask
    from tpmhsm.home.container import Manifest
    from tpmhsm.home.restore import Restored

_ROLLBACK = (
    "the software TPM's state is in it: whoever has file and passphrase has every key;"
    " putting it back takes counters, epochs and budgets back, so that people who were removed and"
    " units that were used count again"
)


# ── backup ───────────────────────────────────────────────────────────────────


@click.command(epilog="Example: tpmhsm backup -o /media/stick/ca.backup --encrypt")
@click.option("-o", "--out", required=True, metavar="F", help="Where it is written; - is stdout.")
@click.option("--encrypt", is_flag=True, help="Under a passphrase, asked for twice.")
@click.option("--with-software-tpm", "chip", is_flag=True,
              help="With a software TPM's state, every key in clear; encrypted only.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@passphrase_options
@pass_app
def backup(app: App, out: str, encrypt: bool, chip: bool, force: bool, secret: Secret) -> None:
    """Copy the database, wrapped keys and settings into one file, while others work.

    A wrapped key opens in its own chip alone, so this is no copy of the keys: a second chip holds
    that. 'tpmhsm show F' says what is in a backup, and what is not.
    """
    from tpmhsm.home.backup import Rooms, Wanted, make_backup

    passphrase = b""
    if encrypt or secret.given:
        passphrase = secret.source(confirm=True)("Passphrase for the backup: ")
    wanted = Wanted(passphrase, chip)
    check_free(out, force=force)
    rooms = Rooms(app.home, app.store, lambda: app.device)
    with (
        app.progress("copying"),
        new_file(out, force=force) as file,
        _stage(app.home, out) as stage,
    ):
        manifest = make_backup(rooms, file, stage, wanted)
    _say_made(app, out, manifest, bool(passphrase))


@contextmanager
def _stage(home: Path, out: str) -> Iterator[Path]:
    """A private directory in the home: what is encrypted on its way out has been in clear nowhere
    else. A killed run's is used again.
    """
    stage = home / f".{'backup' if out == STDIO else Path(out).name}.copying"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700, parents=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _say_made(app: App, out: str, manifest: Manifest, encrypted: bool) -> None:
    found = {"file": out, "encrypted": encrypted, **manifest_json(manifest)}
    if out == STDIO:  # which has the backup itself
        return
    if not encrypted:
        app.note(
            "note: it is not encrypted (--encrypt): it says who asked for what, and its keys are"
            " wrapped for their chip"
        )
    if found["software_tpm"]:
        app.note(f"note: {_ROLLBACK}")
    rows = manifest.facts["database"]["rows"]
    app.done(
        found,
        f"wrote {out}: {rows['keys']:,} keys, {rows['certificates']:,} certificates, log up to"
        f" entry {manifest.facts['database']['entries']:,}",
    )


# ── restore ──────────────────────────────────────────────────────────────────


@click.command(epilog="Example: tpmhsm restore ca.backup --home /var/lib/tpmhsm")
@click.argument("file", metavar="FILE")
@click.option("--records", is_flag=True,
              help="Only what authorities whose keys are here issued and revoked.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the database that is there; it is kept.")
@passphrase_options
@pass_app
def restore(app: App, file: str, records: bool, force: bool, secret: Secret) -> int:
    """Put a backup into this home: whole, or not at all.

    Then everything is proved against the chip, as doctor store does, and what the chip knows better
    than the backup is said. Numbers of CRLs and requests go on far behind those of the backup, so
    that none is used twice. Exit code 1: restored, and something was found.

    --records is for a home on a second chip, which has the keys by 'tpmhsm key restore': it takes
    over the certificates, revocations and CRL numbers of their authorities.
    """
    from tpmhsm.home.restore import is_used
    from tpmhsm.home.restore import restore as put_back

    if records:
        return _restore_records(app, file, secret)
    force = force or _asked(app, is_used(app.home, app.db))
    with app.progress("checking the backup"), opening(file, secret.source()) as source:
        done = put_back(source, app.home, db=app.db, force=force)
    return _say_restored(app, done)


def _restore_records(app: App, file: str, secret: Secret) -> int:
    from tpmhsm.home.records import take_records

    store = app.store
    with app.progress("checking the backup"), opening(file, secret.source()) as source:
        manifest, taken = take_records(source, app.home, store)
    rows = [
        (name, f"{count:,} more", f"after {taken.crls[name]:,}" if name in taken.crls else "")
        for name, count in taken.certificates.items()
    ]
    found = {"home": str(app.home), "made": manifest.facts["made"], **vars(taken)}

    def words() -> str:
        said = [table(("AUTHORITY", "CERTIFICATES", "NEXT CRL"), rows, empty="nothing is here")]
        said.append(f"{taken.revocations:,} revocations more; {_UNKNOWN}")
        if taken.settings:
            said.append(_settings_words(app, taken.settings))
        if taken.left:
            said.append(
                f"no key here, so to be replaced: {', '.join(taken.left)} (tpmhsm cert list says"
                " what they issued)"
            )
        return "\n".join(said)

    app.done(found, words)
    return 0


def _asked(app: App, used: bool) -> bool:
    """At a terminal people are asked; scripts say --force."""
    if not used or not at_terminal() or app.as_json:
        return False
    question = f"{app.home} has a database: replace it? It is kept under another name. (yes/no) "
    if ask(question, undone="nothing was restored").strip().lower() != "yes":
        raise RefusedError("nothing was restored", code="interrupted")
    return True


def _say_restored(app: App, done: Restored) -> int:
    from tpmhsm.cli.doctor import checks_json, checks_words
    from tpmhsm.home.newer import newer_in_chip
    from tpmhsm.requests.proof import prove

    checks, newer, failed = [], [], None
    if not app.as_json:  # what is restored is so, whatever the proof finds
        app.emit({}, lambda: restored_words(app, done))
    if not done.forgot and done.manifest.facts["device"]:
        try:
            newer = newer_in_chip(app.store, app.device, app.groups)
            with app.progress("proving it against the chip") as tell:
                checks = list(prove(app.store, app.device, app.groups, tell))
        except TpmHsmError as error:
            failed = error
    ok = failed is None and not any(check.findings for check in checks)
    document = {
        "home": str(app.home),
        "ok": ok,
        **manifest_json(done.manifest),
        "kept": str(done.kept) if done.kept else None,
        "crls_after": done.crls,
        "newer": [{"what": one.what, "next": one.next} for one in newer],
        "checks": checks_json(checks),
    }
    if failed is not None:
        failed.message = f"the backup is restored, but not proved: {failed.message}"
        failed.details |= document
        raise failed

    def words() -> str:
        said = [f"! {one.what}" + (f"\n    {one.next}" if one.next else "") for one in newer]
        return "\n".join([prose("\n".join(said)), checks_words(checks)] if checks else said)

    app.emit(document, words)
    return 0 if ok else 1


def restored_words(app: App, done: Restored) -> str:
    """What was put back, and what people must know of the time since."""
    made = done.manifest.facts["made"]
    pairs: list[tuple[str, object]] = [
        ("Restored", f"{app.home}, as of {made}"),
        ("Before", f"{done.kept} (remove it when it is of no more use)" if done.kept else ""),
        ("Settings", _settings_words(app, done.settings)),
        ("Software TPM", _chip_words(done.chip)),
    ]
    if done.manifest.facts["device"]:
        pairs.append(("Unknown", _UNKNOWN))
    if done.crls:
        ahead = ", ".join(f"{name} after {number:,}" for name, number in done.crls.items())
        pairs.append(("CRL numbers", f"go on so that none is used twice: {ahead}"))
    if done.forgot:
        pairs.append(("Memory", _FORGOT.format(names=", ".join(done.forgot))))
    return facts(pairs)


_STAYS = "tpmhsm.toml of this home stays; that of the backup is another one"
_UNKNOWN = (
    "what was issued, revoked, approved or granted after that\n"
    "serials have 128 random bits, so none is issued twice; a certificate that the database does"
    " not know\nis revoked by its file: tpmhsm ca revoke CA FILE --reason R"
)
_FORGOT = (
    "what {names} approved after that is forgotten: this home refuses changes of groups until it"
    " has\nbegun anew (tpmhsm trust challenge), and then abstains for one epoch"
)


def _settings_words(app: App, restored: bool | None) -> str:
    """Also what they have this machine run: whoever could write the backup could write that."""
    if not restored:
        return "none in the backup" if restored is None else _STAYS
    try:
        found = app.settings
    except TpmHsmError as error:
        return f"tpmhsm.toml is that of the backup, and cannot be read: {error.message}"
    runs = [" ".join(found.hook), found.pkcs11_module]
    told = "".join(f"\nit has this machine run {one}" for one in runs if one)
    return f"tpmhsm.toml is that of the backup{told}"


def _chip_words(chip: bool | None) -> str:
    if chip is None:
        return ""
    return f"put back; {_ROLLBACK}" if chip else "the one of this home stays"


# ── what is in one ───────────────────────────────────────────────────────────


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """JSON-ready facts of a backup."""
    from tpmhsm.home.backup import left_out
    from tpmhsm.home.container import CHIP

    return {
        **manifest.facts,
        "manifest_sha256": manifest.digest,
        "software_tpm": manifest.has(CHIP),
        "files": [vars(part) for part in manifest.parts],
        "not_in_it": left_out(manifest),
    }


def show_backup(app: App, path: str, secret: Secret) -> None:
    """Print what a backup says of itself, all of it checked. Encrypted and without a passphrase:
    its first line alone. Raises ParseError.
    """
    from tpmhsm.home.container import read_backup
    from tpmhsm.home.sealed import is_sealed, read_head

    with opened_input(path) as file:
        sealed = is_sealed(file.read(64))
        file.seek(0)
        if sealed and not secret.given and not at_terminal():
            head = read_head(file)
            found: dict[str, Any] = {"encrypted": True, "made": head.made}
            words = "encrypted: --passphrase-file F shows what is in it"
            app.emit({"type": "backup", **found}, f"{path}: backup of {head.made}\n{words}")
            return
    with app.progress("checking the backup"), opening(path, secret.source()) as source:
        manifest = read_backup(source)
    document = {"type": "backup", "encrypted": sealed, **manifest_json(manifest)}
    app.emit(document, lambda: f"{path}: backup, whole\n{_manifest_words(document)}")


def _manifest_words(found: dict[str, Any]) -> str:
    database, device = found["database"], found["device"]
    rows = ", ".join(f"{count:,} {name}" for name, count in database["rows"].items() if count)
    chip = f"{device['kind']}, attestation key {device['ak_name'][:16]}…" if device else "none"
    files = [f"{one['name']}  {one['size']:,} bytes" for one in found["files"]]
    few = files if len(files) < 9 else [*files[:8], f"and {len(files) - 8} more"]
    return facts(
        [
            ("Made", f"{found['made']} by tpmhsm {found['program']}"),
            ("Encrypted", "yes" if found["encrypted"] else "no: anybody can read and change it"),
            ("Database", f"{database['kind']}, schema {database['schema']}: {rows or 'empty'}"),
            ("Log", f"up to entry {database['entries']:,} {database['head'][:16]}"),
            ("Chip", chip),
            ("Approvers", ", ".join(found["approvers"])),
            ("Files", "\n".join(few)),
            ("Software TPM", _ROLLBACK if found["software_tpm"] else ""),
            ("Not in it", "\n".join(found["not_in_it"])),
        ]
    )


@contextmanager
def opening(path: str, secret: Ask) -> Iterator[Any]:
    """A backup's plain bytes, decrypted if need be; errors name the file."""
    from tpmhsm.cli.files import naming
    from tpmhsm.home.sealed import Opener, is_sealed, read_head

    with naming(path), opened_input(path) as file:
        beginning = file.peek(64)[:64]
        yield Opener(file, read_head(file), secret) if is_sealed(beginning) else file
