"""Keys with budgets, from the command line."""

from __future__ import annotations

import os
import signal

import pytest
from tests.support.shell import Shell

from tpmhsm.tpm import software

POLICY = "budget(officers)"


@pytest.fixture
def granted(governed: Shell) -> Shell:
    """A machine with the key `issuing`, which has a budget that nobody has granted yet."""
    (governed.path / "note").write_text("a note\n")
    made = governed("key", "create", "issuing", "--policy", POLICY)
    assert "nothing is granted yet: tpmhsm key grant" in made.err
    return governed


def grant(machine: Shell, units: int, *people: str, label: str = "issuing") -> None:
    number = machine.ask("key", "grant", label, str(units))
    machine.settle(number, *(people or ("alice", "bob")))
    assert machine.json("request", "show", str(number))["state"] == "executed"


def sign(machine: Shell, code: int = 0, label: str = "issuing") -> str:
    result = machine("key", "sign", label, "note", "--force", code=code)
    return result.out + result.err


def left(machine: Shell, label: str = "issuing") -> int:
    (budget,) = machine.json("key", "show", label)["budgets"]
    return int(budget["left"])


def test_granted_signed_and_granted_again(granted: Shell) -> None:
    said = sign(granted, code=1)
    assert "the budget of issuing is used up, or none was granted" in said
    assert "0x12f" in said
    assert "tpmhsm key grant issuing N" in said
    grant(granted, 2)
    assert "2 of 2 left, granted by officers" in granted("key", "show", "issuing").out
    sign(granted)
    granted("key", "verify", "issuing", "note", "--signature", "note.sig")
    assert "LEFT" in granted("key", "list").out
    sign(granted)
    sign(granted, code=1)
    grant(granted, 20, "carol", "alice")
    (budget,) = granted.json("key", "show", "issuing")["budgets"]
    assert {**budget, "index": ""} == {
        "group": "officers", "index": "", "granted": 22, "used": 2, "left": 20,
    }  # fmt: skip
    sign(granted)


def test_on_machines_of_their_own(granted: Shell) -> None:
    """The request travels; what it says is decoded there, and the chip's word is in it."""
    grant(granted, 3)
    sign(granted)
    number = str(granted.ask("key", "grant", "issuing", "10", "--reason", "spring"))
    granted("request", "export", number, "--out", "asked")
    assert "grant issuing 13 signatures in all" in granted("request", "show", number).out
    digest = granted.json("request", "show", number)["digest"]
    granted.approve(int(number), "alice", digest)
    said = granted(
        *("approve", "asked", "--as", "bob", "-i", "bob.key", "--expect", digest),
        *("--passphrase-file", "passphrase", "--out", "bobs"),
    )
    words = " ".join((said.out + said.err).split())
    for part in ("3 granted, 1 used, 2 left", "10 more signatures, seen by nobody", "spring",
                 "may sign 12 more without anybody", "UNATTENDED"):  # fmt: skip
        assert part in words, words
    granted("request", "import", "bobs")
    assert left(granted) == 12


def test_status_warns_before_the_end(granted: Shell) -> None:
    found = granted.json("status")
    assert any("nothing granted yet by officers" in item["what"] for item in found["todo"])
    grant(granted, 30)
    budgets = granted.json("status")["keys"]["budgets"]
    assert [(b["key"], b["left"]) for b in budgets] == [("issuing", 30)]
    assert not [t for t in granted.json("status")["todo"] if "budget" in t["what"]]
    for _ in range(21):
        sign(granted)
    (item,) = [t for t in granted.json("status")["todo"] if "budget" in t["what"]]
    assert "9 of 30 left" in item["what"]
    assert item["next"].startswith("tpmhsm key grant issuing N")
    assert "issuing: 9 of 30 left" in granted("status").out


def test_an_authority_with_a_budget(granted: Shell) -> None:
    """Every path counts: the root's certificate, one by one, many at a time, a CRL, a CSR."""
    grant(granted, 6)
    granted("ca", "create", "b-ca", "--key", "issuing", "--subject", "CN=Budget Root")
    granted("ca", "sign", "b-ca", "web.csr", "--out", "web.pem")
    granted("ca", "crl", "b-ca", "--out", "b.crl")
    assert left(granted) == 3
    for number in (1, 2):
        granted("key", "create", f"k{number}")
        host = f"dns:k{number}.example.com"
        granted("csr", "create", f"k{number}", "--san", host, "--out", f"k{number}.csr")
    (granted.path / "many").mkdir()
    granted("ca", "sign", "b-ca", "k1.csr", "k2.csr", "--out", "many")
    granted("csr", "create", "issuing", "--subject", "CN=x", "--out", "x.csr")
    assert left(granted) == 0
    said = granted("ca", "sign", "b-ca", "k1.csr", "--out", "no.pem", code=1)
    assert "key grant issuing N" in said.err
    (granted.path / "more").mkdir()
    said = granted("ca", "sign", "b-ca", "k1.csr", "k2.csr", "--out", "more", code=1)
    assert "used up" in said.err
    grant(granted, 1)
    granted("ca", "sign", "b-ca", "k1.csr", "--out", "yes.pem")
    granted("doctor", "store")


def test_the_session_of_a_first_grant_is_lost(granted: Shell) -> None:
    number = granted.ask("key", "grant", "issuing", "5")
    state = software.state(granted.tpm)
    assert state.swtpm
    os.kill(state.swtpm, signal.SIGKILL)
    digest = granted.json("request", "show", str(number))["digest"]
    granted.approve(number, "alice", digest)
    said = granted.approve(number, "bob", digest, code=1)
    assert "gone" in said.err
    assert "tpmhsm key grant issuing N" in said.err
    assert granted.json("request", "show", str(number))["state"] == "cancelled"
    grant(granted, 5)
    assert left(granted) == 5


def test_asked_twice_cancelled_denied(granted: Shell) -> None:
    number = granted.ask("key", "grant", "issuing", "5")
    assert granted.ask("key", "grant", "issuing", "5") == number
    error = granted.json("key", "grant", "issuing", "6", code=2)["error"]
    assert (error["code"], f"cancel {number}" in error["hint"]) == ("grant-waits", True)
    granted("request", "cancel", str(number))
    number = granted.ask("key", "grant", "issuing", "6")
    granted("deny", str(number), "--as", "bob", "-i", "bob.key", "--reason", "no",
            "--passphrase-file", "passphrase")  # fmt: skip
    assert granted.json("request", "show", str(number))["state"] == "denied"
    grant(granted, 7)
    assert left(granted) == 7


def test_officers_change_while_a_grant_waits(granted: Shell) -> None:
    grant(granted, 1)
    number = granted.ask("key", "grant", "issuing", "4")
    change = granted.ask("group", "change", "officers", "--officers", "2:alice,bob,carol")
    granted.settle(change, "alice", "bob")
    granted.settle(number, "bob", "carol")
    assert left(granted) == 5


def test_refused(granted: Shell) -> None:
    governed_key = granted.json("key", "grant", "root", "5", code=2)["error"]
    assert governed_key["code"] == "no-budget"
    granted.json("key", "grant", "issuing", "0", code=2)
    granted.json("key", "grant", "issuing", str(1 << 32), code=2)
    other = granted.json("key", "grant", "issuing", "5", "--by", "nobody", code=2)["error"]
    assert other["code"] == "no-budget"
    granted("key", "delete", "issuing", "--force")
    granted("doctor", "store")  # the index is gone with the key


def test_a_document_and_its_digest(granted: Shell) -> None:
    found = granted.json("key", "show", "issuing")
    document = found["policy_document"]
    assert 'budget = "officers"' in document
    assert f'[budget]\n"officers" = "{found["budgets"][0]["index"]}"' in document
    (granted.path / "p.toml").write_text(document)
    digest = granted.json("policy", "digest", "p.toml")["digest"]
    assert len(digest) == 64
    error = granted.json("policy", "digest", POLICY, code=2)["error"]
    assert error["code"] == "policy-unknown-budget"
    error = granted.json("key", "create", "x", "--policy", "p.toml", code=2)["error"]
    assert error["code"] == "policy-other-facts"
    (granted.path / "q.toml").write_text(
        'format = "tpmhsm/policy/1"\n\n[[any]]\nbudget = "officers"\nquorum = "officers"\n'
    )
    granted("key", "create", "both", "--policy", "q.toml")
    assert granted.json("key", "show", "both")["policy"] == (
        "all(quorum(officers), budget(officers))"
    )


def test_a_budget_or_else_people(granted: Shell) -> None:
    granted("key", "create", "either", "--policy", "any(quorum(officers), budget(officers))")
    grant(granted, 1, label="either")
    sign(granted, label="either")
    number = granted.ask("key", "sign", "either", "note", "--force")
    granted.settle(number, "alice", "carol")
    sign(granted, label="either")  # the same bytes again find the approved signature
    assert left(granted, "either") == 0


def test_keys_are_listed_without_the_chip(granted: Shell) -> None:
    granted("device", "stop")
    (granted.home / "tpm").rename(granted.home / "gone")
    try:
        said = granted("key", "list")
        assert "issuing" in said.out
        assert "what is left of budgets is not known" in said.err
        granted("key", "show", "issuing")
    finally:
        (granted.home / "gone").rename(granted.home / "tpm")


def test_explained(granted: Shell) -> None:
    text = granted("policy", "explain", POLICY).out
    for words in ("a unit of the budget", "2 of 3 (alice, bob, carol)", "signs what it likes until",
                  "key grant KEY N", "used up as soon as"):  # fmt: skip
        assert words in " ".join(text.split()), text
