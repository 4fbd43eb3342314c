"""Name constraints of every kind: what is issued below is accepted by all who know the kind."""

from __future__ import annotations

import pytest
from tests.clients.house import House
from tests.clients.test_chains import CLIENTS
from tests.clients.verdict import Client, Question, accepts, refuses

everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)

CONSTRAINED = {
    "all-kinds": ("--permit", "dns:example.com", "--permit", "ip:2001:db8::/32",
                  "--permit", "email:.example.com", "--permit", "uri:.example.com",
                  "--permit", "dirname:O=Example", "--exclude", "dns:secret.example.com",
                  "--exclude", "email:root@a.example.com"),
    "no-addresses": ("--permit", "dns:example.com", "--exclude", "ip:0.0.0.0/0",
                     "--exclude", "ip:::/0"),
    "no-hosts": ("--exclude", "dns:"),
}  # fmt: skip
BELOW = [
    ("all-kinds", "tls-server", ("dns:www.example.com", "dns:*.apps.example.com")),
    ("all-kinds", "tls-server", ("dns:xn--bcher-kva.example.com", "ip:2001:db8::1")),
    ("all-kinds", "tls-client", ("email:alice@a.example.com", "uri:https://www.example.com/x")),
    ("no-addresses", "tls-server", ("dns:www.example.com",)),
    ("no-hosts", "tls-server", ("ip:2001:db8::1",)),
    ("no-hosts", "tls-client", ("email:alice@example.org",)),
]


@pytest.fixture(scope="module")
def below(house: House) -> House:
    for name, words in CONSTRAINED.items():
        house.authority(name, "p256", "--issuer", "p256-root", *words)
    for number, (ca, profile, sans) in enumerate(BELOW):
        house.leaf(f"{ca}-{number}", ca, "", sans, "--profile", profile, alg="p256")
    return house


@everywhere
@pytest.mark.parametrize("number", range(len(BELOW)))
def test_what_is_within_is_accepted(below: House, client: Client, number: int) -> None:
    ca, profile, _ = BELOW[number]
    accepts(client, Question(below.chains[f"{ca}-{number}"], profile.removeprefix("tls-")))


@pytest.mark.parametrize(
    ("ca", "san"),
    [
        ("all-kinds", "dns:www.example.org"),
        ("all-kinds", "dns:a.secret.example.com"),
        ("all-kinds", "ip:192.0.2.7"),
        ("all-kinds", "ip:2001:db9::1"),
        ("all-kinds", "email:alice@example.com"),
        ("all-kinds", "email:root@a.example.com"),
        ("all-kinds", "uri:https://example.com/"),
        ("no-addresses", "ip:192.0.2.7"),
        ("no-addresses", "ip:2001:db8::1"),
        ("no-hosts", "dns:localhost.example.com"),
    ],
)
def test_what_is_not_is_not_issued(below: House, ca: str, san: str) -> None:
    profile = "tls-client" if san.startswith(("email", "uri")) else "tls-server"
    words = ("ca", "sign", ca, below.csr("refused", "", (san,)), "--profile", profile)
    assert below.machine.json(*words, code=2)["error"]["code"] == "constraint"


def test_gnutls_knows_no_excluded_directory_names(house: House, gnutls: Client) -> None:
    """It refuses what is below them, as RFC 5280 has it do with what it cannot check."""
    machine = house.machine
    machine("key", "create", "no-evil")
    subject = ("--subject", "CN=no-evil,O=Example", "--exclude", "dirname:O=Evil")
    made = machine.json("ca", "create", "no-evil", "--key", "no-evil", "--issuer", "p256-root",
                        *subject)  # fmt: skip
    assert any("GnuTLS" in note for note in made["notes"])
    machine("cert", "export", "no-evil", "--out", str(house.path / "no-evil.pem"))
    chain = house.leaf("good", "no-evil", "", ("dns:www.example.com",), alg="p256")
    refuses(gnutls, Question(chain), "violates the signer's constraints")
