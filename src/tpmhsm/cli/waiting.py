"""`--wait`: stay until people have decided; and what they decided for other requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tpmhsm.approval.request import GIVEN
from tpmhsm.cli.app import App
from tpmhsm.errors import RefusedError, WaitingError

if TYPE_CHECKING:
    from tpmhsm.store.requests import RequestRow

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks at a request."""


def settled(
    app: App, wait: bool, act: Callable[[], T], after: Callable[[RequestRow], T] | None = None
) -> T:
    """Do `act`; if it must wait for people, wait for them when `wait` says so.

    `after` makes the result from the executed request; without it `act` is run again. Raises
    WaitingError when nobody waits, or is stopped; RefusedError for a request that ended otherwise.
    """
    try:
        return act()
    except WaitingError as error:
        if not wait:
            raise
        row = _await(app, error)
    return after(row) if after else act()


def overtaken(app: App) -> dict[str, Any]:
    """The waiting requests that a change of officers has just overtaken, if there are any."""
    found = [one.facts for one in app.desk.overtaken]
    app.desk.overtaken.clear()
    return {"overtaken": found} if found else {}


def _await(app: App, waiting: WaitingError) -> RequestRow:
    number = waiting.request
    try:
        app.tell()
        app.note(f"{waiting.message}\n(Ctrl-C stops waiting; the request goes on)")
        with app.progress(f"request {number} waits for approvals"):
            return _poll(app, number)
    except KeyboardInterrupt:
        waiting.message = f"stopped waiting; {waiting.message}"
        waiting.hint = f"tpmhsm request execute {number} --wait waits again; {waiting.hint}"
        raise waiting from None


def _poll(app: App, number: int) -> RequestRow:
    ready = False
    while (row := app.desk.get(number)).state == "waiting":
        if app.desk.missing(row) == 0:
            if row.kind in GIVEN:  # what it gives is given to who asks again
                return row
            if ready:  # whoever gave the last approval did not get it executed
                return app.desk.execute(number)
            ready = True
        time.sleep(INTERVAL)
    if row.state == "executed":
        return row
    reasons = "; ".join(f"{d.approver}: {d.reason}" for d in app.desk.denials(number))
    raise RefusedError(
        f"request {number} is {row.state}{f' ({reasons})' if reasons else ''}",
        code=f"request-{row.state}",
        hint=f"tpmhsm request show {number}",
        details={"request": number, "state": row.state},
    )
