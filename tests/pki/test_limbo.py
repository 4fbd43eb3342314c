"""Cases of x509-limbo, each as `cert verify --purpose server --host H` would ask it."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from tests.pki.suites import LIMBO_AT, limbo_cases

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.crl_file import crl_ders
from tpmhsm.pki.load import certificate_ders
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

USAGES = {"serverAuth": "server", "clientAuth": "client", "emailProtection": "email"}


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
        at=datetime.fromisoformat(moment) if moment else LIMBO_AT,
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


@pytest.mark.parametrize("case", limbo_cases())
def test_limbo(case):
    found = outcome(case)
    assert (found == "valid") == (case["expected_result"] == "SUCCESS"), found
