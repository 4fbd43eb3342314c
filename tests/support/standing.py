"""A machine in five states, one after another, for `tpmhsm status`: fresh, well, waiting, ending,
broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.shell import PEOPLE, RULE, Shell

from tpmhsm.tpm.device import open_device
from tpmhsm.wire.commands import NV_UndefineSpace
from tpmhsm.wire.constants import RH

STATES = ("fresh", "well", "waiting", "ending", "broken")
GRANTED = 20


def states(machine: Shell) -> Iterator[str]:
    """Bring a machine on which nothing was ever run into each state; gives its name then."""
    machine("init")
    yield "fresh"
    _set_up(machine)
    yield "well"
    machine.ask("ca", "sign", "root-ca", "web.csr", "--reason", "the old name")
    machine.ask("key", "grant", "issuing", "500", "--reason", "servers of December")
    yield "waiting"
    for row in machine.json("request", "list")["items"]:
        if row["state"] == "waiting":
            machine("request", "cancel", str(row["id"]))
    _use(machine)
    yield "ending"
    _break(machine)
    yield "broken"


def _set_up(machine: Shell) -> None:
    for name in PEOPLE:
        machine.person(name)
    machine("approver", "add", *(f"{name}.card" for name in PEOPLE))
    machine.settle(machine.ask("group", "create", "officers", "--officers", RULE))
    machine("key", "create", "root", "--policy", "quorum(officers)")
    machine("key", "create", "issuing", "--policy", "any(quorum(officers), budget(officers))")
    subjects = ("CN=Example Root,O=Example", "CN=Example Issuing,O=Example")
    root = ("ca", "create", "root-ca", "--key", "root", "--subject", subjects[0])
    machine.settle(machine.ask(*root))
    issuer = ("ca", "create", "issuing-ca", "--key", "issuing", "--issuer", "root-ca")
    machine.settle(machine.ask(*issuer, "--subject", subjects[1]))
    machine.settle(machine.ask("key", "grant", "issuing", str(GRANTED)))
    machine("key", "create", "web")
    machine("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    for _ in range(3):
        machine("ca", "sign", "issuing-ca", "web.csr")
    machine("ca", "crl", "issuing-ca")


def _use(machine: Shell) -> None:
    """The budget is nearly used up, and a certificate ends soon."""
    machine("ca", "sign", "issuing-ca", "web.csr", "--days", "20")
    for _ in range(7):
        machine("ca", "sign", "issuing-ca", "web.csr")


def _break(machine: Shell) -> None:
    """The chip is in lockout, and its owner removed the roster."""
    for name, pin in (("pin", "1234"), ("wrong", "9999")):
        (machine.path / name).write_text(pin + "\n")
    machine("key", "create", "box", "--policy", "pin", "--pin-file", "pin")
    while machine.attempt("key", "sign", "box", "web.csr", "--pin-file", "wrong").code == 1:
        pass
    index = int(machine.json("group", "show", "officers")["roster_index"], 16)
    with open_device("software", machine.home).transaction() as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, index))
