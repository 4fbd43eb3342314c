"""`tpmhsm key backup` and `key restore`: a key copied to a second chip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, naming, write_output
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.waiting import settled

if TYPE_CHECKING:
    from tpmhsm.store.keys import KeyRow


def copies_json(app: App, row: KeyRow) -> dict[str, Any]:
    """Whose custodians may have a key copied, to which chips (AK Names) that was approved here, and
    from which chip it came.
    """
    from tpmhsm.approval.backup_file import parse_origin
    from tpmhsm.policy.copying import parse_copy

    requests = app.desk.of_key("backup", row.label, "executed")
    copies = [parse_copy(app.desk.request(one.id).content) for one in requests]
    home = parse_origin(row.origin).request.device if row.origin else None
    return {
        "backup_to": next(iter(app.keyring.policy(row).backup), None),
        "copied_to": [one.device_ak.hex() for one in copies if one.key.hex() == row.name],
        "copy_of": home and {"device": home.label, "ak": home.ak_name.hex()},
    }


def copies_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people."""
    may, home = found["backup_to"], found["copy_of"]
    to = "\n".join(f"the chip with the AK {ak[4:20]}" for ak in found["copied_to"])
    return [
        ("May be copied", f"by custodians of {may}" if may else ""),
        ("Copied to", to),
        ("Copy from", f"{home['device']}, AK {home['ak'][4:20]}" if home else ""),
    ]


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
