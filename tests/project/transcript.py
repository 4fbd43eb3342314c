"""Run the transcripts of a document and compare what is printed with what the document says.

A fenced block marked `console` holds commands and what they print. `$ ` starts a command, and so
does `NAME$ `, which is the machine of that name: each name has a home of its own, and all share one
working directory, as people share a USB stick. A backslash at the end of a line goes on in the
next.
`# exit N` at the end of a command is its exit code, 0 otherwise. In what is printed, `…` stands for
any characters, and a line of `…` alone for any lines. `console no-run` is not run.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(r"^```console[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^([a-z][\w-]*)?\$ (.*)$")
EXIT = re.compile(r"\s+# exit (\d+)\s*$")


@dataclass
class Step:
    """One command of a transcript. `line` counts from 1 in the document."""

    line: int
    machine: str
    command: str
    code: int
    expected: list[str] = field(default_factory=list)


def steps_of(text: str) -> Iterator[Step]:
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1)) + 1
        yield from _steps(first, block[1].splitlines())


def _steps(first: int, lines: list[str]) -> Iterator[Step]:
    step: Step | None = None
    going_on = False
    for number, line in enumerate(lines, first):
        prompt = PROMPT.match(line)
        if going_on and step:
            step.command += "\n" + line
        elif prompt:
            if step:
                yield _finished(step)
            step = Step(number, prompt[1] or "host", prompt[2], 0)
        elif step:
            step.expected.append(line)
        elif line.strip():
            raise ValueError(f"line {number}: a transcript starts with a command")
        going_on = line.endswith("\\")
    if step:
        yield _finished(step)


def _finished(step: Step) -> Step:
    said = EXIT.search(step.command)
    if said:
        step.code = int(said[1])
    while step.expected and not step.expected[-1].strip():
        step.expected.pop()
    return step


def matches(expected: list[str], printed: str) -> bool:
    """Line by line, with trailing blanks ignored and `…` for whatever stands there."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*"
        else:
            words = (re.escape(part) for part in line.rstrip().split("…"))
            pattern += "[^\n]*?".join(words) + "[ \t]*\n"
    return (
        re.fullmatch(pattern, printed if not printed or printed.endswith("\n") else printed + "\n")
        is not None
    )


@dataclass
class Machines:
    """The machines of one document: a shared directory, and a home for each name."""

    place: Path
    names: set[str] = field(default_factory=set)

    def run(self, machine: str, command: str) -> tuple[int, str]:
        self.names.add(machine)
        shared = self.place / "shared"
        shared.mkdir(exist_ok=True)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=shared,
            env=self._environment(machine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=180,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def _environment(self, machine: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TPMHSM_", "COV_"))}
        path = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
        home = str(self.place / machine)
        plain = {"NO_COLOR": "1", "COLUMNS": "80", "TERM": "dumb", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        return {**kept, **plain, "PATH": path, "TPMHSM_HOME": home, "HOME": str(self.place)}

    def stop(self) -> None:
        for name in self.names:
            if (self.place / name).exists():
                self.run(name, "tpmhsm device stop")
