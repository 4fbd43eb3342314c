"""A host with a chip and a verifier without one: evidence, challenge, response, AK certificate."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.shell import Shell

NONCE = "5c" * 32


@pytest.fixture
def verifier(place: Path) -> Iterator[Shell]:
    """A machine without a chip, and without a database."""
    (place / "v").mkdir()
    machine = Shell(place / "v")
    yield machine
    assert not (machine.home / "tpm").exists()
    assert not (machine.home / "tpmhsm.db").exists()


def localca(host: Shell) -> list[Path]:
    folder = host.tpm / "chip" / "localca"
    return [folder / "swtpm-localca-rootca-cert.pem", folder / "issuercert.pem"]


@pytest.fixture
def issuer(place: Path) -> tuple[Path, Path]:
    """The key and certificate of whoever certifies attestation keys."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    key, certificate = place / "aca.key", place / "aca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=AK CA", "-days", "30", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    return key, certificate


def hand(source: Shell, target: Shell, *names: str) -> None:
    for name in names:
        shutil.copy(source.path / name, target.path / name)


def exchange(host: Shell, verifier: Shell, *, evidence: str = "e") -> None:
    """Collect, challenge, respond: files travel both ways."""
    host("attest", "collect", "--nonce", NONCE, "--out", evidence)
    hand(host, verifier, evidence)
    verifier("attest", "challenge", evidence, "--out", "c")
    hand(verifier, host, "c")
    host("attest", "respond", "c", "--out", "r")
    hand(host, verifier, "r")


def test_the_whole_story(plain: Shell, verifier: Shell, issuer: tuple[Path, Path]) -> None:
    exchange(plain, verifier)
    told = verifier("attest", "verify", "e", "--response", "r", "--nonce", NONCE).out
    assert "software TPM" in told
    verifier("attest", "roots", "add", *localca(plain), "--as", "emulator")
    judged = verifier.json("attest", "verify", "e", "--response", "r", "--nonce", NONCE)
    answers = {one["question"]: one["answer"] for one in judged["verdicts"]}
    assert answers["chip"] == answers["born"] == answers["fresh"] == "proven"

    key, certificate = issuer
    options = ("--ak-issuer", key, "--ak-issuer-cert", certificate)
    verifier("attest", "certify", "e", "--response", "r", *options, "--out", "ak.pem")
    subprocess.run(
        ["openssl", "verify", "-CAfile", certificate, verifier.path / "ak.pem"],
        check=True,
        capture_output=True,
    )
    hand(verifier, plain, "ak.pem")
    plain("attest", "collect", "--ak-certificate", "ak.pem", "--out", "e2")
    hand(plain, verifier, "e2")
    judged = verifier.json("attest", "verify", "e2", "--trust", certificate)
    answers = {one["question"]: one["answer"] for one in judged["verdicts"]}
    assert answers["chip"] == "proven"


def test_a_chip_of_no_pinned_root_is_not_certified(
    plain: Shell, verifier: Shell, issuer: tuple[Path, Path]
) -> None:
    exchange(plain, verifier)
    key, certificate = issuer
    options = ("--ak-issuer", key, "--ak-issuer-cert", certificate, "--out", "ak.pem")
    error = verifier.json("attest", "certify", "e", "--response", "r", *options, code=1)["error"]
    assert error["code"] == "untrusted-ek"
    assert not (verifier.path / "ak.pem").exists()


def test_an_issuer_that_is_none(plain: Shell, verifier: Shell, issuer: tuple[Path, Path]) -> None:
    exchange(plain, verifier)
    verifier("attest", "roots", "add", *localca(plain), "--as", "emulator")
    key, certificate = issuer
    plain("key", "create", "x")
    for options, code in (
        (("--ak-issuer", key, "--ak-issuer-cert", localca(plain)[1]), "other-key"),
        (("--ak-issuer", certificate, "--ak-issuer-cert", certificate), "parse"),
    ):
        said = verifier.json("attest", "certify", "e", "--response", "r", *options, code=2)
        assert said["error"]["code"] == code


def test_another_host_answers(plain: Shell, verifier: Shell, place: Path) -> None:
    """The relay, from the command line: words, and nothing written."""
    other = Shell(place / "o")
    other.path.mkdir()
    other("init")
    try:
        plain("attest", "collect", "--out", "e")
        hand(plain, verifier, "e")
        verifier("attest", "challenge", "e", "--out", "c")
        hand(verifier, other, "c")
        said = other("attest", "respond", "c", "--out", "r", code=1)
        assert "another attestation key than this home's" in said.err
        assert not (other.path / "r").exists()
    finally:
        other.close()


def test_the_secret_stays_with_the_verifier(plain: Shell, verifier: Shell) -> None:
    exchange(plain, verifier)
    (kept,) = (verifier.home / "challenges").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    secret = json.loads(kept.read_bytes())["secret"]
    files = [path for path in (*verifier.path.iterdir(), *plain.path.iterdir()) if path.is_file()]
    assert not [path for path in files if secret in path.read_bytes().hex()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_responses_that_are_refused(plain: Shell, verifier: Shell, place: Path) -> None:
    exchange(plain, verifier)
    response = json.loads((verifier.path / "r").read_bytes())
    wrong = {**response, "answer": "00" * 32}
    (verifier.path / "wrong").write_text(json.dumps(wrong))
    (verifier.path / "other").write_text(json.dumps({**response, "challenge": "00" * 32}))
    for name, code, exit_code in (("wrong", "wrong-answer", 1), ("other", "other-challenge", 2)):
        said = verifier.json("attest", "verify", "e", "--response", name, code=exit_code)
        assert said["error"]["code"] == code
    said = verifier.json("attest", "verify", "e", "--response", "c", code=2)
    assert "is a challenge, not a response" in said["error"]["message"]
    nobody = Shell(place / "n")
    nobody.path.mkdir()
    hand(verifier, nobody, "e", "r")
    said = nobody.json("attest", "verify", "e", "--response", "r", code=2)
    assert said["error"]["code"] == "other-challenge"


def test_which_endorsement_key(plain: Shell, verifier: Shell) -> None:
    plain("attest", "collect", "--out", "e")
    hand(plain, verifier, "e")
    first = verifier.json("attest", "challenge", "e", "--out", "c1")
    second = verifier.json("attest", "challenge", "e", "--ek", "2", "--out", "c2")
    assert (first["ek"], second["ek"]) == (1, 2)
    verifier("attest", "challenge", "e", "--ek", "3", "--out", "c3", code=2)
    hand(verifier, plain, "c2")
    plain("attest", "respond", "c2", "--out", "r2")
    hand(plain, verifier, "r2")
    verifier("attest", "verify", "e", "--response", "r2")


def test_collect_says(plain: Shell) -> None:
    said = plain("attest", "collect", "--key", "web")
    assert "evidence.json: evidence of 1 key" in said.out
    assert "software TPM: this proves no hardware" in said.err
    assert "no verifier's nonce" in said.err
    plain("attest", "collect", "--key", "web", code=2)  # the file is kept
    said = plain("attest", "collect", "--key", "web", "--force", "-q")
    assert said.out.strip() == "evidence.json"
    found = plain.json("attest", "collect", "--nonce", NONCE, "--out", "all")
    assert found["keys"] == ["open-root", "web"]
    assert found["nonce"] == NONCE
    piped = plain("attest", "collect", "--key", "web", "--out", "-", "--no-rsa").out
    assert len(json.loads(piped)["aks"]) == 1
    for nonce in ("5c", "xy" * 16, "00" * 33):
        said = plain("attest", "collect", "--nonce", nonce, "--out", "x", code=2)
        assert "8 to 32 bytes" in said.err
    plain("attest", "collect", "--key", "nobody", "--out", "x", code=2)
    assert not (plain.path / "x").exists()


def test_the_log_is_in_it_where_the_chip_audits(plain: Shell, verifier: Shell) -> None:
    plain("audit", "start")
    plain("key", "create", "later")
    assert plain.json("attest", "collect", "--nonce", NONCE, "--out", "e")["audit"] is True
    hand(plain, verifier, "e")
    verifier("attest", "challenge", "e", "--out", "c")
    hand(verifier, plain, "c")
    plain("attest", "respond", "c", "--out", "r")
    hand(plain, verifier, "r")
    verifier("attest", "roots", "add", *localca(plain), "--as", "emulator")
    judged = verifier.json("attest", "verify", "e", "--response", "r", "--nonce", NONCE)
    (log,) = (one for one in judged["verdicts"] if one["question"] == "log")
    assert log["code"] != "no-log-proof"
    assert log["answer"] != "refuted"


def test_an_imported_key(plain: Shell, issuer: tuple[Path, Path]) -> None:
    plain("key", "import", "old", issuer[0])
    said = plain("attest", "collect", "--key", "old", "--out", "e")
    assert "key 'old' was imported: the chip cannot say where it is from" in said.err
    assert json.loads((plain.path / "e").read_bytes())["keys"][0]["creation"] is None


def test_an_event_log_that_is_named(plain: Shell) -> None:
    (plain.path / "log").write_bytes(b"a log")
    found = plain.json("attest", "collect", "--event-log", "log", "--out", "e")
    assert found["event_log"] is True
    assert json.loads((plain.path / "e").read_bytes())["event_log"] == "YSBsb2c="


def test_the_event_log_of_the_kernel(
    plain: Shell, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On hardware alone, and without it when it cannot be read."""
    from tpmhsm.cli import attest_collect

    log = place / "binary_bios_measurements"
    log.write_bytes(b"measured")
    monkeypatch.setattr(attest_collect, "EVENT_LOG", log)
    assert plain.json("attest", "collect", "--out", "e1")["event_log"] is False
    real = attest_collect.App.device

    class Hardware:
        def __get__(self, app: object, _: object) -> object:
            return replace(real.func(app), kind="hardware")

    monkeypatch.setattr(attest_collect.App, "device", Hardware())
    assert plain.json("attest", "collect", "--out", "e2")["event_log"] is True
    log.unlink()
    log.mkdir()
    said = plain("attest", "collect", "--out", "e3")
    assert "without the event log" in said.err
    assert "proves no hardware" not in said.err


def test_a_certificate_of_another_key(plain: Shell) -> None:
    plain("cert", "export", "open-ca", "--out", "other.pem")
    said = plain.json("attest", "collect", "--ak-certificate", "other.pem", "--out", "e", code=2)
    assert said["error"]["code"] == "other-key"


def test_show(plain: Shell, verifier: Shell) -> None:
    exchange(plain, verifier)
    told = verifier("show", "e").out
    assert "e: evidence" in told
    assert "RSA-2048, certificate from 0x01c00002" in told
    assert "open-root  sign  P-256  open    the chip says so  1" in told
    assert "nothing of it is verified here" in told
    assert verifier.json("show", "c")["type"] == "challenge"
    assert verifier.json("show", "r")["type"] == "response"
    found = verifier.json("show", "e")
    assert [key["label"] for key in found["keys"]] == ["open-root", "web"]
