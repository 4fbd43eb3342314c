"""Whom `cert verify` believes when nobody is named, and whose chain is exported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.cli.test_certificates import elsewhere
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


def test_what_was_only_imported_is_no_root(plain: Shell) -> None:
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.pem")
    stranger(plain)
    plain("cert", "import", "stranger.pem")
    plain("cert", "verify", "web.pem")  # the root of an authority here
    error = plain.json("cert", "verify", "stranger.pem", code=1)["error"]
    assert error["reason"] == "untrusted-root" and "imported" in error["message"]
    said = error["hint"].partition("tpmhsm ")[2].partition(";")[0]
    assert plain.json(*said.split())["items"][0]["changed"]
    assert plain("cert", "verify", "stranger.pem").out.startswith("valid")
    listed = plain.json("cert", "trust")["items"]
    assert [bool(one["since"]) for one in listed] == [True, False]
    assert "an authority here" in plain("cert", "trust").out
    again = plain.json("cert", "trust", "stranger.pem")["items"]
    assert not again[0]["changed"]
    plain("cert", "trust", "--remove", "stranger.pem")
    plain("cert", "verify", "stranger.pem", code=1)
    plain("cert", "verify", "stranger.pem", "--trust", "stranger.pem")
    plain("doctor", "store")


def test_a_file_is_stored_and_trusted_and_forgotten_when_deleted(plain: Shell) -> None:
    root = stranger(plain)
    hint = plain("cert", "verify", "stranger.pem", code=1).err
    assert "tpmhsm cert trust FILE" in hint
    plain("cert", "trust", "stranger.pem")
    plain("cert", "verify", "stranger.pem")
    sha256 = root.fingerprint(hashes.SHA256()).hex()
    plain("cert", "delete", sha256)
    plain("cert", "import", "stranger.pem")
    plain("cert", "verify", "stranger.pem", code=1)
    plain("cert", "trust", "--remove", code=2)


def test_an_authority_below_a_root_elsewhere(plain: Shell) -> None:
    """It is ours, so it is believed; a root that was told to be trusted is asked instead."""
    plain("key", "create", "away")
    plain("ca", "create", "away", "--key", "away", "--external", "--subject", "CN=Away")
    elsewhere(plain)
    plain("ca", "install", "away", "away.pem", "elsewhere.pem")
    plain("ca", "sign", "away", "web.csr", "--out", "web.pem")
    assert len(plain.json("cert", "verify", "web.pem")["chain"]) == 2
    plain("cert", "trust", "CN=Root Elsewhere")
    assert len(plain.json("cert", "verify", "web.pem")["chain"]) == 3


def test_a_home_that_trusts_nothing_says_how_to(bare: Shell) -> None:
    stranger(bare)
    bare.person("zoe")
    error = bare.json("cert", "verify", "stranger.pem", code=2)["error"]
    assert error["code"] == "nothing-trusted" and "cert trust" in error["hint"]
    assert "nothing is trusted" in bare("cert", "trust").out
