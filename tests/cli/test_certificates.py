"""Authorities and certificates through the command line, with openssl on the other side."""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from tests.support.shell import Shell

HOST = ("--host", "www.example.com")


def openssl(machine: Shell, *words: str, ok: bool = True) -> str:
    done = subprocess.run(
        ["openssl", *words], cwd=machine.path, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout + done.stderr


def elsewhere(machine: Shell, name: str = "away") -> None:
    """A root that openssl made, and its certificate for `name`.csr."""
    subject = ["-subj", "/CN=Root Elsewhere"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    openssl(machine, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", "elsewhere.key", "-out", "elsewhere.pem", "-days", "30",
            *subject, *usage)  # fmt: skip
    openssl(machine, "x509", "-req", "-in", f"{name}.csr", "-CA", "elsewhere.pem", "-CAkey",
            "elsewhere.key", "-CAcreateserial", "-days", "20", "-copy_extensions", "copyall",
            "-out", f"{name}.pem")  # fmt: skip


def test_an_authority_under_a_root_elsewhere(plain: Shell) -> None:
    plain("key", "create", "away")
    external = ("ca", "create", "away", "--key", "away", "--external", "--subject",
                "CN=Away,O=Example", "--path-length", "0")  # fmt: skip
    said = plain(*external)
    assert "tpmhsm ca install away" in said.out
    assert "waits for its certificate from elsewhere" in plain("status").out
    openssl(plain, "req", "-in", "away.csr", "-verify", "-noout")
    assert "CA:TRUE, pathlen:0" in openssl(plain, "req", "-in", "away.csr", "-text", "-noout")
    plain(*external, code=2)  # the file is kept
    plain(*external, "--force")
    plain("ca", "sign", "away", "web.csr", code=2)
    elsewhere(plain)
    plain("ca", "install", "away", "elsewhere.pem", code=2)
    plain("ca", "install", "away", "web.csr", code=2)
    installed = plain.json("ca", "install", "away", "away.pem", "elsewhere.pem")
    assert installed["subject"] == "CN=Away,O=Example"
    plain("ca", "sign", "away", "web.csr", "--out", "web.pem", "--chain")
    assert (plain.path / "web.pem").read_text().count("BEGIN CERTIFICATE") == 2
    openssl(plain, "verify", "-x509_strict", "-CAfile", "elsewhere.pem", "-untrusted", "away.pem",
            "-verify_hostname", "www.example.com", "web.pem")  # fmt: skip
    plain("cert", "verify", "web.pem", *HOST, "--purpose", "server")
    plain("ca", "install", "away", "away.pem")  # again, or renewed


def test_an_external_authority_with_a_guarded_key(governed: Shell) -> None:
    external = ("ca", "create", "away", "--key", "root", "--external", "--subject", "CN=Away")
    number = governed.ask(*external)
    assert governed.ask(*external) == number
    governed.settle(number)
    governed(*external)
    openssl(governed, "req", "-in", "away.csr", "-verify", "-noout")


def test_key_csr_and_certificate_in_one(plain: Shell) -> None:
    found = plain.json("ca", "issue", "open-ca", "--host", "new.example.com", "--host",
                       "192.0.2.7", "--out", "new.pem", "--chain")  # fmt: skip
    assert sorted(found["sans"]) == ["dns:new.example.com", "ip:192.0.2.7"]
    assert (
        plain.json("key", "show", "new.example.com")["certificates"][0]["sha256"]
        == (found["sha256"])
    )
    plain("cert", "verify", "new.pem", "--host", "new.example.com")
    plain("cert", "verify", "new.pem", "--host", "192.0.2.7")
    plain("cert", "verify", "new.pem", "--host", "www.example.com", code=1)
    plain("ca", "issue", "open-ca", "--host", "*.example.com")
    plain("key", "show", "wildcard.example.com")
    plain("ca", "issue", "open-ca", "--host", "2001:db8::1", "--alg", "rsa2048")
    assert plain.json("key", "show", "2001.db8..1")["alg"] == "rsa2048"


def test_a_refused_issuance_leaves_no_key(plain: Shell) -> None:
    plain("key", "create", "sub")
    plain("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca", "--subject", "CN=Sub",
          "--permit", "dns:example.org")  # fmt: skip
    before = [key["label"] for key in plain.json("key", "list")["items"]]
    error = plain.json("ca", "issue", "sub-ca", *HOST, code=2)["error"]
    assert error["code"] == "constraint"
    assert [key["label"] for key in plain.json("key", "list")["items"]] == before
    plain("ca", "issue", "sub-ca", "--host", "www.example.org", "--key", "web")


def test_in_one_with_people(governed: Shell) -> None:
    asked = governed.json("ca", "issue", "root-ca", *HOST, code=3)["error"]
    governed.settle(asked["request"])
    found = governed.json("request", "show", str(asked["request"]))["result"]
    governed("cert", "export", found["sha256"][:12], "--fullchain", "--out", "web.pem")
    governed("cert", "export", "www.example.com", "--fullchain", "--out", "same.pem")
    assert (governed.path / "same.pem").read_bytes() == (governed.path / "web.pem").read_bytes()
    governed("cert", "verify", "web.pem", *HOST)
    governed("cert", "show", found["serial"])


def test_a_guarded_csr_is_given_once_people_agreed(governed: Shell) -> None:
    asked = ("csr", "create", "root", "--subject", "CN=x", "--san", "dns:x.example", "--out", "-")
    number = governed.ask(*asked)
    assert governed.ask(*asked) == number
    assert governed.ask(*asked[:-3], "dns:y.example") == number + 1
    governed.settle(number)
    pem = governed(*asked).out
    assert x509.load_pem_x509_csr(pem.encode()).is_signature_valid
    assert governed.json(*asked)["csr_pem"] == pem
    shown = governed.json("request", "show", str(number))
    assert shown["result"]["pem"] == pem
    assert shown["title"] == "CSR CN=x"


def test_certificates_from_elsewhere(plain: Shell) -> None:
    plain("key", "create", "away")
    plain("csr", "create", "away", "--subject", "CN=Away", "--profile", "intermediate", "--out",
          "away.csr")  # fmt: skip
    elsewhere(plain)
    both = (plain.path / "away.pem").read_bytes() + (plain.path / "elsewhere.pem").read_bytes()
    (plain.path / "both.pem").write_bytes(both)
    items = plain.json("cert", "import", "both.pem")["items"]
    assert [item["subject"] for item in items] == ["CN=Away", "CN=Root Elsewhere"]
    assert [item["key_label"] for item in items] == ["away", None]
    assert plain.json("cert", "import", "-", code=2)["error"]["message"] == "- is empty"
    again = plain("--json", "cert", "import", "-", stdin=both).json["items"]
    assert [item["sha256"] for item in again] == [item["sha256"] for item in items]
    plain("cert", "import", "both.pem", "--name", "x", code=2)
    plain("cert", "import", "elsewhere.pem", "--name", "elsewhere")
    assert len(plain.json("cert", "list")["items"]) == 3


def test_showing_and_exporting(plain: Shell) -> None:
    plain("key", "create", "sub")
    plain("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca", "--subject", "CN=Sub")
    plain("cert", "export", "sub-ca", "--chain", code=2)
    leaf = plain.json("ca", "sign", "sub-ca", "web.csr")
    for name in (leaf["sha256"], leaf["sha256"][:8].upper(), leaf["serial"]):
        assert plain.json("cert", "show", name)["sha256"] == leaf["sha256"]
    assert plain.json("cert", "show", "open-ca")["key_label"] == "open-root"
    assert plain.json("cert", "show", "CN=Open Root,O=Example")["ca"] is True
    one = leaf["sha256"][:16]
    forms = {form: plain("cert", "export", one, "--form", form).out
             for form in ("leaf", "chain", "fullchain")}  # fmt: skip
    counts = {form: pem.count("BEGIN CERTIFICATE") for form, pem in forms.items()}
    assert counts == {"leaf": 1, "chain": 1, "fullchain": 2}
    assert plain("cert", "export", one, "--chain").out == forms["chain"]
    assert plain("cert", "export", one, "--fullchain").out == forms["fullchain"]
    assert plain.json("cert", "export", one, "--fullchain")["pem"] == forms["fullchain"]
    plain("cert", "export", one, "--der", "--out", "leaf.der")
    der = (plain.path / "leaf.der").read_bytes()
    assert x509.load_der_x509_certificate(der)
    assert plain.json("cert", "show", "leaf.der")["sha256"] == leaf["sha256"]
    plain("cert", "export", one, "--fullchain", "--der", "--out", "x", code=2)
    count = len(plain.json("cert", "list")["items"])
    plain("ca", "sign", "sub-ca", "web.csr", "--chain", "--der", "--out", "x", code=2)
    assert len(plain.json("cert", "list")["items"]) == count
    assert not (plain.path / "x").exists()
    plain("cert", "export", one, "--der", "--out", "leaf.der", code=2)
    plain("cert", "export", one, "--der", "--out", "leaf.der", "--force")


def test_chains_as_a_tree(plain: Shell) -> None:
    plain("ca", "sign", "open-ca", "web.csr")
    tree = plain("cert", "chain").out
    assert "Open Root" in tree.splitlines()[0]
    assert "www.example.com" in tree.splitlines()[1]
    assert plain.json("cert", "chain")["items"]


def test_deleting_certificates(plain: Shell) -> None:
    leaf = plain.json("ca", "sign", "open-ca", "web.csr")["sha256"]
    plain("cert", "delete", leaf[:16])
    plain("cert", "show", leaf, code=2)
    assert len(plain.json("cert", "list")["items"]) == 1
    error = plain.json("cert", "delete", "open-ca", code=2)["error"]
    assert "authority 'open-ca'" in error["message"]


def test_verification_says_why(plain: Shell) -> None:
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.pem", "--days", "30")
    plain("cert", "export", "open-ca", "--out", "root.pem")
    trust = ("--trust", "root.pem")
    assert plain("cert", "verify", "web.pem", *trust).out.startswith("valid\n")
    plain("cert", "verify", "web.pem")  # the stored roots
    for words in (
        ("--host", "other.example.com"),
        ("--purpose", "client"),
        ("--at", "2001-01-01"),
        ("--at", "2099-01-01T00:00:00Z"),
    ):
        error = plain.json("cert", "verify", "web.pem", *trust, *words, code=1)["error"]
        assert error["code"]
        assert len(error["message"]) > 20
    elsewhere_root(plain)
    assert plain("cert", "verify", "web.pem", "--trust", "elsewhere.pem", code=1).err
    both = "--trust", "-"
    data = (plain.path / "root.pem").read_bytes()
    assert plain("cert", "verify", "web.pem", *both, stdin=data).code == 0


def elsewhere_root(machine: Shell) -> None:
    (machine.path / "away.csr").write_bytes((machine.path / "web.csr").read_bytes())
    elsewhere(machine)


def test_showing_anything(governed: Shell) -> None:
    governed("group", "change", "officers", "--officers", "2:alice,dave,carol", code=3)
    governed("request", "export", "3")
    governed("device", "export", "--out", "host.card")
    governed("key", "export", "web", "--out", "web.pub")
    governed("cert", "export", "root-ca", "--out", "root.pem")
    for file, kind in {
        "web.csr": "csr",
        "root.pem": "certificate",
        "3.req": "request",
        "alice.card": "card",
        "host.card": "card",
        "alice.key": "key",
        "web.pub": "key",
    }.items():
        assert governed.json("show", file)["type"] == kind
        assert governed("show", file).out.startswith(f"{file}: {kind}\n")
    data = (governed.path / "root.pem").read_bytes()
    assert governed("--json", "show", "-", stdin=data).json["subject"] == "CN=Root,O=Example"
    shown = governed.json("request", "show", "3.req")
    assert (shown["id"], shown["needed"], shown["approvals"]) == (3, 2, [])
    assert shown["digest"] == governed.json("request", "show", "3")["digest"]


def test_policies_need_no_home(bare: Shell, governed_template: Shell) -> None:
    assert bare.json("policy", "check", "quorum( officers )")["policy"] == "quorum(officers)"
    (bare.path / "policy").write_text("open\n")
    assert bare.json("policy", "check", "policy")["policy"] == "open"
    assert bare("--json", "policy", "check", "-", stdin=b"open").json["valid"] is True
    assert "Anyone with this machine" in bare("policy", "explain", "open").out
    assert "not known here" in bare("policy", "explain", "quorum(officers)").out
    assert bare.json("policy", "digest", "open")["digest"] == ""
    bare("policy", "digest", "quorum(officers)", code=5)
    assert not bare.home.exists()
    governed = governed_template
    assert "alice, bob, carol" in governed("policy", "explain", "quorum(officers)").out
    assert len(governed.json("policy", "digest", "quorum(officers)")["digest"]) == 64
    assert "not known here" in governed("policy", "explain", "quorum(others)").out


@pytest.mark.parametrize("name", ["alice", "dave"])
def test_explaining_what_a_loss_means(governed: Shell, name: str) -> None:
    if name == "dave":
        governed("group", "explain", "officers", "--without", name, code=2)
        return
    words = governed("group", "explain", "officers", "--without", name).out
    assert words != governed("group", "explain", "officers").out
    assert "bob" in words


def test_every_extension_is_shown(plain: Shell) -> None:
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.pem")
    for what in ("web.pem", "www.example.com"):
        said = plain("cert", "show", what, "--extensions").out
        assert "basicConstraints (2.5.29.19), critical" in said and "SEQUENCE" in said
        assert "hex" not in plain.json("cert", "show", what)["extensions"][0]
    found = plain.json("cert", "show", "web.pem", "--all")["extensions"]
    made = x509.load_pem_x509_certificate((plain.path / "web.pem").read_bytes())
    assert [one["oid"] for one in found] == [one.oid.dotted_string for one in made.extensions]
