"""`tpmhsm key backup` and `key restore`: a key copied to a second chip."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, naming, write_output
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.waiting import settled


@click.command()
@click.argument("label")
@click.option("--to", "evidence", required=True, metavar="FILE",
              help="The other chip's answer to a challenge (group certify).")  # fmt: skip
@reason_option("the custodians")
@wait_option
@out_options("LABEL.backup by default; for you alone (0600).")
@pass_app
def backup(app: App, label: str, evidence: str, reason: str, wait: bool, out: Out) -> None:
    """Copy a key to another chip; waits for M of the custodians.

    The same command writes the file when they have approved, as often as wanted: it is of use to
    that chip alone. The key must have been made with --backup-to.

    \b
    Example:
      tpmhsm key backup root --to host2.evidence
    """
    target = out.claim(f"{label}.backup")
    data = app.read(evidence)
    with naming(evidence, data, "an answer of group certify"):
        from tpmhsm.approval.live import parse_answer

        parse_answer(data)
    file = settled(app, wait, lambda: app.desk.copies.backup(label, data, reason=reason))
    write_output(target, file, force=out.force, secret=True)
    if target != STDIO:
        app.done(
            {"key": label, "file": target},
            f"wrote {target}; on the other host: tpmhsm key restore {target}",
        )


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--as", "label", default="", metavar="LABEL", help="Another label than it had.")
@pass_app
def restore(app: App, file: str, label: str) -> None:
    """Take a key in from a backup that was made for this chip.

    Its certificates come with it, and the names of its authorities. What they issued does not: that
    is in the first host's database.

    \b
    Example:
      tpmhsm key restore root.backup
    """
    from tpmhsm.approval.backup_file import parse_backup
    from tpmhsm.cli.key import key_json

    data = app.read(file)
    with naming(file, data, "a backup of key backup"):
        found = parse_backup(data)
    with app.progress("the chip takes the key in"):
        row = app.desk.copies.restore(found, label)
    app.done(
        key_json(row),
        f"restored {row.label}: {row.alg}, {row.policy}, into {app.device.describe()}",
    )
