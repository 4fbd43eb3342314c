"""The pages of docs/recovery.md, followed: their commands are run as they stand there.

A page is a section; its commands are those of its `console no-run` blocks, written as in any
transcript (`tests.project.transcript`). Machines are homes side by side with one directory that
they share, as people share a stick. Where the program would ask a person, the runner answers: for
the passphrase of a key file, and the digits of what is to be approved, which it reads from the
request that lies there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.project import transcript
from tests.support.cli import PASSPHRASE, Result
from tests.support.shell import Shell

from tpmhsm.approval import filekey
from tpmhsm.tpm import software

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"
_BLOCK = re.compile(r"^```console no-run[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.*)\n", re.MULTILINE)
BRIDGE = """\
import sys
from pathlib import Path
from tpmhsm.tpm.door import SocketDoor

door = SocketDoor(Path(sys.argv[1]))
while head := sys.stdin.buffer.read(10):
    size = int.from_bytes(head[2:6], "big")
    sys.stdout.buffer.write(door.send(head + sys.stdin.buffer.read(size - 10)))
    sys.stdout.buffer.flush()
"""
_SHELL = set("|&;<>$`*?(){}\n")


def sections() -> dict[str, str]:
    """The text of each page by its heading."""
    _, *rest = _SECTION.split(PAGE.read_text(encoding="utf-8"))
    return dict(zip(rest[::2], rest[1::2], strict=True))


def steps(heading: str) -> Iterator[transcript.Step]:
    """The commands of a page."""
    text = sections()[heading]
    for block in _BLOCK.finditer(text):
        yield from transcript._steps(text.count("\n", 0, block.start(1)) + 1, block[1].splitlines())


class _Machine(Shell):
    """One machine of a town: its home has the machine's name."""

    def __init__(self, town: Town, name: str) -> None:
        super().__init__(town.shared)
        self._home = town.place / name

    @property
    def home(self) -> Path:
        return self._home


@dataclass
class Town:
    """Machines with a home each in `place`, and the directory that they share."""

    place: Path
    names: set[str] = field(default_factory=set)

    @property
    def shared(self) -> Path:
        path = self.place / "shared"
        path.mkdir(exist_ok=True)
        return path

    def machine(self, name: str = "host") -> Shell:
        self.names.add(name)
        return _Machine(self, name)

    def run(self, machine: str, command: str) -> Result:
        """Run a command on a machine; one of ours in this process, any other by bash."""
        command = command.replace("\\\n", " ")
        words = [] if _SHELL & set(command) else shlex.split(command, comments=True)
        if words[:1] == ["tpmhsm"]:
            return self.machine(machine).attempt(*self._answered(words[1:]))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.shared,
            env=self._environment(machine),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def _environment(self, machine: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        home = str(self.place / machine)
        return {**os.environ, "PATH": path, "TPMHSM_HOME": home, "NO_COLOR": "1"}

    def _answered(self, words: list[str]) -> list[str]:
        """With the answers of the person who sits there."""
        if "-i" not in words:
            return words
        answers = ["--passphrase-file", "passphrase"]
        if words[0] == "approve":
            answers += ["--expect", self.digest(words[1])]
        return [*words, *answers]

    def digest(self, request: str) -> str:
        """SHA-256 of what a request file asks to be signed."""
        content = json.loads((self.shared / request).read_bytes())["content"]
        return hashlib.sha256(base64.b64decode(content)).hexdigest()

    def follow(self, heading: str, first: int = 0, last: int | None = None) -> None:
        """Follow a page, or some of its commands: each ends and prints as the page says."""
        found = list(steps(heading))[first:last]
        assert found, f"{heading}: no commands"
        for step in found:
            done = self.run(step.machine, step.command)
            printed = done.err + done.out
            where = f"{heading}, line {step.line}: {step.command}"
            assert done.code == step.code, f"{where}\nexit {done.code}\n{printed}"
            if step.expected:
                wanted = "\n".join(step.expected)
                assert transcript.matches(step.expected, printed), (
                    f"{where}\n── the page ──\n{wanted}\n── printed ──\n{printed}"
                )

    def tool(self, name: str, *arguments: str) -> None:
        """One of tpm2-tools at the host's software TPM, as its owner."""
        folder = software.directory_of(self.place / "host")
        software.start(folder)
        bridge = self.place / "bridge.py"
        bridge.write_text(BRIDGE)
        tcti = f"cmd:{sys.executable} {bridge} {folder / 'swtpm.sock'}"
        with software.lock_of(folder).held():
            done = subprocess.run(
                [f"tpm2_{name}", "-T", tcti, *arguments],
                cwd=self.shared,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stdout + done.stderr

    # ── the town of the pages ────────────────────────────────────────────────

    def settle(self, number: int, *people: str) -> None:
        """Have these people approve a request by file, each at home."""
        host = self.machine()
        host("request", "export", str(number), "--out", "now.req", "--force")
        digest = self.digest("now.req")
        for name in people or ("alice", "bob"):
            self.machine(name).approve("now.req", name, digest)
            host("request", "import", f"{number}-{name}.approval")
            (self.shared / f"{number}-{name}.approval").unlink()
        assert host.json("request", "show", str(number))["state"] == "executed"
        (self.shared / "now.req").unlink()

    def found(self) -> None:
        """A host with a group of three, a root that two approve, an issuing authority on a budget,
        and each person's own machine.
        """
        host = self.machine()
        host("init", "--no-seal")  # as a chip is bought: TPM2_Clear is root's
        host("device", "export", "--out", "host.card")
        (self.shared / "passphrase").write_text(PASSPHRASE + "\n")
        people = ("alice", "bob", "carol")
        everybody = (*people, "dave", "erin")
        for name in everybody:
            self.person(name)
        for name in everybody:
            cards = [f"{one}.card" for one in everybody if one != name]
            self.machine(name)("trust", "add", *cards, "host.card")
        host("approver", "add", *(f"{name}.card" for name in people))
        self.settle(host.ask("group", "create", "officers", "--officers", "2:alice,bob,carol"))
        guarded = ("--policy", "quorum(officers)", "--backup-to", "officers")
        host("key", "create", "root", *guarded)
        wanted = ("--key", "root", "--subject", "CN=Root,O=Example", "--profile", "root")
        self.settle(host.ask("ca", "create", "root-ca", *wanted))
        host("key", "create", "issuing", "--policy", "budget(officers)")
        wanted = ("--key", "issuing", "--issuer", "root-ca", "--subject", "CN=Issuing,O=Example")
        self.settle(host.ask("key", "grant", "issuing", "20"))
        self.settle(host.ask("ca", "create", "issuing-ca", *wanted, "--profile", "intermediate"))

    def person(self, name: str) -> None:
        """A person with a key file and a card."""
        with mock.patch.object(filekey, "SCRYPT_P", 1):
            self.machine(name)(
                *("approver", "create", name, "-i", f"{name}.key"),
                *("--passphrase-file", "passphrase"),
            )

    def issue(self, name: str, authority: str = "issuing-ca") -> None:
        """A certificate in NAME.pem, by a new key."""
        wanted = ("--host", f"{name}.example.com", "--out", f"{name}.pem")
        self.machine()("ca", "issue", authority, *wanted)

    def copy(self, place: Path) -> Town:
        """The same at another place; no chip may run."""
        shutil.copytree(
            self.place, place, ignore=shutil.ignore_patterns("*.sock*", "*.lock", "lock*")
        )
        return Town(place, set(self.names))

    def stop(self) -> None:
        """Stop every software TPM."""
        for home in self.place.iterdir():
            if software.is_manufactured(software.directory_of(home)):
                software.stop(software.directory_of(home))
