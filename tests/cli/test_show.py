"""`show` of anything, and certificates of every form in and out of the database."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests.pki.makers import Authority, issue, pem, root
from tests.pki.odd import ODD
from tests.pki.test_verify import crl
from tests.support.shell import Shell
from tests.support.templates import SIGNING

from tpmhsm.pki.containers import certificates_only
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.pkcs12 import NamedCertificate, certificates_pkcs12, open_pkcs12
from tpmhsm.wire.codec import encode

TOP = root()
LEAF = issue(TOP, "tls-server", "", "dns:localhost")
ONE, TWO = (c.certificate.public_bytes(Encoding.DER) for c in (LEAF, TOP))


def key_of(one: Authority, how: object = NoEncryption()) -> bytes:
    return one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def kinds() -> dict[str, tuple[str, bytes]]:
    public = LEAF.key.public_key()
    area = encode(SIGNING)
    return {
        "certificate": ("certificate", ONE),
        "chain": ("certificate", pem(LEAF, TOP)),
        "crl": ("crl", crl(TOP, LEAF)),
        "pkcs7": ("pkcs7", certificates_only([ONE, TWO])),
        "pkcs12": ("pkcs12", certificates_pkcs12([NamedCertificate(ONE, "x")], b"secret")),
        "private key": ("key", key_of(LEAF)),
        "encrypted key": ("key", key_of(LEAF, BestAvailableEncryption(b"x"))),
        "old key": ("key", LEAF.key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())),
        "old encrypted key": ("key", LEAF.key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x"))),
        "ssh private key": ("key", LEAF.key.private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())),
        "public key": ("key", public.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "ssh public key": ("key", public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
                           + b" me@here\n"),
        "TPM public area": ("tpm-public", len(area).to_bytes(2, "big") + area),
        "TPMT_PUBLIC": ("tpm-public", area),
        "bundle": ("bundle", pem(LEAF) + to_pem(crl(TOP), "X509 CRL")),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(kinds()))
def test_anything_is_told_and_no_secret_with_it(name: str, bare: Shell) -> None:
    kind, data = kinds()[name]
    (bare.path / "file").write_bytes(data)
    found = bare.json("show", "file")
    assert found["type"] == kind
    said = bare("show", "file").out
    assert said.startswith(f"file: {kind}\n")
    secret = f"{LEAF.key.private_numbers().private_value:x}"
    assert secret not in said + json.dumps(found)
    if name == "ssh public key" and shutil.which("ssh-keygen"):
        done = subprocess.run(
            ["ssh-keygen", "-lf", bare.path / "file"], capture_output=True, check=True, text=True
        )
        assert found["fingerprint"] in done.stdout


@pytest.mark.parametrize("name", ["encrypted key", "old encrypted key"])
def test_an_encrypted_key_is_not_called_open(name: str, bare: Shell) -> None:
    (bare.path / "file").write_bytes(kinds()[name][1])
    assert bare.json("show", "file")["key"] == "private, encrypted"
    assert "NOT" not in bare("show", "file").out


def test_what_is_nothing_known_is_described(bare: Shell) -> None:
    for data, said in (
        (b"\x7fELF\2\1\1\0", "7f 45 4c 46"),
        (b"hello world\n", "text that begins with 'hello world'"),
        (b"\xfe\xed\xfe\xed\0\0", "Java keystore"),
        (bytes(40), "40 zero bytes"),
        (b'{"a": 1}', "JSON"),
        (b"\x30\x03\x02\x01\x05", "ASN.1"),
    ):
        (bare.path / "file").write_bytes(data)
        error = bare.json("show", "file", code=2)["error"]
        assert said in error["message"], error
        assert error["first_bytes"] == data[:16].hex()


def test_pkcs12_with_and_without_its_passphrase(bare: Shell) -> None:
    (bare.path / "f.p12").write_bytes(kinds()["pkcs12"][1])
    (bare.path / "secret").write_text("secret\n")
    (bare.path / "wrong").write_text("wrong\n")
    closed = bare.json("show", "f.p12")
    assert (closed["closed"], closed["certificates"]) == (1, [])
    assert "--passphrase-file" in bare("show", "f.p12").out
    opened = bare.json("show", "f.p12", "--passphrase-file", "secret")
    assert [one["name"] for one in opened["certificates"]] == ["x"]
    said = bare.json("show", "f.p12", "--passphrase-file", "wrong", code=2)["error"]
    assert said["code"] == "wrong-passphrase"


def test_marks_stand_in_text_and_json(bare: Shell) -> None:
    (bare.path / "odd.der").write_bytes(ODD["RDN out of order"][0].raw())
    for verb in (("show",), ("cert", "show")):
        assert any("out of order" in mark for mark in bare.json(*verb, "odd.der")["marks"])
        assert "out of order" in bare(*verb, "odd.der").out


def test_wrong_files_are_called_by_their_name(plain: Shell) -> None:
    (plain.path / "ca.pem").write_bytes(pem(TOP))
    for words, wanted in (
        (("approver", "add"), "not a card"),
        (("trust", "add"), "not a card"),
        (("request", "import"), "not an approval or a denial"),
        (("request", "show"), "not an approval request"),
        (("approve", "--as", "alice", "-i", "alice.key"), "not an approval request"),
    ):
        error = plain.json(*words, "./ca.pem", code=2)["error"]
        assert f"./ca.pem is a certificate, {wanted}" in error["message"], error


# ── what others wrote ────────────────────────────────────────────────────────


def test_control_and_bidi_characters_do_nothing(bare: Shell) -> None:
    name = "a\x9b31m\u202eb\x1b[2J.pem"
    comment = "\u202e\x9b".encode()
    (bare.path / name).write_bytes(kinds()["ssh public key"][1].replace(b"me@", comment))
    for words in (("show", f"./{name}"), ("--json", "show", f"./{name}")):
        said = bare(*words).out
        assert not {"\x9b", "\u202e", "\x1b"} & set(said)
    assert bare.json("show", f"./{name}")["comment"] == "\u202e\x9bhere"


# ── servers ──────────────────────────────────────────────────────────────────


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """A TLS server that sends two certificates; its port."""
    (tmp_path / "server.pem").write_bytes(key_of(LEAF) + pem(LEAF, TOP))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_server_shows_its_chain(bare: Shell, server: int) -> None:
    found = bare.json("show", f"127.0.0.1:{server}")
    assert found["type"] == "certificate"
    assert [one["sans"] or one["subject"] for one in found["items"]] == [
        ["dns:localhost"], "CN=Example Root,O=Example,C=DE"]  # fmt: skip
    assert bare("show", f"localhost:{server}").out.startswith(f"localhost:{server}: certificate\n")
    assert bare.json("show", f"https://127.0.0.1:{server}/path")["items"] == found["items"]


def test_servers_that_do_not_answer(bare: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = bare.json("show", f"127.0.0.1:{port}", "--timeout", "0.3", code=1)["error"]
        assert error["code"] == "network" and "did not answer" in error["message"]
    error = bare.json("show", f"127.0.0.1:{port}", code=1)["error"]
    assert (error["code"], "cannot reach" in error["message"]) == ("network", True)
    for words in ("127.0.0.1:0", "127.0.0.1:99999"):
        bare.json("show", words, code=2)


# ── in and out of the database ───────────────────────────────────────────────


def test_a_mixture_is_stored_whole_or_not_at_all(plain: Shell) -> None:
    broken = pem(TOP)[:200] + b"\n"
    mixture = ODD["serial negative"][0].raw() + b"\n" + pem(LEAF) + broken + key_of(LEAF)
    (plain.path / "mix").write_bytes(mixture)
    (plain.path / "more").write_bytes(certificates_only([ONE, TWO], [crl(TOP)]))
    before = len(plain.json("cert", "list")["items"])
    error = plain.json("cert", "import", "mix", "more", code=2)["error"]
    assert error["bad"][0]["where"].startswith("PEM block 2 (line ")
    assert "--skip-bad" in error["hint"]
    assert len(plain.json("cert", "list")["items"]) == before
    found = plain.json("cert", "import", "mix", "more", "--skip-bad")
    assert [one["new"] for one in found["items"]] == [True] * 3
    assert found["repeated"] == 1
    reasons = [one["reason"] for one in found["skipped"]]
    assert any("never stored" in reason for reason in reasons) and "a CRL" in reasons
    again = plain("cert", "import", "mix", "more", "--skip-bad").out
    assert again.count("was here") == 3 and "negative" in again
    assert len(plain.json("cert", "list")["items"]) == before + 3
    assert plain("cert", "chain").code == 0


def test_vendor_bundles_and_chips_certificates(plain: Shell, test_data) -> None:
    files = sorted(test_data("tpm-roots").glob("*.pem"))
    found = plain.json("cert", "import", *files)
    assert len(found["items"]) == 169 and not found["skipped"]
    found = plain.json("cert", "import", *sorted(test_data("ek-certs").iterdir()))
    assert [bool(one["marks"]) for one in found["items"]] == [False, True, True]
    odd = next(one for one in found["items"] if "RSA-OAEP" in one["key"]["alg"])
    out = plain("cert", "export", odd["sha256"], "--der", "--out", "ek.der")
    assert out.code == 0
    assert (plain.path / "ek.der").read_bytes() in [
        file.read_bytes() for file in test_data("ek-certs").iterdir()
    ]


def test_pkcs12_in_and_out(plain: Shell) -> None:
    (plain.path / "secret").write_text("secret\n")
    (plain.path / "in.p12").write_bytes(certificates_pkcs12([NamedCertificate(ONE, "")], b"secret"))
    assert plain.json("cert", "import", "in.p12", code=2)["error"]["hint"].startswith("--passphr")
    plain("cert", "import", "in.p12", "--passphrase-file", "secret")
    plain("cert", "export", "open-ca", "--format", "pkcs12", "--out", "a.p12")
    plain("cert", "export", "open-ca", "--format", "pkcs12", "--passphrase-file", "secret",
          "--out", "b.p12")  # fmt: skip
    ca = plain("cert", "export", "open-ca").out.encode()
    for file in ("a.p12", "b.p12"):
        found = open_pkcs12((plain.path / file).read_bytes(), lambda: b"secret")
        assert [to_pem(one.der) for one in found.certificates] == [ca] and not found.keys
    error = plain.json("cert", "export", "open-ca", "--passphrase-file", "secret", code=2)["error"]
    assert "--format pkcs12" in error["message"]


def test_pkcs7_out(plain: Shell) -> None:
    plain("cert", "export", "open-ca", "--format", "pkcs7", "--out", "a.p7b")
    assert b"BEGIN PKCS7" in (plain.path / "a.p7b").read_bytes()
    plain("cert", "export", "open-ca", "--format", "pkcs7", "--der", "--out", "a.p7c")
    for file, form in (("a.p7b", "PEM"), ("a.p7c", "DER")):
        done = subprocess.run(
            ["openssl", "pkcs7", "-inform", form, "-in", plain.path / file, "-print_certs"],
            capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout.count(b"BEGIN CERTIFICATE") == 1
    assert "BEGIN PKCS7" in plain.json("cert", "export", "open-ca", "--format", "pkcs7")["pem"]


def test_odd_certificates_live_among_the_others(plain: Shell, test_data) -> None:
    """Whatever is stored, no command stumbles over it."""
    for number, (odd, _) in enumerate(ODD.values()):
        (plain.path / f"odd{number}").write_bytes(odd.raw())
    stored = plain.json("cert", "import", *(f"odd{n}" for n in range(len(ODD))))["items"]
    assert len(stored) == len(ODD) and all(one["marks"] for one in stored)
    fuzz = sorted(test_data("fuzz").joinpath("x509").iterdir())
    found = plain.json("cert", "import", "--skip-bad", *fuzz)
    assert len(found["items"]) > 80 and found["skipped"]
    for words in (("status",), ("cert", "list"), ("cert", "chain"), ("ca", "list"), ("key", "list"),
                  ("doctor", "store")):  # fmt: skip
        for form in ((), ("--json",)):
            result = plain.attempt(*form, *words)
            assert result.code == 0, (words, result.out, result.err)
    (plain.path / "ca.pem").write_text(plain("cert", "export", "open-ca").out)
    assert plain("cert", "verify", "ca.pem").code == 0
    for one in (*stored[::5], *found["items"][::20]):
        sha256 = one["sha256"]
        assert plain.json("cert", "show", sha256)["marks"] == one["marks"]
        assert plain.attempt("cert", "export", sha256, "--fullchain", "--format", "pkcs7").code < 3
        assert plain.attempt("cert", "chain", sha256).code in (0, 2)
        plain("cert", "export", sha256, "--der", "--force", "--out", "again")
        assert plain.json("cert", "show", "./again")["sha256"] == sha256
        judged = plain.attempt("--json", "cert", "verify", "./again")
        assert judged.code in (1, 2) and judged.json["error"]["message"], judged.out
        plain("cert", "delete", sha256)
