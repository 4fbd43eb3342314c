"""Return codes: each of the table in words, numbers of places, and the right kind of error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.errors import ChipRefusedError, DeviceError, TpmHsmError
from tpmhsm.wire.constants import RC
from tpmhsm.wire.rc import base_code, describe, is_retry, place, rc_error


@pytest.mark.parametrize(
    ("rc", "command", "code", "words"),
    [
        (0x921, "Unseal", "chip-lockout", "locked out"),
        (0x98E, "Unseal", "chip-auth", "counted the try"),
        (0x9A2, "Sign", "chip-auth", "PIN or password is wrong (TPM_RC_BAD_AUTH, session 1, 0x9a2"),
        (0x99D, "Sign", "chip-policy", "policy"),
        (0x9A3, "Sign", "chip-expired", "expired"),
        (0x1E3, "PolicySigned", "chip-expired", "parameter 1"),
        (0x9A4, "Certify", "chip-policy-command", "does not allow this command"),
        (0xAA4, "Certify", "chip-policy-command", "session 2"),
        (0x126, "PolicyNV", "chip-comparison", "epoch"),
        (0x128, "Sign", "chip-pcr", "PCRs changed"),
        (0x12F, "PolicySecret", "chip-unavailable", "budget"),
        (0x14A, "PolicyNV", "chip-nv-unwritten", "never written"),
        (0x149, "NV_Write", "chip-nv-auth", "may not"),
        (0x14C, "NV_DefineSpace", "chip-nv-exists", "taken"),
        (0x1C4, "PolicyOR", "chip-quorum", "quorum is incomplete"),
        (0x84, "PolicyAuthorizeNV", "chip-quorum", "roster"),
        (0x1C4, "Sign", "chip-value", "parameter 1"),
        (0x1CF, "PolicySigned", "chip-nonce", "nonce"),
        (0x151, "PolicySigned", "chip-cphash", "bound"),
        (0x1DF, "Load", "chip-integrity", "altered"),
        (0x2D6, "Duplicate", "chip-symmetric", "encryption is required"),
        (0x101, "ActivateCredential", "chip-credential", "another endorsement key"),
        (0x101, "Sign", "chip-failure", "failure mode"),
        (0x5E0, "PolicyTicket", "chip-ticket", "parameter 5"),
        (0x2DB, "PolicySigned", "chip-signature", "signature"),
        (0x902, "Load", "chip-full", "object"),
        (0x903, "StartAuthSession", "chip-full", "session"),
        (0x904, "Load", "chip-full", "memory"),
        (0x905, "StartAuthSession", "chip-full", "session handle"),
        (0x18B, "ReadPublic", "chip-handle", "handle 1"),
        (0x910, "Sign", "chip-handle", "handle 1"),
        (0x919, "Sign", "chip-session", "session 2"),
        (0x922, "Sign", "chip-busy", "busy"),
        (0x143, "CertifyX509", "chip-command", "does not know"),
        (0x0B0143, "CertifyX509", "chip-command", "on the way"),
    ],
)
def test_words(rc: int, command: str, code: str, words: str) -> None:
    error = rc_error(rc, command)
    assert error.code == code
    assert words in str(error)
    assert f"0x{rc:03x}" in str(error)
    assert command in str(error)
    assert error.details["rc"] == f"0x{rc:03x}"
    assert error.details["command"] == command


@pytest.mark.parametrize(
    "rc", [0x921, 0x101, 0x902, 0x903, 0x904, 0x905, 0x908, 0x90A, 0x920, 0x922, 0x923, 0x14B]
)
def test_the_chip_cannot(rc: int) -> None:
    assert isinstance(rc_error(rc, "Sign"), DeviceError)


@pytest.mark.parametrize("rc", [0x98E, 0x9A2, 0x99D, 0x126, 0x14A, 0x1C4, 0x910])
def test_the_chip_will_not(rc: int) -> None:
    error = rc_error(rc, "Sign")
    assert isinstance(error, ChipRefusedError)
    assert (error.rc, error.command) == (rc, "Sign")


def test_lockout_says_how_it_ends() -> None:
    assert "tpmhsm device unlock" in rc_error(0x921, "Unseal").hint


@pytest.mark.parametrize(
    ("rc", "base", "where"),
    [
        (0x98E, RC.AUTH_FAIL, "session 1"),
        (0x18B, RC.HANDLE, "handle 1"),
        (0x7CB, RC.HANDLE, "parameter 7"),
        (0x084, RC.VALUE, ""),
        (0x0C4, RC.VALUE, ""),
        (0x884, RC.VALUE, ""),
        (0x126, RC.POLICY, ""),
        (0x914, RC.REFERENCE_H0, "handle 5"),
        (0x91E, RC.REFERENCE_S0, "session 7"),
        (0xB098E, RC.AUTH_FAIL, "session 1"),
        (0xF84, RC.VALUE, "session 7"),
    ],
)
def test_places(rc: int, base: int, where: str) -> None:
    assert base_code(rc) == base
    assert place(rc) == where


def test_retry() -> None:
    assert [rc for rc in range(0x1000) if is_retry(rc)] == [0x908, 0x90A, 0x920, 0x922]


def test_success_and_strangers() -> None:
    assert describe(0) == "success"
    assert (
        describe(0x1BF | 0x40)
        == "it gives a reason without words (unknown code, parameter 1, 0x1ff)"
    )


@given(st.integers(1, 0xFFFFFFFF), st.sampled_from(["Sign", "PolicyOR", "Clear"]))
def test_every_code_is_an_error_with_its_number(rc: int, command: str) -> None:
    error = rc_error(rc, command)
    assert isinstance(error, TpmHsmError)
    assert f"0x{rc:03x}" in error.message


def test_every_named_code_has_words_of_its_own() -> None:
    for code in RC:
        if code:
            assert describe(code).count(f"TPM_RC_{code.name}") == 1
