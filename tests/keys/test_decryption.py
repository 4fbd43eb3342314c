"""Keys that decrypt, by label: what they give, in how many commands, and what they refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.errors import ChipRefusedError, UsageError
from tpmhsm.keys.births import Wanted
from tpmhsm.keys.tss2 import PEM_LABEL
from tpmhsm.pki.load import to_pem
from tpmhsm.tpm import software

SECRET = b"attack at dawn"


@pytest.fixture
def app(plain: Shell) -> Iterator[App]:
    app = App(Path(plain.home), tpm="software", pin_file=str(plain.path / "pin"))
    (plain.path / "pin").write_text("482915\n")
    yield app
    app.close()


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def encrypt(app: App, label: str, data: bytes = SECRET, hash_name: str = "SHA256") -> bytes:
    algorithm = getattr(hashes, hash_name)()
    key = app.keyring.public_key(app.keyring.get(label))
    return key.encrypt(data, padding.OAEP(padding.MGF1(algorithm), algorithm, None))


@pytest.mark.parametrize(
    ("alg", "hash_name"),
    [("rsa2048", "sha1"), ("rsa2048", "sha256"), ("rsa2048", "sha384"), ("rsa3072", "sha256")],
)
def test_oaep(app: App, alg: str, hash_name: str) -> None:
    row = app.keyring.create("box", alg, policy="open", hash_name=hash_name, use="decrypt")
    longest = int(alg[3:]) // 8 - 2 * {"sha1": 20, "sha256": 32, "sha384": 48}[hash_name] - 2
    for data in (SECRET, b"", bytes(longest)):
        opened = app.keyring.decryption.decrypt(row, encrypt(app, "box", data, hash_name.upper()))
        assert opened == data


@pytest.mark.parametrize("alg", ["p256", "p384"])
def test_ecdh_as_cryptography_does_it(app: App, alg: str) -> None:
    row = app.keyring.create("box", alg, policy="open", use="decrypt")
    public = app.keyring.public_key(row)
    for _ in range(20):
        other = ec.generate_private_key(public.curve)
        shared = app.keyring.decryption.decrypt(row, spki(other.public_key()))
        assert shared == other.exchange(ec.ECDH(), public)


@pytest.mark.parametrize("policy", ["pin", "any(pin, pcr(sha256:0))", "all(pin, pcr(sha256:0))"])
@pytest.mark.parametrize("alg", ["rsa2048", "p256"])
def test_with_policies(app: App, alg: str, policy: str) -> None:
    from tests.cli.test_policies import extend

    extend(Shell(app.home.parent), 0)
    row = app.keyring.create("box", alg, policy=policy, use="decrypt", pin=b"482915")
    if alg == "p256":
        other = ec.generate_private_key(ec.SECP256R1())
        content, wanted = (
            spki(other.public_key()),
            other.exchange(ec.ECDH(), app.keyring.public_key(row)),
        )
    else:
        content, wanted = encrypt(app, "box"), SECRET
    assert app.keyring.decryption.decrypt(row, content) == wanted
    with pytest.raises(UsageError, match="decrypts, and a key that decrypts never signs"):
        app.keyring.sign_digest(row, bytes(32))


def test_what_is_for_another_key(app: App) -> None:
    row = app.keyring.create("box", "rsa2048", policy="open", use="decrypt")
    app.keyring.create("other", "rsa2048", policy="open", use="decrypt")
    good = encrypt(app, "box")
    for bad in (encrypt(app, "other"), good[:-1] + bytes([good[-1] ^ 1]), b"\xff" * 256):
        with pytest.raises(ChipRefusedError) as caught:
            app.keyring.decryption.decrypt(row, bad)
        assert caught.value.code == "not-for-this-key"
    for short in (good[:-1], b"", good + b"x"):
        with pytest.raises(UsageError) as refused:
            app.keyring.decryption.decrypt(row, short)
        assert refused.value.code == "not-for-this-key"
    assert app.keyring.decryption.decrypt(row, good) == SECRET


def test_a_signing_key_does_not_decrypt(app: App) -> None:
    with pytest.raises(UsageError) as caught:
        app.keyring.decryption.decrypt(app.keyring.get("web"), bytes(256))
    assert caught.value.code == "signing-key"


# ── another program at the same chip ─────────────────────────────────────────────────────────────


@pytest.fixture
def tool(app: App) -> Iterator[Callable[..., None]]:
    """tpm2-tools at the chip of the app, in its folder; nothing is left behind."""
    if not shutil.which("tpm2_rsadecrypt"):
        pytest.skip("tpm2-tools is not installed")
    folder = app.home.parent
    directory = software.directory_of(app.home)
    relay = f"cmd:{sys.executable} {Path(__file__).with_name('relay.py')} {directory}/swtpm.sock"

    def run(*words: str) -> None:
        done = subprocess.run(
            words, cwd=folder, env={**os.environ, "TPM2TOOLS_TCTI": relay, "TSS2_LOG": "all+none"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    yield run


def exported(app: App, label: str) -> None:
    """The wrapped key in a file, for other programs."""
    pem = to_pem(app.keyring.tss2(app.keyring.get(label)), PEM_LABEL)
    (app.home.parent / f"{label}.tss2").write_bytes(pem)


def test_tpm2_tools_decrypt_what_we_do(app: App, tool: Callable[..., None]) -> None:
    folder = app.home.parent
    app.keyring.create("box", "rsa2048", policy="open", use="decrypt")
    key = rsa.generate_private_key(65537, 2048)
    app.keyring.importing.bring(Wanted("old", "rsa2048", use="decrypt"), key)
    for label in ("box", "old"):
        exported(app, label)
        (folder / "closed").write_bytes(encrypt(app, label))
        with software.lock_of(software.directory_of(app.home)).held():
            tool("tpm2_load", "-r", f"{label}.tss2", "-c", "key.ctx")
            tool("tpm2_rsadecrypt", "-c", "key.ctx", "-s", "oaep", "-o", "opened", "closed")
            tool("tpm2_flushcontext", "-t")
        assert (folder / "opened").read_bytes() == SECRET


def test_tpm2_tools_use_an_imported_key(app: App, tool: Callable[..., None]) -> None:
    folder = app.home.parent
    key = ec.generate_private_key(ec.SECP384R1())
    app.keyring.importing.bring(Wanted("old", "p384"), key)
    exported(app, "old")
    (folder / "note").write_bytes(SECRET)
    with software.lock_of(software.directory_of(app.home)).held():
        tool("tpm2_load", "-r", "old.tss2", "-c", "key.ctx")
        tool("tpm2_sign", "-c", "key.ctx", "-g", "sha256", "-f", "plain", "-o", "sig", "note")
        tool("tpm2_flushcontext", "-t")
    signature = (folder / "sig").read_bytes()
    key.public_key().verify(signature, SECRET, ec.ECDSA(hashes.SHA256()))
