"""An auditor asks both hosts of a copied key, by the commands that a person types."""

from __future__ import annotations

from tests.story.recovery import Town
from tests.story.test_recovery_mainboard import copied

NONCE = "5c" * 32


def test_original_and_copy_by_the_commands(town: Town) -> None:
    host, second = town.machine(), copied(town)
    second("key", "restore", "root.backup")
    auditor = town.machine("auditor")
    responses: list[str] = []
    for name, machine in (("host1", host), ("host2", second)):
        collected = machine("attest", "collect", "--key", "root", "--nonce", NONCE,
                            "-o", f"{name}.evidence")  # fmt: skip
        assert ("is a copy" in collected.err) == (name == "host2")
        auditor("attest", "challenge", f"{name}.evidence", "-o", f"{name}.c")
        machine("attest", "respond", f"{name}.c", "-o", f"{name}.r")
        responses += ["--response", f"{name}.r"]
    for machine in (host, second):
        places = machine.home.rglob("localca/*cert.pem")
        auditor("attest", "roots", "add", *map(str, places), "--as", "emulator")
    nonce = ("--nonce", NONCE)
    one = auditor.json("attest", "verify", "host1.evidence", "--copy", "host2.evidence",
                       *responses, *nonce, "--require", "born", "--require", "roster")  # fmt: skip
    two = auditor.json("attest", "verify", "host2.evidence", "--original", "host1.evidence",
                       *responses, *nonce, "--require", "born", "--require", "agree")  # fmt: skip
    assert one["keys"][0]["origin"] == "original" and two["keys"][0]["origin"] == "copy"
    assert one["copies"][0]["parent"] == two["receives"]
    assert sorted(one["copies"][0]["approved"]) == ["alice", "bob"]
    alone = auditor.json("attest", "verify", "host2.evidence", *responses[2:], *nonce,
                         "--require", "born", code=1)  # fmt: skip
    assert alone["keys"][0]["origin"] == "unproven"
    assert alone["error"]["code"] == "not-proven-born"
    assert "could be imported" in alone["error"]["message"]
    shown = auditor.json("show", "host1.evidence")
    assert shown["copies"][0]["approvals"] == 2 and not shown["receives"]
    assert "takes copies" in auditor("show", "host2.evidence").out
