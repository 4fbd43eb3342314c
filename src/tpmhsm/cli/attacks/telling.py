"""What the user sees of an attack as it runs: commands and answers, refusals, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import click

from tpmhsm.cli.attacks.scene import Attack, Outcome, Try, Verdict
from tpmhsm.cli.attacks.watching import Heard
from tpmhsm.cli.words import one_line
from tpmhsm.wire.rc import describe

_WIDTH = 96
_HOUSEKEEPING = frozenset({"FlushContext", "GetCapability", "ReadPublic", "NV_ReadPublic"})
"""Commands that decide nothing: shown with -v."""

VERDICTS: dict[Verdict, tuple[str, str]] = {
    "refused": ("REFUSED", "green"),
    "not-promised": ("NOT PROMISED", "yellow"),
    "otherwise": ("NOT AS DOCUMENTED", "magenta"),
    "succeeded": ("THE ATTACK SUCCEEDED", "red"),
}


def explain(attack: Attack) -> str:
    """What it is about, for people."""
    lines = [
        fill(f"Root hopes   {attack.hope}", _WIDTH, subsequent_indent=" " * 13),
        fill(f"In the way   {attack.stands}", _WIDTH, subsequent_indent=" " * 13),
        f"Tested by    {attack.test} (docs/attacks.md)",
    ]
    return "\n".join(lines)


@dataclass
class Aloud:
    """Tells everything on stdout; `all_commands` those too that decide nothing, and their bytes."""

    all_commands: bool = False

    def trying(self, what: str) -> None:
        """A heading for one try."""
        click.secho(f"\n  {one_line(what)}", bold=True)

    def heard(self, one: Heard) -> None:
        """A line a command; a refusal has one of its own."""
        if one.name in _HOUSEKEEPING and not one.rc and not self.all_commands:
            return
        click.echo(f"    → {one.words}" + ("" if one.rc else click.style("  ok", dim=True)))
        if self.all_commands:
            click.secho(f"      {one.raw.hex()}", dim=True)
        if one.rc:
            click.secho(f"    ← {one.answer}", fg="yellow")

    def came(self, one: Try) -> None:
        """What came of a try."""
        if one.verdict == "succeeded":
            click.secho(f"    !! NOBODY REFUSED IT. {'!' * 40}", fg="red", bold=True)
        elif one.verdict == "otherwise":
            wanted = _code_words(one.wanted) if one.wanted else "that it is allowed"
            said = f"{one.code} {one.message}" if one.code else "nobody refused it"
            text = f"    ?? docs/attacks.md says {wanted}; what came: {one_line(said)}"
            click.secho(text, fg="magenta")
        elif one.by == "nobody":
            words = "done" if one.control else "done: nobody refuses this"
            click.secho(f"    {words}", fg="green" if one.control else "yellow")
        else:
            said = "" if one.by == "the chip" else f": {one_line(one.message)}"
            text = f"    REFUSED by {one.by}, {_code_words(one.code)}{said}"
            click.secho(text, fg="green")

    def remark(self, text: str) -> None:
        """An indented remark."""
        click.echo(fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  "))

    def over(self, outcome: Outcome) -> None:
        """The verdict over a whole attack."""
        words, colour = VERDICTS[outcome.verdict]
        count = len(outcome.commands)
        codes = ", ".join(outcome.codes) or "no refusal"
        click.secho(f"\n  {words}", fg=colour, bold=True, nl=False)
        click.echo(f"  {outcome.attack.name}: {codes}; {count} commands to the chip")


class Silent:
    """Tells nothing: for --json."""

    def trying(self, what: str) -> None:
        """Nothing."""

    def heard(self, one: Heard) -> None:
        """Nothing."""

    def came(self, one: Try) -> None:
        """Nothing."""

    def remark(self, text: str) -> None:
        """Nothing."""

    def over(self, outcome: Outcome) -> None:
        """Nothing."""


def _code_words(code: str) -> str:
    if not code.startswith("0x"):
        return code
    rc = int(code, 16)
    return f"{code} {describe(rc).rpartition('(')[2].partition(',')[0]}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """All verdicts, counted."""
    counted = Counter(one.verdict for one in outcomes)
    parts = [f"{counted[v]} {words.lower()}" for v, (words, _) in VERDICTS.items() if counted[v]]
    count = len(outcomes)
    return f"{count} attack{'' if count == 1 else 's'}: {', '.join(parts)}"
