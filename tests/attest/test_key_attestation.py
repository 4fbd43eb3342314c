"""The DER of draft-ietf-rats-pkix-key-attestation: what it says is what the chip signed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attest.aiks import Chip, creation_info, tpmt_signature

from tpmhsm.attest.csr_bundle import TpmEvidence
from tpmhsm.attest.key_attestation import (
    EXTRACTABLE,
    IDENTIFIER,
    LOCAL,
    NEVER_EXTRACTABLE,
    KeyAttestation,
    Reported,
    check_key_attestation,
    read_key_attestation,
    write_key_attestation,
)
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki import der
from tpmhsm.wire.names import name_of_public

FALSE, TRUE = bytes.fromhex("010100"), bytes.fromhex("0101ff")


def reported(chip: Chip, label: str = "root") -> Reported:
    info = creation_info(chip.public)
    return Reported(label, TpmEvidence(info, tpmt_signature(chip.ak, info), chip.public))


def made(chip: Chip, *keys: Reported) -> bytes:
    return write_key_attestation(
        chip.ak_public, keys or [reported(chip)], [chip.certificate()], vendor="IFX", firmware="7.2"
    )


def test_it_reads_back_and_holds() -> None:
    chip = Chip()
    other = Chip(ak=chip.ak)
    certificate = chip.certificate()
    data = write_key_attestation(
        chip.ak_public, [reported(chip), reported(other, "issuing")], [certificate]
    )
    found = read_key_attestation(data)
    assert [one.label for one in found.keys] == ["root", "issuing"]
    assert found.certificates == (certificate,)
    check_key_attestation(found, chip.ak_public)
    claims = found.claims[0]
    assert claims[IDENTIFIER] == der.encode(
        der.UTF8_STRING, name_of_public(chip.public).hex().encode()
    )
    assert (claims[EXTRACTABLE], claims[LOCAL], claims[NEVER_EXTRACTABLE]) == (FALSE, TRUE, TRUE)


def test_a_key_that_may_leave_is_said_to() -> None:
    chip = Chip(attributes=0x00040440)
    found = read_key_attestation(made(chip))
    claims = found.claims[0]
    assert (claims[EXTRACTABLE], claims[LOCAL], claims[NEVER_EXTRACTABLE]) == (TRUE, FALSE, FALSE)
    with pytest.raises(VerificationError) as caught:  # this format has no room for its birthplace
        check_key_attestation(found, chip.ak_public)
    assert caught.value.code == "no-birthplace"


def test_it_has_no_signature_of_its_own() -> None:
    """Any other would be the host's: the draft has an unsigned Evidence be untrusted."""
    _, signatures, _ = der.children(der.read_whole(made(Chip())).content)
    assert signatures.raw == der.encode(der.SEQUENCE)


def test_a_claim_that_the_chip_did_not_make() -> None:
    chip = Chip()
    lie = made(chip).replace(TRUE, FALSE, 1)
    with pytest.raises(VerificationError) as caught:
        check_key_attestation(read_key_attestation(lie), chip.ak_public)
    assert caught.value.code == "claims-differ"


def test_another_attestation_key() -> None:
    chip = Chip()
    with pytest.raises(VerificationError, match="another attestation key"):
        check_key_attestation(read_key_attestation(made(chip)), Chip().ak_public)
    foreign = made(chip, reported(Chip()))
    with pytest.raises(VerificationError, match="not signed"):
        check_key_attestation(read_key_attestation(foreign), chip.ak_public)


def test_the_statement_of_another_key() -> None:
    chip = Chip()
    one = reported(chip)
    swapped = Reported("root", replace(one.evidence, public=Chip(ak=chip.ak).public))
    with pytest.raises(VerificationError, match="another key"):
        check_key_attestation(read_key_attestation(made(chip, swapped)), chip.ak_public)


def test_each_byte_counts() -> None:
    chip = Chip()
    data = made(chip)
    spared = range(data.index(chip_cert(data)), len(data))
    expected = read_key_attestation(data)
    for place in range(len(data)):
        if place in spared:
            continue
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        try:
            found = read_key_attestation(bytes(changed))
            check_key_attestation(found, chip.ak_public)
        except (ParseError, VerificationError):
            continue
        assert told(found) == told(expected), place  # hints of the platform and the label alone


def chip_cert(data: bytes) -> bytes:
    return read_key_attestation(data).certificates[0]


def told(found: KeyAttestation) -> object:
    """All but the host's label."""
    return found.ak_public, [one.evidence for one in found.keys], found.claims


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\0",
        der.encode(
            der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_integer(2), b"\x30\0"), b"\x30\0"
        ),
        bytes((1 << 20) + 1),
    ],
)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_key_attestation(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_key_attestation(data)
    except ParseError:
        return


def test_openssl_reads_it() -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    command = ["openssl", "asn1parse", "-inform", "der"]
    said = subprocess.run(command, input=made(Chip()), capture_output=True, check=True)
    assert b"1.2.3.999.1.2.1" in said.stdout
