"""`tpmhsm group`: named sets of people."""

from __future__ import annotations

from typing import Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.options import wait_option
from tpmhsm.cli.waiting import settled


@click.group(epilog="Example: tpmhsm group create officers --officers 2:alice,bob,carol")
def group() -> None:
    """Groups of people: custodians who govern and officers who approve."""


RULE = "M:NAME,NAME,…"


@group.command()
@click.argument("name")
@click.option("--officers", required=True, metavar=RULE, help="Who approves: M of these people.")
@click.option("--custodians", metavar=RULE, help="Who governs, for ever; the officers by default.")
@wait_option
@pass_app
def create(app: App, name: str, officers: str, custodians: str | None, wait: bool) -> None:
    """Found a group; waits for M of its custodians.

    \b
    Example:
      tpmhsm group create officers --officers 2:alice,bob,carol
    """
    if custodians is None:
        app.note(
            "warning: the officers are the custodians too, and custodians are permanent: "
            "a lost quorum cannot be replaced (--custodians names others)"
        )

    def propose() -> dict[str, Any]:
        with app.progress("measuring the chip"):
            waiting = app.desk.propose_group(name, officers, custodians or officers)
        raise waiting

    _show(app, settled(app, wait, propose, lambda _: app.groups.describe(name)))


@group.command()
@click.argument("name")
@click.option("--officers", required=True, metavar=RULE, help="The officers from now on.")
@click.option("--reason", default="", help="Shown to the custodians as the host's claim.")
@wait_option
@pass_app
def change(app: App, name: str, officers: str, reason: str, wait: bool) -> None:
    """Replace one officer; waits for M of the custodians.

    \b
    Example:
      tpmhsm group change officers --officers 2:alice,bob,dave
    """

    def propose() -> dict[str, Any]:
        raise app.desk.propose_roster(name, officers, reason)

    _show(app, settled(app, wait, propose, lambda _: app.groups.describe(name)))


def _show(app: App, found: dict[str, Any]) -> None:
    app.emit(
        found,
        lambda: facts(
            [
                ("Group", f"{found['name']} ({found['state']})"),
                ("Id", found["id"]),
                ("Officers", found["officers"]["text"]),
                ("Custodians", found["custodians"]["text"]),
                ("Epoch", found["epoch"]),
                ("Counter", found["counter_index"]),
                ("Roster", found["roster_index"]),
                ("Fingerprint", found["fingerprint"]),
            ]
        ),
    )


@group.command("list", epilog="Example: tpmhsm group list")
@pass_app
def list_(app: App) -> None:
    """All groups."""
    found = [app.groups.describe(row.name) for row in app.groups.all()]
    app.emit(
        {"items": found},
        lambda: table(
            ("GROUP", "STATE", "EPOCH", "OFFICERS", "CUSTODIANS"),
            [
                (g["name"], g["state"], str(g["epoch"]), g["officers"]["text"],
                 g["custodians"]["text"])
                for g in found
            ],
            empty="no groups; tpmhsm group create NAME --officers 2:alice,bob,carol",
        ),
    )  # fmt: skip


@group.command(epilog="Example: tpmhsm group show officers")
@click.argument("name")
@pass_app
def show(app: App, name: str) -> None:
    """One group: people, epoch, indices, fingerprint."""
    _show(app, app.groups.describe(name))


@group.command(epilog="Example: tpmhsm group explain officers --without bob")
@click.argument("name")
@click.option("--without", metavar="NAME", help="What if this person is lost?")
@pass_app
def explain(app: App, name: str, without: str | None) -> None:
    """Who can sign, who can replace whom."""
    text = app.groups.explain(name, without)
    app.emit({"group": name, "without": without, "text": text}, text)


@group.command(epilog="Example: tpmhsm group fingerprint officers")
@click.argument("name")
@pass_app
def fingerprint(app: App, name: str) -> None:
    """The eight words that people compare aloud."""
    words = app.groups.describe(name)["fingerprint"]
    app.emit({"group": name, "fingerprint": words}, words)
