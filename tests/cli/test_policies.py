"""Keys with PINs, PCRs and alternatives, from the command line."""

from __future__ import annotations

import os
import signal
from hashlib import sha256

import pytest
from tests.cli.test_terminal import at_terminal
from tests.support.shell import Shell

from tpmhsm.tpm import software
from tpmhsm.tpm.device import open_device
from tpmhsm.wire.commands import PCR_Extend
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.structures import Ha

PIN = "482915"


@pytest.fixture
def pinned(plain: Shell) -> Shell:
    """A machine with the key `safe`, which has a PIN, and a file to sign."""
    (plain.path / "pin").write_text(f"{PIN}\n")
    (plain.path / "bad").write_text("000000\n")
    (plain.path / "note").write_text("a note\n")
    plain("key", "create", "safe", "--policy", "pin", "--pin-file", "pin")
    return plain


def extend(machine: Shell, *numbers: int, what: bytes = b"firmware") -> None:
    with open_device("software", machine.home).transaction() as chip:
        for number in numbers:
            chip.send(PCR_Extend(number, (Ha(ALG.SHA256, sha256(what).digest()),)))


def sign(machine: Shell, label: str, *more: str, code: int = 0) -> str:
    result = machine("key", "sign", label, "note", "--force", *more, code=code)
    if not code:
        machine("key", "verify", label, "note", "--signature", "note.sig")
    return result.out + result.err


# ── PINs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_pin_signs_and_what_is_said(pinned: Shell) -> None:
    made = pinned("key", "create", "other", "--policy", "pin", "--pin-file", "pin")
    assert "after 10 wrong PINs the chip locks PINs out; one try comes back" in made.err
    sign(pinned, "safe", "--pin-file", "pin")
    assert "a PIN is needed" in sign(pinned, "safe", code=2)
    said = sign(pinned, "safe", "--pin-file", "bad", code=1)
    assert "the PIN is wrong; 9 tries are left" in said
    found = pinned.json("key", "sign", "safe", "note", "--force", "--pin-file", "bad", code=1)
    assert found["error"]["code"] == "wrong-pin"
    assert found["error"]["tries_left"] == 8
    sign(pinned, "safe", "--pin-file", "pin")
    assert PIN not in pinned("key", "show", "safe").out


def test_an_unclean_stop_costs_a_try_and_an_orderly_one_none(pinned: Shell) -> None:
    """The chip cannot know whether a stop hid a wrong PIN."""
    sign(pinned, "safe", "--pin-file", "pin")
    pinned("device", "stop")
    sign(pinned, "safe", "--pin-file", "pin")
    assert pinned.json("device", "show")["lockout"]["tries"] == 0
    state = software.state(pinned.tpm)
    for pid in (state.keeper, state.swtpm):
        assert pid
        os.kill(pid, signal.SIGKILL)
    assert pinned.json("device", "show")["lockout"]["tries"] == 1
    sign(pinned, "safe", "--pin-file", "pin")


def test_a_pin_for_csr_ca_and_certificates(pinned: Shell) -> None:
    pin = ("--pin-file", "pin")
    pinned("csr", "create", "safe", "--subject", "CN=x", "--out", "x.csr", *pin)
    pinned("csr", "verify", "x.csr")
    pinned("key", "create", "pin-root", "--policy", "pin", *pin)
    create = ("ca", "create", "pin-ca", "--key", "pin-root", "--subject", "CN=PIN Root")
    assert "a PIN is needed" in pinned(*create, code=2).err
    pinned(*create, *pin)
    pinned("ca", "sign", "pin-ca", "web.csr", "--out", "web.pem", *pin)
    for number in (1, 2):
        pinned("key", "create", f"k{number}")
        host = f"dns:k{number}.example.com"
        pinned("csr", "create", f"k{number}", "--san", host, "--out", f"k{number}.csr")
    (pinned.path / "many").mkdir()
    pinned("ca", "sign", "pin-ca", "k1.csr", "k2.csr", "--out", "many", *pin)
    assert len(list((pinned.path / "many").iterdir())) == 2
    pinned("ca", "crl", "pin-ca", "--out", "pin.crl", *pin)
    pinned("cert", "export", "pin-ca", "--out", "ca.pem")
    pinned("cert", "verify", "web.pem", "--trust", "ca.pem")


def test_a_pin_at_the_terminal(pinned: Shell) -> None:
    with at_terminal(pinned, "key", "create", "typed", "--policy", "pin") as terminal:
        for prompt in ("PIN for the new key typed: ", "The same again: "):
            terminal.expect(prompt)
            terminal.type(f"{PIN}\r")
        code, said = terminal.end()
        assert (code, PIN in said) == (0, False)
    with at_terminal(pinned, "key", "sign", "typed", "note") as terminal:
        terminal.expect("PIN of key typed: ")
        terminal.type(f"{PIN}\r")
        code, said = terminal.end()
        assert (code, PIN in said) == (0, False)
    pinned("key", "verify", "typed", "note", "--signature", "note.sig")


@pytest.mark.parametrize("pin", ["", "123", "x" * 33, "12\x0034", "x" * 5000])
def test_pins_that_are_none(plain: Shell, pin: str) -> None:
    (plain.path / "pin").write_text(pin)
    said = plain("key", "create", "safe", "--policy", "pin", "--pin-file", "pin", code=2).err
    assert "PIN" in said
    assert "safe" not in [key["label"] for key in plain.json("key", "list")["items"]]


def test_other_programs_cannot_have_it(pinned: Shell) -> None:
    said = pinned("key", "export", "safe", "--tss2", code=2).err
    assert "signs by pin, which other programs cannot fulfil" in said


# ── PCRs ─────────────────────────────────────────────────────────────────────────────────────


def test_pcrs_of_a_machine_without_firmware(plain: Shell) -> None:
    said = plain("key", "create", "boot", "--policy", "pcr(sha256:0,7)", code=2).err
    assert "PCRs 0 to 7 of the sha256 bank are empty" in said


def test_pcrs(pinned: Shell) -> None:
    extend(pinned, 0, 7)
    made = pinned("key", "create", "boot", "--policy", "pcr(sha256:7,0)")
    assert "the PCRs of a software TPM prove nothing" in made.err
    assert "an update of what is measured ends" in made.err
    sign(pinned, "boot")
    shown = pinned.json("key", "show", "boot")
    assert shown["policy"] == "pcr(sha256:0,7)"
    (pinned.path / "boot.toml").write_text(shown["policy_document"])
    digest = pinned.json("policy", "digest", "boot.toml")["digest"]
    assert pinned.json("policy", "digest", "pcr(sha256:0,7)")["digest"] == digest
    extend(pinned, 7, what=b"an update")
    assert "other values than at the key's birth" in sign(pinned, "boot", code=1)
    assert pinned.json("policy", "digest", "boot.toml")["digest"] == digest
    assert pinned.json("policy", "digest", "pcr(sha256:0,7)")["digest"] != digest
    create = ("key", "create", "again", "--policy", "boot.toml")
    assert "made with other PCRs than this chip has now" in pinned(*create, code=2).err
    assert pinned.json("key", "create", "one", "--policy", "pcr(sha256:0)")["policy"]


def test_the_pin_when_the_machine_has_changed(pinned: Shell) -> None:
    """An alternative that needs nobody is taken while it can be met."""
    extend(pinned, 0, 7)
    policy = "any(all(pcr(sha256:0), pcr(sha256:7)), pin)"
    pinned("key", "create", "either", "--policy", policy, "--pin-file", "pin")
    sign(pinned, "either")
    extend(pinned, 7, what=b"an update")
    assert "a PIN is needed" in sign(pinned, "either", code=2)
    sign(pinned, "either", "--pin-file", "pin")


# ── with people ──────────────────────────────────────────────────────────────────────────────


def test_people_and_a_pin(governed: Shell) -> None:
    """Approvers see it; the last approval is kept when the PIN is wrong or missing."""
    (governed.path / "pin").write_text(PIN)
    (governed.path / "note").write_text("a note\n")
    policy = "all(pin, quorum(officers))"
    governed("key", "create", "both", "--policy", policy, "--pin-file", "pin")
    assert governed.json("key", "show", "both")["policy"] == "all(quorum(officers), pin)"
    number = governed.ask("key", "sign", "both", "note", "--reason", "why")
    digest = governed.json("request", "show", str(number))["digest"]
    assert "ALSO" in governed.approve(str(number), "alice", digest).err
    said = governed.approve(str(number), "bob", digest, code=2)
    assert "a PIN is needed" in said.err
    assert "the approval is kept" in said.err
    execute = ("request", "execute", str(number))
    (governed.path / "bad").write_text("000000")
    assert "the PIN is wrong" in governed(*execute, "--pin-file", "bad", code=1).err
    governed(*execute, "--pin-file", "pin")
    governed("key", "sign", "both", "note", "--out", "note.sig")
    governed("key", "verify", "both", "note", "--signature", "note.sig")


def test_either_of_two_groups_or_a_pin(governed: Shell) -> None:
    """The first group is asked; whoever names the PIN needs nobody."""
    (governed.path / "pin").write_text(PIN)
    (governed.path / "note").write_text("a note\n")
    governed.settle(governed.ask("group", "create", "auditors", "--officers", "1:dave"), "dave")
    policy = "any(quorum(officers), quorum(auditors), pin)"
    governed("key", "create", "any", "--policy", policy, "--pin-file", "pin")
    sign(governed, "any", "--pin-file", "pin")
    (governed.path / "other").write_text("another note\n")
    asked = governed("--json", "key", "sign", "any", "other", code=3).json["error"]
    assert asked["group"] == "auditors"
    said = governed.approve(
        str(asked["request"]), "dave", governed.json("request", "list")["items"][-1]["digest"]
    ).err
    assert said.count("WITHOUT YOU") == 2
    governed("key", "sign", "any", "other", "--out", "other.sig")
    governed("key", "verify", "any", "other", "--signature", "other.sig")
    assert (
        "leave --by out"
        in governed("key", "sign", "web", "note", "--by", "x", "--force", code=2).err
    )
    said = governed("key", "sign", "any", "note", "--by", "nobody", "--force", code=2).err
    assert "--by auditors or officers" in said
    again = ("key", "sign", "any", "passphrase", "--out", "third.sig", "--by", "officers")
    governed.settle(governed.ask(*again))
    governed(*again)
    governed("key", "verify", "any", "passphrase", "--signature", "third.sig")


def test_the_doctor_knows_every_policy(governed: Shell) -> None:
    (governed.path / "pin").write_text(PIN)
    extend(governed, 0)
    for number, policy in enumerate(
        ["pin", "all(quorum(officers), pcr(sha256:0))", "any(pin, quorum(officers))"]
    ):
        governed("key", "create", f"k{number}", "--policy", policy, "--pin-file", "pin")
    assert governed("doctor", "store")


# ── the policy commands ──────────────────────────────────────────────────────────────────────

DOCUMENT = """format = "tpmhsm/policy/1"
[[any]]
pin = true
quorum = "officers"
"""


def test_text_and_documents(bare: Shell) -> None:
    (bare.path / "p.toml").write_text(DOCUMENT)
    found = bare.json("policy", "check", "p.toml")
    assert found["policy"] == "all(quorum(officers), pin)"
    assert found == bare.json("policy", "check", "all(pin, quorum(officers))")
    assert bare("policy", "check", "p.toml", "--toml").out == found["document"]
    assert "officers" in bare("policy", "explain", "p.toml").out
    assert "root on this machine reads the PIN" in bare("policy", "explain", "p.toml").out
    assert bare.json("policy", "digest", "pin")["digest"] == (
        # PolicyAuthValue, PolicyCommandCode(Sign), by tpm2-tools' formulas
        sha256(
            sha256(bytes(32) + bytes.fromhex("0000016b")).digest()
            + bytes.fromhex("0000016c0000015d")
        ).hexdigest()
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("any(open, quorum(officers))", "policy-open-inside"),
        ("all(quorum(a), quorum(b))", "policy-two-groups"),
        ("any(pin, all(pin, quorum(a)))", "policy-redundant"),
        ("all(budget(a), budget(b))", "policy-two-budgets"),
        ("all(window(a), quorum(a))", "policy-redundant"),
        ("pcr(sha256:23)", "policy-pcr-unprotected"),
    ],
)
def test_refused_by_name(plain: Shell, text: str, code: str) -> None:
    for words in (("policy", "check"), ("policy", "digest"), ("key", "create", "x", "--policy")):
        error = plain.json(*words, text, code=2)["error"]
        assert error["code"] == code
        assert error["hint"]
    assert "No key can have this policy" in plain("policy", "explain", text).out


def test_a_group_that_is_not_there(plain: Shell) -> None:
    policy = "all(pcr(sha256:0), quorum(nobody))"
    assert plain.json("key", "create", "x", "--policy", policy, code=2)["error"]["code"] == (
        "not-found"
    )
