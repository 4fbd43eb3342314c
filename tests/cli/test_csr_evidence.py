"""Evidence in CSRs, from the command line: made, shown, demanded, approved."""

from __future__ import annotations

import json
import shutil
import subprocess

from tests.attest.aiks import AttestationCa
from tests.cli.test_attest import exchange, localca, verifier
from tests.support.shell import Shell

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.pki.load import to_pem
from tpmhsm.store import Store

__all__ = ["verifier"]

CREATE = ("csr", "create", "web", "--subject", "CN=web", "--san", "dns:a.example", "--evidence")


def certified(machine: Shell) -> None:
    """ak.pem, the attestation key's certificate, by the CA in aca.pem."""
    from tpmhsm.keys.host import load_host

    ca = AttestationCa()
    with Store.open(machine.home) as store:
        public = public_key_of(load_host(store).ak_public)
    (machine.path / "ak.pem").write_bytes(to_pem(ca.certify(public)))
    (machine.path / "aca.pem").write_bytes(to_pem(ca.certificate))


def demand(machine: Shell, ca: str, *lines: str) -> None:
    text = "\n".join([f"[ca.{ca}]", *lines, ""])
    (machine.home / "tpmhsm.toml").write_text(text)


def name_of_ak(machine: Shell, file: str) -> str:
    found: str = machine.json("csr", "show", file)["evidence"]["attestation_keys"][0]
    return found


def entries(machine: Shell) -> list[dict[str, object]]:
    """What the log says of evidence."""
    with Store.open(machine.home) as store, store.reading() as tx:
        return [row.facts for row in tx.audit.each("evidence")]


def test_made_shown_and_verified(plain: Shell) -> None:
    certified(plain)
    plain(*CREATE, "--ak-certificate", "ak.pem", "--out", "proof.csr")
    shown = plain("csr", "show", "proof.csr").out
    assert "a TPM says that it made the key (TPM2_CertifyCreation)" in shown
    assert "by CN=Attestation CA" in shown
    said = plain("csr", "verify", "proof.csr")
    assert "NOT VERIFIED: that the key is in a TPM" in said.out
    assert plain.json("csr", "verify", "proof.csr")["evidence"]["verified"] is False
    assert (
        "the key is in a TPM (class unknown)"
        in plain("csr", "verify", "proof.csr", "--trust", "aca.pem").out
    )
    found = plain.json("csr", "verify", "proof.csr", "--trust", "aca.pem")["evidence"]
    assert found["verified"] and found["proof"] == "creation"
    name = name_of_ak(plain, "proof.csr")
    assert plain.json("csr", "verify", "proof.csr", "--ak", name)["evidence"]["verified"]
    refused = plain("--json", "csr", "verify", "proof.csr", "--ak", "000b" + "00" * 32, code=1)
    assert json.loads(refused.out)["error"]["code"] == "untrusted-root"
    wrong = plain("--json", *CREATE[:-1], "--ak-certificate", "ak.pem", code=2)
    assert "add --evidence" in json.loads(wrong.out)["error"]["hint"]


def test_a_chip_that_was_asked_is_believed(plain: Shell, verifier: Shell) -> None:
    """The way that `csr verify` names is one that can be gone, to its end."""
    plain(*CREATE, "--out", "proof.csr")
    shutil.copy(plain.path / "proof.csr", verifier.path)
    said = verifier("csr", "verify", "proof.csr").out
    assert "NOT VERIFIED: that the key is in a TPM" in said
    for step in ("attest collect", "attest challenge", "attest respond", "attest verify", "--ak"):
        assert step in said
    exchange(plain, verifier)
    unproven = verifier.json("attest", "verify", "e", "--response", "r")
    assert unproven["attestation_key"] is None  # whose chip answered is not known
    verifier("attest", "roots", "add", *localca(plain), "--as", "emulator")
    name = verifier.json("attest", "verify", "e", "--response", "r")["attestation_key"]
    assert name == name_of_ak(plain, "proof.csr")
    assert name in verifier("attest", "verify", "e", "--response", "r").out
    assert "the key is in a TPM" in verifier("csr", "verify", "proof.csr", "--ak", name).out


def test_a_certificate_that_was_imported_is_found(plain: Shell) -> None:
    certified(plain)
    plain("cert", "import", "ak.pem", "aca.pem")
    plain(*CREATE, "--out", "proof.csr")
    assert plain.json("csr", "verify", "proof.csr", "--trust", "aca.pem")["evidence"]["verified"]


def test_a_plain_csr_has_none(plain: Shell) -> None:
    plain(*CREATE[:-1], "--out", "plain.csr")
    assert plain.json("csr", "show", "plain.csr")["evidence"] is None
    assert plain("csr", "verify", "plain.csr").out.count("\n") == 1
    refused = plain("--json", "csr", "verify", "plain.csr", "--ak", "000b" + "00" * 32, code=1)
    assert json.loads(refused.out)["error"]["code"] == "no-evidence"


def test_demanded_once_and_always(plain: Shell) -> None:
    plain(*CREATE, "--out", "proof.csr")
    plain(*CREATE[:-1], "--out", "plain.csr")
    error = json.loads(
        plain("--json", "ca", "sign", "open-ca", "proof.csr", "--require-evidence", code=2).out
    )["error"]
    assert error["code"] == "no-roots" and "evidence_keys" in error["hint"]
    names = f'evidence_keys = ["{name_of_ak(plain, "proof.csr")}"]'
    demand(plain, "open-ca", names)
    plain("ca", "sign", "open-ca", "plain.csr", "--out", "one.pem")
    assert entries(plain) == []
    once = ("ca", "sign", "open-ca", "plain.csr", "--require-evidence")
    assert json.loads(plain("--json", *once, code=1).out)["error"]["code"] == "no-evidence"
    demand(plain, "open-ca", names, "require_evidence = true")
    refused = json.loads(plain("--json", "ca", "sign", "open-ca", "plain.csr", code=1).out)
    assert "--evidence" in refused["error"]["hint"]
    said = plain("ca", "sign", "open-ca", "proof.csr", "--out", "two.pem")
    assert "evidence: the key is in a TPM" in said.err
    (entry,) = entries(plain)
    assert (entry["ca"], entry["device_class"]) == ("open-ca", "class unknown")
    several = plain("--json", "ca", "sign", "open-ca", "plain.csr", "proof.csr", code=1)
    assert json.loads(several.out)["error"]["code"] == "no-evidence"
    assert len(entries(plain)) == 2
    plain("ca", "issue", "open-ca", "--host", "b.example", "--out", "three.pem")
    assert len(entries(plain)) == 3


def test_an_imported_key_has_none(plain: Shell) -> None:
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*command, "-out", "k.pem"], cwd=plain.path, check=True, capture_output=True)
    plain("key", "import", "foreign", "k.pem", "--policy", "open")
    wanted = ("csr", "create", "foreign", "--subject", "CN=x", "--evidence")
    error = json.loads(plain("--json", *wanted, code=1).out)["error"]
    assert error["code"] == "imported"


def test_approvers_check_it_themselves(governed: Shell) -> None:
    """A guarded key's CSR is the same bytes each time it is asked for; its evidence is checked on
    the approvers' screens, as is that of the key which the quorum's CA certifies.
    """
    own = ("csr", "create", "root", "--subject", "CN=again", "--evidence", "--out", "root.csr")
    number = governed.ask(*own)
    assert governed.ask(*own) == number
    assert_verified(governed, number)
    governed.settle(number, "alice", "bob")
    governed(*own)
    name = name_of_ak(governed, "root.csr")
    assert governed.json("csr", "verify", "root.csr", "--ak", name)["evidence"]["verified"]
    names = f'evidence_keys = ["{name}"]'
    demand(governed, "root-ca", "require_evidence = true", names)
    governed(*CREATE, "--out", "made.csr")
    assert_verified(governed, governed.ask("ca", "sign", "root-ca", "made.csr"))
    assert [entry["proof"] for entry in entries(governed)] == ["creation"]


def assert_verified(machine: Shell, number: int) -> None:
    """Bob's screen says so, above what the host claims."""
    machine("request", "export", str(number), "--force")
    digest = machine.json("request", "show", str(number))["digest"]
    shown = machine.approve(f"{number}.req", "bob", digest).err
    decoded = shown.partition("the host claims")[0]
    assert "made in the group's own chip, cannot leave it" in decoded
