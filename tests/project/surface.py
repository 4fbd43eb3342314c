"""The public surface: commands with their options, and errors with their codes and exit codes.

`./dev run python -m tests.project.surface` from the root of the project writes `surface.txt` anew.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from tpmhsm import errors
from tpmhsm.cli.main import cli, exit_code

EVERYWHERE = {name for option in cli.params for name in option.opts}
PINNED = Path(__file__).with_name("surface.txt")


def commands(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=words[-1])
    own = [p for p in command.params if command is cli or not EVERYWHERE & set(p.opts)]
    options = sorted(_parameter(p) for p in own if isinstance(p, click.Option))
    arguments = [_parameter(p) for p in command.params if isinstance(p, click.Argument)]
    yield " ".join([*words, *arguments, *options])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*words, name))


def _parameter(parameter: click.Parameter) -> str:
    many = "…" if parameter.nargs == -1 or parameter.multiple else ""
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name.rstrip("….") + many
    assert isinstance(parameter, click.Option)
    flag = "" if parameter.is_flag or parameter.count else "="
    return f"[{'|'.join(parameter.opts)}{flag}{many}]"


def error_lines() -> Iterator[str]:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.TpmHsmError):
            base = kind.__mro__[1].__name__
            made = kind.__new__(kind)
            yield f"{name}({base}) code={kind.default_code} exit={exit_code(made)}"


def surface() -> str:
    return "\n".join([*commands(cli, ("tpmhsm",)), "", *error_lines(), ""])


if __name__ == "__main__":
    PINNED.write_text(surface(), encoding="utf-8")
