"""`key import`: every form of file, weak and foreign keys, what is kept and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.pki.weak_keys import prime_from
from tests.support.messages import openssl
from tests.support.shell import Shell


@pytest.fixture
def desk(plain: Shell) -> Shell:
    """A machine with files: an EC key, an RSA key, a certificate, a passphrase."""
    (plain.path / "note").write_text("a note\n")
    (plain.path / "pass").write_text("correct horse\n")
    (plain.path / "wrong").write_text("incorrect horse\n")
    openssl(plain.path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", "ec.pem")  # fmt: skip
    openssl(plain.path, "req", "-x509", "-key", "ec.pem", "-subj", "/CN=Old user", "-days", "30",
            "-out", "ec.crt")  # fmt: skip
    return plain


def used(machine: Shell, label: str, key: str) -> None:
    """The chip signs as the file would have: OpenSSL verifies by the file's public half."""
    openssl(machine.path, "pkey", "-in", key, "-pubout", "-out", "public", "-passin", "file:pass")
    machine("key", "sign", label, "note", "--out", "sig", "--force")
    openssl(machine.path, "dgst", "-sha256", "-verify", "public", "-signature", "sig", "note")


FORMS = {
    "pkcs8.pem": ("pkey", "-in", "ec.pem"),
    "pkcs8.der": ("pkey", "-in", "ec.pem", "-outform", "DER"),
    "scrypt.pem": ("pkcs8", "-topk8", "-scrypt", "-in", "ec.pem", "-passout", "file:pass"),
    "pbes2.der": ("pkcs8", "-topk8", "-outform", "DER", "-in", "ec.pem", "-passout", "file:pass"),
    "sec1.pem": ("ec", "-in", "ec.pem"),
    "sec1.der": ("ec", "-in", "ec.pem", "-outform", "DER"),
    "old.pem": ("ec", "-in", "ec.pem", "-aes256", "-passout", "file:pass"),
    "key.p12": ("pkcs12", "-export", "-inkey", "ec.pem", "-in", "ec.crt", "-passout", "file:pass"),
    "empty.p12": ("pkcs12", "-export", "-inkey", "ec.pem", "-in", "ec.crt", "-passout", "pass:"),
}


@pytest.mark.parametrize("file", FORMS)
def test_forms_of_a_file(desk: Shell, file: str) -> None:
    openssl(desk.path, *FORMS[file], "-out", file)
    found = desk.json("key", "import", "old", file, "--passphrase-file", "pass")
    assert (found["label"], found["alg"], found["imported"]) == ("old", "p256", True)
    used(desk, "old", "ec.pem")
    kept = desk.json("key", "show", "old")["certificates"]
    assert [one["subject"] for one in kept] == (["CN=Old user"] if file.endswith("p12") else [])
    desk("doctor", "store")


@pytest.mark.parametrize(
    ("alg", "options"),
    [
        ("rsa2048", ("genrsa", "-traditional", "2048")),
        ("rsa3072", ("genrsa", "3072")),
        ("p384", ("ecparam", "-name", "secp384r1", "-genkey")),
    ],
)
def test_other_keys(desk: Shell, alg: str, options: tuple[str, ...]) -> None:
    (desk.path / "k.pem").write_bytes(openssl(desk.path, *options))
    assert desk.json("key", "import", "k.pem")["alg"] == alg  # the label is the file's name
    used(desk, "k", "k.pem")


def test_a_decryption_key(desk: Shell) -> None:
    """A mailbox's old key goes on reading what was written to it."""
    openssl(desk.path, "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", "box.pem",
            "-subj", "/CN=Box", "-days", "30", "-out", "box.crt")  # fmt: skip
    (desk.path / "all.pem").write_bytes(
        (desk.path / "box.pem").read_bytes() + (desk.path / "box.crt").read_bytes()
    )
    openssl(desk.path, "cms", "-encrypt", "-binary", "-in", "note", "-out", "m", "-aes256",
            "-recip", "box.crt", "-keyopt", "rsa_padding_mode:oaep",
            "-keyopt", "rsa_oaep_md:sha256")  # fmt: skip
    made = desk("key", "import", "box", "all.pem", "--use", "decrypt")
    assert "with 1 certificate" in made.out
    assert "all.pem is not encrypted" in made.err
    assert "copies of it may exist outside, and obey no policy" in made.err
    assert desk("key", "decrypt", "box", "m").out == "a note\n"
    assert "decrypt, imported" in desk("key", "list").out
    assert "copies may exist outside" in desk("key", "show", "box").out
    assert desk.json("key", "list")["items"][0]["imported"] is True


def test_with_policies(desk: Shell) -> None:
    (desk.path / "pin").write_text("482915\n")
    (desk.path / "bad").write_text("111111\n")
    pin = ("--pin-file", "pin")
    desk("key", "import", "safe", "ec.pem", "--policy", "pin", *pin)
    desk("key", "sign", "safe", "note", "--out", "sig", *pin)
    desk("key", "verify", "safe", "note", "--signature", "sig")
    assert desk.json("key", "sign", "safe", "note", "--pin-file", "bad", "--out", "x",
                     code=1)["error"]["code"] == "wrong-pin"  # fmt: skip
    assert "a PIN is needed" in desk("key", "sign", "safe", "note", "--out", "x", code=2).err


def test_an_authority_with_an_imported_key(desk: Shell) -> None:
    desk("key", "import", "old", "ec.pem")
    desk("ca", "create", "old-ca", "--key", "old", "--subject", "CN=Old CA", "--out", "ca.pem")
    desk("ca", "sign", "old-ca", "web.csr", "--out", "web.pem", "--force")
    openssl(desk.path, "verify", "-CAfile", "ca.pem", "web.pem")
    assert desk.json("ca", "show", "old-ca")["key_imported"] is True
    assert "imported" in desk("ca", "show", "old-ca").out


def test_the_policy_of_an_imported_key_explained(desk: Shell) -> None:
    desk("key", "import", "old", "ec.pem", "--use", "decrypt")
    said = desk("policy", "explain", "--key", "old").out
    assert "imported, not made in the chip: copies of it may exist outside" in said
    assert "decrypts and never signs" in said
    assert "What is in the chip cannot be copied out" in said and "The key itself" not in said
    assert "imported" not in desk("policy", "explain", "--key", "web").out
    for wrong in ((), ("open", "--key", "web")):
        assert "a policy, or --key LABEL" in desk("policy", "explain", *wrong, code=2).err


def test_what_is_refused(desk: Shell) -> None:
    for name, command in (
        ("small.pem", ("genrsa", "1024")),
        ("three.pem", ("genrsa", "-3", "2048")),
        ("ed.pem", ("genpkey", "-algorithm", "ed25519")),
        ("koblitz.pem", ("ecparam", "-name", "secp256k1", "-genkey", "-noout")),
    ):
        (desk.path / name).write_bytes(openssl(desk.path, *command))
    two = (desk.path / "ec.pem").read_bytes() + (desk.path / "three.pem").read_bytes()
    (desk.path / "two.pem").write_bytes(two)
    openssl(desk.path, "pkcs12", "-export", "-nokeys", "-in", "ec.crt", "-passout", "pass:",
            "-out", "none.p12")  # fmt: skip
    for file, words in {
        "small.pem": "RSA-1024 keys are not imported",
        "three.pem": "exponent",
        "ed.pem": "Ed25519 keys are not imported",
        "koblitz.pem": "secp256k1 keys are not imported",
        "two.pem": "has 2 private keys",
        "ec.crt": "has no private key that can be read here",
        "none.p12": "without a private key",
        "note": "neither PEM nor DER",
    }.items():
        said = desk("key", "import", "x", file, code=2)
        assert words in said.err, said.err
    openssl(
        desk.path, "pkey", "-in", "ec.pem", "-aes256", "-passout", "file:pass", "-out", "enc.pem"
    )
    found = desk.json("key", "import", "x", "enc.pem", "--passphrase-file", "wrong", code=1)
    assert found["error"]["code"] == "wrong-passphrase"
    assert "a passphrase is needed" in desk("key", "import", "x", "enc.pem", code=2).err
    desk("key", "import", "x", "ec.pem")
    assert "here already, as 'x'" in desk("key", "import", "y", "ec.pem", code=2).err
    labels = {key["label"] for key in desk.json("key", "list")["items"]}
    assert labels & {"y", "small", "two"} == set()


def test_weak_and_compromised_keys(desk: Shell) -> None:
    p = prime_from((3 << 1022) + 12345)
    q = prime_from(p + 2)
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q)
    )
    pem = numbers.private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (desk.path / "weak.pem").write_bytes(pem)
    found = desk.json("key", "import", "weak.pem", code=2)["error"]
    assert (found["code"], "Fermat" in found["message"]) == ("weak-key", True)
    openssl(desk.path, "req", "-new", "-key", "ec.pem", "-subj", "/CN=www.example.com", "-addext",
            "subjectAltName=DNS:www.example.com", "-out", "ec.csr")  # fmt: skip
    desk("ca", "sign", "open-ca", "ec.csr", "--out", "ec.new")
    desk("ca", "revoke", "open-ca", "ec.new", "--reason", "keyCompromise")
    found = desk.json("key", "import", "ec.pem", code=2)["error"]
    assert (found["code"], "compromised" in found["message"]) == ("key-known", True)


def test_the_secret_is_on_no_disk(desk: Shell) -> None:
    """Neither the key nor the passphrase is in any file of the home."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((desk.path / "ec.pem").read_bytes(), None)
    scalar = key.private_numbers().private_value  # type: ignore[union-attr]
    openssl(
        desk.path, "pkey", "-in", "ec.pem", "-aes256", "-passout", "file:pass", "-out", "enc.pem"
    )
    desk("key", "import", "x", "enc.pem", "--passphrase-file", "pass")
    wanted = (scalar.to_bytes(32, "big"), b"correct horse")
    for path in Path(desk.home).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(one in data for one in wanted), path
