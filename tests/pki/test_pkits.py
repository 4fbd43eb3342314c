"""The 247 cases of NIST's Public Key Interoperability Test Suite (version 1.0.1)."""

from __future__ import annotations

import pytest
from tests.pki.suites import pkits_cases, pkits_file, pkits_options

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.verify import verify_certificate


@pytest.mark.parametrize("case", pkits_cases())
def test_pkits(case):
    root, *middles, leaf = (pkits_file("certs", name) for name in case["certs"])
    try:
        verify_certificate(leaf, [root], middles, pkits_options(case))
        outcome = "valid"
    except TpmHsmError as error:
        outcome = error.message
    assert (outcome == "valid") == case["should_validate"], outcome
