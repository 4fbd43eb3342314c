"""`tpmhsm group`: named sets of people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tpmhsm.cli.app import App, facts, pass_app, prose, table
from tpmhsm.cli.files import STDIO, naming
from tpmhsm.cli.group_joining import export, join
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import UsageError, WaitingError

F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog="Example: tpmhsm group create officers --officers 2:alice,bob,carol")
def group() -> None:
    """Groups of people: custodians who govern and officers who approve."""


RULE = "M:NAME,NAME,…"
JOINED = "+".join


def officers_option(help: str, *, required: bool = True) -> Callable[[F], F]:
    """`--officers`, which joins ladders when it is given again."""
    return click.option("--officers", required=required, multiple=True, metavar=RULE, help=help)


@group.command()
@click.argument("name")
@officers_option('Who approves: M of these people; again for "and M of those".')
@click.option(
    "--custodians",
    multiple=True,
    metavar=RULE,
    help="Who governs, for ever; the officers by default.",
)
@click.option(
    "--static",
    is_flag=True,
    help="People who can never be changed: for chips without TPM2_PolicyAuthorizeNV.",
)
@wait_option
@pass_app
def create(
    app: App,
    name: str,
    officers: tuple[str, ...],
    custodians: tuple[str, ...],
    static: bool,
    wait: bool,
) -> None:
    """Found a group; waits for M of its custodians.

    A rule joins ladders with a plus, or with the option again: 2 of these and 1 of those. Nobody
    stands on two of them. A static group needs nobody's approval: its people see its eight words
    when one of its keys is first used.

    \b
    Example:
      tpmhsm group create officers --officers 2:alice,bob,carol
      tpmhsm group create board --officers 2:alice,bob,carol+1:dave,erin
    """
    if static:
        _found_static(app, name, officers, custodians)
        return
    if not custodians:
        app.note(
            "warning: the officers are the custodians too, and custodians are permanent: "
            "a lost quorum cannot be replaced (--custodians names others)"
        )

    def propose() -> dict[str, Any]:
        with app.progress("measuring the chip"):
            waiting = app.desk.propose_group(name, JOINED(officers), JOINED(custodians or officers))
        raise waiting

    _show(app, settled(app, wait, propose, lambda _: app.groups.describe(name)))


def _found_static(
    app: App, name: str, officers: tuple[str, ...], custodians: tuple[str, ...]
) -> None:
    from tpmhsm.policy.explain import STATIC
    from tpmhsm.requests.statics import propose_static

    if custodians:
        raise click.UsageError("--static: nobody governs a static group, so no --custodians")
    with app.progress("writing the group down"):
        propose_static(app.store, app.device, app.desk.drafts, name, JOINED(officers))
    for line in STATIC:
        app.note(f"warning: {line}")
    _show(app, app.groups.describe(name))


@group.command()
@click.argument("name")
@officers_option('All officers from now on; again for "and M of those".', required=False)
@click.option(
    "--open",
    "opened",
    multiple=True,
    metavar="KEY",
    help="Officers may open this key for some seconds (key open).",
)
@click.option(
    "--close",
    "closed",
    multiple=True,
    metavar="KEY",
    help="They may no longer; a key that is gone by its Name.",
)
@click.option(
    "--pcr",
    "pcrs",
    multiple=True,
    metavar="BANK:N,…",
    help="Every approval, grant and window demands these PCRs as they are now.",
)
@click.option("--no-pcr", is_flag=True, help="No approval demands PCRs any longer.")
@click.option(
    "--uses",
    default="",
    metavar="USE,…",
    help="What officers may be asked for: sign, budget, decrypt.",
)
@reason_option("the custodians")
@wait_option
@pass_app
def change(
    app: App,
    name: str,
    officers: tuple[str, ...],
    opened: tuple[str, ...],
    closed: tuple[str, ...],
    pcrs: tuple[str, ...],
    no_pcr: bool,
    uses: str,
    reason: str,
    wait: bool,
) -> None:
    """Change the roster: officers and their numbers, and what they may be asked for.

    What is not named stays. Waits for M of the custodians. Approvals under the old roster become
    void when the new one is in force; requests that wait are asked anew then. The keys stay.

    \b
    Example:
      tpmhsm group change officers --officers 3:alice,bob,dave,erin
      tpmhsm group change officers --open issuing --pcr sha256:0,2,7
    """
    from tpmhsm.requests.drafts import Edits

    edits = Edits(JOINED(officers), opened, closed, () if no_pcr else pcrs or None, uses)
    if edits == Edits() or (no_pcr and pcrs):
        raise click.UsageError(
            "--pcr and --no-pcr together" if no_pcr else "nothing to change: --officers, --open, …"
        )

    def propose() -> dict[str, Any]:
        raise _said(app, app.desk.propose_roster(name, edits, reason))

    _show(app, settled(app, wait, propose, lambda _: app.groups.describe(name)))


def _said(app: App, waiting: WaitingError) -> WaitingError:
    """Say what the change changes before people are waited for."""
    if waiting.details["same"]:
        app.note("note: the same people and numbers: only approvals of the old epoch become void")
    else:
        app.note(f"the change: {waiting.details['change']}")
    if beside := _beside(app, waiting.request):
        app.note(
            f"warning: {beside} for the same epoch: only one of them can come into force, and who"
            " approved another abstains until that epoch has passed (tpmhsm request cancel ID)"
        )
    return waiting


def _beside(app: App, number: int) -> str:
    """'request 7 waits', for other changes of the same group."""
    group = app.desk.get(number).group_id
    found = [
        str(row.id)
        for row in app.desk.all("waiting")
        if (row.kind, row.group_id) == ("roster", group) and row.id != number
    ]
    if not found:
        return ""
    return f"request{'s' if found[1:] else ''} {', '.join(found)} wait{'' if found[1:] else 's'}"


def _show(app: App, found: dict[str, Any]) -> None:
    app.emit(
        found,
        lambda: facts(
            [
                ("Group", f"{found['name']} ({found['state']})"),
                ("Id", found["id"]),
                ("Officers", found["officers"]["text"]),
                (
                    "Custodians",
                    "nobody: static" if found["static"] else found["custodians"]["text"],
                ),
                ("Asked for", ", ".join(found["uses"])),
                ("May open", ", ".join(found["windows"])),
                ("Demands", found["pcrs"]),
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
                 "static" if g["static"] else g["custodians"]["text"])
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
@click.option("--without", metavar="NAME", multiple=True,
              help="What if this person is lost? Again for several at once.")  # fmt: skip
@pass_app
def explain(app: App, name: str, without: tuple[str, ...]) -> None:
    """Who can sign, who can replace whom."""
    lost = [one for given in without for one in given.split(",")]
    text = app.groups.explain(name, lost)
    app.emit({"group": name, "without": ",".join(lost) or None, "text": text}, lambda: prose(text))


@group.command(epilog="Example: tpmhsm group fingerprint officers")
@click.argument("name")
@pass_app
def fingerprint(app: App, name: str) -> None:
    """The eight words that people compare aloud."""
    words = app.groups.describe(name)["fingerprint"]
    app.emit({"group": name, "fingerprint": words}, words)


@group.command(epilog="Example: tpmhsm group certify officers --nonce 5f… --out officers.certified")
@click.argument("name")
@click.option("--nonce", metavar="HEX", help="Of `trust challenge`, 64 digits.")
@click.option("--challenge", metavar="F", help="Of `trust challenge CARD`: for a copy of a key.")
@out_options("NAME.certified by default.")
@pass_app
def certify(app: App, name: str, nonce: str | None, challenge: str | None, out: Out) -> None:
    """Have the chip certify which roster is in force, over a custodian's nonce.

    For a chip that is to take copies of keys, over a challenge: then it also shows that it is the
    chip that was asked, and the storage key under which it takes them.
    """
    from tpmhsm.requests.certifying import answer_challenge, certify_group

    if (nonce is None) == (challenge is None):
        raise UsageError(
            "--nonce HEX or --challenge F, one of them",
            hint="a custodian makes either: tpmhsm trust challenge [CARD]",
        )
    if challenge is not None:
        asked = app.read(challenge)
        with naming(challenge, asked, "a challenge"):
            data = answer_challenge(app.store, app.device, app.groups, name, asked)
    else:
        data = certify_group(app.store, app.groups, name, nonce or "")
    target = out.claim(f"{name}.certified")
    out.write(data, target)
    if target != STDIO:
        said = f"{target}: whoever asked runs tpmhsm trust check {target}"
        app.emit({"group": name, "nonce": nonce, "challenge": challenge, "file": target}, said)


for verb in (export, join):
    group.add_command(verb)
