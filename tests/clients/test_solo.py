"""`init --solo`: what its issuer may certify is accepted, and all clients refuse the rest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.approval.doubles import USAGE
from tests.clients.house import Chain
from tests.clients.test_chains import CLIENTS, CONSTRAINED
from tests.clients.verdict import Client, Question, accepts, refuses
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.tpm import software

everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)
WITHIN = ("www.example.com", "localhost", "127.0.0.1")
OUTSIDE = "www.example.org"
UNLIMITED = "below an issuer without constraints"


@pytest.fixture(scope="module")
def chains() -> Iterator[dict[str, Chain]]:
    """One command makes the CA, one each certificate; and one certificate that root made with the
    issuer's open key, past the program.
    """
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    place = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = Shell(place)
    try:
        machine("init", "--solo", "--domain", "example.com")
        machine("cert", "export", "solo-root", "--out", "root.pem")
        machine("cert", "export", "solo", "--out", "between.pem")
        for host in WITHIN:
            machine("ca", "issue", "solo", "--host", host, "--out", f"{host}.pem")
        (place / f"{OUTSIDE}.pem").write_bytes(outside(machine))
        found = {host: chain(place, host) for host in (*WITHIN, OUTSIDE)}
        yield found | {UNLIMITED: below_the_root(machine)}
    finally:
        software.stop(machine.tpm)
        shutil.rmtree(place, ignore_errors=True)


def certificate(
    machine: Shell, ca: str, subject: x509.Name, key: Any, extensions: list[x509.ExtensionType]
) -> x509.Certificate:
    """Anyone with this machine signs with an open key."""
    app = App(home=machine.home, tpm="software")
    issuer, now = app.authorities.certificate(ca), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=30))
    )
    for one in extensions:
        made = made.add_extension(one, critical=not isinstance(one, x509.ExtendedKeyUsage))
    signed = made.sign(app.keyring.private_key(ca), hashes.SHA256())
    app.close()
    return signed


SERVER = [
    x509.SubjectAlternativeName([x509.DNSName(OUTSIDE)]),
    x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
]


def outside(machine: Shell) -> bytes:
    """A certificate for another domain, by the issuer's own key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = certificate(machine, "solo", x509.Name([]), key, SERVER)
    return made.public_bytes(Encoding.PEM)


def below_the_root(machine: Shell) -> Chain:
    """The same, by an issuer to whom the root's key gave no name constraints."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Free issuer")])
    usage = {**USAGE, "key_cert_sign": True}
    limits = [x509.BasicConstraints(ca=True, path_length=0), x509.KeyUsage(**usage)]
    free = certificate(machine, "solo-root", name, key, limits)
    leaf = (
        x509.CertificateBuilder(free.subject, x509.Name([]), key.public_key(), 7)
        .not_valid_before(free.not_valid_before_utc)
        .not_valid_after(free.not_valid_after_utc)
        .add_extension(SERVER[0], critical=True)
        .add_extension(SERVER[1], critical=False)
        .sign(key, hashes.SHA256())
    )
    place = machine.path
    for file, one in (("free.pem", free), ("free-leaf.pem", leaf)):
        (place / file).write_bytes(one.public_bytes(Encoding.PEM))
    both = place / "free.chain.pem"
    both.write_bytes((place / "free-leaf.pem").read_bytes() + (place / "free.pem").read_bytes())
    return Chain(UNLIMITED, place / "free-leaf.pem", both, place / "free.pem", place / "root.pem")


def chain(place: Path, host: str) -> Chain:
    leaf, between = place / f"{host}.pem", place / "between.pem"
    both = place / f"{host}.chain.pem"
    both.write_bytes(leaf.read_bytes() + between.read_bytes())
    return Chain(host, leaf, both, between, place / "root.pem")


@everywhere
@pytest.mark.parametrize("host", WITHIN)
def test_what_is_within_is_accepted(chains: dict[str, Chain], client: Client, host: str) -> None:
    accepts(client, Question(chains[host]))


@pytest.mark.parametrize("client", CLIENTS, indirect=True, ids=CLIENTS)
def test_what_is_outside_is_refused(
    chains: dict[str, Chain], client: Client, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    refuses(client, Question(chains[OUTSIDE]), CONSTRAINED[name])


@pytest.mark.parametrize("client", CLIENTS, indirect=True, ids=CLIENTS)
def test_the_roots_own_constraints(
    chains: dict[str, Chain], client: Client, request: pytest.FixtureRequest
) -> None:
    """RFC 5280 does not oblige clients to look at those of a trust anchor (section 6.1): Java does
    not, which the documents say.
    """
    name = request.node.callspec.id
    if name == "java":
        accepts(client, Question(chains[UNLIMITED]))
    else:
        refuses(client, Question(chains[UNLIMITED]), CONSTRAINED[name])
