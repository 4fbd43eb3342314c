"""Whom `cert verify` believes when nobody is named, and whose chain is exported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.shell import Shell

from tpmhsm.store.certificates import Certificates


def stranger(machine: Shell, of: x509.Certificate | None = None) -> x509.Certificate:
    """A root made elsewhere (`stranger.pem`), and its certificate for one of ours."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Stranger")])

    def make(subject: x509.Name, public: object, file: str) -> x509.Certificate:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=20_000))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (machine.path / file).write_bytes(made.public_bytes(Encoding.PEM))
        return made

    root = make(name, key.public_key(), "stranger.pem")
    if of is not None:
        make(of.subject, of.public_key(), "cross.pem")
    return root


def test_a_stranger_who_certified_our_ca_is_not_in_our_chain(
    plain: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain("key", "create", "sub")
    plain("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca", "--subject", "CN=Sub")
    plain("ca", "sign", "sub-ca", "web.csr", "--out", "web.pem")
    ours = x509.load_pem_x509_certificate(plain("cert", "export", "sub-ca").out.encode())
    before = plain("cert", "export", "www.example.com", "--full-chain").out
    stranger(plain, ours)
    plain("cert", "import", "cross.pem", "stranger.pem")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this reads every certificate that is stored")

    monkeypatch.setattr(Certificates, "all", never)
    monkeypatch.setattr(Certificates, "cas", never)
    assert plain("cert", "export", "www.example.com", "--full-chain").out == before
    chain = plain("cert", "chain", "www.example.com").out.splitlines()
    assert len(chain) == 3 and "Open Root" in chain[0] and "CN=Sub" in chain[1]
