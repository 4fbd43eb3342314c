"""People, their keys and their homes: lost, stolen, forgotten."""

from __future__ import annotations

import shutil

from tests.story.recovery import Town

CHANGED = ("group", "change", "officers", "--officers")


def refusal(town: Town, name: str, number: int) -> str:
    """Why this person's tool approves nothing of a request."""
    town.machine()("request", "export", str(number), "--out", "tried.req", "--force")
    (town.shared / "tried").unlink(missing_ok=True)
    answers = ("--passphrase-file", "passphrase", "--expect", town.digest("tried.req"))
    words = ("approve", "tried.req", "--as", name, "-i", f"{name}.key", "-o", "tried", *answers)
    return str(town.machine(name).json(*words, code=1)["error"]["code"])


def asked(town: Town) -> int:
    """A certificate that the root's officers are asked for."""
    town.machine()("key", "create", "any")
    town.machine()("csr", "create", "any", "--san", "dns:a.example.com", "--out", "any.csr")
    return town.machine().ask("ca", "sign", "root-ca", "any.csr", "--profile", "tls-server")


def test_the_backup_is_older_than_the_officers(town: Town) -> None:
    host = town.machine()
    host("backup", "-o", "old.backup")
    host("approver", "add", "dave.card")
    town.settle(host.ask(*CHANGED, "2:alice,bob,dave"))
    found = host.json("restore", "old.backup", "--force", code=1)
    assert any("in epoch 3, the backup in 2" in one["what"] for one in found["newer"])
    town.follow("The backup is older than the officers")
    town.settle(asked(town), "alice", "dave")


def test_an_approver_is_lost(town: Town) -> None:
    carol = (town.shared / "carol.key").read_bytes()
    (town.shared / "carol.key").unlink()
    shutil.rmtree(town.place / "carol")
    town.follow("An approver is lost")
    assert "dave" in town.machine().json("group", "show", "officers")["officers"]["members"]
    # whoever finds Carol's key has no vote
    (town.shared / "carol.key").write_bytes(carol)
    (town.shared / "carol.key").chmod(0o600)
    number = asked(town)
    assert refusal(town, "carol", number) == "not-a-member"
    town.settle(number, "alice", "dave")


def test_an_approvers_home_is_lost(town: Town) -> None:
    alice = town.machine("alice")
    shutil.rmtree(alice.home)
    town.follow("An approver's home is lost")
    host = town.machine()
    host("approver", "add", "dave.card")
    town.settle(host.ask(*CHANGED, "2:alice,bob,dave"), "alice", "bob")


def test_an_approvers_home_that_was_put_back_forgets(town: Town) -> None:
    """It would otherwise believe that it never approved what it approved after the backup."""
    alice, host = town.machine("alice"), town.machine()
    alice("backup", "-o", "alice.backup")
    host("approver", "add", "dave.card")
    town.settle(host.ask(*CHANGED, "2:alice,bob,dave"))
    said = alice("restore", "alice.backup", "--force").out
    assert "what alice approved after that is forgotten" in said
    number = host.ask(*CHANGED, "2:alice,bob,carol")
    assert refusal(town, "alice", number) == "memory-lost"
    host("request", "cancel", str(number))
    town.follow("An approver's home is lost", 1, 4)  # the nonce, and its answer


def test_a_key_file_was_copied(town: Town) -> None:
    """The thief's approval of yesterday is void, and his next one is none."""
    host = town.machine()
    number = asked(town)
    host("request", "export", str(number), "--out", "now.req")
    town.machine("bob").approve("now.req", "bob", town.digest("now.req"))
    host("request", "import", f"{number}-bob.approval")
    town.follow("A YubiKey is stolen, or a key file was copied")
    assert refusal(town, "bob", number) == "not-a-member"
    shown = host.json("request", "show", str(number))
    assert not shown["approvals"]
    town.settle(number, "carol", "dave")


def test_too_many_custodians_are_lost(town: Town) -> None:
    host = town.machine()
    host("approver", "add", "dave.card")
    town.settle(host.ask(*CHANGED, "2:carol,dave"))
    for name in ("alice", "bob"):
        shutil.rmtree(town.place / name)
        (town.shared / f"{name}.key").unlink()
    town.follow("Too many custodians are lost")
    host("cert", "export", "root-ca", "-o", "root.pem")
    host("key", "create", "leaf")
    host("csr", "create", "leaf", "--san", "dns:a.example.com", "--out", "leaf.csr")
    number = host.ask("ca", "sign", "root-2", "leaf.csr", "--profile", "tls-server")
    town.settle(number, "carol", "dave")
    made = host.json("request", "show", str(number))["result"]
    (town.shared / "leaf.pem").write_text(made["pem"])
    crossed = host.json("request", "show", str(number - 1))["result"]
    (town.shared / "crossed.pem").write_text(crossed["pem"])
    host("cert", "verify", "leaf.pem", "--trust", "root.pem", "--untrusted", "crossed.pem")
