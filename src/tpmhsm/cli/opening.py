"""`tpmhsm key open` and `key close`: windows, in which a key signs with nobody present."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.options import reason_option, wait_option
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import UsageError
from tpmhsm.policy.windows import describe_seconds

if TYPE_CHECKING:
    from tpmhsm.keys.windows import OpenKey
    from tpmhsm.store.keys import KeyRow

_LENGTH = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,5})s)?")


def seconds_of(text: str) -> int:
    """Read `15m`, `90s`, `1h30m`. Raises UsageError."""
    found = _LENGTH.fullmatch(text.strip())
    if not found or not any(found.groups()):
        raise UsageError(
            f"--for {text!r}: not a length of time", hint="as 15m, 90s or 1h30m; at most 24h"
        )
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (hours * 60 + minutes) * 60 + seconds


def window_json(window: OpenKey) -> dict[str, Any]:
    """An open key's window: by whom, until when, what remains."""
    return {
        "group": window.group,
        "request": window.request,
        "opened": window.opened,
        "ends": window.ends,
        "seconds": window.seconds,
        "left": window.left,
    }


def window_words(window: OpenKey) -> str:
    """'open until 2026-11-23T17:15:00Z (9 minutes 12 seconds left), by officers'."""
    return f"open until {window.ends} ({describe_seconds(window.left)} left), by {window.group}"


def closed_words(app: App, row: KeyRow) -> str:
    """How a closed key is opened, and by whom; empty for one that no window opens."""
    policy, name = app.keyring.policy(row), bytes.fromhex(row.name)
    for group in policy.groups:
        if name in app.groups.state(group).roster.windows:
            return f"closed; tpmhsm key open {row.label} --for 15m asks the officers of {group}"
    if not policy.windows:
        return ""
    return (
        "closed, and may not be opened:\n"
        f"tpmhsm group change {policy.windows[0]} --open {row.label} asks the custodians"
    )


@click.command("open")
@click.argument("label")
@click.option("--for", "length", required=True, metavar="TIME",
              help="From now on: 15m, 90s, 1h30m; at most 24h.")  # fmt: skip
@click.option("--by", "group", default="", metavar="GROUP", help="Whose officers, of several.")
@reason_option("the officers")
@wait_option
@pass_app
def open_(app: App, label: str, length: str, group: str, reason: str, wait: bool) -> None:
    """Ask the officers to open a key: until the end it signs anything, and nobody is asked.

    The time runs from now, so waiting for approvals takes from it. It ends earlier when the chip is
    started anew or sleeps. The custodians decide which keys may be opened: group change --open KEY.

    \b
    Example:
      tpmhsm key open issuing --for 15m --wait
    """
    seconds = seconds_of(length)

    def propose() -> None:
        raise app.desk.openings.propose(label, seconds, group, reason)

    settled(app, wait, propose, lambda _: None)
    found = app.keyring.windows.of(app.keyring.get(label))
    app.done(
        {"label": label, "window": window_json(found) if found else None},
        f"{label}: {window_words(found)}" if found else f"{label}: the window is over already",
    )


@click.command("close")
@click.argument("label")
@pass_app
def close(app: App, label: str) -> None:
    """Close a key before its window ends: the chip's tickets are forgotten here.

    The chip cannot take them back: whoever has copied them can use them until the window ends.
    'tpmhsm device stop' ends all windows of a software TPM at once, a restart those of any chip.

    \b
    Example:
      tpmhsm key close issuing
    """
    row = app.keyring.get(label)
    was_open = app.keyring.windows.close(row, "by hand")
    app.done(
        {"label": label, "closed": was_open},
        f"{label} is closed" if was_open else f"{label} was not open",
    )
