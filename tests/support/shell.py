"""Commands in this process: what the console script runs, without the start of an interpreter.

For tests of many commands. `tests.support.cli.Home` runs processes, and has the same interface.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.cli import PASSPHRASE, Home, Result

from tpmhsm.approval import filekey
from tpmhsm.cli.main import run
from tpmhsm.store import Store
from tpmhsm.tpm import software
from tpmhsm.tpm.device import open_device

PEOPLE = ("alice", "bob", "carol", "dave")
RULE = "2:alice,bob,carol"


class Shell(Home):
    """One home directory and the commands run in it, in this process."""

    def __call__(self, *arguments: str | Path, code: int = 0, stdin: bytes | None = None) -> Result:
        result = self.attempt(*arguments, stdin=stdin)
        assert result.code == code, f"{arguments}: exit {result.code}\n{result.out}{result.err}"
        return result

    def attempt(self, *arguments: str | Path, stdin: bytes | None = None) -> Result:
        """Run a command, whatever comes of it; but never with a traceback."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        given = io.TextIOWrapper(io.BytesIO(stdin or b""), encoding="utf-8")
        environment = {"TPMHSM_HOME": str(self.home), "NO_COLOR": "1"}
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "stdin", given),
            working_in(self.path),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = run(list(map(str, arguments)))
        result = Result(code, *(said(stream) for stream in (out, err)))
        assert "Traceback" not in result.err, result.err
        assert "fault of TPM HSM" not in result.out + result.err, result.out + result.err
        return result

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def tpm(self) -> Path:
        return software.directory_of(self.home)

    def person(self, name: str) -> None:
        """As `Home.person`, with a key that takes an eighth of the work to open."""
        with mock.patch.object(filekey, "SCRYPT_P", 1):
            super().person(name)

    def settle(self, number: int, *people: str) -> None:
        """Have these people approve a request by its id; it is executed then."""
        digest = self.json("request", "show", str(number))["digest"]
        for name in people or ("alice", "bob"):
            self.approve(str(number), name, digest)
        assert self.json("request", "show", str(number))["state"] == "executed"

    def ask(self, *arguments: str | Path) -> int:
        """A command that waits for people; the request's id."""
        return int(self.json(*arguments, code=3)["error"]["request"])

    def copy(self, path: Path) -> Shell:
        """The same machine at another place; this one's chip must be stopped."""
        shutil.copytree(
            self.path, path, ignore=shutil.ignore_patterns("*.sock*", "*.lock", "lock*")
        )
        return Shell(path)

    def close(self) -> None:
        """Nothing of ours may be left in chip or database; then stop the chip."""
        if software.is_manufactured(self.tpm):
            with open_device("software", self.home).transaction() as chip:
                leaks = chip.leaks()
            software.stop(self.tpm)
            assert not leaks
        if (self.home / "tpmhsm.db").exists():
            with Store.open(self.home) as store:
                store.check()


def said(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(errors="surrogateescape")


@contextmanager
def working_in(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def new_machine(path: Path) -> Shell:
    """A machine with a chip, four approvers, an open key `web`, and an open authority."""
    machine = Shell(path)
    machine("init")
    for name in PEOPLE:
        machine.person(name)
    machine("approver", "add", *(f"{name}.card" for name in PEOPLE))
    machine("key", "create", "web")
    machine("key", "create", "open-root")
    machine("ca", "create", "open-ca", "--key", "open-root", "--subject", "CN=Open Root,O=Example")
    machine("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    return machine


def govern(machine: Shell) -> None:
    """A 2-of-3 group, and an authority whose key it guards."""
    machine.settle(machine.ask("group", "create", "officers", "--officers", RULE))
    machine("key", "create", "root", "--policy", "quorum(officers)")
    machine.settle(
        machine.ask("ca", "create", "root-ca", "--key", "root", "--subject", "CN=Root,O=Example")
    )


def stranger_csr(machine: Shell) -> str:
    """A CSR for www.example.com by a key of somebody else's."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("www.example.com")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    (machine.path / "stranger.csr").write_bytes(made.public_bytes(Encoding.PEM))
    return "stranger.csr"


__all__ = [
    "PASSPHRASE",
    "PEOPLE",
    "RULE",
    "Shell",
    "govern",
    "new_machine",
    "stranger_csr",
    "working_in",
]
