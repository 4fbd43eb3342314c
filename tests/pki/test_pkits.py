"""The 247 cases of NIST's Public Key Interoperability Test Suite (version 1.0.1)."""

from __future__ import annotations

import functools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

vectors = pytest.importorskip("cryptography_vectors", reason="the package cryptography-vectors")

AT = datetime(2011, 4, 15, tzinfo=UTC)  # as the suite's other users judge it
POLICIES = {"anyPolicy": "2.5.29.32.0"} | {
    f"NIST-test-policy-{i}": f"2.16.840.1.101.3.2.1.48.{i}" for i in range(1, 11)
}


def _cases():
    folder = os.environ.get("TPMHSM_TEST_DATA")
    if not folder:
        return [pytest.param(None, id="none", marks=pytest.mark.skip("TPMHSM_TEST_DATA"))]
    cases = json.loads((Path(folder) / "pkits" / "pkits_cases.json").read_text())
    return [pytest.param(case, id=f"{case['number']}-{case['name']}") for case in cases]


@functools.cache
def _file(kind: str, name: str) -> bytes:
    folder = Path(vectors.__file__).parent / "x509" / "PKITS_data" / kind
    return (folder / f"{name}.{'crt' if kind == 'certs' else 'crl'}").read_bytes()


def options(case) -> VerifyOptions:
    settings = case["settings"]

    def flag(name: str) -> bool:
        return settings.get(name) == "true"

    initial = settings.get("InitialPolicySet", "").strip('"')
    return VerifyOptions(
        at=AT,
        crls=tuple(_file("crls", name) for name in case["crls"]),
        require_crl=True,
        policies=tuple(POLICIES[name] for name in initial.split(",") if name),
        explicit_policy=flag("InitialExplicitPolicy"),
        inhibit_mapping=flag("InitialPolicyMappingInhibit"),
        inhibit_any=flag("InitialInhibitAnyPolicy"),
    )


@pytest.mark.parametrize("case", _cases())
def test_pkits(case):
    root, *middles, leaf = (_file("certs", name) for name in case["certs"])
    try:
        verify_certificate(leaf, [root], middles, options(case))
        outcome = "valid"
    except TpmHsmError as error:
        outcome = error.message
    assert (outcome == "valid") == case["should_validate"], outcome
