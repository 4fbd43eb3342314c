"""`tpmhsm device`: the TPM of this home."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.cli.sealing import (
    AUTH_FILE_HELP,
    Keeping,
    Known,
    hierarchies_words,
    keeping_options,
    limits_options,
    lockout_json,
    lockout_words,
    sealed_words,
)
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from tpmhsm.tpm.hierarchies import Hierarchies
    from tpmhsm.tpm.probe import Lockout, Probe


@click.group(epilog="Example: tpmhsm device probe")
def device() -> None:
    """The TPM: show, probe, export its card, seal, unlock, stop."""


@device.command(epilog="Example: tpmhsm device show")
@pass_app
def show(app: App) -> None:
    """Which chip this home uses, how its hierarchies stand, and its lockout after wrong PINs."""
    from tpmhsm.cli.top import host_json
    from tpmhsm.keys.host import load_host

    host = load_host(app.store)
    found: dict[str, Any] = {**host_json(host), "where": app.device.describe()}
    lines = _lines(found)
    if state := _state(app):
        standing, lockout = state
        found |= {"hierarchies": asdict(standing), "lockout": lockout_json(lockout)}
        lines += hierarchies_words(standing)
        lines.append(("wrong PINs", lockout_words(lockout)))
    app.emit(found, lambda: facts(lines))


def _state(app: App) -> tuple[Hierarchies, Lockout] | None:
    """None when the chip does not answer: what this home knows of it is shown all the same."""
    from tpmhsm.tpm.hierarchies import hierarchies
    from tpmhsm.tpm.probe import lockout

    try:
        with app.device.transaction() as chip:
            return hierarchies(chip), lockout(chip)
    except DeviceError as error:
        app.note(f"note: {error.message}")
        return None


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
            lines += [(f"{label}: {k}", v) for k, v in _lines(value)]
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


@device.command(epilog="Example: tpmhsm device stop && systemctl reboot")
@pass_app
def stop(app: App) -> None:
    """Prepare for a planned stop; the software TPM is stopped too.

    A chip that was not told counts a failed try if a key with a PIN was used, and loses what its
    clock gained since it last wrote it, and what others keep in orderly NV indices. Any stop ends
    windows. Linux tells the chip when it shuts down in order; `stop` is for all else. The next
    command of anybody takes it back; the software TPM is then started again.
    """
    from tpmhsm.tpm import software
    from tpmhsm.tpm.hierarchies import prepare_stop

    if app.device.kind == "software TPM" and app.device.check is not None:
        if software.running(software.directory_of(app.home)):
            app.certify_the_log(now=True)
        stopped = software.stop(software.directory_of(app.home))
        app.done({"stopped": stopped}, "stopped" if stopped else "it was not running")
        return
    app.certify_the_log(now=True)
    with app.device.transaction() as chip:
        prepare_stop(chip)
    app.done({"stopped": True}, "the chip is ready to lose its power; the next command undoes that")


@device.command(epilog="Example: tpmhsm device unlock --recovery chip.recovery")
@click.option("--recovery", metavar="FILE", help="What device seal wrote, from where it is kept.")
@click.option("--auth-file", metavar="F", help=AUTH_FILE_HELP)
@passphrase_options
@pass_app
def unlock(app: App, recovery: str | None, auth_file: str | None, secret: Secret) -> None:
    """End a lockout after wrong PINs: all tries come back.

    A chip that is not sealed lets everybody with the machine do that. Root on this machine could
    read the password of a sealed one while it is used: seal it anew afterwards.
    """
    from tpmhsm.keys.host import load_host
    from tpmhsm.keys.sealing import lift

    host = load_host(app.store)
    password = Known(recovery, auth_file).value(host, secret)
    state = lift(app.device, host, password)
    with app.store.transaction() as tx:
        tx.audit.append("device-unlock")
    if not state.lockout_auth_set:
        app.note("note: anybody with this machine can do that; tpmhsm device seal closes it")
    app.done(lockout_json(state), "no lockout")


@device.command(epilog="Example: tpmhsm device seal --recovery chip.recovery")
@keeping_options
@click.option("--discard", is_flag=True, help="Nobody keeps the password: lockouts just end.")
@limits_options
@click.option("--old", metavar="FILE", help="The recovery file of now, if the chip is sealed.")
@click.option("--auth-file", metavar="F", help=AUTH_FILE_HELP)
@pass_app
def seal(app: App, /, keeping: Keeping, secret: Secret, **chosen: Any) -> None:
    """Give the lockout hierarchy a random password that is not on this machine.

    Then root cannot set the count of wrong PINs back, loosen its limits, or clear the chip. On a
    chip that other programs use, too, the limits are theirs as well. The owner hierarchy keeps its
    empty password: systemd-cryptenroll, clevis and others make their keys with it.
    """
    from tpmhsm.keys.host import load_host
    from tpmhsm.keys.sealing import Sealing, record
    from tpmhsm.keys.sealing import seal as seal_chip
    from tpmhsm.tpm.hierarchies import Limits

    if chosen["discard"] == (keeping.recovery is not None):
        raise UsageError(
            "say who keeps the password",
            hint="--recovery FILE writes it to a file, encrypted; --discard: nobody",
        )
    host = load_host(app.store)
    keeping.check()
    sealing = Sealing(
        Limits(chosen["tries"], chosen["every"]),
        current=Known(chosen["old"], chosen["auth_file"]).value(host, secret),
        keep=keeping.keeper(host, secret),
    )
    state = seal_chip(app.device, host, sealing)
    record(app.store, state, kept=not chosen["discard"])
    found = {**lockout_json(state), "recovery_file": keeping.recovery}
    app.done(found, lambda: sealed_words(keeping, state, chosen["old"]))
