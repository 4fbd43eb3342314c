"""One screen: is all well, and what needs people first, each with its command."""

from __future__ import annotations

from typing import Any

import click

from tpmhsm.cli.app import App, facts
from tpmhsm.errors import DeviceError

SOON = 30
"""Days before the end of a certificate at which it is mentioned."""


def collect(app: App) -> dict[str, Any]:
    """All that `status` knows, JSON-ready; `ok` and `todo` say it in short."""
    from tpmhsm.keys.host import load_host

    host = load_host(app.store)
    todo: list[dict[str, str]] = []
    device = _device(app, todo)
    requests = app.desk.all("waiting")
    todo += [
        {
            "what": f"request {row.id}: {app.desk.title(row)} waits for "
            f"{row.needed - len(app.desk.approvals(row.id))} more",
            "next": f"tpmhsm approve {row.id} --as NAME -i KEY",
        }
        for row in requests
    ]
    authorities = _authorities(app, todo)
    groups = [app.groups.describe(row.name) for row in app.groups.all()]
    return {
        "ok": device["ok"] and not todo,
        "todo": todo,
        "device": {**device, "kind": host.kind, "ak_name": host.ak_name.hex()},
        "keys": len(app.keyring.all()),
        "groups": [
            {"name": g["name"], "state": g["state"], "officers": g["officers"]["text"]}
            for g in groups
        ],
        "authorities": authorities,
        "waiting": [row.id for row in requests],
        "home": str(app.home),
    }


def _device(app: App, todo: list[dict[str, str]]) -> dict[str, Any]:
    from tpmhsm.wire.commands import GetRandom

    try:
        with app.device.transaction() as chip:
            chip.send(GetRandom(1))
    except DeviceError as error:
        todo.append({"what": error.message, "next": error.hint})
        return {"ok": False, "where": app.device.describe()}
    return {"ok": True, "where": app.device.describe()}


def _authorities(app: App, todo: list[dict[str, str]]) -> list[dict[str, Any]]:
    from tpmhsm.cli.ca import ca_json

    found = []
    for row in app.authorities.all():
        facts_ = ca_json(app, row)
        left = facts_["certificate"]["days_left"] if facts_["certificate"] else None
        found.append({"name": row.name, "state": row.state, "days_left": left})
        if left is not None and left < SOON:
            todo.append({"what": f"the certificate of {row.name} ends in {left} days", "next": ""})
        if row.state == "pending" and facts_["external"]:
            todo.append(
                {
                    "what": f"{row.name} waits for its certificate from elsewhere",
                    "next": f"tpmhsm ca install {row.name} CERT CHAIN",
                }
            )
    return found


def screen(found: dict[str, Any]) -> str:
    """The same for people."""
    head = (
        click.style("all is well", fg="green", bold=True)
        if found["ok"]
        else click.style(f"{len(found['todo'])} things need you", fg="yellow", bold=True)
    )
    lines = [head]
    for item in found["todo"]:
        lines.append(f"  ! {item['what']}")
        if item["next"]:
            lines.append(f"      {item['next']}")
    lines.append(
        facts(
            [
                ("Device", found["device"]["where"]),
                ("Keys", found["keys"]),
                ("Groups", "\n".join(f"{g['name']}: {g['officers']} ({g['state']})"
                                     for g in found["groups"]) or "none"),
                ("Authorities", "\n".join(
                    f"{a['name']} ({a['state']}"
                    + (f", {a['days_left']} days left)" if a["days_left"] is not None else ")")
                    for a in found["authorities"]) or "none"),
            ]
        )
    )  # fmt: skip
    return "\n".join(lines)
