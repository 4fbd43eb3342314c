"""The numbers are those of the specification, as tpm2-tss has them."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import pytest

from tpmhsm.wire import constants as ours

UNKNOWN_TO_TSS = {
    *("CONTEXT_SYM", "CONTEXT_SYM_SIZE", "PLATFORM_NV", "RESERVED_BITS"),
    *("ATTEST_NV_DIGEST", "CMAC"),  # since revision 1.59 of the library
}
FLAGS = {
    "FIXED_TPM": "FIXEDTPM",
    "ST_CLEAR": "STCLEAR",
    "FIXED_PARENT": "FIXEDPARENT",
    "SENSITIVE_DATA_ORIGIN": "SENSITIVEDATAORIGIN",
    "USER_WITH_AUTH": "USERWITHAUTH",
    "ADMIN_WITH_POLICY": "ADMINWITHPOLICY",
    "ENCRYPTED_DUPLICATION": "ENCRYPTEDDUPLICATION",
    "SIGN": "SIGN_ENCRYPT",
    "X509_SIGN": "X509SIGN",
    "CONTINUE": "CONTINUESESSION",
    "AUDIT_EXCLUSIVE": "AUDITEXCLUSIVE",
    "AUDIT_RESET": "AUDITRESET",
}


@pytest.mark.parametrize(
    "name", ["CC", "ALG", "RH", "ST", "SE", "SU", "EO", "CAP", "PT", "RC", "HT", "NT"]
)
def test_numbers(name: str) -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    kind: type[IntEnum] = getattr(ours, name)
    theirs = _constants(tss, f"TPM2_{name}")
    known = {m.name: m.value for m in kind if m.name not in UNKNOWN_TO_TSS}
    assert known == {n: theirs.get(n) for n in known}


def _constants(tss: Any, name: str) -> dict[str, int]:
    """All constants whose C name begins so; some groups are classes of their own there."""
    found: dict[str, int] = {}
    for cls in [c for c in dir(tss) if c == name or c.startswith(f"{name}_")]:
        prefix = cls[len(name) + 1 :]
        for member, value in vars(getattr(tss, cls)).items():
            if isinstance(value, int):
                found[f"{prefix}_{member}" if prefix else member] = int(value)
    return found


def test_curves() -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    for member in ours.CURVE:
        assert int(getattr(tss.TPM2_ECC, member.name)) == member.value


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("ObjectAttributes", "TPMA_OBJECT"),
        ("NvAttributes", "TPMA_NV"),
        ("SessionAttributes", "TPMA_SESSION"),
    ],
)
def test_attributes(name: str, theirs: str) -> None:
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    kind: type[IntFlag] = getattr(ours, name)
    oracle = getattr(tss, theirs)
    for member in kind:
        wanted = member.name or ""
        names = (FLAGS.get(wanted, wanted), wanted.replace("_", ""), wanted)
        found = next(getattr(oracle, n) for n in names if hasattr(oracle, n))
        assert int(found) == member.value, member


def test_digest_sizes_are_those_of_hashlib() -> None:
    import hashlib

    for alg, name in ours.HASH_NAMES.items():
        assert hashlib.new(name).digest_size == ours.DIGEST_SIZES[alg]
