"""A group of a token and a file: from cards to a certificate that the chip signed."""

from __future__ import annotations

import pytest
from cryptography import x509
from tests.cryptoki.softhsm import MODULE, PIN, SoftHsm
from tests.support.cli import Result
from tests.support.shell import Shell


def settings(machine: Shell) -> None:
    (machine.home / "tpmhsm.toml").write_text(f'[approver]\npkcs11_module = "{MODULE}"\n')


def erin(machine: Shell, hsm: SoftHsm) -> str:
    """A person with a token; its URI."""
    uri = hsm.token("erins")
    settings(machine)
    (machine.path / "pin").write_text(f"{PIN}\n")
    said = machine("approver", "create", "erin", "-i", uri, "--pin-file", "pin")
    assert 'made key "erin" in token "erins" (SoftHSM v2, ' in said.err
    assert "not proven" in said.out
    hsm.again()
    return uri


def vote(machine: Shell, hsm: SoftHsm, verb: str, number: int, *more: str, code: int = 0) -> Result:
    uri = "pkcs11:token=erins;object=erin"
    words = (verb, str(number), "--as", "erin", "-i", uri, "--pin-file", "pin", *more)
    try:
        return machine(*words, code=code)
    finally:
        hsm.again()


def digest(machine: Shell, number: int) -> str:
    return str(machine.json("request", "show", str(number))["digest"])


def approve(machine: Shell, hsm: SoftHsm, number: int) -> Result:
    return vote(machine, hsm, "approve", number, "--expect", digest(machine, number))


def test_two_of_two_down_to_the_chip(plain: Shell, hsm: SoftHsm) -> None:
    erin(plain, hsm)
    plain("approver", "add", "erin.card")
    shown = plain("approver", "show", "erin").out
    assert 'not proven: token "erins"' in shown and "hardware" in shown
    founding = plain.ask("group", "create", "duo", "--officers", "2:alice,erin")
    said = approve(plain, hsm, founding).err
    assert 'key "erin" in token "erins"' in said
    assert "! YOUR KEY" in said and "software: its module" in said
    others = plain.approve(str(founding), "alice", digest(plain, founding)).err
    assert "! UNPROVEN" in others and 'erin\'s key: not proven: token "erins"' in others
    plain("key", "create", "root", "--policy", "quorum(duo)")
    for words in (
        ("ca", "create", "duo-ca", "--key", "root", "--subject", "CN=Duo,O=Example"),
        ("ca", "sign", "duo-ca", "web.csr"),
    ):
        number = plain.ask(*words)
        plain.approve(str(number), "alice", digest(plain, number))
        assert plain.json("request", "show", str(number))["state"] == "waiting"
        approve(plain, hsm, number)
        found = plain.json("request", "show", str(number))
        assert found["state"] == "executed"
        assert [a["kind"] for a in found["approvals"]] == ["file", "pkcs11"]
    pem = plain("cert", "export", found["result"]["sha256"][:16], "--out", "-").out
    issued = x509.load_pem_x509_certificate(pem.encode())
    root = x509.load_pem_x509_certificate(plain("cert", "export", "duo-ca", "-o", "-").out.encode())
    issued.verify_directly_issued_by(root)


def test_a_token_alone_and_its_denial(plain: Shell, hsm: SoftHsm) -> None:
    erin(plain, hsm)
    plain("approver", "add", "erin.card")
    number = plain.ask("group", "create", "solo", "--officers", "1:erin")
    approve(plain, hsm, number)
    plain("key", "create", "k", "--policy", "quorum(solo)")
    number = plain.ask("csr", "create", "k", "--subject", "CN=x")
    vote(plain, hsm, "deny", number, "--reason", "no")
    assert plain.json("request", "show", str(number))["state"] == "denied"


def test_the_card_is_made_once(plain: Shell, hsm: SoftHsm) -> None:
    uri = erin(plain, hsm)
    again = plain("approver", "create", "erin", "-i", uri, "--pin-file", "pin", "-o", "again.card")
    assert 'using key "erin"' in again.err
    assert (plain.path / "again.card").read_bytes() == (plain.path / "erin.card").read_bytes()


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        ("pkcs11:token=erins;object=erin", "wrong-pin", "wrong PIN"),
        ("pkcs11:token=none", "no-token", 'there is token "erins"'),
        ("pkcs11:token=erins?pin-value=1", "pin-in-argument", "other programs see arguments"),
    ],
)
def test_what_goes_wrong_has_a_code(
    plain: Shell, hsm: SoftHsm, spec: str, code: str, said: str
) -> None:
    erin(plain, hsm)
    (plain.path / "pin").write_text("0000\n")
    words = ("approver", "create", "erin2", "-i", spec, "--pin-file", "pin")
    expected = {"wrong-pin": 1, "no-token": 4, "pin-in-argument": 2}[code]
    error = plain.json(*words, code=expected)["error"]
    assert error["code"] == code and said in error["message"]
    assert not (plain.path / "erin2.card").exists()


def test_the_token_is_logged_out_of_at_the_end(plain: Shell, hsm: SoftHsm) -> None:
    """Otherwise another program would find a card open; here the same process would."""
    uri = hsm.token("erins")
    settings(plain)
    (plain.path / "pin").write_text(f"{PIN}\n")
    (plain.path / "wrong").write_text("000000\n")
    words = ("approver", "create", "erin", "-i", uri, "--force", "--pin-file")
    plain(*words, "pin")
    assert plain.json(*words, "wrong", code=1)["error"]["code"] == "wrong-pin"
    plain("approver", "add", "erin.card")
    number = plain.ask("group", "create", "solo", "--officers", "1:erin")
    vote = ("approve", str(number), "--as", "erin", "-i", uri, "--pin-file")
    plain(*vote, "pin", "--expect", "0" * 64, code=1)
    plain(*vote, "pin", "--expect", digest(plain, number))


def test_a_passphrase_is_no_pin(plain: Shell, hsm: SoftHsm) -> None:
    erin(plain, hsm)
    words = ("approver", "create", "x", "-i", "pkcs11:token=erins", "--passphrase-file", "pin")
    assert "--pin-file" in plain(*words, code=2).err
