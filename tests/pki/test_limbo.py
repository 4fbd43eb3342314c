"""Cases of x509-limbo, each as `cert verify --purpose server --host H` would ask it."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.crl_file import crl_ders
from tpmhsm.pki.load import certificate_ders
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

NOW = datetime(2026, 11, 23, tzinfo=UTC)
USAGES = {"serverAuth": "server", "clientAuth": "client", "emailProtection": "email"}
MISSES = {
    "pathlen::validation-ignores-pathlen-in-leaf": "a CA that is to be a server: the Baseline"
    " Requirements forbid it, and so does the case webpki::ca-as-leaf",
}


def cases(folder: str | None):
    """The cases of all files in a folder of the suite's format."""
    if not folder:
        return [pytest.param(None, id="none", marks=pytest.mark.skip("TPMHSM_TEST_DATA"))]
    found = []
    for file in sorted((Path(folder) / "limbo").glob("*.json")):
        for case in json.loads(file.read_text())["testcases"]:
            reason = MISSES.get(case["id"])
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found.append(pytest.param(case, id=case["id"], marks=marks))
    return found


def outcome(case) -> str:
    """`valid`, or why not."""
    ders = {
        name: [one for text in case[name] for one in certificate_ders(text.encode())]
        for name in ("trusted_certs", "untrusted_intermediates")
    }
    usage = next(iter(case["extended_key_usage"]), None)
    default = "server" if case["validation_kind"] == "SERVER" else "client"
    moment = case["validation_time"]
    host = case["expected_peer_name"] or next(iter(case["expected_peer_names"]), None)
    crls = tuple(crl for text in case["crls"] for crl in crl_ders(text.encode()))
    options = VerifyOptions(
        purpose=USAGES.get(usage, default),
        host=host["value"] if host else "",
        at=datetime.fromisoformat(moment) if moment else NOW,
        crls=crls,
        require_crl=bool(crls),
        max_depth=case["max_chain_depth"],
    )
    try:
        leaf = certificate_ders(case["peer_certificate"].encode())[0]
        verify_certificate(leaf, ders["trusted_certs"], ders["untrusted_intermediates"], options)
    except TpmHsmError as error:
        return re.sub(r"\s+", " ", error.message)
    return "valid"


@pytest.mark.parametrize("case", cases(os.environ.get("TPMHSM_TEST_DATA")))
def test_limbo(case):
    found = outcome(case)
    assert (found == "valid") == (case["expected_result"] == "SUCCESS"), found
