"""A machine with neither a compiler nor the TPM Software Stack, and an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli import Home

ROOT = Path(__file__).parents[2]
COMPILERS = re.compile(
    r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|c[89]9|clang.*|tcc|ld|as)(-[\d.]+)?|tpm2.*|.*pkg-?config.*"
)


@dataclass
class BareHome(Home):
    """A home whose commands are those of an environment `venv` beside `bin` in `place`."""

    place: Path

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(self.place / "venv/bin/tpmhsm"), *map(str, arguments)]

    def surroundings(self) -> dict[str, Any]:
        environment = {**environment_of(self.place), "TPMHSM_HOME": str(self.path / "home")}
        return {"cwd": self.path, "env": environment}


def make_programs(place: Path) -> None:
    """`place`/bin with the machine's programs, compilers and tpm2-tools left out."""
    programs = place / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(folder).iterdir():
            link = programs / program.name
            if not COMPILERS.fullmatch(program.name) and not link.is_symlink():
                link.symlink_to(program)
    assert not shutil.which("gcc", path=str(programs))


def environment_of(place: Path) -> Mapping[str, str]:
    """Variables with those programs and the environment, and nothing of this project's."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("TPMHSM_", "PYTHON", "VIRTUAL"))
    }
    return {**kept, "PATH": f"{place / 'venv/bin'}:{place / 'bin'}", "NO_COLOR": "1"}


def run(place: Path, *command: str | Path) -> str:
    """A command there, which must succeed; what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=place,
        env=environment_of(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def make_environment(place: Path, *options: str) -> None:
    """An empty environment `venv`."""
    python = getattr(sys, "_base_executable", sys.executable)
    run(place, python, "-m", "venv", *options, place / "venv")


def copy_source(place: Path) -> Path:
    """The project's files, as they are built from."""
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return source
