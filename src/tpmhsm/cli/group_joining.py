"""`tpmhsm group export` and `group join`: one group in several chips."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, naming
from tpmhsm.cli.options import Out, out_options


@click.command(epilog="Example: tpmhsm group export officers --out officers.group")
@click.argument("name")
@out_options("NAME.group by default.")
@pass_app
def export(app: App, name: str, out: Out) -> None:
    """Write a group for another host: its founding, and the roster in force, with approvals.

    After each change the other hosts join once more: until then the old officers count there.
    """
    target = out.claim(f"{name}.group")
    out.write(app.desk.joining.export(name), target)
    if target != STDIO:
        said = f"wrote {target}; on the other host: tpmhsm group join {target}"
        app.emit({"group": name, "file": target}, said)


@click.command(epilog="Example: tpmhsm group join officers.group")
@click.argument("file", metavar="FILE")
@pass_app
def join(app: App, file: str) -> None:
    """Bring a group of another host into force in this chip, too; or up to date.

    Nobody is asked: the approvals are those of then. Compare the eight words with the first host's
    before you rely on it.
    """
    from tpmhsm.requests.joining import parse_export

    data = app.read(file)
    with naming(file, data, "a group of group export"):
        history = parse_export(data)
    with app.progress("the chip takes the group in"):
        name = app.desk.joining.join(history)
    found = app.groups.describe(name)
    app.done(
        found,
        f"joined {name}: epoch {found['epoch']}, {found['officers']['text']}\n"
        f"compare with the first host: {found['fingerprint']}",
    )
