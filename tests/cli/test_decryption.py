"""Decryption keys from the command line: messages made by OpenSSL, and secrets that it derives."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import NameOID
from tests.support.shell import Shell

MEMO = b"Sell at noon.\r\nBuy at dawn.\r\n"
OAEP = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")


def openssl(machine: Shell, *arguments: str) -> bytes:
    result = subprocess.run(
        ["openssl", *arguments], cwd=machine.path, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def certify(machine: Shell, label: str) -> Path:
    """A certificate for a key that cannot ask for one: another CA's, by its public key alone."""
    import datetime

    machine("key", "export", label, "--out", f"{label}.pub", "--force")
    public = load_pem_public_key((machine.path / f"{label}.pub").read_bytes())
    ca = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{label} user")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Elsewhere CA")]))
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
        .sign(ca, hashes.SHA256())
    )
    path = machine.path / f"{label}.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def encrypt(machine: Shell, label: str, *options: str, to: str = "memo.p7m") -> str:
    """A message for a key, by `openssl cms`."""
    (machine.path / "memo.txt").write_bytes(MEMO)
    if not (machine.path / f"{label}.crt").exists():
        certify(machine, label)
    openssl(machine, "cms", "-encrypt", "-binary", "-in", "memo.txt", "-out", to,
            "-recip", f"{label}.crt", *options)  # fmt: skip
    return to


@pytest.fixture
def boxes(plain: Shell) -> Shell:
    """A machine with decryption keys: `box` (RSA-2048), `ring` (P-256)."""
    plain("key", "create", "box", "--use", "decrypt", "--alg", "rsa2048")
    plain("key", "create", "ring", "--use", "decrypt")
    return plain


# ── raw ──────────────────────────────────────────────────────────────────────────────────────


def test_a_ciphertext_by_openssl(boxes: Shell) -> None:
    boxes("key", "export", "box", "--out", "box.pub")
    (boxes.path / "plain").write_bytes(b"a key of 32 bytes, say, or less")
    oaep = ("-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256")
    openssl(boxes, "pkeyutl", "-encrypt", "-pubin", "-inkey", "box.pub", "-in", "plain",
            "-out", "closed", *oaep)  # fmt: skip
    boxes("key", "decrypt", "box", "closed", "--out", "opened")
    assert (boxes.path / "opened").read_bytes() == (boxes.path / "plain").read_bytes()
    assert stat.S_IMODE(os.stat(boxes.path / "opened").st_mode) == 0o600
    assert boxes("key", "decrypt", "box", "closed").out == "a key of 32 bytes, say, or less"
    found = boxes.json("key", "decrypt", "box", "closed")
    assert found["plaintext_base64"] == "YSBrZXkgb2YgMzIgYnl0ZXMsIHNheSwgb3IgbGVzcw=="
    assert "exists and is kept" in boxes("key", "decrypt", "box", "closed", "--out", "opened",
                                         code=2).err  # fmt: skip
    openssl(boxes, "pkeyutl", "-encrypt", "-pubin", "-inkey", "box.pub", "-in", "plain",
            "-out", "sha1", "-pkeyopt", "rsa_padding_mode:oaep")  # fmt: skip
    said = boxes("key", "decrypt", "box", "sha1", code=1).err
    assert "not encrypted for this key by OAEP with the key's hash" in said
    boxes("key", "create", "old", "--use", "decrypt", "--alg", "rsa2048", "--hash", "sha1")
    boxes("key", "export", "old", "--out", "old.pub")
    openssl(boxes, "pkeyutl", "-encrypt", "-pubin", "-inkey", "old.pub", "-in", "plain",
            "-out", "sha1", "-pkeyopt", "rsa_padding_mode:oaep")  # fmt: skip
    assert boxes("key", "decrypt", "old", "sha1").out == "a key of 32 bytes, say, or less"


@pytest.mark.parametrize(("alg", "curve"), [("p256", "P-256"), ("p384", "P-384")])
def test_a_secret_as_openssl_derives_it(plain: Shell, alg: str, curve: str) -> None:
    plain("key", "create", "ring", "--use", "decrypt", "--alg", alg)
    plain("key", "export", "ring", "--out", "ring.pub")
    for _ in range(3):
        openssl(plain, "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}",
                "-out", "peer.key")  # fmt: skip
        openssl(plain, "pkey", "-in", "peer.key", "-pubout", "-out", "peer.pub")
        wanted = openssl(plain, "pkeyutl", "-derive", "-inkey", "peer.key", "-peerkey", "ring.pub")
        plain("key", "derive", "ring", "peer.pub", "--out", "shared", "--force")
        assert (plain.path / "shared").read_bytes() == wanted
        openssl(plain, "pkey", "-pubin", "-in", "peer.pub", "-outform", "DER", "-out", "peer.der")
        plain("key", "derive", "ring", "peer.der", "--out", "shared", "--force")
        assert (plain.path / "shared").read_bytes() == wanted


def test_peers_that_are_none(boxes: Shell) -> None:
    openssl(boxes, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384",
            "-out", "other.key")  # fmt: skip
    openssl(boxes, "pkey", "-in", "other.key", "-pubout", "-out", "other.pub")
    boxes("key", "export", "box", "--out", "box.pub")
    boxes("key", "export", "ring", "--der", "--out", "ring.der")
    off = bytearray((boxes.path / "ring.der").read_bytes())
    off[-1] ^= 1
    (boxes.path / "off").write_bytes(off)
    (boxes.path / "empty").write_bytes(b"")
    for peer in ("other.pub", "box.pub", "off", "empty", "web.csr"):
        found = boxes.json("key", "derive", "ring", peer, code=2)
        assert found["error"]["code"] == "not-for-this-key", peer
    assert "is an RSA key" in boxes("key", "derive", "box", "ring.der", code=2).err


# ── messages ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cipher", ["-aes128", "-aes-256-gcm", "-des3", "-aes192"])
@pytest.mark.parametrize("form", ["DER", "PEM", "SMIME"])
def test_messages_with_key_transport(boxes: Shell, cipher: str, form: str) -> None:
    file = encrypt(boxes, "box", *OAEP, cipher, "-outform", form)
    boxes("key", "decrypt", "box", file, "--out", "opened")
    assert (boxes.path / "opened").read_bytes() == MEMO


@pytest.mark.parametrize(
    "options",
    [
        ("-aes256",),
        ("-des3",),
        ("-aes-128-gcm", "-keyid"),
        ("-aes256", "-keyopt", "ecdh_kdf_md:sha256", "-stream"),
    ],
)
@pytest.mark.parametrize("alg", ["p256", "p384"])
def test_messages_with_key_agreement(plain: Shell, alg: str, options: tuple[str, ...]) -> None:
    plain("key", "create", "ring", "--use", "decrypt", "--alg", alg)
    before = options[:2] if "-keyid" in options else ()
    if before:
        certify(plain, "ring")
        (plain.path / "memo.txt").write_bytes(MEMO)
        openssl(plain, "cms", "-encrypt", "-binary", "-in", "memo.txt", "-out", "memo.p7m",
                *options, "-recip", "ring.crt")  # fmt: skip
    else:
        encrypt(plain, "ring", *options)
    plain("key", "decrypt", "ring", "memo.p7m", "--out", "opened")
    assert (plain.path / "opened").read_bytes() == MEMO


def test_a_message_for_several(boxes: Shell) -> None:
    for label in ("box", "ring"):
        certify(boxes, label)
    boxes("key", "create", "third", "--use", "decrypt", "--alg", "rsa2048")
    certify(boxes, "third")
    (boxes.path / "memo.txt").write_bytes(MEMO)
    openssl(boxes, "cms", "-encrypt", "-binary", "-aes256", "-in", "memo.txt", "-out", "m",
            "-recip", "box.crt", *OAEP, "-recip", "ring.crt",
            "-recip", "third.crt", *OAEP)  # fmt: skip
    boxes("key", "decrypt", "ring", "m", "--out", "opened")  # the only one on a curve
    found = boxes.json("key", "decrypt", "box", "m", code=2)["error"]
    assert found["code"] == "no-recipient"
    assert "several of its recipients could be this key" in found["message"]
    boxes("cert", "import", "box.crt", "third.crt")
    for label in ("box", "third"):
        boxes("key", "decrypt", label, "m", "--out", "opened", "--force")
        assert (boxes.path / "opened").read_bytes() == MEMO


def test_messages_that_do_not_open(boxes: Shell) -> None:
    encrypt(boxes, "box", "-aes256", to="v15")
    said = boxes("key", "decrypt", "box", "v15", code=2).err
    assert "encrypted by PKCS #1 v1.5, which keys of the chip do not open" in said
    assert "rsa_padding_mode:oaep" in said
    encrypt(boxes, "box", "-aes256", "-keyopt", "rsa_padding_mode:oaep", to="sha1")
    found = boxes.json("key", "decrypt", "box", "sha1", code=2)["error"]
    assert found["code"] == "other-oaep-hash"
    encrypt(boxes, "box", "-aes-256-gcm", *OAEP, "-outform", "DER", to="gcm")
    changed = bytearray((boxes.path / "gcm").read_bytes())
    changed[-30] ^= 1
    (boxes.path / "gcm").write_bytes(changed)
    assert "the message was changed" in boxes("key", "decrypt", "box", "gcm", code=1).err
    assert "no RSA" not in boxes("key", "decrypt", "ring", "web.csr", code=2).err


# ── never both ───────────────────────────────────────────────────────────────────────────────


def test_a_decryption_key_signs_nothing(boxes: Shell) -> None:
    (boxes.path / "note").write_text("a note\n")
    csr = ("csr", "create", "box", "--subject", "CN=x")
    ca = ("ca", "create", "box-ca", "--key", "box", "--subject", "CN=Box CA")
    verify = ("key", "verify", "box", "note", "--signature", "note")
    for command in (("key", "sign", "box", "note"), csr, ca, (*ca, "--external"), verify):
        found = boxes.json(*command, code=2)["error"]
        assert found["code"] == "decryption-key", command
    found = boxes.json("key", "decrypt", "web", "note", code=2)["error"]
    assert found["code"] == "signing-key"


def test_lists_say_the_use(boxes: Shell) -> None:
    uses = {key["label"]: key["use"] for key in boxes.json("key", "list")["items"]}
    assert uses["box"] == uses["ring"] == "decrypt"
    assert uses["web"] == "sign"
    assert "decrypt" in boxes("key", "list").out
    assert "Use           decrypt" in boxes("key", "show", "box").out
    made = boxes("key", "create", "more", "--use", "decrypt")
    assert "anyone with this machine can decrypt with this key" in made.err
    boxes("doctor", "store")
    for alg, hash_name in (("p256", "sha1"), ("p384", "sha384")):
        said = boxes("key", "create", "no", "--use", "decrypt", "--alg", alg, "--hash", hash_name,
                     code=2).err  # fmt: skip
        assert f"no such algorithm: {alg} with {hash_name}" in said
    assert "sha1" in boxes("key", "create", "no", "--hash", "sha1", code=2).err
    said = boxes("key", "create", "no", "--use", "decrypt", "--policy", "window(x)", code=2).err
    assert "window" in said
