"""Officers over the years: more of them, fewer, other numbers, joined ladders; the key stays."""

from __future__ import annotations

import pytest
from tests.cli.test_requests import expect
from tests.support.shell import Shell

JOINED = "2:alice,bob,carol+1:dave,erin"
JOINED_WORDS = "2 of 3 (alice, bob, carol) and 1 of 2 (dave, erin)"


def change(machine: Shell, *rule: str, people: tuple[str, ...] = ("alice", "bob")) -> str:
    """Change the officers; gives what the last custodian's command said."""
    options = [part for one in rule for part in ("--officers", one)]
    number = machine.ask("group", "change", "officers", *options)
    digest = expect(machine, number)
    said = [machine.approve(str(number), name, digest).err for name in people]
    assert machine.json("request", "show", str(number))["state"] == "executed"
    return said[-1]


def words(screen: str) -> str:
    """The screen without its line breaks."""
    return " ".join(screen.split())


@pytest.fixture
def staffed(governed: Shell) -> Shell:
    """With erin and frank, who hold no office yet."""
    for name in ("erin", "frank"):
        governed.person(name)
    governed("approver", "add", "erin.card", "frank.card")
    return governed


def csr(machine: Shell, name: str) -> int:
    return machine.ask("csr", "create", "root", "--subject", f"CN={name}")


def test_officers_over_the_years(staffed: Shell) -> None:
    before = staffed.json("group", "show", "officers")
    said = staffed("group", "change", "officers", "--officers", "3:alice,bob,carol,dave,erin",
                   code=3).err  # fmt: skip
    assert "the change: adds dave, erin (officers); needs 2 of 3 → 3 of 5" in said
    screen = words(change(staffed, "3:alice,bob,carol,dave,erin"))
    assert "adds dave, erin (officers); needs 2 of 3 → 3 of 5" in screen
    assert "NEW OFFICER" in screen and "WEAKER" not in screen
    staffed.settle(csr(staffed, "three of five"), "bob", "dave", "erin")

    screen = words(change(staffed, "3:alice,bob,dave,erin"))
    assert "Change removes carol; needs 3 of 5 → 3 of 4" in screen
    assert "carol stays a custodian" in screen
    number = csr(staffed, "without carol")
    staffed.approve(str(number), "carol", expect(staffed, number), code=1)
    staffed.settle(number, "alice", "dave", "erin")

    screen = words(change(staffed, "2:alice,bob,carol", "1:dave,erin", people=("bob", "carol")))
    assert "new ladder: 1 of (dave, erin)" in screen
    found = staffed.json("group", "show", "officers")
    assert found["officers"]["text"] == JOINED_WORDS
    assert found["officers"]["ladders"][1] == {"needed": 1, "members": ["dave", "erin"]}
    assert (found["officers"]["needed"], found["officers"]["spare"]) == (3, 1)
    assert (found["id"], found["fingerprint"]) == (before["id"], before["fingerprint"])
    assert found["epoch"] == before["epoch"] + 3
    assert JOINED_WORDS in staffed("group", "list").out
    assert "--officers 2:alice,carol,NEW+1:dave,erin" in staffed(
        "group", "explain", "officers", "--without", "bob"
    ).out  # fmt: skip


def test_too_many_on_one_ladder_count_for_no_other(staffed: Shell) -> None:
    change(staffed, JOINED)
    number = csr(staffed, "joined")
    digest = expect(staffed, number)
    for name in ("alice", "bob", "carol"):
        screen = staffed.approve(str(number), name, digest).err
    assert "2 of 3 (alice, bob, verified); to come: 1 of (dave, erin)" in words(screen)
    error = staffed.json("request", "execute", str(number), code=3)["error"]
    assert error["message"].startswith("waiting for 1 of (dave, erin), officers of officers")
    found = staffed.json("request", "show", str(number))
    assert (found["state"], found["missing"], len(found["approvals"])) == ("waiting", 1, 3)
    assert "2 of 3" in staffed("request", "show", str(number)).out
    assert "completes it" in staffed.approve(str(number), "erin", digest).err
    assert staffed.json("request", "show", str(number))["state"] == "executed"


def test_a_change_names_what_it_overtakes(staffed: Shell) -> None:
    number = csr(staffed, "waiting")
    untouched = csr(staffed, "untouched")
    staffed.approve(str(number), "bob", expect(staffed, number))
    other = staffed.ask("group", "change", "officers", "--officers", "2:alice,bob,dave")
    said = change(staffed, "2:alice,bob,carol,dave")
    anew = f"is asked anew in epoch {staffed.json('group', 'show', 'officers')['epoch']}"
    assert f"request {number} (CSR CN=waiting) {anew}; the approvals of bob are void" in said
    assert f"request {untouched} (CSR CN=untouched) {anew}; nobody had approved it" in said
    assert f"request {other} (change the roster of group officers) is cancelled" in said
    staffed.settle(number, "carol", "dave")


def test_scripts_read_what_a_change_overtakes(staffed: Shell) -> None:
    number = csr(staffed, "waiting")
    staffed.approve(str(number), "bob", expect(staffed, number))
    asked = staffed.ask("group", "change", "officers", "--officers", "2:alice,bob,dave")
    digest = expect(staffed, asked)
    staffed.approve(str(asked), "alice", digest)
    done = staffed.json("approve", str(asked), "--as", "bob", "-i", "bob.key", "--passphrase-file",
                        "passphrase", "--expect", digest)  # fmt: skip
    assert done["overtaken"] == [{"request": number, "state": "waiting", "void": ["bob"]}]


def test_the_same_people_only_move_the_epoch(staffed: Shell) -> None:
    rule = ("group", "change", "officers", "--officers", "2:alice,bob,carol")
    said = staffed(*rule, code=3).err
    assert "the same people and numbers: only approvals of the old epoch become void" in said
    error = staffed.json(*rule, code=3)["error"]
    assert error["same"] and error["change"] == "the same people and numbers"


def test_a_rule_that_becomes_weaker(staffed: Shell) -> None:
    change(staffed, JOINED)
    screen = words(change(staffed, "1:alice,bob,carol"))
    assert "WEAKER only 1 of (alice, bob, carol) is needed any more, until now 2" in screen
    assert "WEAKER nobody of (dave, erin) is needed any more, until now 1" in screen
    assert "ALONE one officer alone suffices" in screen
    screen = words(change(staffed, "2:dave,erin,frank"))
    assert "NEWCOMERS those who are added suffice" in screen


def test_rules_that_cannot_be(staffed: Shell) -> None:
    for rule, code in {
        "2:alice,bob+1:bob,carol": "two-ladders",
        "2:alice,bob+": "not-found",
        "2:alice,bob+1:": "bad-rule",
        "2:alice,bob+1:nobody": "not-found",
    }.items():
        for command in (("change", "officers"), ("create", "more")):
            error = staffed.json("group", *command, "--officers", rule, code=2)["error"]
            assert error["code"] == code, error
    assert "bob stands on two ladders" in staffed(
        "group", "change", "officers", "--officers", "2:alice,bob", "--officers", "1:bob", code=2
    ).err  # fmt: skip
    assert not [r for r in staffed.json("request", "list")["items"] if r["state"] == "waiting"]


def test_a_group_founded_with_joined_ladders(staffed: Shell) -> None:
    """For custodians too: more than half of each ladder."""
    found = ("group", "create", "board", "--officers", "1:dave,erin", "--officers", "1:frank",
             "--custodians")  # fmt: skip
    loose = staffed.json(*found, "2:alice,bob+1:carol,dave", code=2)["error"]
    assert "1 of 2: it must be more than half" in loose["message"]
    number = staffed.ask(*found, "2:alice,bob,carol+1:dave")
    assert staffed.ask(*found, "2:alice,bob,carol+1:dave") == number
    digest = expect(staffed, number)
    staffed.approve(str(number), "alice", digest)
    staffed.approve(str(number), "bob", digest)
    waiting = staffed.json("request", "execute", str(number), code=3)["error"]["message"]
    assert "waiting for 1 of (dave), custodians of board" in waiting
    staffed.approve(str(number), "dave", digest)
    assert staffed.json("group", "show", "board")["state"] == "active"
    staffed("key", "create", "papers", "--policy", "quorum(board)")
    number = staffed.ask("csr", "create", "papers", "--subject", "CN=board")
    staffed.settle(number, "erin", "frank")
    again = staffed.ask("group", "change", "board", "--officers", "2:dave,erin,frank")
    staffed.settle(again, "carol", "dave", "alice")


# ── what a roster says besides its people ────────────────────────────────────────────────────


def test_what_officers_can_no_longer_be_asked_is_cancelled(governed: Shell) -> None:
    governed("key", "create", "counted", "--policy", "any(quorum(officers), budget(officers))")
    budget = governed.ask("key", "grant", "counted", "5")
    signature = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed.settle(governed.ask("group", "change", "officers", "--uses", "sign"))
    states = [governed.json("request", "show", str(n))["state"] for n in (budget, signature)]
    assert states == ["cancelled", "waiting"]


def test_keys_that_may_be_opened_and_uses(governed: Shell) -> None:
    """`--open`, `--close`, `--uses`: officers stay as they are, and it is said in words."""
    before = governed.json("group", "show", "officers")
    said = governed("group", "change", "officers", "--open", "root", "--uses", "sign", code=3).err
    assert "the change: no longer asked for budgets, decryptions; allows to open root" in words(
        said
    )
    number = governed.json("request", "list", "--state", "waiting")["items"][0]["id"]
    screen = words(governed.approve(str(number), "alice", expect(governed, number)).err)
    assert "OPENS" in screen and "anyone with the machine signs" in screen
    governed.approve(str(number), "bob", expect(governed, number))
    found = governed.json("group", "show", "officers")
    assert (found["windows"], found["uses"]) == (["root"], ["sign"])
    assert found["officers"] == before["officers"] and found["epoch"] == before["epoch"] + 1
    text = governed("group", "explain", "officers").out
    assert "They may open for some seconds: root." in text
    assert "What officers may be asked for: signatures." in text
    governed.settle(csr(governed, "as before"))

    number = governed.ask("group", "change", "officers", "--close", "root")
    governed.settle(number)
    assert governed.json("group", "show", "officers")["windows"] == []
    error = governed.json("group", "change", "officers", "--close", "root", code=2)["error"]
    assert error["code"] == "window-not-allowed"
    assert "open no key for a time" in governed("group", "explain", "officers").out


def test_changes_that_cannot_be(governed: Shell) -> None:
    for options, code in (
        ([], None),
        (["--pcr", "sha256:0", "--no-pcr"], None),
        (["--open", "web"], "not-of-this-group"),
        (["--open", "nothing"], "not-found"),
        (["--uses", "sign,everything"], "bad-uses"),
        (["--pcr", "sha256:23"], "policy-pcr-unprotected"),
        (["--pcr", "sha256:0,2,7"], "policy-pcr-empty"),  # no firmware measures in a software TPM
        (["--pcr", "all"], "parse"),
    ):
        error = governed.json("group", "change", "officers", *options, code=2)["error"]
        assert code in (None, error["code"]), error
    assert governed.json("request", "list", "--state", "waiting")["items"] == []


def test_a_live_nonce(governed: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`trust challenge`, `group certify`, `trust check`, with the files that travel."""
    home = Shell(tmp_path_factory.mktemp("custodian"))
    nonce = home("trust", "challenge").out.strip()
    said = governed("group", "certify", "officers", "--nonce", nonce).out
    shown = governed("show", "officers.certified").out
    assert "certified-state" in shown and "2 of 3 (alice, bob, carol)" in shown
    assert "not checked yet: tpmhsm trust check" in shown
    assert "officers.certified" in said and "tpmhsm trust check" in said
    file = governed.path / "officers.certified"
    shown = home("trust", "check", file).out
    epoch = governed.json("group", "show", "officers")["epoch"]
    assert f"{epoch}, in force; certified over your nonce" in shown
    assert f"changes for epoch {epoch + 2} and later" in shown  # this home's memory begins now
    eight = governed.json("group", "show", "officers")["fingerprint"]
    assert eight in words(shown) and "does not know the group" in shown
    error = home.json("trust", "check", file, code=1)["error"]
    assert error["code"] == "stale-nonce" and "trust challenge" in error["hint"]
    bad = governed.json("group", "certify", "officers", "--nonce", "12", code=2)["error"]
    assert bad["code"] == "bad-nonce"
    (governed.path / "none").write_text("{}")
    assert home.json("trust", "check", governed.path / "none", code=2)["error"]["code"] == "parse"
    again = home.json("trust", "challenge")["nonce"]
    assert len(bytes.fromhex(again)) == 32 and again != nonce
    governed.settle(governed.ask("group", "change", "officers", "--officers", "2:alice,bob,carol"))
    governed("group", "certify", "officers", "--nonce", again, "--force")
    found = home.json("trust", "check", file)  # and it begins no second time
    assert (found["epoch"], found["approves_from"]) == (epoch + 1, epoch + 2)
