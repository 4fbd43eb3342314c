"""Decryption keys from the command line: messages made by OpenSSL, and secrets that it derives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.support.messages import OAEP, certificate_for, openssl
from tests.support.shell import Shell

MEMO = b"Sell at noon.\r\nBuy at dawn.\r\n"


def certify(machine: Shell, label: str) -> Path:
    """A certificate for a key that cannot ask for one: another CA's, by its public key alone."""
    public = load_pem_public_key(machine.json("key", "export", label)["public_pem"].encode())
    path = machine.path / f"{label}.crt"
    path.write_bytes(certificate_for(public, f"{label} user"))
    return path


def encrypt(machine: Shell, label: str, *options: str, to: str = "memo.p7m") -> str:
    """A message for a key, by `openssl cms`."""
    (machine.path / "memo.txt").write_bytes(MEMO)
    if not (machine.path / f"{label}.crt").exists():
        certify(machine, label)
    openssl(machine.path, "cms", "-encrypt", "-binary", "-in", "memo.txt", "-out", to,
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
    openssl(boxes.path, "pkeyutl", "-encrypt", "-pubin", "-inkey", "box.pub", "-in", "plain",
            "-out", "closed", *oaep)  # fmt: skip
    boxes("key", "decrypt", "box", "closed", "--out", "opened")
    assert (boxes.path / "opened").read_bytes() == (boxes.path / "plain").read_bytes()
    assert stat.S_IMODE(os.stat(boxes.path / "opened").st_mode) == 0o600
    assert boxes("key", "decrypt", "box", "closed").out == "a key of 32 bytes, say, or less"
    found = boxes.json("key", "decrypt", "box", "closed")
    assert found["plaintext_base64"] == "YSBrZXkgb2YgMzIgYnl0ZXMsIHNheSwgb3IgbGVzcw=="
    assert "exists and is kept" in boxes("key", "decrypt", "box", "closed", "--out", "opened",
                                         code=2).err  # fmt: skip
    openssl(boxes.path, "pkeyutl", "-encrypt", "-pubin", "-inkey", "box.pub", "-in", "plain",
            "-out", "sha1", "-pkeyopt", "rsa_padding_mode:oaep")  # fmt: skip
    said = boxes("key", "decrypt", "box", "sha1", code=1).err
    assert "not encrypted for this key by OAEP with the key's hash" in said
    boxes("key", "create", "old", "--use", "decrypt", "--alg", "rsa2048", "--hash", "sha1")
    boxes("key", "export", "old", "--out", "old.pub")
    openssl(boxes.path, "pkeyutl", "-encrypt", "-pubin", "-inkey", "old.pub", "-in", "plain",
            "-out", "sha1", "-pkeyopt", "rsa_padding_mode:oaep")  # fmt: skip
    assert boxes("key", "decrypt", "old", "sha1").out == "a key of 32 bytes, say, or less"


@pytest.mark.parametrize(("alg", "curve"), [("p256", "P-256"), ("p384", "P-384")])
def test_a_secret_as_openssl_derives_it(plain: Shell, alg: str, curve: str) -> None:
    plain("key", "create", "ring", "--use", "decrypt", "--alg", alg)
    plain("key", "export", "ring", "--out", "ring.pub")
    for _ in range(3):
        openssl(plain.path, "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}",
                "-out", "peer.key")  # fmt: skip
        openssl(plain.path, "pkey", "-in", "peer.key", "-pubout", "-out", "peer.pub")
        wanted = openssl(
            plain.path, "pkeyutl", "-derive", "-inkey", "peer.key", "-peerkey", "ring.pub"
        )
        plain("key", "derive", "ring", "peer.pub", "--out", "shared", "--force")
        assert (plain.path / "shared").read_bytes() == wanted
        openssl(
            plain.path, "pkey", "-pubin", "-in", "peer.pub", "-outform", "DER", "-out", "peer.der"
        )
        plain("key", "derive", "ring", "peer.der", "--out", "shared", "--force")
        assert (plain.path / "shared").read_bytes() == wanted


def test_peers_that_are_none(boxes: Shell) -> None:
    openssl(boxes.path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384",
            "-out", "other.key")  # fmt: skip
    openssl(boxes.path, "pkey", "-in", "other.key", "-pubout", "-out", "other.pub")
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


def test_messages_with_key_transport(boxes: Shell) -> None:
    for cipher in ("-aes128", "-aes-256-gcm", "-des3", "-aes192"):
        for form in ("DER", "PEM", "SMIME"):
            file = encrypt(boxes, "box", *OAEP, cipher, "-outform", form)
            boxes("key", "decrypt", "box", file, "--out", "opened", "--force")
            assert (boxes.path / "opened").read_bytes() == MEMO, (cipher, form)


@pytest.mark.parametrize("alg", ["p256", "p384"])
def test_messages_with_key_agreement(plain: Shell, alg: str) -> None:
    plain("key", "create", "ring", "--use", "decrypt", "--alg", alg)
    certify(plain, "ring")
    (plain.path / "memo.txt").write_bytes(MEMO)
    to = ("-recip", "ring.crt")
    for options in (
        (*to, "-aes256"),
        (*to, "-des3"),
        ("-aes-128-gcm", "-keyid", *to),
        (*to, "-aes256", "-keyopt", "ecdh_kdf_md:sha256", "-stream"),
        (*to, "-aes128", "-keyopt", "ecdh_cofactor_mode:1"),
    ):
        openssl(plain.path, "cms", "-encrypt", "-binary", "-in", "memo.txt", "-out", "memo.p7m",
                *options)  # fmt: skip
        plain("key", "decrypt", "ring", "memo.p7m", "--out", "opened", "--force")
        assert (plain.path / "opened").read_bytes() == MEMO, options


def test_a_message_for_several(boxes: Shell) -> None:
    for label in ("box", "ring"):
        certify(boxes, label)
    boxes("key", "create", "third", "--use", "decrypt", "--alg", "rsa2048")
    certify(boxes, "third")
    (boxes.path / "memo.txt").write_bytes(MEMO)
    openssl(boxes.path, "cms", "-encrypt", "-binary", "-aes256", "-in", "memo.txt", "-out", "m",
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
    (boxes.path / "pin").write_text("482915\n")
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
    for policy in ("window(x)", "budget(x)", "any(pin, budget(x))"):
        found = boxes.json("key", "create", "no", "--use", "decrypt", "--policy", policy,
                           "--pin-file", "pin", code=2)["error"]  # fmt: skip
        assert found["code"] == "policy-not-for-decryption"


# ── with people ──────────────────────────────────────────────────────────────────────────────


def approve(machine: Shell, number: int, *people: str) -> None:
    asked = machine.json("request", "show", str(number))
    for name in people:
        machine.approve(str(number), name, f"{asked['kind']}:{asked['digest']}")


@pytest.fixture
def vault(governed: Shell) -> Shell:
    """A machine with decryption keys of the officers: `box` (RSA), `ring` (P-256)."""
    quorum = ("--policy", "quorum(officers)")
    governed("key", "create", "box", "--use", "decrypt", "--alg", "rsa2048", *quorum)
    governed("key", "create", "ring", "--use", "decrypt", *quorum)
    return governed


@pytest.mark.parametrize("label", ["box", "ring"])
def test_a_message_that_officers_open(vault: Shell, label: str) -> None:
    file = encrypt(vault, label, "-aes256", *(OAEP if label == "box" else ()))
    number = vault.ask("key", "decrypt", label, file, "--reason", "the auditors ask")
    assert vault.ask("key", "decrypt", label, file) == number  # the same again is the same request
    approve(vault, number, "alice")
    assert vault.ask("key", "decrypt", label, file) == number
    approve(vault, number, "bob")
    found = vault.json("request", "show", str(number))
    assert (found["state"], found["kind"], found["result"]) == ("waiting", "decrypt", None)
    said = vault.json("request", "execute", str(number), code=2)["error"]
    assert (said["code"], said["hint"].startswith("tpmhsm key decrypt")) == (
        "decryption-request",
        True,
    )
    vault("key", "decrypt", label, file, "--out", "opened")
    assert (vault.path / "opened").read_bytes() == MEMO
    found = vault.json("request", "show", str(number))
    assert (found["state"], found["result"]) == ("executed", {"given": True})
    vault("key", "decrypt", label, file, "--out", "opened", "--force")  # again, by the same
    vault("doctor", "store")
    vault.settle(vault.ask("group", "change", "officers", "--officers", "2:alice,bob,carol"))
    assert vault.ask("key", "decrypt", label, file) != number  # nobody of the new epoch agreed


def test_what_officers_see_of_a_message(vault: Shell) -> None:
    file = encrypt(vault, "box", "-aes256", *OAEP)
    number = vault.ask("key", "decrypt", "box", file, "--reason", "the auditors ask")
    vault("request", "export", str(number), "--out", "1.req")
    screen = vault("approve", "1.req", "--as", "alice", "-i", "alice.key", "--passphrase-file",
                   "passphrase", code=2).err  # fmt: skip
    for words in (
        "decryption",
        "Decrypt   an RSA ciphertext of 256 bytes (OAEP, sha256)",
        'key "box": NEW, evidence verified',
        "Message   CMS, AES-256-CBC, 1 recipient",
        "CN=Elsewhere CA",
        "! HOST READS   whoever has the CA host reads the plaintext",
        "! NOT SHOWN",
        "the auditors ask",
        "memo.p7m",
        'that "box" decrypts these 256 bytes, nothing else, epoch',
    ):
        assert words in screen, screen
    assert "decrypt 256 bytes memo.p7m" in vault("request", "list").out


def test_a_secret_that_officers_agree_on(vault: Shell) -> None:
    openssl(vault.path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", "peer.key")  # fmt: skip
    openssl(vault.path, "pkey", "-in", "peer.key", "-pubout", "-out", "peer.pub")
    vault("key", "export", "ring", "--out", "ring.pub")
    number = vault.ask("key", "derive", "ring", "peer.pub")
    approve(vault, number, "bob", "carol")
    vault("key", "derive", "ring", "peer.pub", "--out", "shared")
    wanted = openssl(vault.path, "pkeyutl", "-derive", "-inkey", "peer.key",
                     "-peerkey", "ring.pub")  # fmt: skip
    assert (vault.path / "shared").read_bytes() == wanted


def test_a_decryption_that_officers_deny(vault: Shell) -> None:
    file = encrypt(vault, "ring", "-aes256")
    number = vault.ask("key", "decrypt", "ring", file)
    vault("deny", str(number), "--as", "bob", "-i", "bob.key", "--reason", "no",
          "--passphrase-file", "passphrase")  # fmt: skip
    assert vault.ask("key", "decrypt", "ring", file) != number


def test_an_imported_key_of_officers(vault: Shell) -> None:
    """No tool approves for it by chance; who does so knowingly is told every time."""
    openssl(vault.path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", "old.pem")  # fmt: skip
    (vault.path / "note").write_text("a note\n")
    vault("key", "import", "old", "old.pem", "--policy", "quorum(officers)")
    number = vault.ask("key", "sign", "old", "note")
    digest = vault.json("request", "show", str(number))["digest"]
    own = ("--passphrase-file", "passphrase", "--expect", digest)
    said = vault.json("approve", str(number), "--as", "alice", "-i", "alice.key", *own,
                      code=1)["error"]  # fmt: skip
    assert (said["code"], "--imported" in said["hint"]) == ("imported-key", True)
    for name in ("alice", "bob"):
        screen = vault("approve", str(number), "--as", name, "-i", f"{name}.key", "--imported",
                       *own).err  # fmt: skip
        assert "! IMPORTED" in screen
    vault("key", "sign", "old", "note", "--out", "sig")
    openssl(vault.path, "pkey", "-in", "old.pem", "-pubout", "-out", "old.pub")
    openssl(vault.path, "dgst", "-sha256", "-verify", "old.pub", "-signature", "sig", "note")
    (vault.path / "note").write_text("another note\n")
    again = vault.ask("key", "sign", "old", "note")
    approve(vault, again, "alice", "bob")  # pinned now; the flag stays
    vault("doctor", "store")


def test_a_message_and_its_request_shown(vault: Shell) -> None:
    for form in ("SMIME", "PEM", "DER"):
        encrypt(vault, "box", "-aes256", *OAEP, "-outform", form)
        found = vault.json("show", "memo.p7m")
        assert (found["type"], found["cipher"], found["recipients"]) == ("cms", "AES-256-CBC", 1)
        assert "of CN=Elsewhere CA" in found["for"][0]
    number = vault.ask("key", "decrypt", "box", "memo.p7m")
    vault("request", "export", str(number), "--out", "r.req")
    assert vault.json("show", "r.req")["kind"] == "decrypt"
    approve(vault, number, "alice", "bob")
    assert "tpmhsm key decrypt box FILE" in vault("status").out


def test_a_message_that_officers_of_a_static_group_open(plain: Shell) -> None:
    plain("group", "create", "board", "--officers", "2:alice,bob,carol", "--static")
    quorum = ("--policy", "quorum(board)")
    plain("key", "create", "box", "--use", "decrypt", "--alg", "rsa2048", *quorum)
    encrypt(plain, "box", "-aes256", *OAEP)
    approve(plain, plain.ask("key", "decrypt", "box", "memo.p7m"), "alice", "bob")
    plain("key", "decrypt", "box", "memo.p7m", "--out", "opened")
    assert (plain.path / "opened").read_bytes() == MEMO


def test_officers_and_a_pin(governed: Shell) -> None:
    """Both are demanded, or one of them will do."""
    (governed.path / "pin").write_text("482915\n")
    pin = ("--pin-file", "pin")
    both = ("--policy", "all(quorum(officers), pin)", *pin)
    governed("key", "create", "both", "--use", "decrypt", "--alg", "rsa2048", *both)
    encrypt(governed, "both", "-aes256", *OAEP)
    decrypt = ("key", "decrypt", "both", "memo.p7m", "--out", "opened", "--force")
    approve(governed, governed.ask(*decrypt), "alice", "bob")
    assert "a PIN is needed" in governed(*decrypt, code=2).err
    governed(*decrypt, *pin)
    assert (governed.path / "opened").read_bytes() == MEMO
    either = ("--policy", "any(quorum(officers), pin)", *pin)
    governed("key", "create", "either", "--use", "decrypt", *either)
    encrypt(governed, "either", "-aes256")
    decrypt = ("key", "decrypt", "either", "memo.p7m", "--out", "opened", "--force")
    number = governed.ask(*decrypt)
    governed(*decrypt, *pin)
    approve(governed, number, "alice", "bob")
    governed(*decrypt)  # by the officers: the key has a PIN that nobody gives
    assert (governed.path / "opened").read_bytes() == MEMO
