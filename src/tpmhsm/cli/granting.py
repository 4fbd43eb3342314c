"""`tpmhsm key grant`: ask officers for more signatures by a key with a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.options import reason_option, wait_option
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import DeviceError

if TYPE_CHECKING:
    from tpmhsm.keys.budgets import Budget
    from tpmhsm.store.keys import KeyRow


def budget_json(budget: Budget) -> dict[str, Any]:
    """What is left of a budget, and of how much."""
    counted = budget.counted
    return {
        "group": budget.group,
        "index": f"0x{budget.index:08x}",
        "granted": counted.total if counted else 0,
        "used": counted.used if counted else 0,
        "left": budget.left,
    }


def budgets_of(app: App, rows: list[KeyRow]) -> dict[str, list[Budget]]:
    """The budgets of keys by the keys' labels; the chip is asked only where there are any.

    None, and a note, when the chip cannot be asked: all else of a key is known without it.
    """
    found: dict[str, list[Budget]] = {}
    try:
        for budget in app.keyring.budgets.of(rows):
            found.setdefault(budget.key, []).append(budget)
    except DeviceError as error:
        app.note(f"note: what is left of budgets is not known: {error.message}")
    return found


@click.command()
@click.argument("label")
@click.argument("units", metavar="N", type=click.IntRange(1))
@click.option("--by", "group", default="", metavar="GROUP", help="Which budget, of several.")
@reason_option("the officers")
@wait_option
@pass_app
def grant(app: App, label: str, units: int, group: str, reason: str, wait: bool) -> None:
    """Ask the officers for N more signatures by a key whose policy has a budget.

    The chip counts what is used, and refuses when nothing is left. Who has the machine then signs
    what they like, N times: grants say how many signatures, not which.

    \b
    Example:
      tpmhsm key create issuing --policy 'budget(officers)'
      tpmhsm key grant issuing 1000
    """

    def propose() -> None:
        raise app.desk.grants.propose(label, units, group, reason)

    settled(app, wait, propose, lambda _: None)
    row = app.keyring.get(label)
    found = budgets_of(app, [row]).get(label, [])
    app.done(
        {"label": label, "budgets": [budget_json(one) for one in found]},
        "\n".join(f"{label}: {one.words}" for one in found),
    )
