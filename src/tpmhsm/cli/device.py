"""`tpmhsm device`: the TPM of this home."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from tpmhsm.tpm.probe import Lockout, Probe


@click.group(epilog="Example: tpmhsm device probe")
def device() -> None:
    """The TPM: show, probe, export its card, stop."""


@device.command(epilog="Example: tpmhsm device show")
@pass_app
def show(app: App) -> None:
    """Which chip this home uses, and how its lockout after wrong PINs stands."""
    from tpmhsm.cli.top import host_json
    from tpmhsm.keys.host import load_host

    host = load_host(app.store)
    found: dict[str, Any] = {**host_json(host), "where": app.device.describe()}
    lines = [(k.replace("_", " "), v) for k, v in found.items()]
    if state := _lockout(app):
        found["lockout"] = asdict(state)
        lines.append(("lockout", _lockout_words(state)))
    app.emit(found, lambda: facts(lines))


def _lockout(app: App) -> Lockout | None:
    """None when the chip does not answer: what this home knows of it is shown all the same."""
    from tpmhsm.tpm.probe import lockout

    try:
        with app.device.transaction() as chip:
            return lockout(chip)
    except DeviceError as error:
        app.note(f"note: {error.message}")
        return None


def _lockout_words(state: Lockout) -> str:
    from tpmhsm.tpm.pins import duration

    back = f"one try comes back every {duration(state.recovery)}"
    if state.active:
        return f"PINs are refused after {state.tries} wrong ones; {back}"
    return f"{state.tries} wrong PINs of {state.max_tries} before PINs are refused; {back}"


def probe_json(probe: Probe) -> dict[str, Any]:
    """What a chip can do."""
    return asdict(probe)


@device.command(epilog="Example: tpmhsm device probe")
@pass_app
def probe(app: App) -> None:
    """What this chip can and cannot do."""
    from tpmhsm.tpm.probe import probe as ask

    with app.progress("probing the chip"), app.device.transaction() as chip:
        found = {"device": app.device.kind, **probe_json(ask(chip))}
    app.emit(found, lambda: facts(_lines(found)))


def _lines(found: dict[str, Any]) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = []
    for name, value in found.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            lines += [(f"{label}: {k.replace('_', ' ')}", v) for k, v in value.items()]
        elif isinstance(value, (list, tuple)):
            lines.append((label, ", ".join(map(str, value)) or "none"))
        elif isinstance(value, bool):
            lines.append((label, "yes" if value else "no"))
        else:
            lines.append((label, value))
    return lines


@device.command(epilog="Example: tpmhsm device export --out host.card")
@out_options()
@pass_app
def export(app: App, out: Out) -> None:
    """The device's card: hand it to approvers by another way than the host.

    It is JSON itself, so --json changes nothing on stdout.
    """
    from tpmhsm.keys.host import load_host
    from tpmhsm.requests.drafts import device_card

    target = out.claim()
    card = device_card(load_host(app.store))
    out.write(card.data)
    if target != STDIO:
        app.done(
            {"file": target, "digest": card.digest.hex()},
            f"wrote {target}: approvers run tpmhsm trust add {target}",
        )


@device.command(epilog="Example: tpmhsm device stop")
@pass_app
def stop(app: App) -> None:
    """Stop the software TPM in order; the next command starts it again."""
    from tpmhsm.tpm import software

    if app.device.kind != "software TPM":
        raise UsageError("only a software TPM is stopped; this home uses other hardware")
    stopped = software.stop(software.directory_of(app.home))
    app.done({"stopped": stopped}, "stopped" if stopped else "it was not running")


@device.command(epilog="Example: tpmhsm device unlock")
@pass_app
def unlock(app: App) -> None:
    """End a lockout after failed authorizations, with the lockout hierarchy's empty password."""
    from tpmhsm.tpm.probe import lockout
    from tpmhsm.wire.commands import DictionaryAttackLockReset
    from tpmhsm.wire.constants import RH

    with app.device.transaction() as chip:
        chip.send(DictionaryAttackLockReset(RH.LOCKOUT))
        found = asdict(lockout(chip))
    app.done(found, "no lockout")
