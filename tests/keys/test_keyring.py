"""Keys by label: their life, what is kept of them, what other programs make of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.support.shell import Shell

from tpmhsm.attest.birthplaces import Birthplace
from tpmhsm.attest.statements import check_creation, signing_key
from tpmhsm.errors import ExistsError, NotFoundError, UsageError, VerificationError
from tpmhsm.keys.host import load_host
from tpmhsm.keys.keyring import Keyring
from tpmhsm.keys.tss2 import loadable_key
from tpmhsm.store import Store
from tpmhsm.tpm import software
from tpmhsm.tpm.device import open_device


def openssl(machine: Shell, *words: str) -> str:
    done = subprocess.run(
        ["openssl", *words], cwd=machine.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_key_is_born_with_evidence(governed: Shell) -> None:
    with Store.open(governed.home) as store:
        host = load_host(store)
        for row in Keyring(store, open_device("software", governed.home)).all():
            key = signing_key(row.public)
            assert key.name.hex() == row.name
            check_creation(
                host.ak_public, key, row.creation_attest, row.creation_signature, Birthplace()
            )
            assert row.creation_ticket and row.creation_data and row.creation_hash


def test_signatures_are_what_openssl_expects(plain: Shell) -> None:
    (plain.path / "hello").write_bytes(b"hello\n")
    plain("key", "create", "big", "--alg", "rsa2048")
    plain("key", "create", "curve", "--alg", "p384", "--hash", "sha384")
    for label, digest in (("web", "sha256"), ("big", "sha256"), ("curve", "sha384")):
        plain("key", "sign", label, "hello", "--out", f"{label}.sig")
        plain("key", "export", label, "--out", f"{label}.pub")
        said = openssl(plain, "dgst", f"-{digest}", "-verify", f"{label}.pub", "-signature",
                       f"{label}.sig", "hello")  # fmt: skip
        assert "Verified OK" in said
        plain("key", "verify", label, "hello", "--signature", f"{label}.sig")
        plain("key", "verify", label, "web.csr", "--signature", f"{label}.sig", code=1)
    plain("key", "verify", "web", "hello", "--signature", "big.sig", code=1)
    der = plain("key", "export", "web", "--der", "--out", "web.der") and plain.path / "web.der"
    pem = load_pem_public_key((plain.path / "web.pub").read_bytes())
    assert der.read_bytes() in _spki(pem)


def _spki(key: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def test_stdin_and_stdout(plain: Shell) -> None:
    done = plain("key", "sign", "web", "-", stdin=b"hello\n")
    assert done.err == ""
    signature = done.out.encode(errors="surrogateescape")
    plain("key", "verify", "web", "-", "--signature", "hello.sig", stdin=b"hello\n", code=2)
    (plain.path / "hello.sig").write_bytes(signature)
    plain("key", "verify", "web", "-", "--signature", "hello.sig", stdin=b"hello\n")
    plain("key", "verify", "web", "-", "--signature", "-", stdin=b"", code=2)
    with pytest.raises(AssertionError):  # stdin was read once, and is other bytes
        plain("key", "verify", "web", "-", "--signature", "hello.sig", stdin=b"other\n")


def test_what_a_signature_must_not_be_made_of(plain: Shell) -> None:
    plain("cert", "export", "open-ca", "--der", "--out", "ca.der")
    whole = (plain.path / "ca.der").read_bytes()
    from cryptography import x509

    tbs = x509.load_der_x509_certificate(whole).tbs_certificate_bytes
    (plain.path / "tbs").write_bytes(tbs)
    assert plain.json("key", "sign", "web", "tbs", code=1)["error"]["code"] == "to-be-signed"
    (plain.path / "hello").write_bytes(b"hello\n")
    error = plain.json("key", "sign", "open-root", "hello", code=1)["error"]
    assert error["code"] == "authority-key"
    assert "tpmhsm key create" in error["hint"]
    assert not list(plain.path.glob("*.sig"))


@pytest.mark.parametrize("data", [b"\x01" * 32, b"ab" * 32, b"a" * 64 + b"\n"])
def test_people_are_not_asked_for_what_their_tools_refuse(governed: Shell, data: bytes) -> None:
    governed("key", "create", "guarded", "--policy", "quorum(officers)")
    (governed.path / "digest").write_bytes(data)
    error = governed.json("key", "sign", "guarded", "digest", code=1)["error"]
    assert error["code"] == "bare-digest"
    assert len(governed.json("request", "list")["items"]) == 2


# ── deleting ─────────────────────────────────────────────────────────────────


def test_a_deleted_key_is_wiped_and_its_record_stays(plain: Shell) -> None:
    plain("key", "create", "gone")
    with Store.open(plain.home) as store, store.reading() as tx:
        private = tx.keys.get("gone").private
    assert len(private) > 50
    assert holding(plain.home, private)
    plain("key", "delete", "gone")
    assert holding(plain.home, private) == []
    with Store.open(plain.home) as store, store.reading() as tx:
        (record,) = [row for row in tx.keys.all(deleted=True) if row.label == "gone"]
    assert (record.state, record.private) == ("deleted", b"")
    assert record.public and record.creation_attest and record.deleted
    plain("key", "show", "gone", code=2)
    plain("key", "sign", "gone", "web.csr", code=2)
    plain("key", "create", "gone", "--alg", "p384")


def holding(home: Path, secret: bytes) -> list[Path]:
    """The files of a home with any 24 bytes of a secret in them."""
    parts = [secret[i : i + 24] for i in range(0, len(secret) - 24, 8)]
    files = [path for path in home.rglob("*") if path.is_file() and path.stat().st_size]
    return [path for path in files if any(part in path.read_bytes() for part in parts)]


def test_a_key_in_use_is_kept(governed: Shell) -> None:
    error = governed.json("key", "delete", "root", code=2)["error"]
    assert "root-ca" in error["message"]
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    assert f"request {number}" in governed.json("key", "delete", "root", code=2)["error"]["message"]
    governed("ca", "sign", "open-ca", "web.csr")
    assert "certificate" in governed.json("key", "delete", "web", code=2)["error"]["message"]
    governed("key", "delete", "web", "--force")
    governed("key", "show", "web", code=2)


def test_labels(plain: Shell) -> None:
    with Store.open(plain.home) as store:
        keyring = Keyring(store, open_device("software", plain.home))
        with pytest.raises(ExistsError):
            keyring.create("web", "p256", policy="open")
        with pytest.raises(NotFoundError):
            keyring.get("nobody")
        with pytest.raises(UsageError):
            keyring.create("x" * 65, "p256", policy="open")
        with pytest.raises(UsageError, match="no such algorithm"):
            keyring.create("x", "p521", policy="open")
        with pytest.raises(VerificationError):
            keyring.verify(keyring.get("web"), b"x", b"no signature")


# ── for other programs ───────────────────────────────────────────────────────


def test_tss2_structure() -> None:
    der = loadable_key(0x81008100, b"\x01" * 200, b"\x02" * 100)
    assert der[:3] == bytes.fromhex("308201")
    assert der[4:17] == bytes.fromhex("06066781050a0103a0030101ff")
    assert der[17:24] == bytes.fromhex("02050081008100")
    assert der[24:29] == bytes.fromhex("0481ca00c8")
    assert der[-104:-100] == bytes.fromhex("04660064")


def test_tpm2_tools_load_an_exported_key_and_sign(plain: Shell) -> None:
    if not shutil.which("tpm2_load"):
        pytest.skip("tpm2-tools is not installed")
    plain("key", "export", "web", "--tss2", "--out", "web.tss2")
    plain("key", "export", "web", "--out", "web.pub")
    plain("device", "probe")  # it runs now
    relay = f"cmd:{sys.executable} {Path(__file__).with_name('relay.py')} {plain.tpm}/swtpm.sock"

    def tool(*words: str) -> None:
        done = subprocess.run(
            words,
            cwd=plain.path,
            env={**os.environ, "TPM2TOOLS_TCTI": relay, "TSS2_LOG": "all+none"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    with software.lock_of(plain.tpm).held():
        tool("tpm2_load", "-r", "web.tss2", "-c", "web.ctx")
        tool(
            "tpm2_sign", "-c", "web.ctx", "-g", "sha256", "-f", "plain", "-o", "csr.sig", "web.csr"
        )
        tool("tpm2_flushcontext", "-t")
    plain("key", "verify", "web", "web.csr", "--signature", "csr.sig")


def test_a_guarded_key_is_not_exported_for_other_programs(governed: Shell) -> None:
    error = governed.json("key", "export", "root", "--tss2", code=2)["error"]
    assert "quorum(officers)" in error["message"]
    governed("key", "export", "root")
