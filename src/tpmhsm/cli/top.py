"""Commands without a noun: init, status, show, version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from tpmhsm.keys.host import HostDevice


@click.command(epilog="Example: tpmhsm init && tpmhsm device export --out host.card")
@pass_app
def init(app: App) -> None:
    """Set up this home: the database, the chip, and the chip's own keys. Safe to run again.

    Without a TPM that this user may open, a software TPM is made in the home.
    """
    from tpmhsm.keys.host import find_host, measure, save_host
    from tpmhsm.store import Store
    from tpmhsm.tpm import software

    with Store.open(app.db or app.home, create=True) as store:
        host = find_host(store)
        fresh = host is None
        if host is not None and host.kind == "software TPM" and app.device.check is not None:
            _must_be_there(app)
        if host is None:
            with app.progress("setting up the chip"):
                if app.device.check is not None:  # the home's own software TPM
                    software.manufacture(software.directory_of(app.home))
                host = measure(app.device)
            save_host(store, host)
    found = {"home": str(app.home), "new": fresh, **host_json(host)}
    app.emit(
        found,
        lambda: facts(
            [
                ("Home", f"{app.home}" if fresh else f"{app.home} (was set up before)"),
                ("Device", app.device.describe()),
                ("EK certificates", len(host.ek_certificates) or "none"),
                ("Next", "tpmhsm key create LABEL, or tpmhsm device export --out host.card"),
            ]
        ),
    )


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


@click.command(epilog="Example: tpmhsm show web.pem")
@click.argument("file", metavar="FILE")
@pass_app
def show(app: App, file: str) -> None:
    """Say what a file is: certificate, CSR, CRL, request, approval, denial, card or key."""
    import re
    from pathlib import Path

    from tpmhsm.cli.show import show_bytes

    if re.fullmatch(r"[^/]+:\d{1,5}", file) and not Path(file).exists():
        raise UsageError(
            f"{file}: certificates of a running server are not in this version",
            code="not-in-this-version",
            hint=f"openssl s_client -connect {file} -showcerts | tpmhsm show -",
        )
    show_bytes(app, app.read(file), file)
