"""Approval by file between a CA host and approvers who have nothing but `pip install tpmhsm`.

Their environment is made anew: the wheel, and requirements/base.txt with every file checked by its
hash; no compiler, no extras. Each person has a home; nothing but files goes between them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.project.bare import (
    ROOT,
    BareHome,
    copy_source,
    make_environment,
    make_programs,
    run,
)
from tests.support.cli import Home

OF_TOKENS = ("yubikit", "smartcard", "pkcs11", "tpm2_pytss")


class People:
    """The host, with this environment's program, and three people with the bare one's."""

    def __init__(self, place: Path) -> None:
        self.host = Home(place / "host")
        self.laptops = {n: BareHome(place / n, place) for n in ("alice", "bob", "carol")}
        for machine in (self.host, *self.laptops.values()):
            machine.path.mkdir()

    def exchange_cards(self) -> None:
        """Everybody has everybody's card, and the device's, from its owner."""
        self.host("init")
        self.host("device", "export", "--out", "host.card")
        for name, laptop in self.laptops.items():
            laptop.person(name)
        cards = [laptop.path / f"{name}.card" for name, laptop in self.laptops.items()]
        for laptop in self.laptops.values():
            others = [card for card in cards if card.parent != laptop.path]
            laptop("trust", "add", *others, self.host.path / "host.card")
        self.host("approver", "add", *cards)

    def ask(self, *command: str) -> int:
        return int(self.host.json(*command, code=3)["error"]["request"])

    def carry(self, number: int, name: str) -> BareHome:
        """Take a request to somebody."""
        self.host("request", "export", str(number), "--out", f"{number}-{name}.req")
        laptop = self.laptops[name]
        shutil.move(self.host.path / f"{number}-{name}.req", laptop.path / f"{number}.req")
        return laptop

    def back(self, number: int, name: str, ending: str) -> dict:
        """Take what somebody signed to the host."""
        file = shutil.move(self.laptops[name].path / f"{number}-{name}.{ending}", self.host.path)
        return self.host.json("request", "import", file)["items"][0]

    def approve(self, number: int, name: str) -> dict:
        """Somebody looks at a request on their own machine, and approves it; what the tool said."""
        laptop = self.carry(number, name)
        shown = laptop.json("show", f"{number}.req")
        digest = self.host.json("request", "show", str(number))["digest"]
        assert shown["digest"] == digest
        who = ("--as", name, "-i", f"{name}.key", "--passphrase-file", "passphrase")
        said = laptop.json("approve", f"{number}.req", *who, "--expect", digest)
        self.back(number, name, "approval")
        return said

    def state(self, number: int) -> str:
        return str(self.host.json("request", "show", str(number))["state"])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    place = tmp_path_factory.mktemp("f")
    make_programs(place)
    install(place)
    found = People(place)
    found.exchange_cards()
    yield found
    found.host("device", "stop")


def install(place: Path) -> None:
    """The wheel, and what it needs, each file as requirements/base.txt knows it."""
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    source = copy_source(place)
    subprocess.run([sys.executable, *build, "-w", str(place), str(source)], check=True)
    (wheel,) = place.glob("tpmhsm-*-py3-none-any.whl")
    make_environment(place, "--without-pip")
    base, python = ROOT / "requirements/base.txt", place / "venv/bin/python"
    # nothing is compiled before it is run: less is run than there is
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile")
    run(place, *pip, "--require-hashes", "--only-binary", ":all:", "-r", base)
    run(place, *pip, "--no-index", "--no-deps", wheel)
    look = "import importlib.util as u, sys; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    assert run(place, place / "venv/bin/python", "-c", look, *OF_TOKENS) == "[]\n"


@pytest.fixture(scope="module")
def group(people: People) -> People:
    """The officers, founded by two people who compared eight words."""
    number = people.ask("group", "create", "officers", "--officers", "2:alice,bob,carol")
    said = [people.approve(number, name) for name in ("alice", "bob")]
    assert people.state(number) == "executed"
    assert all(one["first_use"] for one in said)
    here = people.host.json("group", "fingerprint", "officers")["fingerprint"]
    words = here.split() if isinstance(here, str) else list(here)
    assert len(words) == 8
    assert [one["fingerprint"].split() for one in said] == [words, words]
    people.host("key", "create", "root", "--policy", "quorum(officers)")
    root = ("ca", "create", "root-ca", "--key", "root", "--subject", "CN=Root,O=Example")
    number = people.ask(*root)
    people.approve(number, "bob")
    assert people.state(number) == "waiting"
    assert people.approve(number, "carol")["first_use"]  # she compares the words now
    assert people.state(number) == "executed"
    people.host("key", "create", "web")
    people.host("csr", "create", "web", "--san", "dns:www.example.com", "--out", "web.csr")
    return people


def test_a_certificate_is_issued(group: People) -> None:
    number = group.ask("ca", "sign", "root-ca", "web.csr", "--profile", "tls-server")
    assert not group.approve(number, "alice")["first_use"]
    group.approve(number, "bob")
    found = group.host.json("request", "show", str(number))
    assert found["state"] == "executed"
    assert [one["kind"] for one in found["approvals"]] == ["file", "file"]
    group.host("cert", "export", found["result"]["sha256"][:16], "--out", "leaf.pem")
    group.host("cert", "export", "root-ca", "--out", "root.pem")
    words = ["-CAfile", "root.pem", "-verify_hostname", "www.example.com", "leaf.pem"]
    subprocess.run(["openssl", "verify", "-x509_strict", *words], cwd=group.host.path, check=True)


def test_a_request_is_denied(group: People) -> None:
    number = group.ask("csr", "create", "root", "--subject", "CN=elsewhere")
    bob = group.carry(number, "bob")
    who = ("--as", "bob", "-i", "bob.key", "--passphrase-file", "passphrase")
    bob("deny", f"{number}.req", *who, "--reason", "what for?")
    assert group.back(number, "bob", "denial")["state"] == "denied"
    found = group.host.json("request", "show", str(number))
    assert [(d["approver"], d["reason"]) for d in found["denials"]] == [("bob", "what for?")]
    error = group.host.json("request", "execute", str(number), code=2)["error"]
    assert "denied" in error["message"]


def test_other_bytes_are_not_approved(group: People) -> None:
    """A digest that somebody read out is of other bytes than the file's."""
    number = group.ask("ca", "sign", "root-ca", "web.csr", "--profile", "tls-client")
    alice = group.carry(number, "alice")
    who = ("--as", "alice", "-i", "alice.key", "--passphrase-file", "passphrase")
    error = alice.json("approve", f"{number}.req", *who, "--expect", "0" * 64, code=1)["error"]
    assert error["code"] == "other-bytes"
    assert alice.json("show", f"{number}.req")["digest"] in error["hint"]
    assert "not the file's own" in error["hint"]
    assert group.state(number) == "waiting"
