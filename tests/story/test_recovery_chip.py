"""A chip that is cleared, locked out, or in the hands of somebody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.story.recovery import Town

from tpmhsm.tpm.device import open_device


@pytest.mark.skipif(not shutil.which("tpm2_clear"), reason="tpm2-tools are not installed")
def test_the_chip_was_cleared(town: Town) -> None:
    host = town.machine()
    host("backup", "-o", "ca.backup")
    before = host.json("group", "show", "officers")["epoch"]
    town.tool("clear", "-c", "lockout")
    # no backup brings the keys back
    found = host.json("restore", "ca.backup", "--force", code=1)
    assert not found["ok"]
    town.follow("The chip was cleared, or is dead without a copy")
    assert host.json("group", "show", "officers")["epoch"] > before
    lost = host.json("--home", f"{host.home}.lost", "cert", "list")["items"]
    assert any("CN=Root," in one["subject"] for one in lost)
    shutil.rmtree(f"{host.home}.lost")


def test_a_pin_is_forgotten_or_the_chip_is_locked_out(place: Path) -> None:
    town = Town(place)
    host = town.machine()
    try:
        for name, text in {"passphrase": "secret", "pin": "right", "wrong": "wrong"}.items():
            (town.shared / name).write_text(f"{text}\n")
        (town.shared / "message").write_text("message")
        host("init", "--recovery", "chip.recovery", "--passphrase-file", "passphrase")
        host("key", "create", "signer", "--policy", "pin", "--pin-file", "pin")
        wanted = ("key", "sign", "signer", "message", "--out", "m.sig", "--pin-file")
        for _ in range(10):
            assert host.attempt(*wanted, "wrong").code
        locked = host.json(*wanted, "pin", code=4)["error"]
        assert "lock" in locked["code"] + locked["message"]
        town.follow("A PIN is forgotten, or the chip is locked out")
    finally:
        town.stop()


def test_the_host_is_suspected(town: Town) -> None:
    """Root signs with a key that asks nobody, and puts database and journal back."""
    host = town.machine()
    host("backup", "-o", "ca.backup")
    kept = {name: (host.home / name).read_bytes() for name in ("tpmhsm.db", "chip.journal")}
    town.issue("rogue")
    for name, data in kept.items():
        (host.home / name).write_bytes(data)
    # and has a table of its own in there
    import sqlite3

    with sqlite3.connect(host.home / "tpmhsm.db") as opened:
        opened.execute("CREATE TABLE notes (x)")
    opened.close()
    town.follow("The host is suspected")
    host("cert", "export", "root-ca", "-o", "root.pem")
    host("cert", "export", "issuing-ca", "-o", "issuing.pem", "--force")
    crl = host.home / "public" / "crl" / "root-ca.crl"
    refused = host.attempt(
        *("cert", "verify", "rogue.pem", "--trust", "root.pem", "--untrusted", "issuing.pem"),
        *("--crl", str(crl)),
    )
    assert refused.code == 1
    assert "revoked" in refused.out + refused.err
    with open_device("software", host.home).transaction() as chip:
        assert not chip.leaks()
