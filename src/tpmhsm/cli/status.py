"""One screen: is all well, and what needs people first, each with its command."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.status_screen import screen
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.keys.groups import GroupState
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.probe import Lockout

SOON = 30
"""Days before the end of a certificate at which it is mentioned."""

RECENT = 1000
"""Entries at the end of the log that are verified."""

TODAY = ("issued", "crl", "csr", "signed", "decrypted")
"""Acts of the log in which a key was used."""


class Todo(list[dict[str, Any]]):
    """What needs people: `about` which subject, `what`, the `next` command, and whether it is
    `urgent`: something does not work now.
    """

    def need(self, about: str, what: str, then: str = "", *, urgent: bool = False) -> None:
        """Note one more."""
        self.append({"about": about, "what": what, "next": then, "urgent": urgent})


def collect(app: App) -> dict[str, Any]:
    """All that `status` knows, JSON-ready; `ok` and `todo` say it in short."""
    from tpmhsm.keys.host import load_host

    host = load_host(app.store)
    todo = Todo()
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
    found["today"] = _today(app)
    todo.sort(key=lambda one: not one["urgent"])  # what is broken comes first
    return {"ok": not todo, "todo": todo, **found}


def _device(app: App, todo: Todo) -> dict[str, Any]:
    """The chip, in one transaction: two commands, and four for each group."""
    from tpmhsm.doctor.chip_checks import roster_finding
    from tpmhsm.doctor.look_chip import look_at_roster
    from tpmhsm.tpm.probe import lockout

    where = app.device.describe()
    states = _active_groups(app)
    try:
        with app.device.transaction() as chip:
            state = lockout(chip)
            rosters = [look_at_roster(chip, *one) for one in states]
    except TpmHsmError as error:
        todo.need("device", error.message, error.hint or "tpmhsm doctor", urgent=True)
        return {"ok": False, "where": where}
    if state.active:
        _locked(todo, state)
    if not state.lockout_auth_set and _any_pin(app):
        what = "root here can reset the count of wrong PINs: the chip is not sealed"
        todo.need("sealing", what, "tpmhsm device seal --recovery FILE")
    for one in rosters:
        if finding := roster_finding(one, where):
            todo.need("rosters", finding.what, finding.next, urgent=finding.broken)
    return {"ok": True, "where": where, "sealed": state.lockout_auth_set}


def _locked(todo: Todo, state: Lockout) -> None:
    from tpmhsm.tpm.pins import deadline

    unlock = "tpmhsm device unlock" + (" --recovery FILE" if state.lockout_auth_set else "")
    then = f"{unlock}; or wait until {deadline(state.recovery)}"
    todo.need("device", f"the chip takes no PIN: {state.tries} were wrong", then, urgent=True)


def _active_groups(app: App) -> list[tuple[GroupState, bool]]:
    """Groups that have indices in the chip, and whether a change of each is under way."""
    with app.store.reading() as tx:
        rows = [row for row in tx.groups.all() if row.state == "active"]
        changing = {row.group_id for row in tx.requests.all("waiting") if row.kind == "roster"}
    states = [app.groups.state(row.name) for row in rows]
    return [(one, one.row.id in changing) for one in states if not one.group.static]


def _any_pin(app: App) -> bool:
    keyring = app.keyring
    return any("pin" in row.policy and keyring.policy(row).has_pin for row in keyring.all())


def _requests(app: App, todo: Todo) -> list[int]:
    rows = app.desk.all("waiting")
    founded = {group.id for group in app.groups.all() if group.state == "active"}
    for row in rows:
        missing, title = app.desk.missing(row), app.desk.title(row)
        if missing:
            what = f"request {row.id}, {title}: {missing} more must approve"
            alone = row.kind == "group" or not row.group_id or row.group_id in founded
            step = f"tpmhsm approve {row.id} --as NAME -i KEY" if alone else "tpmhsm ceremony"
            todo.need("waiting", what, step)
            continue
        then = {
            "decrypt": f"tpmhsm key decrypt {row.key} FILE",
            "backup": f"tpmhsm key backup {row.key} --to FILE",
        }.get(row.kind, f"tpmhsm request execute {row.id}")
        todo.need("requests", f"request {row.id}, {title}: approved, not executed", then)
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
            what = f"key {window.label}: {window_words(window)}"
            then = f"tpmhsm key open {window.label} --for 15m asks for another window"
            todo.need("windows", what, then)
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
            what = f"the budget of key {budget.key}: {budget.words}"
            then = f"tpmhsm key grant {budget.key} N asks {budget.group} for N more"
            used_up = budget.counted is not None and not budget.left
            todo.need("budgets", what, then, urgent=used_up)
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
        what = f"tpmhsm.toml has [ca.{name}], and there is no such authority"
        todo.need("authorities", what, "tpmhsm ca list shows all authorities")
    for row in rows:
        facts = ca_json(app, row)
        left = facts["certificate"]["days_left"] if facts["certificate"] else None
        revoking = facts["revocation"]
        found.append(
            {"name": row.name, "state": state_of(facts), "days_left": left, "revocation": revoking}
        )
        if row.key_label not in labels:
            todo.need("authorities", f"{row.name} signs nothing more: its key is deleted")
        own = facts["revoked"]
        if own and own["state"] == "held":
            what = f"{row.name} certifies nothing: {row.issuer} holds its certificate"
            serial = facts["certificate"]["serial"]
            todo.need("authorities", what, f"tpmhsm ca release {row.issuer} 0x{serial}")
        if left is not None and left < SOON:
            words = f"ends in {left} days" if left >= 0 else "has ended"
            what = f"the certificate of {row.name} {words}"
            then = "tpmhsm ca create NAME --key LABEL … makes its successor"
            todo.need("authorities", what, then, urgent=left < 0)
        if row.state == "active" and (left is None or left >= 0) and row.key_label in labels:
            for one in todo_of(app, row.name, revoking):
                todo.need("crls", one["what"], one["next"], urgent="urgent" in one)
        if row.state == "pending" and facts["external"]:
            what = f"{row.name} waits for its certificate from elsewhere"
            todo.need("authorities", what, f"tpmhsm ca install {row.name} CERT CHAIN")
        elif row.state == "pending" and not facts["request"]:
            then = f"tpmhsm ca create {row.name} … as before goes on with it"
            todo.need("authorities", f"the making of {row.name} was interrupted", then)
    return found


def _certificates(app: App, todo: Todo) -> dict[str, Any]:
    """End-entity certificates that authorities here issued, by when they end."""
    from datetime import UTC, datetime, timedelta

    from tpmhsm.pki.tbs import rfc3339

    now = datetime.now(UTC)
    with app.store.reading() as tx:
        ends = tx.certificates.ends(rfc3339(now), rfc3339(now + timedelta(days=SOON)))
    if ends.soon:
        soon = "1 certificate ends" if ends.soon == 1 else f"{ends.soon:,} certificates end"
        todo.need("certificates", f"{soon} within {SOON} days", "tpmhsm cert list")
    return {"valid": ends.count, "next_end": ends.first}


def _today(app: App) -> dict[str, int]:
    """How often keys were used since midnight UTC, by act of the log."""
    from datetime import UTC, datetime

    with app.store.reading() as tx:
        found = tx.audit.counts(f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}")
    return {act: found.get(act, 0) for act in TODAY}


def _database(app: App, todo: Todo) -> dict[str, Any]:
    from tpmhsm.keys.auditing import certified_at

    try:
        with app.store.reading() as tx:
            certified = certified_at(tx)
            entries = tx.audit.verify_chain(last=RECENT).seq  # all of them: doctor store
    except TpmHsmError as error:
        todo.need("database", error.message, error.hint or "tpmhsm doctor store", urgent=True)
        return {"ok": False, "where": app.store.words}
    found = {"log_entries": entries, "log_certified": certified}
    return {"ok": True, "where": app.store.words, **found}


__all__ = ["collect", "screen"]
