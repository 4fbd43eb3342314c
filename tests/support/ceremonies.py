"""Ceremonies over several machines: each command is counted, as people would count them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.cli import PASSPHRASE, Result
from tests.support.shell import Shell

from tpmhsm.approval import filekey

DNS = ("--root", "CN=Example Root,O=Example", "--issuer", "CN=Example Issuing,O=Example")


class Meeting:
    """A host and people, each with a machine; files are carried by hand."""

    def __init__(self, place: Path, *people: str) -> None:
        self.host = Shell(place / "host")
        self.host.path.mkdir()
        self.people = {name: Shell(place / name) for name in people}
        self.commands = 0
        for name, machine in self.people.items():
            machine.path.mkdir()
            (machine.path / "passphrase").write_text(PASSPHRASE + "\n")
            with mock.patch.object(filekey, "SCRYPT_P", 1):
                self.run(machine, "approver", "create", name, "-i", f"{name}.key",
                         "--passphrase-file", "passphrase")  # fmt: skip
        for one in self.people:
            for machine in (self.host, *self.people.values()):
                if machine is not self.people[one]:
                    shutil.copy(self.people[one].path / f"{one}.card", machine.path)

    def run(self, machine: Shell, *arguments: str | Path, code: int = 0) -> Result:
        """One command that somebody types."""
        self.commands += 1
        return machine(*arguments, code=code)

    def cards(self, *names: str) -> str:
        """`alice.card,bob.card`."""
        return ",".join(f"{name}.card" for name in names or self.people)

    def ask(self, *more: str | Path, code: int = 3) -> dict[str, Any]:
        """`ceremony` on the host, as JSON."""
        found: dict[str, Any] = self.run(self.host, "--json", "ceremony", *more, code=code).json
        return found

    def approve(self, name: str, digest: str, *, code: int = 0) -> Result:
        """One person's sitting, and the file carried back."""
        machine = self.people[name]
        shutil.copy(self.host.path / "officers.ceremony", machine.path)
        others = self.cards(*(one for one in self.people if one != name))
        done = self.run(
            machine,
            *("--json", "approve", "officers.ceremony", "--as", name, "-i", f"{name}.key"),
            *("--passphrase-file", "passphrase", "--trust", others, "--expect", digest),
            code=code,
        )
        if code == 0:
            shutil.copy(machine.path / f"officers-{name}.approval", self.host.path)
        return done
