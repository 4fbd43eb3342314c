"""`attest verify`: what it answers, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import shutil

from tests.cli.test_attest import NONCE, exchange, localca, verifier
from tests.support.shell import Shell

from tpmhsm.attest.verdicts import QUESTIONS

__all__ = ["verifier"]

NAMES = {
    "ok", "sentence", "device_class", "hardware", "evidence", "made", "at", "nonce", "verdicts",
    "links", "people", "keys", "hints", "required", "missing", "attestation_key",
    "receives", "copies",
}  # fmt: skip
VERDICT = {"question", "asked", "answer", "code", "words", "proof", "findings"}


def test_a_software_tpm_and_an_emulator(governed: Shell, verifier: Shell) -> None:
    """A software TPM is named, with and without its CA pinned as an emulator's; neither passes for
    hardware.
    """
    exchange(governed, verifier)
    asked = ("attest", "verify", "e", "--response", "r", "--nonce", NONCE)
    plain = verifier.json(*asked)
    assert set(plain) == NAMES and plain["ok"]
    assert plain["device_class"] == "software" and "Software TPM" in plain["sentence"]
    assert [one["question"] for one in plain["verdicts"]] == list(QUESTIONS)
    assert all(set(one) == VERDICT for one in plain["verdicts"])
    refused = verifier.json(*asked, "--require", "hardware", code=1)
    assert refused["error"]["code"] == "not-proven-hardware" and not refused["ok"]

    verifier("attest", "roots", "add", *localca(governed), "--as", "emulator")
    judged = verifier.json(*asked, "--require", "emulator", "--require", "agree")
    assert judged["device_class"] == "emulator" and not judged["hardware"]
    (maker,) = (one["words"] for one in judged["verdicts"] if one["question"] == "maker")
    assert maker.startswith("No maker of chips")
    answers = {one["question"]: one["answer"] for one in judged["verdicts"]}
    assert set(answers.values()) == {"proven"}
    refused = verifier.json(*asked, "--require", "hardware", code=1)
    assert refused["missing"] == ["hardware"]
    assert "emulator" in refused["error"]["message"]


def test_words(governed: Shell, verifier: Shell) -> None:
    exchange(governed, verifier)
    verifier("attest", "roots", "add", *localca(governed), "--as", "emulator")
    told = verifier("attest", "verify", "e", "--response", "r").out
    first = told.splitlines()[0]
    assert first.startswith("Emulator, not hardware")
    assert told.count("PROVEN  ") >= len(QUESTIONS)
    assert all(len(line) <= 80 for line in told.splitlines())
    flat = " ".join(told.split())
    assert "approvals, over the very bytes, of 2 of 3 (alice, bob, carol)" in flat
    assert "NOT PROVEN How fresh is this evidence?" in flat
    assert "Fingerprint of" in flat
    refused = verifier("attest", "verify", "e", "--response", "r", "--require", "fresh", code=1).out
    assert "refused: fresh is required" in refused and "next: " in refused


def test_what_was_changed_is_refused(governed: Shell, verifier: Shell) -> None:
    """Exit code 1 for what is refuted, 2 for what is no evidence; without a traceback."""
    exchange(governed, verifier)
    verifier("attest", "roots", "add", *localca(governed), "--as", "emulator")
    file = verifier.path / "e"
    document = json.loads(file.read_text())
    document["keys"][0]["label"] = "another"
    (verifier.path / "changed").write_text(json.dumps(document))
    judged = verifier.json("attest", "verify", "changed", "--response", "r", code=1)
    assert judged["error"]["code"] == "seal-broken"
    assert judged["sentence"].startswith("The file was changed after the chip signed it")
    assert not [one for one in judged["verdicts"] if one["answer"] == "proven"]
    stale = verifier.json("attest", "verify", "e", "--response", "r", "--nonce", "00" * 8, code=1)
    assert stale["error"]["code"] == "stale-nonce" and not stale["nonce"]
    del document["nonce"]
    (verifier.path / "cut").write_text(json.dumps(document))
    verifier("attest", "verify", "cut", code=2)
    (verifier.path / "cut").write_bytes(file.read_bytes()[:-200])
    verifier("attest", "verify", "cut", code=2)
    verifier("attest", "verify", "e", "--nonce", "zz", code=2)
    verifier("attest", "verify", "e", "--require", "gold", code=2)
    assert verifier.json("attest", "verify", "e", "--at", "1999-01-01", code=1)["ok"] is False


def test_the_next_steps_are_said(governed: Shell, verifier: Shell) -> None:
    """Who was sent a file is told how to prove more: the challenge, the roots, a nonce."""
    exchange(governed, verifier)
    told = " ".join(verifier("attest", "verify", "e").out.split())
    assert "next: tpmhsm attest challenge e --out C; on the host: tpmhsm attest respond" in told
    assert "next: tpmhsm attest roots add FILE --as KIND" in told
    assert "next: openssl rand -hex 32; on the host: tpmhsm attest collect --nonce" in told
    refused = verifier("attest", "verify", "e", "--nonce", "00" * 8, code=1).out
    assert "refused: This file does not answer your nonce" in " ".join(refused.split())
    assert "tpmhsm attest collect --nonce HEX" in " ".join(refused.split())


def test_a_page_serves_as_evidence(governed: Shell, verifier: Shell) -> None:
    """Each verb that takes evidence takes the page that carries it."""
    exchange(governed, verifier)
    verifier("attest", "report", "e", "--out", "page.html")
    assert verifier.json("show", "page.html")["type"] == "evidence"
    verifier("attest", "der", "page.html", "--out", "page.der")
    verifier("attest", "der", "e", "--out", "e.der")
    assert (verifier.path / "page.der").read_bytes() == (verifier.path / "e.der").read_bytes()
    assert verifier.json("audit", "verify", "page.html", code=1)["error"]["code"] == "ak-unknown"


def test_the_key_of_a_certificate(plain: Shell, verifier: Shell) -> None:
    """Labels are the host's: a decoy that was born in the chip does not stand for a CA's key."""
    for name in ("real", "decoy"):
        plain("key", "create", name)
        plain("ca", "create", name, "--key", name, "--subject", f"CN={name}", "--profile", "root")
        plain("cert", "export", name, "--out", f"{name}.pem")
    plain("attest", "collect", "--key", "decoy", "--out", "e")
    for file in ("e", "real.pem", "decoy.pem"):
        shutil.copy(plain.path / file, verifier.path)
    assert verifier.json("attest", "verify", "e", "--certificate", "decoy.pem")["ok"]
    refused = verifier.json("attest", "verify", "e", "--certificate", "real.pem", code=1)
    assert refused["error"]["code"] == "other-key" and not refused["ok"]
    verifier("attest", "verify", "e", "--certificate", "e", code=2)
