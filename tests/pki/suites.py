"""Suites of cases that others made: NIST's PKITS and x509-limbo."""

from __future__ import annotations

import functools
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tpmhsm.pki.verify import VerifyOptions

FOLDER = os.environ.get("TPMHSM_TEST_DATA")
PKITS_AT = datetime(2011, 4, 15, tzinfo=UTC)  # as the suite's other users judge it
POLICIES = {"anyPolicy": "2.5.29.32.0"} | {
    f"NIST-test-policy-{i}": f"2.16.840.1.101.3.2.1.48.{i}" for i in range(1, 11)
}
LIMBO_AT = datetime(2026, 11, 23, tzinfo=UTC)
LIMBO_MISSES = {
    "pathlen::validation-ignores-pathlen-in-leaf": "a CA that is to be a server: the Baseline"
    " Requirements forbid it, and so does the case webpki::ca-as-leaf",
}


def _absent(what: str):
    return [pytest.param(None, id="none", marks=pytest.mark.skip(f"{what}: no TPMHSM_TEST_DATA"))]


def pkits_cases():
    """247 cases, named by section and number."""
    if not FOLDER:
        return _absent("PKITS")
    found = json.loads((Path(FOLDER) / "pkits" / "pkits_cases.json").read_text())
    return [pytest.param(case, id=f"{case['number']}-{case['name']}") for case in found]


@functools.cache
def pkits_file(kind: str, name: str) -> bytes:
    """DER of one of `certs` or `crls`."""
    vectors = pytest.importorskip("cryptography_vectors")
    folder = Path(vectors.__file__).parent / "x509" / "PKITS_data" / kind
    return (folder / f"{name}.{'crt' if kind == 'certs' else 'crl'}").read_bytes()


def pkits_options(case) -> VerifyOptions:
    """What the case demands."""
    settings = case["settings"]

    def flag(name: str) -> bool:
        return settings.get(name) == "true"

    initial = settings.get("InitialPolicySet", "").strip('"')
    return VerifyOptions(
        at=PKITS_AT,
        crls=tuple(pkits_file("crls", name) for name in case["crls"]),
        require_crl=True,
        policies=tuple(POLICIES[name] for name in initial.split(",") if name),
        explicit_policy=flag("InitialExplicitPolicy"),
        inhibit_mapping=flag("InitialPolicyMappingInhibit"),
        inhibit_any=flag("InitialInhibitAnyPolicy"),
    )


def limbo_cases():
    """The cases of all files of the suite's format; misses are expected to fail, with a reason."""
    if not FOLDER:
        return _absent("x509-limbo")
    found = []
    for file in sorted((Path(FOLDER) / "limbo").glob("*.json")):
        for case in json.loads(file.read_text())["testcases"]:
            reason = LIMBO_MISSES.get(case["id"])
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found.append(pytest.param(case, id=case["id"], marks=marks))
    return found
