"""The prompt of `tpmhsm demo --attack`, at a terminal, from a pipe, or from words on the line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from tpmhsm.cli.app import App, table
from tpmhsm.cli.attacks.house import House
from tpmhsm.cli.attacks.scene import Attack, Outcome, run
from tpmhsm.cli.attacks.table import ATTACKS, find
from tpmhsm.cli.attacks.telling import VERDICTS, Aloud, Silent, explain, summary
from tpmhsm.errors import TpmHsmError

PROMPT = "root@ca# "

HELP = """\
list             all attacks, and what came of those that were tried
N, NAME          try one, by its number or the beginning of its name
next, all        the next one, or all of them
explain N        what root hopes for, and what stands in the way
state            the CA: certificates, epoch, budget
tpm2 …, $ …      a command of your own as root: tpm2-tools, sh, tpmhsm
quit             the end"""


_PLAIN = frozenset({"help", "list", "next", "all", "state", "quit"})


def check_line(line: str) -> tuple[str, str]:
    """A line's command (`$` for a program, else an attack's name or number) and what follows it.
    Raises NotFoundError for what is no command.
    """
    line = line.partition("\n")[0].strip()
    word, _, rest = line.partition(" ")
    word, rest = {"?": "help", "exit": "quit"}.get(word, word), rest.strip()
    if not word or word.startswith("#"):
        return "", ""
    if word.startswith("$"):
        return "$", line[1:].strip()
    if word in ("tpm2", "tpmhsm") or word.startswith("tpm2_"):
        return "$", line
    if word in _PLAIN:
        return word, rest
    find(rest if word == "explain" else word)
    return word, rest


@dataclass
class Shell:
    """One sitting. `outcomes` are those of the last try of each attack, by its name."""

    app: App
    house: House
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    ended: bool = False

    def __post_init__(self) -> None:
        aloud = self.app.talks
        self.teller = Aloud(all_commands=self.app.verbosity > 0) if aloud else Silent()

    def say(self, text: str) -> None:
        """For people."""
        if self.app.talks:
            click.echo(text)

    # ── one line ─────────────────────────────────────────────────────────────

    def do(self, line: str) -> None:
        """Do what one line says. Raises UsageError for what is not understood."""
        word, rest = check_line(line)
        plain: dict[str, Callable[[], None]] = {
            "help": lambda: self.say(HELP),
            "list": self._list,
            "next": self._next,
            "all": lambda: self._try_all(ATTACKS),
            "state": self._state,
            "quit": self._quit,
            "": lambda: None,
        }
        if word in plain:
            plain[word]()
        elif word == "explain":
            attack = find(rest)
            self.say(f"{_title(attack)}\n{explain(attack)}")
        elif word == "$":
            self._shell(rest)
        else:
            self._try_all([find(word)])

    def _quit(self) -> None:
        self.ended = True

    # ── attacks ──────────────────────────────────────────────────────────────

    def _try_all(self, attacks: Iterable[Attack]) -> None:
        for attack in attacks:
            self.say("\n" + click.style(_title(attack), bold=True) + "\n" + explain(attack))
            outcome = run(attack, self.house, self.teller)
            self.outcomes[attack.name] = outcome
            self.teller.over(outcome)

    def _next(self) -> None:
        left = [attack for attack in ATTACKS if attack.name not in self.outcomes]
        if left:
            self._try_all(left[:1])
        else:
            self.say(f"all were tried; {summary(list(self.outcomes.values()))}")

    def _list(self) -> None:
        rows = []
        for number, attack in enumerate(ATTACKS, 1):
            done = self.outcomes.get(attack.name)
            words = VERDICTS[done.verdict][0].lower() if done else ""
            words = words or ("" if attack.promised else "(refused by nobody)")
            codes = ", ".join(done.codes) if done else ""
            rows.append((str(number), attack.name, attack.title, f"{words} {codes}".strip()))
        self.say(table(("", "NAME", "ATTACK", "WHAT CAME OF IT"), rows, empty=""))

    def _state(self) -> None:
        found = self.house.state()
        window = "open" if found["window_open"] else "closed"
        self.say(
            f"{found['certificates']} certificates; epoch {found['epoch']}, officers "
            f"{', '.join(found['officers'])}"
            + ("" if found["in_force"] else ", OUT OF SERVICE: the roster is not in the chip")
            + f"\nbudget of issuing: {found['budget_left']} of {found['budget_total']} left; "
            f'window of "night": {window}'
        )

    # ── a shell of one's own ─────────────────────────────────────────────────

    def _shell(self, command: str) -> None:
        """Run it as root on this host would, with the chip in reach of tpm2-tools."""
        home = self.house.stage.home
        bridge = [sys.executable, "-P", "-m", "tpmhsm.cli.attacks.bridge", str(home)]
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "TPMHSM_HOME": str(home),
            "TPM2TOOLS_TCTI": f"cmd:{shlex.join(bridge)}",
        }
        sys.stdout.flush()
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env=environment,
            cwd=self.house.stage.directory,
            stdout=sys.stderr.fileno() if self.app.as_json else None,
            check=False,
        )
        if done.returncode:
            self.say(f"exit code {done.returncode}")
        self.house.repair()


def _title(attack: Attack) -> str:
    return f"{ATTACKS.index(attack) + 1}. {attack.name}: {attack.title}"


def lines_of(words: tuple[str, ...]) -> Iterator[str]:
    """What to do: words on the line, each a command; else a terminal's or a pipe's lines."""
    if words:
        yield from words
        return
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(ImportError):
        import readline

        readline.parse_and_bind("tab: complete")
        names = ["list", "next", "all", "explain", "state", "quit", *(a.name for a in ATTACKS)]
        readline.set_completer(
            lambda text, state: [*(n for n in names if n.startswith(text)), None][state]
        )
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("^C")


def sit(app: App, house: House, words: tuple[str, ...]) -> Shell:
    """One sitting, to its end."""
    shell = Shell(app, house)
    at_terminal = not words and sys.stdin.isatty()
    if at_terminal:
        shell.say(f"\nYou are root on this CA host. {len(ATTACKS)} attacks to try.\n\n{HELP}")
    for line in lines_of(words):
        try:
            shell.do(line)
        except TpmHsmError as error:
            if not at_terminal:
                raise
            click.echo(f"{error.message}" + (f": {error.hint}" if error.hint else ""), err=True)
        except KeyboardInterrupt:
            if not at_terminal:
                raise
            click.echo("stopped", err=True)
            house.repair()
        if shell.ended:
            break
    return shell
