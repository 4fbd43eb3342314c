"""`init --solo`: what its issuer may certify is accepted, and all clients refuse the rest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.clients.house import Chain
from tests.clients.test_chains import CLIENTS, CONSTRAINED
from tests.clients.verdict import Client, Question, accepts, refuses
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.tpm import software

everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)
WITHIN = ("www.example.com", "localhost", "127.0.0.1")
OUTSIDE = "www.example.org"


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
        yield {host: chain(place, host) for host in (*WITHIN, OUTSIDE)}
    finally:
        software.stop(machine.tpm)
        shutil.rmtree(place, ignore_errors=True)


def outside(machine: Shell) -> bytes:
    """Anyone with this machine signs with an open key: a certificate for another domain."""
    app = App(home=machine.home, tpm="software")
    issuer, now = app.authorities.certificate("solo"), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(OUTSIDE)])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(names, critical=True)
        .add_extension(usage, critical=False)
        .sign(app.keyring.private_key("solo"), hashes.SHA256())
    )
    app.close()
    return made.public_bytes(Encoding.PEM)


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
