"""`tpmhsm doctor`: whether all that is kept is whole and true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app, table
from tpmhsm.errors import DeviceError, StoreError

if TYPE_CHECKING:
    from tpmhsm.store.proof import Check


@click.group(epilog="Example: tpmhsm doctor store")
def doctor() -> None:
    """Prove what is kept: the database against itself and the chip."""


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
