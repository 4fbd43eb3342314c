"""Drive the command line as a person or script does: one process a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSPHRASE = "correct horse battery staple"


@dataclass
class Result:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Home:
    """One home directory and the commands run in it."""

    path: Path

    def command(self, *arguments: str | Path) -> list[str]:
        """The command that runs `tpmhsm ARGUMENTS`."""
        return [sys.executable, "-m", "tpmhsm", *map(str, arguments)]

    def surroundings(self) -> dict[str, Any]:
        """Where it is run: for `subprocess`."""
        home = {"TPMHSM_HOME": str(self.path / "home"), "NO_COLOR": "1"}
        return {"cwd": self.path, "env": {**os.environ, **home}}

    def __call__(self, *arguments: str | Path, code: int = 0, stdin: bytes | None = None) -> Result:
        """Run `tpmhsm ARGUMENTS` and check its exit code."""
        done = subprocess.run(
            self.command(*arguments),
            **self.surroundings(),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=120,
            check=False,
        )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert result.code == code, f"{arguments}: exit {result.code}\n{result.out}{result.err}"
        assert "Traceback" not in result.err, result.err
        return result

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run with --json and give the document."""
        return self("--json", *arguments, code=code).json

    def person(self, name: str) -> None:
        """Make an approver's file key and card here."""
        passphrase = self.path / "passphrase"
        passphrase.write_text(PASSPHRASE + "\n")
        self("approver", "create", name, "-i", f"{name}.key", "--passphrase-file", passphrase)

    def approve(self, what: str | Path, name: str, digest: str, *, code: int = 0) -> Result:
        """Approve by id or file, as a script that knows the digest."""
        return self(
            *("approve", str(what), "--as", name, "-i", f"{name}.key"),
            *("--passphrase-file", self.path / "passphrase", "--expect", digest),
            code=code,
        )
