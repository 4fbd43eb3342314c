"""What somebody meets who never saw the program: wrong turns that say the next command."""

from __future__ import annotations

from tests.cli.test_terminal import at_terminal
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


def test_a_closed_key_says_how_it_is_opened(governed: Shell) -> None:
    said = governed("key", "create", "night", "--policy", "window(officers)").err
    assert "tpmhsm group change officers --open night" in said
    assert "tpmhsm key open night --for 15m" in said
    shown = governed("key", "show", "night").out
    assert "may not be opened" in shown and "group change officers --open night" in shown
    number = governed.ask("group", "change", "officers", "--open", "night")
    assert "change the roster of group officers" in governed("request", "list").out
    governed.settle(number)
    assert "closed; tpmhsm key open night --for 15m asks" in governed("key", "show", "night").out
    number = governed.ask("key", "open", "night", "--for", "90s")
    found = governed.json("request", "show", str(number))
    screen = governed.approve(str(number), "alice", found["digest"]).err
    day, ends = found["created"][:10], found["expires"]
    assert f"expires {ends[11:16] if ends[:10] == day else ends[:10]}" in screen
    governed("request", "cancel", str(number))
    said = governed("key", "create", "lot", "--policy", "budget(officers)").err
    assert "tpmhsm key grant lot N asks officers of officers" in said


def test_status_names_every_policy(governed: Shell) -> None:
    (governed.path / "pin").write_text("482915\n")
    for number, policy in enumerate(("all(window(officers), budget(officers))", "pin")):
        governed("key", "create", f"k{number}", "--policy", policy, "--pin-file", "pin")
    screen = governed("status").out
    assert "…" not in screen and "1 pin" in screen
    assert max(map(len, screen.splitlines())) <= 80 and len(screen.splitlines()) <= 24


def test_explanations_are_broken_between_words_at_a_terminal(governed_template: Shell) -> None:
    with at_terminal(governed_template, "policy", "explain", "quorum(officers)") as terminal:
        code, said = terminal.end()
    lines = said.replace("\r", "").split("\n")
    assert code == 0 and len(lines) > 4
    assert max(map(len, lines)) <= 80
    piped = governed_template("policy", "explain", "quorum(officers)").out
    assert max(map(len, piped.splitlines())) > 80
    assert " ".join(said.split()) == " ".join(piped.split())


def test_keys_are_listed_with_their_policies_at_a_terminal(governed_template: Shell) -> None:
    with at_terminal(governed_template, "key", "list") as terminal:
        code, said = terminal.end()
    assert code == 0 and "quorum(officers)" in said and "…" not in said


def test_wrong_turns_of_decryption_say_the_next_command(plain: Shell) -> None:
    plain("key", "create", "ring", "--use", "decrypt")
    assert (
        "openssl pkey -in THEIRS -pubout" in plain("key", "derive", "ring", "web.csr", code=2).err
    )


def test_two_changes_for_one_epoch_are_warned_of(governed: Shell) -> None:
    change = ("group", "change", "officers", "--officers")
    first = governed.ask(*change, "2:alice,bob,carol")
    said = governed(*change, "3:alice,bob,carol", code=3).err
    assert f"warning: request {first} waits for the same epoch: only one of them can come" in said
    second = governed.json("request", "list")["items"][-1]["id"]
    for number in (first, second):
        governed("request", "cancel", str(number))
    assert "same epoch" not in governed(*change, "1:alice,bob,carol", code=3).err


def test_who_waits_is_told_until_when_and_what_else_would_do(governed: Shell) -> None:
    (governed.path / "pin").write_text("482915\n")
    (governed.path / "note").write_text("a note\n")
    pin = ("--pin-file", "pin")
    governed("key", "create", "lot", "--policy", "budget(officers)")
    governed("key", "create", "night", "--policy", "quorum(officers)")
    governed("key", "create", "either", "--policy", "any(quorum(officers), pin)", *pin)
    said = governed("key", "sign", "night", "note", code=3).err
    assert "before any restart" not in said and "--pin-file" not in said
    said = governed("key", "sign", "either", "note", code=3).err
    assert "the command that asked, with --pin-file F, asks nobody" in said
    governed("key", "sign", "either", "note", *pin)
    first = governed.json("key", "grant", "lot", "3", code=3)["error"]
    expires = governed.json("request", "show", str(first["request"]))["expires"]
    assert f"(by {expires}, and before any restart of the chip)" in first["message"]
    governed.settle(first["request"])
    assert "restart" not in governed("key", "grant", "lot", "3", code=3).err
