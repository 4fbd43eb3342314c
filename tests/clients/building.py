"""The house, built once a run."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.clients.house import ADDRESS, ALGORITHMS, CONSTRAINTS, HOST, MAIL, NAMES, House
from tests.support.shell import Shell

DOMAIN_VALIDATED = "2.23.140.1.2.1"
BRIEF = 3  # seconds


def build(machine: Shell, path: Path) -> House:
    """Everything. `machine` has the group `officers` and its authority `root-ca`."""
    house = House(machine, path)
    for alg in ALGORITHMS:
        _line(house, alg)
    ended = _brief(house)
    _deep(house)
    _guarded(house)
    _disobedient(house)
    while datetime.now(UTC) < ended + timedelta(
        seconds=1
    ):  # the other work took longer, on most machines
        time.sleep(0.1)
    return house


def _line(house: House, alg: str) -> None:
    root, issuing = f"{alg}-root", f"{alg}-issuing"
    house.authority(root, alg)
    house.authority(issuing, alg, "--issuer", root, "--path-length", "0", *CONSTRAINTS)
    house.leaf(f"{alg}-server", issuing, HOST, NAMES, alg=alg)
    client = ("--profile", "tls-client")
    house.leaf(f"{alg}-client", issuing, "Alice Example", (f"email:{MAIL}",), *client, alg=alg)


def _brief(house: House) -> datetime:
    """A leaf and an intermediate whose time is over in a moment, and when that is."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=BRIEF)
    until = ("--not-after", end.isoformat())
    house.leaf("expired", "p256-issuing", HOST, NAMES, *until, alg="p256")
    _subordinate(house, "brief", *until)
    house.forged("below-expired", "brief", "p256-root", sans=NAMES)
    return end


def _subordinate(house: House, name: str, *options: str) -> None:
    """An intermediate that the house issues for a key in a file."""
    csr = house.csr(name, name)
    profile = ("--profile", "intermediate", "--path-length", "0")
    out = ("--out", str(house.path / f"{name}.pem"))
    house.machine("ca", "sign", "p256-root", csr, *profile, *CONSTRAINTS, *options, *out)


def _deep(house: House) -> None:
    """Two intermediates, a policy, and a leaf without a subject."""
    policy = ("--policy-oid", DOMAIN_VALIDATED)
    house.authority("upper", "p384", "--issuer", "p384-root", "--path-length", "1", *policy)
    house.authority("lower", "p256", "--issuer", "upper", "--path-length", "0", *policy)
    house.leaf("deep", "lower", "", NAMES, *policy, alg="p256")


def _guarded(house: House) -> None:
    """A chain of keys that want two of three people, who agreed."""
    machine = house.machine
    machine("key", "create", "guarded", "--policy", "quorum(officers)")
    subject = ("--subject", "CN=Guarded,O=Example")
    machine.settle(
        machine.ask("ca", "create", "guarded", "--key", "guarded", "--issuer", "root-ca", *subject)
    )
    number = machine.ask("ca", "sign", "guarded", house.csr("guarded-server", "", NAMES))
    machine.settle(number)
    issued = machine.json("request", "show", str(number))["result"]["pem"]
    (house.path / "guarded-server.pem").write_text(issued)
    for name in ("guarded", "root-ca"):
        machine("cert", "export", name, "--out", str(house.path / f"{name}.pem"))
    house.keep("guarded-server", "guarded", "root-ca")


def _disobedient(house: House) -> None:
    """What a subordinate signs inside and outside its limits."""
    _subordinate(house, "sub")
    for name, san in {
        "inside": "dns:deep.down.example.com",
        "inside-address": f"ip:{ADDRESS}",
        "outside": "dns:www.example.org",
        "excluded": "dns:very.secret.example.com",
        "outside-address": "ip:198.51.100.1",
    }.items():
        house.forged(name, "sub", "p256-root", sans=(san,))
    (house.path / "under-another-root.pem").write_bytes(
        (house.path / "p256-server.pem").read_bytes()
    )
    house.keep("under-another-root", "p256-issuing", "rsa2048-root")
    house.forged("too-long", "sub", "p256-root", common_name="too long", ca=True)
    house.forged("below-too-long", "too-long", "sub", "p256-root", sans=(f"dns:{HOST}",))
