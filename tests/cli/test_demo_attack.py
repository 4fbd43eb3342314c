"""`tpmhsm demo --attack`: all of its attacks, at the chip; and that a success would be seen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.test_table import rows
from tests.support.shell import Shell
from tests.support.terminal import CTRL_D, Terminal

from tpmhsm.cli.app import App
from tpmhsm.cli.attacks import shell, signatures, table
from tpmhsm.cli.attacks.scene import Attack, Outcome, Scene, Try
from tpmhsm.cli.attacks.table import ATTACKS, find
from tpmhsm.errors import NotFoundError
from tpmhsm.tpm import objects

DESIGN = {
    "sign with M-1": "too-few",
    "other bytes": "other-bytes",
    "other key": "other-key",
    "old epoch": "old-epoch",
    "replayed roster": "roster-replayed",
    "roster index undefined and remade, same attributes": "roster-remade",
    "roster index undefined and remade, other attributes": "roster-own",
    "NV write by owner": "owner-writes",
    "Certify with the CA key as signer": "certify",
    "CertifyX509": "certify-x509",
    "Quote": "quote",
    "GetTime": "get-time",
    "NV_Certify": "nv-certify",
    "Commit": "commit",
    "ECDH_ZGen": "ecdh-zgen",
    "ObjectChangeAuth with the CA key": "change-auth",
    "ladder entered with a wrong prefix": "wrong-prefix",
    "same key on two cards": "two-cards",
    "ordinary index as counter": "fake-counter",
    "budget refill by undefine and replay": "budget-refill",
    "budget of another key": "budget-other",
    "ticket of another key": "ticket-key",
    "ticket altered": "ticket-altered",
    "ticket expired": "ticket-expired",
    "ticket after reset": "ticket-reset",
    "window nonce of other length": "window-nonce",
    "empty cpHash": "blank-cheque",
    "possession challenge shaped as an approval": "challenge",
    "SHA-1 aHash": "sha1",
    "decrypt key used to sign": "decrypt-signs",
    "bare digest that is a TBS hash": "bare-digest",
    "two rosters for one epoch": "two-rosters",
    "NV_Increment replayed": "increment-replayed",
    "backup to a chip with a low counter": "low-counter",
    "imported twin key": "imported-twin",
    "unrestricted AK": "unrestricted-ak",
    "relay AK": "relay-ak",
    "stale nonce": "stale-nonce",
    "PCR moved between policy and signature": "pcr-moved",
    "clock moved": "clock-moved",
}
"""What the design promises, and the attack that tries it."""

NOT_PROMISED = {
    *("same-bytes", "burn-units", "open-window", "clock-slowed", "open-key", "stop-service"),
    "withhold",
}

SOME = ("certify", "roster-remade", "budget-refill", "ticket-altered", "two-cards", "same-bytes")
"""Those that are tried in every run; all of them in the long one."""

needs_swtpm = pytest.mark.skipif(not shutil.which("swtpm_setup"), reason="swtpm is not installed")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All attacks, in one sitting; what came of each, by its name."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    machine = Shell(tmp_path_factory.mktemp("demo"))
    found = machine("--json", "demo", "--attack", "all", "state").json
    return {"state": found["state"], **{one["name"]: one for one in found["items"]}}


def test_the_design_is_tried() -> None:
    names = {attack.name for attack in ATTACKS}
    assert set(DESIGN.values()) <= names
    assert {attack.name for attack in ATTACKS if not attack.promised} == NOT_PROMISED
    more = names - set(DESIGN.values()) - NOT_PROMISED
    assert more == {"one-person-twice", "no-cphash", "budget-write"}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_names_a_test_of_the_table(attack: Attack) -> None:
    """docs/attacks.md has the test, and says the same of whether anybody refuses it."""
    named = {f"tests/attacks/{row['file']}:{row['name']}" for row in rows()}
    assert attack.test in named
    documents = re.findall(r"docs/[\w-]+\.md", attack.stands)
    assert documents and all((Path(__file__).parents[2] / d).exists() for d in documents)


@pytest.mark.long
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_comes_out_as_documented(tried: dict[str, Any], attack: Attack) -> None:
    """Refused with the codes of docs/attacks.md; what is on the way to it, and what is allowed,
    works; what nobody promises succeeds, and is called so.
    """
    found = tried[attack.name]
    wrong = [one for one in found["tries"] if one["verdict"] in ("otherwise", "succeeded")]
    assert not wrong
    assert found["verdict"] == ("refused" if attack.promised else "not-promised")
    refused = [one for one in found["tries"] if one["wanted"]]
    assert bool(refused) or not attack.promised
    assert all(one["code"] == one["wanted"] and one["refused_by"] != "nobody" for one in refused)
    if not attack.promised:
        return
    row = next(row for row in rows() if attack.test.endswith(f"{row['file']}:{row['name']}"))
    documented = set(re.findall(r"0x[0-9a-f]+|[a-z0-9]+(?:-[a-z0-9]+)+", row["codes"].lower()))
    assert documented & set(found["codes"]) or row["codes"] == "—", (documented, found["codes"])


@pytest.mark.long
def test_refusals_of_the_chip_went_to_the_chip(tried: dict[str, Any]) -> None:
    """Each code that the chip is said to have given stands among its answers."""
    for attack in ATTACKS:
        found = tried[attack.name]
        answers = "\n".join(found["commands"])
        for one in found["tries"]:
            if one["refused_by"] == "the chip":
                assert f"{one['code']})" in answers, (attack.name, one)
    assert any('Sign(key "root"; digest' in line for line in tried["too-few"]["commands"])


@pytest.mark.long
def test_the_ca_goes_on_after_all(tried: dict[str, Any]) -> None:
    state = tried["state"]
    assert state["in_force"] and state["budget_left"] > 0
    assert state["officers"] == ["alice", "dave", "carol"]
    assert state["certificates"] == 3


# ── what would be seen if an attack succeeded ────────────────────────────────────────────────────


def weak(scene: Scene) -> None:
    """The web server's open key stands for a CA's key that the chip does not guard."""
    with scene.root() as root:
        key = root.load(scene.house.row("www.example.com"))
        command = objects.sign_command(key, signatures.OTHER)
        scene.refused("any digest at all", 0x99D, lambda: root.chip.send(command))
        scene.refused("and again", 0x12F, root.load)


@needs_swtpm
def test_a_success_is_loud(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip signs: exit 1, in red words. A refusal by another code is not called one."""
    attacks = (replace(ATTACKS[0], name="weak", run=weak),)
    monkeypatch.setattr(table, "ATTACKS", attacks)
    monkeypatch.setattr(shell, "ATTACKS", attacks)
    done = bare.attempt("demo", "--attack", "weak", "list")
    assert done.code == 1
    assert "NOBODY REFUSED IT" in done.out and "THE ATTACK SUCCEEDED  weak" in done.out
    assert "the attack succeeded" in done.out.split("WHAT CAME OF IT")[1]
    assert "1 attack: 1 the attack succeeded, on a software TPM" in done.out


def outcome(*tries: Try) -> Outcome:
    return Outcome(ATTACKS[0], tries, ())


@pytest.mark.parametrize(
    ("by", "code", "wanted", "control", "verdict"),
    [
        ("the chip", "0x99d", "0x99d", False, "refused"),
        ("the chip", "0x902", "0x99d", False, "otherwise"),  # the chip was full: nothing is shown
        ("nobody", "", "0x99d", False, "succeeded"),
        ("nobody", "", "", False, "not-promised"),
        ("the chip", "0x99d", "", False, "otherwise"),
        ("nobody", "", "", True, "refused"),
        ("a tool", "usage", "", True, "otherwise"),  # refused, and so is what is allowed
    ],
)
def test_what_a_try_is_worth(by: str, code: str, wanted: str, control: bool, verdict: str) -> None:
    one = Try("", by, code, "", wanted, control)
    assert one.verdict == verdict
    good = Try("", "the chip", "0x99d", "", "0x99d")
    expected = verdict if verdict != "refused" else "refused"
    assert outcome(good, one).verdict == expected
    assert outcome().verdict == "otherwise"  # nothing was tried


# ── the shell ────────────────────────────────────────────────────────────────────────────────────


def test_names_and_numbers() -> None:
    assert find("1") is find("too-few") is find("too") is ATTACKS[0]
    for word in ("0", str(len(ATTACKS) + 1), "nonsense", ""):
        with pytest.raises(NotFoundError, match="no attack is called"):
            find(word)
    with pytest.raises(NotFoundError, match="ticket-key, ticket-altered"):
        find("ticket")


def test_wrong_words_before_anything_is_set_up(bare: Shell) -> None:
    assert "no attack is called 'rubbish'" in bare("demo", "--attack", "rubbish", code=2).err
    assert "--attack" in bare("demo", "list", code=2).err
    (bare.path / "kept").mkdir()
    (bare.path / "kept" / "file").touch()
    assert "not empty" in bare("demo", "--attack", "--keep", "kept", "list", code=2).err


@needs_swtpm
def test_lines_from_a_pipe(bare: Shell) -> None:
    """As a person would type them; -v shows what decides nothing, and the bytes."""
    lines = ["# what there is", "list", "", "explain quote", "other-bytes", *SOME, "state", "quit"]
    stdin = "\n".join([*lines, "all"]).encode()
    said = bare("demo", "--attack", "-v", "--keep", "kept", stdin=stdin).out
    assert "1   too-few" in said and "50  withhold" in said
    assert "11. quote: Quote with the CA's key\nRoot hopes   A quote holds 64" in said
    sign = re.search(r"→ Sign\(key \"root\"; digest (\w{16})…\(32\).*\n\s+([0-9a-f]+)\n", said)
    assert sign and sign[1] in sign[2] and sign[2].startswith("8002")
    for name in ("other-bytes", *SOME[:-1]):
        assert f"REFUSED  {name}: " in said
    assert f"NOT PROMISED  {SOME[-1]}: no refusal" in said
    assert "service stopped; the custodians go on" in said
    assert "3 certificates; epoch" in said and 'window of "night": open' in said
    assert f"{len(SOME) + 1} attacks: {len(SOME)} refused, 1 not promised" in said
    assert (bare.path / "kept" / "home" / "tpmhsm.db").exists()


@pytest.mark.long
@needs_swtpm
def test_at_a_terminal(bare: Shell) -> None:
    """A wrong word is said and forgotten; Ctrl-D is the end."""
    where = bare.surroundings()
    with Terminal(bare.command("demo", "--attack"), where["cwd"], where["env"]) as terminal:
        terminal.expect("root@ca# ")
        terminal.type("rubbish\r")
        terminal.expect("no attack is called 'rubbish'")
        terminal.type("next\r")
        terminal.expect("REFUSED  too-few")
        terminal.type("$ echo home $TPMHSM_HOME\r")
        terminal.expect("home /")
        terminal.expect("root@ca# ")
        terminal.type(CTRL_D)
        code, said = terminal.end()
    assert code == 0 and "1 attack: 1 refused" in said


@pytest.mark.long
@needs_swtpm
@pytest.mark.skipif(not shutil.which("tpm2_nvreadpublic"), reason="tpm2-tools are not installed")
def test_commands_of_ones_own(bare: Shell) -> None:
    """tpm2-tools and the program itself, at the very chip; objects of theirs are taken away, and
    what they break the custodians mend.
    """
    roster = "-C o 0x01800001"
    many = "for n in 1 2 3 4; do tpm2_createprimary -Q -C n; done"
    words = (f"$ tpm2 nvread {roster} | wc -c", f"$ tpm2_nvundefine {roster}; {many}")
    words += ("state", "$ tpmhsm version", "other-bytes")
    done = subprocess.run(
        [sys.executable, "-m", "tpmhsm", "demo", "--attack", *words],
        **bare.surroundings(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n74\n" in done.stdout and "\ntpmhsm " in done.stdout
    assert "service stopped; the custodians go on" in done.stdout
    assert "REFUSED  other-bytes" in done.stdout
    assert "OUT OF SERVICE" not in done.stdout


@pytest.mark.long
@needs_swtpm
def test_the_story_without_a_shell(bare: Shell) -> None:
    """`demo` plays the same root: three refusals, which openssl does not judge."""
    found = bare.json("demo", "--keep", "kept")
    assert [one["rc"] for one in found["refusals"]] == ["0x1c4", "0x99d", "0x126"]
    assert (bare.path / "kept" / "alice.key").exists()


def test_json_is_one_document(tmp_path: Path) -> None:
    """What would be told to people is not told."""
    assert not App(home=tmp_path, as_json=True).talks
    assert json.loads(json.dumps(outcome().json))["verdict"] == "otherwise"
