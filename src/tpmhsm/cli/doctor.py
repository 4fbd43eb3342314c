"""`tpmhsm doctor`: what is wrong with a set-up; `doctor store`: whether what is kept is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app, table
from tpmhsm.doctor.judging import state_of
from tpmhsm.errors import DeviceError, StoreError

if TYPE_CHECKING:
    from tpmhsm.doctor.facts import Need
    from tpmhsm.doctor.judging import Verdict
    from tpmhsm.store.proof import Check


@click.group(invoke_without_command=True, epilog="Example: tpmhsm doctor")
@click.option("-i", "--identity", metavar="ID", default="",
              help="An approver's key that is to work here, too: -i yubikey.")  # fmt: skip
@click.pass_context
def doctor(ctx: click.Context, identity: str) -> int:
    """Find what is wrong with this set-up, explain it, and say how it is mended.

    Rights, programs, home, disk, database, clock, the chip, groups, and what `status` names: each
    check is well, wants attention, or is broken. Exit code 1: something is broken.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    app = ctx.find_object(App)
    assert app is not None  # noqa: S101 - made before any command
    return _examine(app, identity)


def _examine(app: App, identity: str) -> int:
    from tpmhsm.doctor.checks import examine
    from tpmhsm.doctor.look import Patient, look

    patient = Patient(
        home=app.home,
        tpm=app.tpm,
        database=app.db or app.home,
        identity=identity,
        device=lambda: app.device,
        settings=lambda: app.settings,
        needs=lambda: _needs(app),
    )
    with app.progress("looking at home, database and chip"):
        verdicts = examine(look(patient))
    state = state_of(one for verdict in verdicts for one in verdict.findings)
    found = {"ok": state != "broken", "state": state, "home": str(app.home)}
    checks = [asdict(verdict) for verdict in verdicts]
    app.emit({**found, "checks": checks}, lambda: _screen(verdicts))
    return 0 if state != "broken" else 1


def _needs(app: App) -> list[Need]:
    """What `status` names, but for what waits for people as it should."""
    from tpmhsm.cli.status import collect
    from tpmhsm.doctor.facts import Need

    todo = collect(app)["todo"]
    return [Need(one["about"], one["what"], one["next"], one["urgent"]) for one in todo]


_COLOURS = {"well": "green", "attention": "yellow", "broken": "red", "unseen": "yellow"}


def _screen(verdicts: list[Verdict]) -> str:
    """A line for each check that could look, one for all that could not and why; the findings."""
    from tpmhsm.cli.app import prose
    from tpmhsm.cli.words import lines

    looked = [one for one in verdicts if one.state != "unseen"]
    width = max(len(one.name) for one in looked)
    shown = [
        f"{one.name:{width}}  {click.style(f'{one.state:9}', fg=_COLOURS[one.state])}  "
        + lines(one.seen if one.state == "well" else _count(one))
        for one in looked
    ]
    for why in dict.fromkeys(one.seen for one in verdicts if one.state == "unseen"):
        names = [one.name for one in verdicts if one.seen == why]
        shown.append(prose(f"{lines(why)}: {', '.join(names)}"))
    for verdict in verdicts:
        for one in verdict.findings:
            mark = click.style("!", fg=_COLOURS["broken" if one.broken else "attention"], bold=True)
            told = (("where", one.where), ("why", one.why), ("next", one.next))
            shown += ["", prose(f"{mark} {verdict.name}: {lines(one.what)}")]
            shown += [prose(f"    {name:5}  {lines(text)}") for name, text in told if text]
    return "\n".join(shown)


def _count(verdict: Verdict) -> str:
    many = len(verdict.findings)
    return "1 finding" if many == 1 else f"{many} findings"


@doctor.command(epilog="Example: tpmhsm doctor store")
@pass_app
def store(app: App) -> int:
    """Prove the database: file, log, every row, and every key and group against the chip.

    Certificates are compared with their bytes, their issuer's signature, their reserved serial and
    the log; every key is loaded into the chip. Changes nothing. Exit code 1: something was found;
    4 or 5: the chip or the database fails, and what was seen before that is shown.
    """
    from tpmhsm.requests.proof import prove

    checks: list[Check] = []
    try:
        with app.progress("looking at the database") as tell:
            for check in prove(app.store, app.device, app.groups, tell):
                checks.append(check)
    except (StoreError, DeviceError) as error:  # what was seen before it is worth knowing
        error.details["checks"] = checks_json(checks)
        if checks and not app.as_json:
            app.emit({}, lambda: checks_words(checks))
        raise
    found = checks_json(checks)
    ok = not any(check.findings for check in checks)
    app.emit({"ok": ok, "where": app.store.words, "checks": found}, lambda: checks_words(checks))
    return 0 if ok else 1


def checks_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """JSON-ready facts of checks."""
    return [_json(check) for check in checks]


def _json(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "ok": not check.findings,
        "seen": check.seen,
        "findings": [{"what": one.what, "next": one.next} for one in check.findings],
    }


def checks_words(checks: Sequence[Check]) -> str:
    """A table of checks, and what they found with each next step."""
    from tpmhsm.cli.words import lines

    rows = [(c.name, str(c.seen), str(len(c.findings) or "none")) for c in checks]
    shown = [table(("CHECK", "LOOKED AT", "FINDINGS"), rows, empty="")]
    for check in checks:
        for one in check.findings:
            shown.append(f"! {check.name}: {lines(one.what)}")
            if one.next:
                shown.append(f"    {lines(one.next)}")
    return "\n".join(shown)
