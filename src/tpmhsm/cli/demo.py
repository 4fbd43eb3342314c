"""`tpmhsm demo`: the whole story in a home of its own, on a software TPM, with three refusals."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.stage import Stage, new_directory, stop
from tpmhsm.errors import ChipRefusedError, TpmHsmError, UsageError

PEOPLE = ("alice", "bob", "carol", "dave")


@click.command()
@click.option("--attack", is_flag=True,
              help="Be root on the CA host, and try what root can try: a shell.")  # fmt: skip
@click.option("--keep", metavar="DIR", help="Leave the demo's home and files in this directory.")
@click.argument("words", nargs=-1, metavar="[COMMAND…]")
@pass_app
def demo(app: App, attack: bool, keep: str | None, words: tuple[str, ...]) -> int:
    """A software TPM, a 2-of-3 group, root, intermediate, a TLS key, and three refusals.

    With --attack a CA is set up, and you are root on its host: list shows what can be tried. All
    commands go to a real chip, a software TPM; what it refuses is seen, and so is what it does not.
    COMMANDs are those of the shell; without them they come from the terminal or a pipe. The exit
    code is 1 when an attack succeeds that should not, or comes out otherwise than documented.

    \b
    Example:
      tpmhsm demo
      tpmhsm demo --attack
      tpmhsm demo --attack all
    """
    if words and not attack:
        raise UsageError("demo takes no words without --attack", hint="tpmhsm demo --attack list")
    started = time.monotonic()
    with new_directory(keep) as directory:
        stage = Stage(directory, app)
        try:
            if attack:
                return _attack(app, stage, words)
            result = _story(stage)
        finally:
            stop(stage)
    seconds = time.monotonic() - started
    app.emit(
        {**result, "seconds": round(seconds, 1)},
        f"\nAll of this in {seconds:.1f} s, on a software TPM."
        + (f" Kept in {keep}." if keep else ""),
    )
    return 0


def _attack(app: App, stage: Stage, words: tuple[str, ...]) -> int:
    """The attack shell; 1 when anything came out otherwise than promised."""
    from tpmhsm.cli.attacks.house import House
    from tpmhsm.cli.attacks.shell import check_line, sit
    from tpmhsm.cli.attacks.telling import summary

    for line in words:
        check_line(line)
    house = House(stage)
    try:
        house.build()
        shell = sit(app, house, words)
        outcomes = list(shell.outcomes.values())
        app.emit(
            {"items": [one.json for one in outcomes], "state": house.state()},
            f"\n{summary(outcomes)}, on a software TPM" if outcomes else "",
        )
    finally:
        house.close()
    return int(any(one.verdict in ("succeeded", "otherwise") for one in outcomes))


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
    from tpmhsm.cli.attacks.root import Root, loot_of
    from tpmhsm.cli.attacks.signatures import OTHER, signers

    app = App(home=stage.home, tpm="software")
    try:
        loot = loot_of(app, leaf)
        fewer = [step for step in loot.plan.steps if step is not signers(loot)[-1]]

        def attempt(**what: Any) -> None:
            with app.device.transaction() as chip:
                Root(chip, loot).try_sign(**what)

        stage.say("Now we are root on this machine, and ask the chip directly")
        found = [
            _refused(stage, "sign with one approval of two", lambda: attempt(steps=fewer)),
            _refused(stage, "sign other bytes with these approvals", lambda: attempt(digest=OTHER)),
        ]
        stage.say("The custodians put dave in bob's place")
        change = ("group", "change", "officers", "--officers", "2:alice,dave,carol")
        request, digest = stage.ask(*change)
        stage.approve(request, digest, "alice", "carol")
        found.append(_refused(stage, "use the approval of bob, who was removed", attempt))
    finally:
        app.close()
    return found


def _refused(stage: Stage, what: str, attempt: Callable[[], object]) -> dict[str, str]:
    try:
        attempt()
    except ChipRefusedError as error:
        stage.show(f"  {what}:\n    {click.style('REFUSED', fg='green')} {error.message}")
        return {"attempt": what, "rc": f"0x{error.rc:03x}", "message": error.message}
    raise TpmHsmError(f"the chip did not refuse: {what}", code="demo-failed")


__all__: Sequence[str] = ("demo",)
