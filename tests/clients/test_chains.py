"""Programs that are not ours accept what was issued, and refuse the rest for its own fault.

OpenSSL, GnuTLS, NSS and Java; hosts are asked of Java and NSS in `test_handshakes`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from tests.clients.house import ADDRESS, ALGORITHMS, CONSTRAINTS, HOST, WILD, House
from tests.clients.verdict import Client, Question, accepts, refuses

CLIENTS = ("openssl", "gnutls", "nss", "java")
SERVERS = (*(f"{alg}-server" for alg in ALGORITHMS), "deep", "guarded-server")

# A fault, and how each program says it.
EXPIRED = {
    "openssl": "error 10 at 0 depth lookup: certificate has expired",
    "gnutls": "The certificate chain uses expired certificate",
    "nss": "certutil: .*Peer's Certificate has expired",
    "java": "CertPathValidatorException EXPIRED at 0",
}
BELOW_EXPIRED = EXPIRED | {
    "openssl": "error 10 at 1 depth lookup: certificate has expired",
    "nss": "issuer's certificate has expired",
    "java": "CertPathValidatorException EXPIRED at 1",
}
CONSTRAINED = {
    "openssl": "error 47 at 0 depth lookup: permitted subtree violation",
    "gnutls": "violates the signer's constraints",
    "nss": "not permitted to issue a certificate with this name",
    "java": "CertPathValidatorException INVALID_NAME at 0: name constraints",
}
EXCLUDED = CONSTRAINED | {"openssl": "error 48 at 0 depth lookup: excluded subtree violation"}
TOO_LONG = {
    "openssl": "error 25 at 2 depth lookup: path length constraint exceeded",
    "gnutls": "violates the signer's constraints",
    "nss": "Certificate path length constraint is invalid",
    "java": "CertPathValidatorException PATH_TOO_LONG at 1",
}
UNBORN = {
    "openssl": "certificate is not yet valid",
    "nss": "certutil: .*Peer's Certificate has expired|not yet",  # one word for both
    "java": "CertPathValidatorException NOT_YET_VALID",
}
WRONG_PURPOSE = {
    "openssl": "error 26 at 0 depth lookup: unsuitable certificate purpose",
    "gnutls": "violates the signer's constraints|purpose",
    "nss": "Certificate type not approved for application",
    "java": "target certificate constraints check failed",
}
STRANGER = {
    "openssl": "error 20 at 1 depth lookup: unable to get local issuer certificate",
    "gnutls": "The certificate issuer is unknown",
    "nss": "Peer's certificate issuer has been marked as not trusted|issuer is not recognized",
    "java": "CertPathValidatorException NO_TRUST_ANCHOR|Path does not chain|signature check",
}


everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)


@everywhere
@pytest.mark.parametrize("name", SERVERS)
def test_servers_are_accepted(house: House, client: Client, name: str) -> None:
    accepts(client, Question(house.chains[name]))


@everywhere
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_clients_are_accepted(house: House, client: Client, alg: str) -> None:
    accepts(client, Question(house.chains[f"{alg}-client"], "client"))


@everywhere
@pytest.mark.parametrize("name", ["inside", "inside-address"])
def test_names_within_the_constraints_are_accepted(house: House, client: Client, name: str) -> None:
    accepts(client, Question(house.chains[name]))


@everywhere
@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("expired", EXPIRED),
        ("below-expired", BELOW_EXPIRED),
        ("outside", CONSTRAINED),
        ("outside-address", CONSTRAINED),
        ("excluded", EXCLUDED),
        ("below-too-long", TOO_LONG),
        ("p256-client", WRONG_PURPOSE),
        ("under-another-root", STRANGER),
    ],
)
def test_each_fault_is_refused_by_its_name(
    house: House, client: Client, named: str, name: str, reasons: dict[str, str]
) -> None:
    refuses(client, Question(house.chains[name]), reasons[named])


@everywhere
def test_a_server_is_no_client(house: House, client: Client, named: str) -> None:
    question = Question(house.chains["p256-server"], "client")
    refuses(client, question, WRONG_PURPOSE[named])


@pytest.mark.parametrize("host", [HOST, WILD, ADDRESS])
@pytest.mark.parametrize("name", ["p256-server", "rsa2048-server", "deep"])
@pytest.mark.parametrize("client", ["openssl", "gnutls"], indirect=True)
def test_hosts_are_accepted(house: House, client: Client, name: str, host: str) -> None:
    accepts(client, Question(house.chains[name], host=host))


@pytest.mark.parametrize(
    "host", ["example.com", "two.one.apps.example.com", "apps.example.com", "192.0.2.8"]
)
@pytest.mark.parametrize("client", ["openssl", "gnutls"], indirect=True)
def test_other_hosts_are_refused(house: House, client: Client, named: str, host: str) -> None:
    reasons = {
        "openssl": "error 6[24] at 0 depth lookup: (hostname|IP address) mismatch",
        "gnutls": "The name in the certificate does not match the expected",
    }
    refuses(client, Question(house.chains["p256-server"], host=host), reasons[named])


@pytest.mark.parametrize("client", ["openssl", "nss", "java"], indirect=True)
def test_other_times(house: House, client: Client, named: str) -> None:
    chain = house.chains["p256-server"]
    leaf = x509.load_pem_x509_certificate(chain.leaf.read_bytes())
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    assert begin < datetime.now(UTC) < end
    for inside in (begin, end - timedelta(seconds=60)):
        accepts(client, Question(chain, at=inside))
    refuses(client, Question(chain, at=end + timedelta(seconds=60)), EXPIRED[named])
    # NSS forgives a clock that is a day behind.
    refuses(client, Question(chain, at=begin - timedelta(days=2)), UNBORN[named])


@pytest.mark.parametrize(
    "name", ["www.example.org", "very.secret.example.com", "198.51.100.1", "example.com.evil.org"]
)
def test_the_product_issues_nothing_outside(house: House, name: str) -> None:
    kind = "ip" if name[0].isdigit() else "dns"
    csr = house.csr("refused", "", (f"{kind}:{name}",))
    error = house.machine.json("ca", "sign", "p256-issuing", csr, code=2)["error"]
    assert error["code"] == "constraint"


def test_the_product_issues_no_path_too_long(house: House) -> None:
    csr = house.csr("refused", "Below")
    words = ("ca", "sign", "p256-issuing", csr, "--profile", "intermediate", *CONSTRAINTS)
    assert house.machine.json(*words, code=2)["error"]["code"] == "path-length"


def test_our_own_verdicts_are_theirs(house: House) -> None:
    """The same chains and faults, by `cert verify`."""
    faults = {
        "expired": (),
        "below-expired": (),
        "outside": (),
        "outside-address": (),
        "excluded": (),
        "below-too-long": (),
        "under-another-root": (),
        "p256-client": ("--purpose", "server"),
        "p256-server": ("--host", "other.example.com"),
    }
    for name in ("inside", "inside-address", *SERVERS):
        _verify(house, name, "--purpose", "server")
    for alg in ALGORITHMS:
        _verify(house, f"{alg}-client", "--purpose", "client")
    for name, words in faults.items():
        _verify(house, name, *words, code=1)


def _verify(house: House, name: str, *words: str, code: int = 0) -> None:
    chain = house.chains[name]
    files = ("--trust", chain.root, "--untrusted", chain.chain)
    house.machine("cert", "verify", chain.leaf, *files, *words, code=code)
