"""One screen: is all well, and what needs people first, each with its command."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.store.keys import KeyRow

SOON = 30
"""Days before the end of a certificate at which it is mentioned."""

RECENT = 1000
"""Entries at the end of the log that are verified."""

WIDTH, HEIGHT = 80, 24

Todo = list[dict[str, str]]


def collect(app: App) -> dict[str, Any]:
    """All that `status` knows, JSON-ready; `ok` and `todo` say it in short."""
    from tpmhsm.keys.host import load_host

    host = load_host(app.store)
    todo: Todo = []
    device = _device(app, todo)
    waiting = _requests(app, todo)
    found = {
        "device": {**device, "kind": host.kind, "ak_name": host.ak_name.hex()},
        "keys": _keys(app, todo),
        "groups": _groups(app),
        "authorities": _authorities(app, todo),
        "certificates": _certificates(app, todo),
        "waiting": waiting,
        "database": _database(app, todo),
        "home": str(app.home),
    }
    return {"ok": not todo, "todo": todo, **found}


def _device(app: App, todo: Todo) -> dict[str, Any]:
    from tpmhsm.tpm.probe import lockout

    try:
        with app.device.transaction() as chip:
            state = lockout(chip)
    except TpmHsmError as error:
        todo.append({"about": "device", "what": error.message, "next": error.hint})
        return {"ok": False, "where": app.device.describe()}
    if state.active:
        what = f"the chip takes no PIN: {state.tries} were wrong"
        then = "tpmhsm device show says when it ends"
        todo.append({"about": "device", "what": what, "next": then})
    if not state.lockout_auth_set and _any_pin(app):
        what = "root here can reset the count of wrong PINs: the chip is not sealed"
        then = "tpmhsm device seal --recovery FILE"
        todo.append({"about": "sealing", "what": what, "next": then})
    return {"ok": True, "where": app.device.describe(), "sealed": state.lockout_auth_set}


def _any_pin(app: App) -> bool:
    keyring = app.keyring
    return any("pin" in row.policy and keyring.policy(row).has_pin for row in keyring.all())


def _requests(app: App, todo: Todo) -> list[int]:
    rows = app.desk.all("waiting")
    for row in rows:
        missing, title = app.desk.missing(row), app.desk.title(row)
        todo.append(
            {
                "about": "waiting",
                "what": f"request {row.id}, {title}: {missing} more must approve",
                "next": f"tpmhsm approve {row.id} --as NAME -i KEY",
            }
            if missing
            else {
                "about": "requests",
                "what": f"request {row.id}, {title}: approved, not executed",
                "next": {
                    "decrypt": f"tpmhsm key decrypt {row.key} FILE",
                    "backup": f"tpmhsm key backup {row.key} --to FILE",
                }.get(row.kind, f"tpmhsm request execute {row.id}"),
            }
        )
    return [row.id for row in rows]


def _keys(app: App, todo: Todo) -> dict[str, Any]:
    rows = app.keyring.all()
    found = {"count": len(rows), "policies": dict(Counter(row.policy for row in rows))}
    return {**found, "budgets": _budgets(app, rows, todo), "windows": _windows(app, todo)}


def _windows(app: App, todo: Todo) -> list[dict[str, Any]]:
    """The keys that are open now."""
    from tpmhsm.cli.opening import window_json, window_words

    windows = app.keyring.windows.all()
    for window in windows:
        if window.ends_soon:
            todo.append(
                {
                    "about": "windows",
                    "what": f"key {window.label}: {window_words(window)}",
                    "next": f"tpmhsm key open {window.label} --for 15m asks for another window",
                }
            )
    return [{"key": window.label, **window_json(window)} for window in windows]


def _budgets(app: App, rows: list[KeyRow], todo: Todo) -> list[dict[str, Any]]:
    """What is left of budgets, where there are any; those that end soon need people."""
    from tpmhsm.cli.granting import budget_json

    try:
        budgets = app.keyring.budgets.of(rows)
    except TpmHsmError:  # said of the device already
        return []
    for budget in budgets:
        if budget.ends_soon:
            todo.append(
                {
                    "about": "budgets",
                    "what": f"the budget of key {budget.key}: {budget.words}",
                    "next": f"tpmhsm key grant {budget.key} N asks {budget.group} for N more",
                }
            )
    return [{"key": budget.key, **budget_json(budget)} for budget in budgets]


def _groups(app: App) -> list[dict[str, Any]]:
    found = [app.groups.describe(row.name) for row in app.groups.all()]
    return [
        {
            "name": group["name"],
            "state": group["state"],
            "officers": group["officers"]["text"],
            "spare": group["officers"]["spare"],
        }
        for group in found
    ]


def _authorities(app: App, todo: Todo) -> list[dict[str, Any]]:
    from tpmhsm.cli.ca import ca_json, state_of
    from tpmhsm.cli.revoked import todo_of

    found = []
    labels = {row.label for row in app.keyring.all()}
    rows = app.authorities.all()
    for name in sorted(app.settings.authorities.keys() - {row.name for row in rows}):
        todo.append(
            {
                "about": "authorities",
                "what": f"tpmhsm.toml has [ca.{name}], and there is no such authority",
                "next": "tpmhsm ca list shows all authorities",
            }
        )
    for row in rows:
        facts = ca_json(app, row)
        left = facts["certificate"]["days_left"] if facts["certificate"] else None
        revoking = facts["revocation"]
        found.append(
            {"name": row.name, "state": state_of(facts), "days_left": left, "revocation": revoking}
        )
        if row.key_label not in labels:
            what = f"{row.name} signs nothing more: its key is deleted"
            todo.append({"about": "authorities", "what": what, "next": ""})
        own = facts["revoked"]
        if own and own["state"] == "held":
            what = f"{row.name} certifies nothing: {row.issuer} holds its certificate"
            serial = facts["certificate"]["serial"]
            then = f"tpmhsm ca release {row.issuer} 0x{serial}"
            todo.append({"about": "authorities", "what": what, "next": then})
        if left is not None and left < SOON:
            words = f"ends in {left} days" if left >= 0 else "has ended"
            what = f"the certificate of {row.name} {words}"
            todo.append({"about": "authorities", "what": what, "next": ""})
        if row.state == "active" and (left is None or left >= 0) and row.key_label in labels:
            todo += [{"about": "crls", **one} for one in todo_of(app, row.name, revoking)]
        if row.state == "pending" and facts["external"]:
            todo.append(
                {
                    "about": "authorities",
                    "what": f"{row.name} waits for its certificate from elsewhere",
                    "next": f"tpmhsm ca install {row.name} CERT CHAIN",
                }
            )
        elif row.state == "pending" and not facts["request"]:
            todo.append(
                {
                    "about": "authorities",
                    "what": f"the making of {row.name} was interrupted",
                    "next": f"tpmhsm ca create {row.name} … as before goes on with it",
                }
            )
    return found


def _certificates(app: App, todo: Todo) -> dict[str, Any]:
    """End-entity certificates that authorities here issued, by when they end."""
    from datetime import UTC, datetime, timedelta

    from tpmhsm.pki.tbs import rfc3339

    now = datetime.now(UTC)
    with app.store.reading() as tx:
        ends = tx.certificates.ends(rfc3339(now), rfc3339(now + timedelta(days=SOON)))
    if ends.soon:
        what = f"{ends.soon} certificates end soon"
        todo.append({"about": "certificates", "what": what, "next": "tpmhsm cert list"})
    return {"valid": ends.count, "next_end": ends.first}


def _database(app: App, todo: Todo) -> dict[str, Any]:
    from tpmhsm.keys.auditing import certified_at

    try:
        with app.store.reading() as tx:
            certified = certified_at(tx)
            entries = tx.audit.verify_chain(last=RECENT).seq  # all of them: doctor store
    except TpmHsmError as error:
        todo.append({"about": "database", "what": error.message, "next": error.hint})
        return {"ok": False, "where": app.store.words}
    found = {"log_entries": entries, "log_certified": certified}
    return {"ok": True, "where": app.store.words, **found}


def screen(found: dict[str, Any]) -> str:
    """The same for people: at most 24 lines of 80 columns."""
    below = _below(found)
    lines = [_head(found), *_todo_lines(found["todo"], HEIGHT - 1 - len(below)), *below]
    return "\n".join(lines)


def _head(found: dict[str, Any]) -> str:
    count = len(found["todo"])
    if not count:
        return click.style("all is well", fg="green", bold=True)
    words = "1 thing needs you" if count == 1 else f"{count} things need you"
    return click.style(words, fg="yellow", bold=True)


def _todo_lines(todo: Todo, room: int) -> list[str]:
    """What needs people, as much of it as there is room for."""
    lines: list[str] = []
    for number, item in enumerate(todo):
        new = [_cut(f"  ! {item['what']}")]
        if item["next"]:
            new.append(_cut(f"      {item['next']}"))
        rest = len(todo) - number
        if len(lines) + len(new) > room - (1 if rest > 1 else 0):
            return [*lines, f"  ! and {rest} more (tpmhsm status --json lists all)"]
        lines += new
    return lines


def _below(found: dict[str, Any]) -> list[str]:
    keys, ends = found["keys"], found["certificates"]
    policies = ", ".join(f"{count} {policy}" for policy, count in keys["policies"].items())
    groups = [
        f"{g['name']}: {g['officers']} ({g['state']}), {g['spare']} may be lost"
        for g in found["groups"]
    ]
    authorities = [
        f"{a['name']} ({a['state']}"
        + (f", {a['days_left']} days left)" if a["days_left"] is not None else ")")
        for a in found["authorities"]
    ]
    database = found["database"]
    log = f"{database['log_entries']} entries, unbroken" if database["ok"] else ""
    if certified := database.get("log_certified"):
        log += f"; certified by the chip {certified[:10]}"
    left = [f"{b['key']}: {b['left']:,} of {b['granted']:,} left" for b in keys["budgets"]]
    opened = [f"{w['key']} until {w['ends']}, by {w['group']}" for w in keys["windows"]]
    return [
        *_block("Device", [found["device"]["where"]]),
        *_block("Keys", _wrapped(f"{keys['count']}" + (f": {policies}" if policies else ""))),
        *(_block("Budgets", left) if left else []),
        *(_block("Open", opened) if opened else []),
        *_block("People", groups),
        *_block("CAs", authorities),
        *_block("Issued", [f"{ends['valid']} valid" + (
            f", the next ends {ends['next_end']}" if ends["next_end"] else "")]),
        *_block("Database", [database["where"]]),
        *(_block("Log", [log]) if log else []),
    ]  # fmt: skip


def _block(name: str, values: list[str], most: int = 4) -> list[str]:
    shown = values if len(values) <= most else values[: most - 1]
    if len(shown) < len(values):
        shown = [*shown, f"and {len(values) - len(shown)} more"]
    label = click.style(f"{name:10}", bold=True)
    first, *rest = shown or ["none"]
    return [label + _cut(first, WIDTH - 10), *(" " * 10 + _cut(one, WIDTH - 10) for one in rest)]


def _wrapped(line: str) -> list[str]:
    from textwrap import wrap

    return wrap(line, WIDTH - 10, break_on_hyphens=False)


def _cut(line: str, width: int = WIDTH) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
