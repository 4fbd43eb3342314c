"""`tpmhsm audit`: list, prove, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.cli import Home

NONCE = "5f0c91aa03d27e44"


@pytest.fixture
def home(plain: Home) -> Home:
    """A home with an open key `box` that signed a file and a CSR, and an authority `root-ca`."""
    (plain.path / "f.txt").write_text("a file\n")
    plain("key", "create", "box")
    plain("key", "sign", "box", "f.txt", "-o", "f.sig")
    plain("key", "create", "root")
    plain("ca", "create", "root-ca", "--key", "root", "--subject", "CN=Root", "--profile", "root")
    plain("csr", "create", "box", "--subject", "CN=www", "--san", "dns:www.test", "-o", "box.csr")
    plain("ca", "sign", "root-ca", "box.csr", "-o", "box.pem")
    return plain


def test_acts_and_signatures_are_listed(home: Home) -> None:
    acts = home.json("audit", "list")["items"]
    assert [one["seq"] for one in acts] == list(range(1, len(acts) + 1))
    told = [one["act"] for one in acts]
    for act in ("init", "audit-on", "checkpoint", "key-create", "signed", "ca-create", "csr"):
        assert act in told
    issued = home.json("audit", "list", "--act", "issued", "--key", "root")["items"]
    assert [one["act"] for one in issued] == ["issued", "issued"]
    about = home.json("audit", "list", "--key", "root")["items"]
    assert {one["act"] for one in about} == {"key-create", "ca-create", "issued"}
    assert home.json("audit", "list", "--since", "2999-01-01")["items"] == []
    assert len(home.json("audit", "list", "--last", "2")["items"]) == 2
    signed = home.json("audit", "list", "--signatures")["items"]
    assert [one["key"] for one in signed][-4:] == ["box", "root", "box", "root"]
    assert len(home.json("audit", "list", "--signatures", "--key", "box")["items"]) == 2
    (file,) = home.json("audit", "list", "--act", "signed")["items"]
    assert file["facts"]["digest"] == signed[-4]["digest"]
    assert "ca-create" in home("audit", "list").out
    assert signed[0]["digest"] in home("audit", "list", "--signatures").out
    home("audit", "list", "--signatures", "--act", "issued", code=2)


def test_a_proof_is_made_and_verified(home: Home, tmp_path: Path) -> None:
    found = home.json("audit", "prove", "--nonce", NONCE, "-o", "log.proof")
    assert found["file"] == "log.proof"
    judged = home.json("audit", "verify", "log.proof", "--nonce", NONCE)
    assert (judged["answer"], judged["complete"], judged["signatures"]) == ("proven", True, 6)
    assert "complete: each of the 6 signatures" in home("audit", "verify", "log.proof").out
    one = home.json("audit", "verify", "log.proof", "--key", "box")
    assert one["complete"]
    home("audit", "verify", "log.proof", "--key", "nobody", code=2)
    stale = home.json("audit", "verify", "log.proof", "--nonce", "00" * 8, code=1)["error"]
    assert (stale["code"], stale["answer"]) == ("stale", "not-proven")
    home("device", "export", "-o", "host.card")
    bare = json.loads(home("audit", "prove", "--bare").out)
    assert (bare["tpmhsm"], bare["documents"]) == ("audit-proof/1", [])
    home("audit", "prove", "--nonce", "xy", code=2)
    home("audit", "prove", "-o", "log.proof", code=2)  # it is there already
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Home(elsewhere)
    proof, card = home.path / "log.proof", home.path / "host.card"
    unknown = other.json("audit", "verify", proof, code=1)["error"]
    assert (unknown["code"], unknown["complete"]) == ("ak-unknown", False)
    assert other.json("audit", "verify", proof, "--card", card)["complete"]
    other("trust", "add", card)
    assert "which is trusted here" in other("audit", "verify", proof).out


def test_what_is_refuted_is_said(home: Home) -> None:
    home("audit", "prove", "-o", "log.proof")
    proof = json.loads((home.path / "log.proof").read_text())
    proof["entries"][4][2] = "somebody else"
    (home.path / "other.proof").write_text(json.dumps(proof))
    said = home("audit", "verify", "other.proof", code=1).err
    assert "refuted: entry 5 of the log (" in said
    assert "compare it with a backup" in said
    (home.path / "none.proof").write_text("{}")
    home("audit", "verify", "none.proof", code=2)


def test_a_planned_stop_keeps_the_log_whole(home: Home) -> None:
    home("device", "stop")
    home("key", "sign", "box", "f.txt", "-o", "g.sig")
    home("device", "stop")
    home("audit", "prove", "-o", "log.proof")
    assert home.json("audit", "verify", "log.proof")["complete"]


def test_auditing_is_switched_on_later(bare: Home) -> None:
    bare("init", "--no-audit")
    bare("key", "create", "old")
    error = bare.json("audit", "prove", code=2)["error"]
    assert (error["code"], "audit start" in error["hint"]) == ("audit-off", True)
    assert bare.json("audit", "start") == {"started": True}
    assert bare.json("audit", "start") == {"started": False}
    bare("key", "create", "new")
    bare("audit", "prove", "-o", "log.proof")
    said = bare("audit", "verify", "log.proof", code=1).err
    assert "not proven: key 'old' was made before the log" in said
    assert bare.json("audit", "verify", "log.proof", "--key", "new")["complete"]
