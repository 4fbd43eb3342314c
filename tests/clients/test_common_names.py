"""Common names that clients read as hosts, where no alternative name is one.

RFC 5280 holds no name constraints against them; OpenSSL, GnuTLS and Java do, each in its way.
"""

from __future__ import annotations

import pytest
from tests.clients.house import ADDRESS, CONSTRAINTS, HOST, MAIL, House
from tests.clients.test_chains import CLIENTS, CONSTRAINED
from tests.clients.verdict import Client, Question, accepts, refuses

everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)


@everywhere
@pytest.mark.parametrize(
    ("purpose", "common_name", "san", "refusing"),
    [
        ("client", "alice.org", f"email:{MAIL}", ("openssl", "java")),
        ("client", "Alice", f"email:{MAIL}", ("java",)),
        ("client", "Alice Example", f"email:{MAIL}", ()),
        ("server", ADDRESS, f"ip:{ADDRESS}", ("openssl", "gnutls")),
        ("server", "Printer", f"ip:{ADDRESS}", ("gnutls", "java")),
        ("server", "My Printer", f"ip:{ADDRESS}", ("gnutls",)),
        ("server", "alice.org", f"dns:{HOST}", ()),
    ],
)
def test_which_clients_take_them_for_hosts(
    house: House,
    client: Client,
    named: str,
    purpose: str,
    common_name: str,
    san: str,
    refusing: tuple[str, ...],
) -> None:
    name = f"{common_name} {san}"
    made = house.chains.get(name) or house.forged(
        name, "sub", "p256-root", common_name=common_name, sans=(san,), purpose=purpose
    )
    if named in refusing:
        refuses(client, Question(made, purpose), CONSTRAINED[named])
    else:
        accepts(client, Question(made, purpose))


@pytest.mark.parametrize(
    ("common_name", "san"), [("alice.org", f"email:{MAIL}"), (ADDRESS, f"ip:{ADDRESS}")]
)
def test_what_openssl_would_refuse_is_not_issued(house: House, common_name: str, san: str) -> None:
    csr = house.csr("refused", common_name, (san,))
    profile = ("--profile", "tls-server" if san.startswith("ip:") else "tls-client")
    error = house.machine.json("ca", "sign", "p256-issuing", csr, *profile, code=2)["error"]
    assert error["code"] == "constraint"
    assert "reads as a host" in error["message"]


def test_what_java_would_refuse_is_noted(house: House) -> None:
    csr = house.csr("noted", "Alice", (f"email:{MAIL}",))
    words = ("ca", "sign", "p256-issuing", csr, "--profile", "tls-client")
    (note,) = house.machine.json(*words)["notes"]
    assert note.startswith("CN=Alice reads as a host")


def test_a_server_that_is_no_host_loses_its_common_name(house: House) -> None:
    csr = house.csr("noted", "My Printer", (f"ip:{ADDRESS}",))
    assert house.machine.json("ca", "sign", "p256-issuing", csr)["subject"] == ""


@everywhere
def test_constraints_two_levels_up(house: House, client: Client) -> None:
    if "low-server" not in house.chains:
        above = ("--issuer", "p256-root", "--path-length", "1", *CONSTRAINTS)
        house.authority("constrained", "p256", *above)
        house.authority("low", "p256", "--issuer", "constrained", "--path-length", "0")
        house.leaf("low-server", "low", "", (f"dns:{HOST}",), alg="p256")
    accepts(client, Question(house.chains["low-server"]))
    csr = house.csr("refused", "", ("dns:www.example.org",))
    error = house.machine.json("ca", "sign", "low", csr, code=2)["error"]
    assert error["code"] == "constraint"
    assert "above the issuer" in error["message"]
