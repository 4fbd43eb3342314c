"""A home in which commands are run as a person would type them, and shown: what `demo` plays on."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import click

from tpmhsm.cli.app import App
from tpmhsm.errors import TpmHsmError, UsageError


class Stage:
    """Runs commands in the demo's home, and says what it runs. `passphrase` is that of all people's
    keys, and stands in a file: they are nobody's.
    """

    def __init__(self, directory: Path, app: App) -> None:
        self.directory = directory
        self._app = app
        self.home = directory / "home"
        self._passphrase = directory / "passphrase"
        self.passphrase = secrets.token_hex(16)
        self._passphrase.write_text(f"{self.passphrase}\n")

    def say(self, text: str) -> None:
        """A heading."""
        if not self._app.as_json and self._app.verbosity >= 0:
            click.secho(f"\n── {text} ".ljust(79, "─"), bold=True)

    def show(self, text: str) -> None:
        """A line of the story."""
        if not self._app.as_json and self._app.verbosity >= 0:
            click.echo(text)

    def path(self, name: str) -> str:
        """A file in the demo's directory."""
        return str(self.directory / name)

    def run(self, *words: str, code: int = 0, home: Path | None = None) -> Any:
        """One command, as a person would type it; its JSON. `home`: another than the stage's."""
        from tpmhsm.cli.main import run

        there = ("--home", home.name) if home else ()
        self.show(f"$ tpmhsm {' '.join(map(self._plain, (*there, *words)))}")
        said = StringIO()
        with redirect_stdout(said):
            got = run(["--home", str(home or self.home), "--tpm", "software", "--json", *words])
        found = json.loads(said.getvalue() or "{}")
        if got != code:
            raise TpmHsmError(
                f"the demo failed at: tpmhsm {' '.join(words)}",
                code="demo-failed",
                hint=found.get("error", {}).get("message", said.getvalue()),
                details={"exit": got},
            )
        return found

    def _plain(self, word: str) -> str:
        short = word.replace(f"{self.directory}/", "")
        return f"'{short}'" if set(short) & set(" ()=;") else short

    def approve(self, number: int, digest: str, *people: str) -> None:
        """Some people approve, each with the key of their own."""
        for name in people:
            found = self.run(
                *("approve", str(number), "--as", name, "-i", self.path(f"{name}.key")),
                *("--passphrase-file", str(self._passphrase), "--expect", digest),
            )
            self.show(f"  {name} approved; request {number} is {found['state']}")

    def ask(self, *words: str) -> tuple[int, str]:
        """A command that waits for people: the request's id and digest."""
        error = self.run(*words, code=3)["error"]
        self.show(f"  {error['message']}")
        return error["request"], error["digest"]

    def person(self, name: str) -> None:
        """A key and a card."""
        self.run(
            *("approver", "create", name, "-i", self.path(f"{name}.key")),
            *("--out", self.path(f"{name}.card"), "--passphrase-file", str(self._passphrase)),
        )

    def openssl(self, *words: str) -> str:
        """A program that is not ours."""
        self.show(f"$ openssl {' '.join(map(self._plain, words))}")
        done = subprocess.run(
            ["openssl", *words],  # noqa: S607 - whichever openssl the user has is the judge
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise TpmHsmError(f"openssl says no: {done.stderr.strip()}", code="demo-failed")
        said = done.stdout.strip()
        self.show(f"  {self._plain(said)}")
        return said


@contextmanager
def new_directory(keep: str | None) -> Iterator[Path]:
    """A directory for a stage: for good in a new one, or until it is over. UsageError."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="tpmhsm-demo-") as name:
            yield Path(name)
        return
    path = Path(keep).absolute()
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{keep} is not empty", hint="name a new directory")
    path.mkdir(parents=True, exist_ok=True)
    yield path


def stop(stage: Stage) -> None:
    """Stop the stage's software TPM."""
    from tpmhsm.tpm import software

    if software.is_manufactured(software.directory_of(stage.home)):
        software.stop(software.directory_of(stage.home))
