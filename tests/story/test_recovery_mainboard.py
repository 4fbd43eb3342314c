"""A mainboard that dies after the root's key was copied to a second chip."""

from __future__ import annotations

import shutil

import pytest
from tests.story.recovery import Town
from tests.support.shell import Shell


def copied(town: Town) -> Shell:
    """The second host, with the group and a copy of the root's key in root.backup."""
    host, second = town.machine(), town.machine("host2")
    host("group", "export", "officers")
    second("init", "--no-seal")
    second("group", "join", "officers.group")
    second("device", "export", "-o", "host2.card")
    for name in ("alice", "bob"):
        person = town.machine(name)
        person("trust", "add", "host2.card")
        person("trust", "challenge", "host2.card", "-o", f"{name}.challenge")
        answer = ("--challenge", f"{name}.challenge", "-o", f"{name}.evidence")
        second("group", "certify", "officers", *answer)
        person("trust", "check", f"{name}.evidence")
    number = host.ask("key", "backup", "root", "--to", "alice.evidence")
    for name in ("alice", "bob"):
        host("request", "export", str(number), "--out", "now.req", "--force")
        town.machine(name).approve("now.req", name, town.digest("now.req"))
        host("request", "import", f"{number}-{name}.approval")
        (town.shared / f"{number}-{name}.approval").unlink()
    host("key", "backup", "root", "--to", "alice.evidence")
    (town.shared / "officers.group").unlink()
    return second


def test_the_mainboard_is_dead_and_a_second_chip_has_the_keys(town: Town) -> None:
    host, second = town.machine(), copied(town)
    # officers change after the second chip joined, and certificates are issued and revoked
    host("approver", "add", "dave.card")
    town.settle(host.ask("group", "change", "officers", "--officers", "2:alice,bob,dave"))
    host("cert", "export", "issuing-ca", "-o", "issuing-ca.pem")
    host("key", "create", "web")
    host("csr", "create", "web", "--san", "dns:web.example.com", "--out", "web.csr")
    number = host.ask("ca", "sign", "root-ca", "web.csr", "--profile", "tls-server")
    town.settle(number, "alice", "dave")
    made = host.json("request", "show", str(number))["result"]
    (town.shared / "web.pem").write_text(made["pem"])
    host("ca", "revoke", "root-ca", "web.pem", "--reason", "superseded")
    town.settle(host.ask("ca", "crl", "root-ca"))
    last = host.json("ca", "crl", "root-ca", "--existing")["number"]
    host("backup", "-o", "ca.backup")
    town.stop()
    shutil.rmtree(host.home)
    # until it joins once more the second chip obeys the officers of before
    assert "dave" not in second.json("group", "show", "officers")["officers"]["members"]
    town.follow("The mainboard is dead, and a second chip has the keys")
    assert "dave" in second.json("group", "show", "officers")["officers"]["members"]
    shown = second.json("ca", "crl", "root-ca", "--existing")
    assert shown["number"] > last + 1_000_000
    assert shown["entries"] == 2
    again = second.json("restore", "ca.backup", "--records")
    assert again["certificates"] == {"root-ca": 0}
    assert not (again["revocations"] or again["crls"])
    assert second.json("doctor", "store")["ok"]


def test_records_stay_out_of_homes_without_the_keys(town: Town) -> None:
    """Nothing there could revoke what was issued; it can be read all the same."""
    host = town.machine()
    town.issue("one")
    host("backup", "-o", "ca.backup")
    other = town.machine("other")
    other("--tpm", "software", "init")
    taken = other.json("restore", "ca.backup", "--records")
    assert taken["certificates"] == {}
    assert sorted(taken["left"]) == ["issuing-ca", "root-ca"]
    assert len(other.json("cert", "list")["items"]) == 3
    assert not other.json("ca", "list")["items"]
    assert other.json("doctor", "store")["ok"]


@pytest.mark.parametrize("name", ["absent", "issuing.csr"])
def test_records_of_nothing(town: Town, name: str) -> None:
    (town.shared / "issuing.csr").write_text("no backup")
    assert town.machine().attempt("restore", name, "--records").code == 2
