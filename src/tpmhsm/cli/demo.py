"""`tpmhsm demo`: the whole story in a home of its own, on a software TPM, with three refusals."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.errors import ChipRefusedError, TpmHsmError, UsageError

PEOPLE = ("alice", "bob", "carol", "dave")


class Stage:
    """Runs commands in the demo's home, and says what it runs."""

    def __init__(self, directory: Path, app: App) -> None:
        self.directory = directory
        self._app = app
        self.home = directory / "home"
        self._passphrase = directory / "passphrase"
        self._passphrase.write_text(secrets.token_hex(16) + "\n")

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

    def run(self, *words: str, code: int = 0) -> Any:
        """One command, as a person would type it; its JSON."""
        from tpmhsm.cli.main import run

        self.show(f"$ tpmhsm {' '.join(map(self._plain, words))}")
        said = StringIO()
        with redirect_stdout(said):
            got = run(["--home", str(self.home), "--tpm", "software", "--json", *words])
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


@click.command(epilog="Example: tpmhsm demo")
@click.option("--keep", metavar="DIR", help="Leave the demo's home and files in this directory.")
@pass_app
def demo(app: App, keep: str | None) -> None:
    """A software TPM, a 2-of-3 group, root, intermediate, a TLS key, and three refusals."""
    started = time.monotonic()
    with _directory(keep) as directory:
        stage = Stage(directory, app)
        try:
            result = _story(stage)
        finally:
            _stop(stage)
    seconds = time.monotonic() - started
    app.emit(
        {**result, "seconds": round(seconds, 1)},
        f"\nAll of this in {seconds:.1f} s, on a software TPM."
        + (f" Kept in {keep}." if keep else ""),
    )


@contextmanager
def _directory(keep: str | None) -> Iterator[Path]:
    if not keep:
        with tempfile.TemporaryDirectory(prefix="tpmhsm-demo-") as name:
            yield Path(name)
        return
    path = Path(keep).absolute()
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{keep} is not empty", hint="name a new directory")
    path.mkdir(parents=True, exist_ok=True)
    yield path


def _stop(stage: Stage) -> None:
    from tpmhsm.tpm import software

    if software.is_manufactured(software.directory_of(stage.home)):
        software.stop(software.directory_of(stage.home))


def _story(stage: Stage) -> dict[str, Any]:
    if shutil.which("openssl") is None:
        raise UsageError(
            "the demo needs openssl as an independent judge", hint="apt install openssl"
        )
    stage.say("A software TPM (with hardware, /dev/tpmrm0 is taken)")
    stage.run("init")
    stage.say("Three people, each with a key of their own")
    for name in PEOPLE:
        stage.person(name)
    stage.run("approver", "add", *(stage.path(f"{name}.card") for name in PEOPLE))
    stage.say("A group: two of them must agree, and the chip will insist")
    request, digest = stage.ask("group", "create", "officers", "--officers", "2:alice,bob,carol")
    stage.approve(request, digest, "alice", "bob")
    stage.say("A root whose key signs only what two of them approved")
    stage.run("key", "create", "root", "--policy", "quorum(officers)")
    request, digest = stage.ask(
        *("ca", "create", "root-ca", "--key", "root", "--profile", "root"),
        *("--subject", "CN=Example Root,O=Example"),
    )
    stage.approve(request, digest, "alice", "carol")
    stage.say("An intermediate")
    stage.run("key", "create", "issuing", "--policy", "quorum(officers)")
    request, digest = stage.ask(
        *("ca", "create", "issuing-ca", "--key", "issuing", "--issuer", "root-ca"),
        *("--subject", "CN=Example Issuing,O=Example", "--permit", "dns:example.com"),
    )
    stage.approve(request, digest, "bob", "carol")
    leaf = _leaf(stage)
    return {"request": leaf, "refusals": _refusals(stage, leaf)}


def _leaf(stage: Stage) -> int:
    stage.say("A TLS key in the chip, a CSR, a certificate")
    stage.run("key", "create", "web")
    stage.run(
        *("csr", "create", "web", "--subject", "CN=www.example.com"),
        *("--san", "dns:www.example.com", "--out", stage.path("web.csr")),
    )
    request, digest = stage.ask("ca", "sign", "issuing-ca", stage.path("web.csr"))
    stage.approve(request, digest, "alice", "bob")
    result = stage.run("request", "show", str(request))["result"]
    (stage.directory / "web.pem").write_text(result["pem"])
    for name in ("root-ca", "issuing-ca"):
        stage.run("cert", "export", name, "--out", stage.path(f"{name}.pem"))
    stage.say("Judged by a program that is not ours")
    stage.openssl(
        *("verify", "-x509_strict", "-CAfile", "root-ca.pem", "-untrusted", "issuing-ca.pem"),
        *("-purpose", "sslserver", "-verify_hostname", "www.example.com", "web.pem"),
    )
    (stage.directory / "hello").write_text("hello\n")
    stage.run("key", "sign", "web", stage.path("hello"), "--out", stage.path("hello.sig"))
    stage.openssl("x509", "-in", "web.pem", "-pubkey", "-noout", "-out", "web.pub")
    stage.openssl("dgst", "-sha256", "-verify", "web.pub", "-signature", "hello.sig", "hello")
    return request


def _refusals(stage: Stage, leaf: int) -> list[dict[str, str]]:
    """Play root on the host, who has the database, the program and the chip's owner password."""
    from tpmhsm.cli.attack import Root

    stage.say("Now we are root on this machine, and ask the chip directly")
    root = Root(stage.home)
    approved = root.approved(leaf)
    found = [
        _refused(stage, "sign with one approval of two", lambda: root.with_one(approved)),
        _refused(stage, "sign other bytes with these approvals", lambda: root.others(approved)),
    ]
    stage.say("The custodians put dave in bob's place")
    request, digest = stage.ask("group", "change", "officers", "--officers", "2:alice,dave,carol")
    stage.approve(request, digest, "alice", "carol")
    found.append(
        _refused(stage, "use the approval of bob, who was removed", lambda: root.again(approved))
    )
    return found


def _refused(stage: Stage, what: str, attempt: Callable[[], object]) -> dict[str, str]:
    try:
        attempt()
    except ChipRefusedError as error:
        stage.show(f"  {what}:\n    {click.style('REFUSED', fg='green')} {error.message}")
        return {"attempt": what, "rc": f"0x{error.rc:03x}", "message": error.message}
    raise TpmHsmError(f"the chip did not refuse: {what}", code="demo-failed")


__all__: Sequence[str] = ("demo",)
