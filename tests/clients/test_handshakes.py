"""TLS with certificates that were issued: OpenSSL, curl, GnuTLS, NSS and Java as clients.

Each is shown the right hosts and wrong ones, and answers with a client certificate where the server
wants one. Servers are Python's, which is OpenSSL, and Java's.
"""

from __future__ import annotations

import re

import pytest
from tests.clients.house import ADDRESS, ALGORITHMS, HOST, WILD, House
from tests.clients.java import Java
from tests.clients.listener import listening
from tests.clients.verdict import Verdict, Visit, Visitor

VISITORS = ("openssl", "curl", "gnutls", "nss", "java")
everyone = pytest.mark.parametrize("client", VISITORS, indirect=True)

# A fault, and how each program says it.
WRONG_HOST = {
    "openssl": "verify error:num=6[24]:(hostname|IP address) mismatch",
    "curl": r"\(60\) SSL: no alternative certificate subject name matches",
    "gnutls": "The name in the certificate does not match the expected",
    "nss": "SSL_ERROR_BAD_CERT_DOMAIN",
    "java": "CertificateException: No subject alternative (DNS name|names) matching",
}
EXPIRED = {
    "openssl": "verify error:num=10:certificate has expired",
    "curl": r"\(60\) SSL certificate problem: certificate has expired",
    "gnutls": "The certificate chain uses expired certificate",
    "nss": "SEC_ERROR_EXPIRED_CERTIFICATE",
    "java": "CertPathValidatorException EXPIRED",
}
OUTSIDE = {
    "openssl": "verify error:num=47:permitted subtree violation",
    "curl": r"\(60\) SSL certificate problem: permitted subtree violation",
    "gnutls": "violates the signer's constraints",
    "nss": "SEC_ERROR_CERT_NOT_IN_NAME_SPACE",
    "java": "CertPathValidatorException INVALID_NAME",
}
STRANGER = {
    "openssl": "verify error:num=20:unable to get local issuer certificate",
    "curl": r"\(60\) SSL certificate problem: unable to get local issuer certificate",
    "gnutls": "The certificate issuer is unknown",
    "nss": "SEC_ERROR_UNKNOWN_ISSUER",
    "java": "unable to find valid certification path",
}


@everyone
@pytest.mark.parametrize("host", [HOST, WILD, ADDRESS])
@pytest.mark.parametrize("name", [*(f"{alg}-server" for alg in ALGORITHMS), "deep"])
def test_a_server_is_accepted(house: House, client: Visitor, name: str, host: str) -> None:
    verdict, _ = visited(house, client, name, host)
    assert verdict.accepted, verdict.words


@everyone
@pytest.mark.parametrize(
    ("name", "host", "reasons"),
    [
        ("p256-server", "other.example.com", WRONG_HOST),
        ("p256-server", "a.b.apps.example.com", WRONG_HOST),
        ("deep", "192.0.2.8", WRONG_HOST),
        ("expired", HOST, EXPIRED),
        ("outside", "www.example.org", OUTSIDE),
    ],
)
def test_a_server_is_refused_for_its_fault(
    house: House, client: Visitor, named: str, name: str, host: str, reasons: dict[str, str]
) -> None:
    verdict, heard = visited(house, client, name, host)
    assert not verdict.accepted, verdict.words
    assert re.search(reasons[named], verdict.words), verdict.words
    assert heard.startswith(("refused: ", "left without a word"))


@everyone
def test_a_server_below_another_root_is_refused(house: House, client: Visitor, named: str) -> None:
    chain = house.chains["p256-server"]
    with listening(chain) as server:
        visit = Visit(str(server.port), house.chains["rsa2048-server"].root, HOST)
        verdict = client.visit(visit)
    assert not verdict.accepted
    assert re.search(STRANGER[named], verdict.words), verdict.words


@everyone
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_clients_show_themselves(house: House, client: Visitor, alg: str) -> None:
    verdict, heard = visited(house, client, f"{alg}-server", HOST, own=f"{alg}-client")
    assert verdict.accepted, verdict.words
    assert heard == "Alice Example"


@everyone
@pytest.mark.parametrize("own", ["p256-server", None])
def test_a_server_refuses_other_clients(
    house: House, client: Visitor, named: str, own: str | None
) -> None:
    verdict, heard = visited(house, client, "p256-server", HOST, own=own, wants=True)
    # NSS itself keeps back what is no client's certificate.
    shown = own and named != "nss"
    fault = "CERTIFICATE_VERIFY_FAILED" if shown else "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert not verdict.accepted, verdict.words
    assert heard.startswith("refused: ")
    assert fault in heard


def visited(
    house: House,
    client: Visitor,
    name: str,
    host: str,
    *,
    own: str | None = None,
    wants: bool = False,
) -> tuple[Verdict, str]:
    """One visit to a server of that chain, and what the server heard of it."""
    chain = house.chains[name]
    mine = house.chains[own] if own else None
    trusted = mine.root if mine else chain.root if wants else None
    with listening(chain, trusted) as server:
        verdict = client.visit(Visit(str(server.port), chain.root, host, mine))
    return verdict, server.heard[0]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_java_server_accepts_clients(
    house: House, openssl: Visitor, java: Java, alg: str
) -> None:
    verdict, heard = visited_java(house, openssl, java, f"{alg}-client")
    assert verdict.accepted, verdict.words
    assert heard.accepted
    assert "CN=Alice Example" in heard.words


def test_a_java_server_refuses_a_server_as_client(
    house: House, openssl: Visitor, java: Java
) -> None:
    verdict, heard = visited_java(house, openssl, java, "p256-server")
    assert not verdict.accepted
    assert "Extended key usage does not permit use for TLS client authentication" in heard.words


def visited_java(house: House, client: Visitor, java: Java, own: str) -> tuple[Verdict, Verdict]:
    server, mine = house.chains["p256-server"], house.chains[own]
    files = {"chain": str(server.chain), "key": str(server.key), "root": str(mine.root)}
    port = java.ask("serve", **files).words.split()[1]
    verdict = client.visit(Visit(port, server.root, HOST, mine))
    return verdict, java.ask("served")
