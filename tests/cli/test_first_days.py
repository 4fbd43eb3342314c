"""What somebody meets who never saw the program: wrong turns that say the next command."""

from __future__ import annotations

from tests.support.shell import Shell


def test_several_people_are_lost(governed_template: Shell) -> None:
    explain = ("group", "explain", "officers")
    for words in (("--without", "alice", "--without", "bob"), ("--without", "alice,bob")):
        out = governed_template(*explain, *words).out
        assert "alice (officer and custodian) and bob (officer and custodian)" in out
        assert "Signing: impossible" in out
    found = governed_template.json(*explain, "--without", "bob")
    assert found["without"] == "bob"


def test_nobody_is_asked_for_what_the_roster_does_not_allow(governed: Shell) -> None:
    quorum = ("--policy", "quorum(officers)")
    governed("key", "create", "ring", "--use", "decrypt", *quorum)
    governed("key", "create", "box", "--use", "decrypt", "--alg", "rsa2048", *quorum)
    (governed.path / "closed").write_bytes(b"\x01" * 256)
    number = governed.ask("group", "change", "officers", "--uses", "sign,budget")
    governed.settle(number, "alice", "bob")
    before = len(governed.json("request", "list")["items"])
    error = governed.json("key", "decrypt", "box", "closed", code=2)["error"]
    assert error["code"] == "use-not-in-roster"
    assert error["hint"] == "tpmhsm group change officers --uses sign,budget,decrypt"
    assert len(governed.json("request", "list")["items"]) == before
