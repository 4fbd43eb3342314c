"""Three of five: two YubiKeys, a SoftHSM token and two files, down to the chip."""

from __future__ import annotations

import pytest
from cryptography import x509
from tests.cryptoki.conftest import hsm
from tests.cryptoki.softhsm import MODULE, SoftHsm
from tests.cryptoki.softhsm import PIN as TOKEN_PIN
from tests.support.shell import Shell
from tests.tokens.piv_card import P256, RSA2048, PivCard
from tests.tokens.readers import Readers

CARD_PIN = "271828"
CARDS = {"erin": 1111, "frank": 2222}
TOKEN = "pkcs11:token=graces;object=grace"
RULE = "3:alice,bob,erin,frank,grace"

__all__ = ["hsm"]


class People:
    """Who approves with what."""

    def __init__(self, machine: Shell, hsm: SoftHsm) -> None:
        self.machine, self.hsm = machine, hsm
        for name, pin in (("card-pin", CARD_PIN), ("token-pin", TOKEN_PIN)):
            (machine.path / name).write_text(f"{pin}\n")

    def identity(self, name: str) -> tuple[str, ...]:
        if name in CARDS:
            return ("-i", f"yubikey:{CARDS[name]}", "--pin-file", "card-pin")
        if name == "grace":
            return ("-i", TOKEN, "--pin-file", "token-pin")
        return ("-i", f"{name}.key", "--passphrase-file", "passphrase")

    def approve(self, number: int, *names: str) -> str:
        """In this order; the state of the request then."""
        digest = self.machine.json("request", "show", str(number))["digest"]
        for name in names:
            who = ("--as", name, *self.identity(name))
            self.machine("approve", str(number), *who, "--expect", digest)
            self.hsm.again()
        return str(self.machine.json("request", "show", str(number))["state"])


def test_three_of_five_with_every_kind_of_key(plain: Shell, readers: Readers, hsm: SoftHsm) -> None:
    people = People(plain, hsm)
    cards = []
    for reader, serial in enumerate(CARDS.values()):
        card = readers.insert(PivCard(serial=serial).personalise(CARD_PIN), reader)
        card.fill(0x9C)
        cards.append(card)
    (plain.home / "tpmhsm.toml").write_text(f'[approver]\npkcs11_module = "{MODULE}"\n')
    uri = hsm.token("graces")
    plain("approver", "create", "grace", "-i", uri, "--pin-file", "token-pin")
    hsm.again()
    for name in CARDS:
        plain("approver", "create", name, *people.identity(name))
    plain("approver", "add", *(f"{name}.card" for name in (*CARDS, "grace")))

    number = plain.ask("group", "create", "five", "--officers", RULE)
    assert people.approve(number, "erin", "grace") == "waiting"
    assert people.approve(number, "alice") == "executed"
    plain("key", "create", "root", "--policy", "quorum(five)")
    plain("key", "create", "middle", "--policy", "quorum(five)")
    number = plain.ask(
        *("ca", "create", "root-ca", "--key", "root"), *("--subject", "CN=Root,O=Example")
    )
    assert people.approve(number, "frank", "bob", "grace") == "executed"
    number = plain.ask(
        *("ca", "create", "middle-ca", "--key", "middle", "--subject", "CN=Middle,O=Example"),
        *("--issuer", "root-ca", "--profile", "intermediate"),
    )
    assert people.approve(number, "erin", "frank") == "waiting"
    assert people.approve(number, "grace") == "executed"
    made = x509.load_pem_x509_certificate(plain("cert", "export", "middle-ca").out.encode())
    assert made.subject.rfc4514_string() == "CN=Middle,O=Example"
    assert made.issuer.rfc4514_string() == "CN=Root,O=Example"
    votes = plain.json("request", "show", str(number))["approvals"]
    assert len(votes) == 3
    assert all(card.signatures for card in cards)


@pytest.mark.parametrize("kind", ["file", "yubikey", "yubikey-rsa", "pkcs11", "pkcs11-rsa"])
def test_each_kind_alone(plain: Shell, request: pytest.FixtureRequest, kind: str) -> None:
    """One of one: a founding, and a signature by the chip with this key's approval alone."""
    where, _, rsa = kind.partition("-")
    name, secret = ("alice", "passphrase") if where == "file" else ("erin", "pin")
    who = ("-i", "alice.key", "--passphrase-file", secret)
    if where == "yubikey":
        card = request.getfixturevalue("readers").insert(PivCard(serial=4711).personalise(CARD_PIN))
        card.fill(0x9C, RSA2048 if rsa else P256)
        who = ("-i", "yubikey:4711", "--pin-file", secret)
    if where == "pkcs11":
        uri = request.getfixturevalue("hsm").token("erins")
        (plain.home / "tpmhsm.toml").write_text(f'[approver]\npkcs11_module = "{MODULE}"\n')
        who = ("-i", f"{uri};object=erin", "--pin-file", secret)
    (plain.path / "pin").write_text(f"{TOKEN_PIN if where == 'pkcs11' else CARD_PIN}\n")
    if where != "file":
        more = ("--alg", "rsa2048") if where == "pkcs11" and rsa else ()
        plain("approver", "create", name, *who, *more)
        plain("approver", "add", f"{name}.card")

    def settle(*words: str) -> None:
        if where == "pkcs11":
            request.getfixturevalue("hsm").again()
        number = str(plain.ask(*words))
        digest = plain.json("request", "show", number)["digest"]
        plain("approve", number, "--as", name, *who, "--expect", digest)
        found = plain.json("request", "show", number)
        assert found["state"] == "executed"
        assert [vote["kind"] for vote in found["approvals"]] == [where]

    settle("group", "create", "one", "--officers", f"1:{name}")
    plain("key", "create", "root", "--policy", "quorum(one)")
    settle("ca", "create", "root-ca", "--key", "root", "--subject", "CN=Root,O=Example")
    root = x509.load_pem_x509_certificate(plain("cert", "export", "root-ca").out.encode())
    root.verify_directly_issued_by(root)
