"""`cert verify` as a driver of suites calls it: files in, an exit code and one JSON object out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID as Ext
from tests.pki.forge import ca, crl, entry, leaf
from tests.pki.makers import NOW, key
from tests.pki.suites import limbo_cases, pkits_cases, pkits_file, pkits_options
from tests.pki.test_path_profile import constraints

from tpmhsm.cli.main import run
from tpmhsm.pki.load import to_pem

AT = ("--at", NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))


@pytest.fixture
def verify(tmp_path: Path, monkeypatch, capsys):
    """Exit code and JSON of one call; `files` are written first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TPMHSM_HOME", str(tmp_path / "no-home"))

    def call(files: dict[str, bytes], *words: str):
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        code = run(["--json", "cert", "verify", *words])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("case", limbo_cases()[::6])
def test_limbo(case, verify):
    files = {"leaf.pem": case["peer_certificate"].encode()}
    files["roots.pem"] = "".join(case["trusted_certs"]).encode()
    words = ["leaf.pem", "--trust", "roots.pem", "--purpose", "server"]
    if case["untrusted_intermediates"]:
        files["pool.pem"] = "".join(case["untrusted_intermediates"]).encode()
        words += ["--untrusted", "pool.pem"]
    words += ["--host", case["expected_peer_name"]["value"]]
    words += ["--at", case["validation_time"] or "2026-11-23T00:00:00+00:00"]
    if case["max_chain_depth"] is not None:
        words += ["--max-depth", str(case["max_chain_depth"])]
    code, said = verify(files, *words)
    assert code == (0 if case["expected_result"] == "SUCCESS" else 1), said
    assert said.get("valid") is True or said["error"]["message"]


@pytest.mark.parametrize("case", pkits_cases()[::15])
def test_pkits(case, verify):
    options = pkits_options(case)
    certs = [pkits_file("certs", name) for name in case["certs"]]
    files = {f"{i}.crt": raw for i, raw in enumerate(certs)}
    files |= {f"{i}.crl": raw for i, raw in enumerate(options.crls)}
    words = [f"{len(certs) - 1}.crt", "--trust", "0.crt", "--at", "2011-04-15T00:00:00Z"]
    words += [w for i in range(1, len(certs) - 1) for w in ("--untrusted", f"{i}.crt")]
    words += [w for i in range(len(options.crls)) for w in ("--crl", f"{i}.crl")]
    words += [w for policy in options.policies for w in ("--policy", policy)]
    words += ["--explicit-policy"] * options.explicit_policy
    words += ["--inhibit-mapping"] * options.inhibit_mapping
    words += ["--inhibit-any"] * options.inhibit_any
    code, said = verify(files, *words)
    assert code == (0 if case["should_validate"] else 1), said


def test_words_and_codes(verify):
    top = ca("CN=Command Root")
    end = leaf(top)
    files = {"root.pem": to_pem(top.raw), "leaf.pem": to_pem(end.raw)}
    files |= {"good.crl": to_pem(crl(top), "X509 CRL"), "gone.crl": crl(top, entry(end))}
    words = ("leaf.pem", "--trust", "root.pem", "--purpose", "server", *AT)
    code, said = verify(files, *words, "--crl", "good.crl", "--host", "example.com")
    assert code == 0
    assert len(said["crl_checked"]) == 1
    code, said = verify(files, *words, "--crl", "gone.crl")
    assert code == 1
    assert "revoked" in json.dumps(said["error"])
    for wrong in (("--policy", "no oid"), ("--max-depth", "-1"), ("--crl", "root.pem")):
        code, said = verify(files, *words, *wrong)
        assert code == 2
        assert said["error"]["message"]
    version = {"odd.crl": crl(top, version=7)}
    code, said = verify(files | version, *words, "--crl", "odd.crl")
    assert code == 2, said


def test_a_stored_certificate_for_a_cas_next_key_is_no_root(verify, tmp_path, monkeypatch, capsys):
    """Self-issued, but signed by the key before: the constraints above the CA hold for it."""
    monkeypatch.setenv("TPMHSM_HOME", str(tmp_path / "home"))
    top = ca("CN=Stored Root")
    narrow = constraints([x509.DNSName("example.org")])
    middle = ca("CN=Narrow", top, change={Ext.NAME_CONSTRAINTS: narrow})
    following = ca("CN=Narrow", middle, private=key("p256", "the next key"))
    end = leaf(following)
    stored = b"".join(to_pem(one.raw) for one in (top, middle, following))
    (tmp_path / "cas.pem").write_bytes(stored)
    assert run(["init"]) == 0
    assert run(["cert", "import", str(tmp_path / "cas.pem")]) == 0
    assert run(["cert", "trust", "CN=Stored Root"]) == 0
    capsys.readouterr()
    code, said = verify({"leaf.pem": to_pem(end.raw)}, "leaf.pem", *AT)
    assert code == 1 and "name constraints above it" in said["error"]["message"], said
    run(["device", "stop"])
