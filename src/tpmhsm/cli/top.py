"""Commands without a noun: init, status, show, version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.sealing import Keeping, keeping_options, sealed_words
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.cli.solo import Solo, solo_options
from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, UsageError

if TYPE_CHECKING:
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.tpm.probe import Lockout


@click.command()
@click.option("--seal/--no-seal", default=None,
              help="Whether the chip's lockout hierarchy gets a random password (tpmhsm device "
              "seal --help); a new software TPM's does.")  # fmt: skip
@click.option("--audit/--no-audit", default=None,
              help="Whether the chip audits each signature (tpmhsm audit start --help); a new "
              "software TPM does.")  # fmt: skip
@solo_options
@keeping_options
@pass_app
def init(
    app: App, seal: bool | None, audit: bool | None, solo: Solo, keeping: Keeping, secret: Secret
) -> None:
    """Set up this home: the database, the chip, and the chip's own keys. Safe to run again.

    Without a TPM that this user may open, a software TPM is made in the home. Of a chip that others
    may use, too, nothing is changed unless --seal, --recovery or --audit says so.

    With --solo there is a CA at once, for a year and for localhost and the --domain alone. Its keys
    are open: anyone with this machine issues by them. It is never grown into a quorum's.

    \b
    Example:
      tpmhsm init && tpmhsm device export --out host.card
      tpmhsm init --solo --domain example.com
    """
    from tpmhsm.keys.auditing import Auditing
    from tpmhsm.keys.host import find_host, measure, save_host
    from tpmhsm.keys.sealing import record
    from tpmhsm.store import Store
    from tpmhsm.tpm import software

    if seal is False and keeping.recovery is not None:
        raise UsageError("--recovery seals the chip, --no-seal does not")
    keeping.check()
    solo.check()
    sealed = None
    with Store.open(app.db or app.home, create=True) as store:
        host = find_host(store)
        fresh = host is None
        if host is not None and (seal or keeping.recovery is not None):
            raise UsageError(
                "this home was set up before", hint="tpmhsm device seal seals its chip"
            )
        if host is not None and host.kind == "software TPM" and app.device.check is not None:
            _must_be_there(app)
        if host is None:
            with app.progress("setting up the chip"):
                if app.device.check is not None:  # the home's own software TPM
                    if software.is_manufactured(software.directory_of(app.home)):
                        app.note("note: the software TPM was here and the database was not: keys "
                                 "made before are usable with a backup of it alone")  # fmt: skip
                    software.manufacture(software.directory_of(app.home))
                host = measure(app.device)
            sealed = _seal(app, host, seal, keeping, secret)
            save_host(store, host)
            if sealed:
                record(store, sealed, kept=keeping.recovery is not None)
        if audit or (fresh and audit is None and app.device.check is not None):
            try:
                Auditing(store, app.device).start()
            except (ChipRefusedError, DeviceError) as error:
                if audit:
                    raise
                app.note(f"note: the log will not be proven: {error.message}")
    found = {"home": str(app.home), "new": fresh, "sealed": sealed is not None, **host_json(host)}
    made = _solo(app, solo)
    app.done(
        {**found, **({"solo": made} if made else {})},
        lambda: facts(
            [
                ("Home", f"{app.home}" if fresh else f"{app.home} (was set up before)"),
                ("Device", app.device.describe()),
                ("EK certificates", len(host.ek_certificates) or "none"),
                ("Lockout", _sealed_words(app, fresh, keeping, sealed)),
                *_solo_words(made),
            ]
        ),
    )


def _solo(app: App, solo: Solo) -> dict[str, Any]:
    """The solo CA, where one is wanted."""
    from tpmhsm.cli.solo import set_up

    if not solo.wanted:
        return {}
    with app.progress("making an open root and issuer"):
        return set_up(app, solo)


def _solo_words(made: dict[str, Any]) -> list[tuple[str, object]]:
    from tpmhsm.cli.solo import words

    if made:
        return words(made)
    return [("Next", "tpmhsm key create LABEL, or tpmhsm device export --out host.card")]


def _seal(
    app: App, host: HostDevice, wanted: bool | None, keeping: Keeping, secret: Secret
) -> Lockout | None:
    """Seal the chip if that is wanted; a software TPM of the home's own, unless it is not."""
    from tpmhsm.keys.sealing import Sealing, seal

    own = app.device.check is not None
    if wanted is False or (wanted is None and keeping.recovery is None and not own):
        return None
    try:
        return seal(app.device, host, Sealing(keep=keeping.keeper(host, secret)))
    except RefusedError as error:  # before, or by another who sets this home up at the same time
        if wanted or keeping.recovery is not None or error.code != "already-sealed":
            raise
        return None


def _sealed_words(app: App, fresh: bool, keeping: Keeping, sealed: Lockout | None) -> str:
    if sealed:
        return sealed_words(keeping, sealed)
    if not fresh or app.device.check is not None:
        return ""
    return "as it was (tpmhsm device show); tpmhsm device seal keeps root from resetting it"


def _must_be_there(app: App) -> None:
    """A home that was set up must not get another software TPM: its keys would not open there."""
    from tpmhsm.tpm import software

    directory = software.directory_of(app.home)
    if not software.is_manufactured(directory):
        raise DeviceError(
            f"the software TPM of this home is gone: {directory} was removed or is damaged",
            code="device-lost",
            hint="the keys of this home open in that TPM alone: restore the directory from a "
            "backup, or set up another home with --home",
        )


def host_json(host: HostDevice) -> dict[str, Any]:
    """The chip's public facts."""
    return {
        "device": host.kind,
        "software": host.kind == "software TPM",
        "ak_name": host.ak_name.hex(),
        "ek_sha256": host.ek_digest.hex(),
        "ek_certificates": len(host.ek_certificates),
        **host.facts,
    }


@click.command(epilog="Example: tpmhsm version")
@pass_app
def version(app: App) -> None:
    """The version."""
    from tpmhsm import __version__

    app.emit({"version": __version__}, f"tpmhsm {__version__}")


@click.command(epilog="Example: tpmhsm status")
@pass_app
def status(app: App) -> None:
    """Is all well, and what needs people first."""
    from tpmhsm.cli.status import collect, screen

    found = collect(app)
    app.emit(found, lambda: screen(found))


@click.command(epilog="Example: tpmhsm show web.pem; tpmhsm show www.example.com:443")
@click.argument("what", metavar="FILE|HOST:PORT")
@click.option("--timeout", type=click.FloatRange(0.1, 300), default=10.0, show_default=True,
              metavar="SECONDS", help="For HOST:PORT.")  # fmt: skip
@passphrase_options
@pass_app
def show(app: App, what: str, timeout: float, secret: Secret) -> None:
    """Say what anything is: certificate, CSR, CRL, PKCS#7, PKCS#12, key, request, card …

    HOST:PORT shows the certificates that a TLS server sends; nothing is said about trust.
    """
    from tpmhsm.cli.files import is_backup, read_bundle_input
    from tpmhsm.cli.show import show_bytes

    if host := _host_and_port(what):
        from tpmhsm.cli.fetch import fetch_chain
        from tpmhsm.pki.load import to_pem

        with app.progress(f"asking {what}"):
            chain = fetch_chain(*host, timeout)
        show_bytes(app, b"".join(to_pem(one) for one in chain), what)
        return
    if is_backup(what):
        from tpmhsm.cli.backup import show_backup

        show_backup(app, what, secret)
        return
    show_bytes(app, read_bundle_input(what), what, secret.source() if secret.given else None)


def _host_and_port(what: str) -> tuple[str, int] | None:
    """`www.example.com:443`, `[2001:db8::1]:443`, `https://…`; None for the name of a file."""
    import re
    from pathlib import Path

    from tpmhsm.cli.files import STDIO

    if what.startswith("https://"):
        what = what.removeprefix("https://").partition("/")[0]
        what += "" if re.search(r":\d+$", what) else ":443"
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^/\[\]:\s]+)):(\d{1,5})", what)
    if what == STDIO or found is None or Path(what).exists():
        return None
    port = int(found[3])
    if not 1 <= port <= 65535:
        raise UsageError(f"{what}: ports are 1 to 65535")
    return found[1] or found[2], port
