"""Options of the whole program, which may stand anywhere on the line."""

from __future__ import annotations

import os
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tpmhsm.cli.app import App


def default_home() -> Path:
    """`$TPMHSM_HOME`, else `$XDG_DATA_HOME/tpmhsm`, else `~/.local/share/tpmhsm`."""
    if home := os.environ.get("TPMHSM_HOME"):
        return Path(home)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "tpmhsm"


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Tell the App, wherever on the line the option stood."""
    app = ctx.find_object(App)
    given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    if app is None or not given or ctx.resilient_parsing:
        return
    if param.name == "home":
        app.home = Path(value).absolute()
    elif param.name == "verbose":
        app.verbosity += value
    elif param.name == "quiet":
        app.verbosity = -1
    else:
        setattr(app, param.name or "", value)


def global_options(*, hidden: bool) -> list[click.Option]:
    """New option objects. Where `hidden`, --help of a command does not repeat them."""
    common: dict[str, Any] = {"callback": _take, "expose_value": False, "hidden": hidden}
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            help="Where everything is kept: $TPMHSM_HOME, or in ~/.local/share.",
            **common,
        ),
        click.Option(["--tpm"], metavar="TPM", help="auto, software, device:…, swtpm:…", **common),
        click.Option(
            ["--db"], metavar="URL", help="Database; SQLite in the home by default.", **common
        ),
        click.Option(
            ["--json", "as_json"], is_flag=True, help="One JSON document on stdout.", **common
        ),
        click.Option(
            ["-v", "--verbose", "verbose"],
            count=True,
            help="More; -vv shows tracebacks.",
            **common,
        ),
        click.Option(
            ["-q", "--quiet", "quiet"], is_flag=True, help="Answers and errors alone.", **common
        ),
    ]


def spread(command: click.Command) -> click.Command:
    """Let a command and all below it take the global options as well, and be listed in whole."""
    if not any(param.name == "as_json" for param in command.params):
        command.params += global_options(hidden=True)
        if isinstance(command, click.Group):
            for below in command.commands.values():
                spread(below)
                below.short_help = below.short_help or _first_sentence(below.help or "")
    return command


def _first_sentence(text: str) -> str:
    """What a list of commands says of one: all of it, where click would cut it off."""
    paragraph = " ".join(cleandoc(text).split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")
