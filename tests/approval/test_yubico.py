"""Attestations of YubiKeys: real ones, and chains with one thing wrong under roots of the tests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.tokens import attestations as made
from tests.tokens.piv_card import ALWAYS, ONCE, TOUCH_ALWAYS, TOUCH_CACHED

from tpmhsm.approval import yubico
from tpmhsm.approval.yubico import (
    Anchors,
    Attestation,
    check_approver,
    pinned,
    prove,
    read_attestation,
    verify_attestation,
)
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.path_certificate import PathCertificate, read_path_certificate


def anchor(*certificates: x509.Certificate) -> tuple[PathCertificate, ...]:
    return tuple(read_path_certificate(der(c)) for c in certificates)


SERIAL, SLOT = 12345678, 0x9C


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


ROOTS = Anchors(anchor(made.test_root().certificate), ())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def facts(**changed: object) -> made.Facts:
    usual = made.Facts(SLOT, (5, 4, 3), SERIAL, ALWAYS, TOUCH_ALWAYS)
    return replace(usual, **changed)  # type: ignore[arg-type]


def chain(
    key: ec.EllipticCurvePrivateKey, root: made.Issuer | None = None, **changed: object
) -> Attestation:
    device = made.device(root or made.test_root(), (5, 4, 3), SERIAL)
    statement = made.attest(device, key.public_key(), facts(**changed))
    return Attestation(der(statement), der(device.certificate))


# ── real ones ────────────────────────────────────────────────────────────────


def real(test_data: Callable[[str], Path], name: str) -> Attestation:
    folder = test_data("yubikey-piv/go-piv")
    statement, device = (
        x509.load_pem_x509_certificate((folder / f"{name}.{part}.pem").read_bytes())
        for part in ("key", "device")
    )
    return Attestation(der(statement), der(device))


@pytest.mark.parametrize(
    ("name", "firmware", "serial"),
    [("ValidChain", (5, 4, 3), 15732500), ("ValidChain2018", (4, 3, 7), 0)],
)
def test_real_chains_verify(
    test_data: Callable[[str], Path], name: str, firmware: tuple[int, int, int], serial: int
) -> None:
    found = verify_attestation(real(test_data, name))
    assert (found.firmware, found.serial, found.slot) == (firmware, serial, 0x9A)
    assert (found.pin_policy, found.touch_policy, found.fips) == (2, 1, False)
    assert found.root.startswith("Yubico ")
    with pytest.raises(VerificationError) as caught:  # PIN once, touch never: not for approvals
        check_approver(found, found.spki)
    assert caught.value.code in ("attestation-policy", "attestation-serial")


@pytest.mark.parametrize("name", ["InvalidChain", "InvalidChain2"])
def test_real_chains_that_were_swapped_do_not(test_data: Callable[[str], Path], name: str) -> None:
    with pytest.raises(VerificationError, match="not signed by that YubiKey's slot f9"):
        verify_attestation(real(test_data, name))


def test_the_given_files_are_judged_as_they_expect(test_data: Callable[[str], Path]) -> None:
    for expected in sorted(test_data("yubikey-piv/go-piv").glob("*.expected")):
        attestation = real(test_data, expected.stem)
        try:
            verify_attestation(attestation)
            verdict = "true"
        except VerificationError:
            verdict = "false"
        assert verdict == expected.read_text().strip(), expected.stem


# ── what is pinned ───────────────────────────────────────────────────────────


def test_the_pinned_certificates_are_those_whose_fingerprints_are_noted() -> None:
    text = yubico.PINNED.read_text()
    noted = re.findall(r"^# ([0-9a-f]{64})$", text, re.MULTILINE)
    held = x509.load_pem_x509_certificates(text.encode())
    assert [sha256(der(c)).hexdigest() for c in held] == noted
    assert "62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8" in noted
    anchors = pinned()
    assert len(anchors.direct) == 4 and len(anchors.above) == 3 and len(anchors.mixed) == 1
    assert {yubico._common_name(yubico._climb(a, anchors)) for a in anchors.direct} == {
        "Yubico PIV Root CA Serial 263751",
        "Yubico U2F Root CA Serial 457200631",
        "Yubico Attestation Root 1",
    }


def test_openssl_agrees_on_the_authorities_of_firmware_5_7(tmp_path: Path) -> None:
    anchors = pinned()
    root, above = tmp_path / "root.pem", tmp_path / "above.pem"
    pems = [to_pem(c.raw) for c in anchors.above]
    names = [yubico._common_name(c) for c in anchors.above]
    root.write_bytes(pems[names.index("Yubico Attestation Root 1")])
    above.write_bytes(b"".join(pems))
    for authority in anchors.direct[2:]:
        file = tmp_path / "authority.pem"
        file.write_bytes(to_pem(authority.raw))
        command = ["openssl", "verify", "-CAfile", root, "-untrusted", above, file]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# ── chains of the tests' own ─────────────────────────────────────────────────


def test_an_approvers_key(key: ec.EllipticCurvePrivateKey) -> None:
    found = verify_attestation(chain(key), ROOTS)
    check_approver(found, spki(key), SERIAL)
    words = "YubiKey 5, serial 12345678, PIN always, touch always, attested"
    assert found.describe() == words
    assert (found.slot, found.root) == (SLOT, "Test PIV Root CA Serial 1")


def test_authorities_between_root_and_device(key: ec.EllipticCurvePrivateKey) -> None:
    """As since firmware 5.7.4: root, intermediate, PIV authority, device."""
    root, keys = made.test_root(), [made.new_key(), made.new_key()]
    names = ["Test Intermediate", "Test PIV Attestation"]
    parents = [("Test PIV Root CA Serial 1", root.private), (names[0], keys[0])]
    above, direct = (
        made.certify(name, mine.public_key(), *parent, [])
        for name, mine, parent in zip(names, keys, parents, strict=True)
    )
    device = made.device(made.Issuer(direct, keys[1]), (5, 7, 4), SERIAL)
    statement = made.attest(device, key.public_key(), facts(firmware=(5, 7, 4)))
    attestation = Attestation(der(statement), der(device.certificate))
    anchors = Anchors(anchor(direct), anchor(root.certificate, above))
    assert verify_attestation(attestation, anchors).root == "Test PIV Root CA Serial 1"
    for fewer in (replace(anchors, direct=()), replace(anchors, above=anchor(above))):
        with pytest.raises(VerificationError):
            verify_attestation(attestation, fewer)


def test_an_unknown_root(key: ec.EllipticCurvePrivateKey) -> None:
    attestation = chain(key, made.other_root())
    with pytest.raises(VerificationError, match="certified by nobody known here") as caught:
        verify_attestation(attestation, ROOTS)
    assert caught.value.code == "attestation"
    with pytest.raises(VerificationError, match="certified by nobody known here"):
        verify_attestation(chain(key))
    assert read_attestation(attestation).serial == SERIAL  # what it says of itself


def test_a_key_in_a_slot_cannot_pose_as_a_device() -> None:
    """An attested key signs whatever its owner says, so also another attestation."""
    owner = made.new_key()
    genuine = made.device(made.test_root(), (5, 4, 3), SERIAL)
    slot = made.attest(genuine, owner.public_key(), facts())
    outside = ec.generate_private_key(ec.SECP256R1())
    forged = made.attest(made.Issuer(slot, owner), outside.public_key(), facts())
    with pytest.raises(VerificationError, match="certified by nobody known here"):
        verify_attestation(Attestation(der(forged), der(slot)), ROOTS)


def test_a_root_that_certifies_other_things_too(key: ec.EllipticCurvePrivateKey) -> None:
    root, other = made.test_root(), made.new_key()
    name = "Test PIV Root CA Serial 1"
    token = made.certify("Yubico U2F EE Serial 1", other.public_key(), name, root.private, [])
    statement = made.attest(made.Issuer(token, other), key.public_key(), facts())
    attestation = Attestation(der(statement), der(token))
    mixed = Anchors(ROOTS.direct, (), ROOTS.direct)
    with pytest.raises(VerificationError, match="not made for PIV attestations"):
        verify_attestation(attestation, mixed)
    verify_attestation(chain(key), mixed)


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"touch_policy": TOUCH_CACHED}, "attestation-policy", "touch is cached for 15 seconds"),
        ({"touch_policy": 1}, "attestation-policy", "touch is never"),
        ({"pin_policy": ONCE}, "attestation-policy", "takes a PIN once"),
        ({"pin_policy": 5}, "attestation-policy", "or fingerprint"),
        ({"serial": SERIAL + 1}, "attestation-serial", "that of YubiKey 12345679"),
    ],
)
def test_not_for_approvals(
    key: ec.EllipticCurvePrivateKey, changed: dict[str, int], code: str, words: str
) -> None:
    found = verify_attestation(chain(key, **changed), ROOTS)
    with pytest.raises(VerificationError, match=words) as caught:
        check_approver(found, spki(key), SERIAL)
    assert caught.value.code == code


def test_another_key(key: ec.EllipticCurvePrivateKey) -> None:
    found = verify_attestation(chain(key), ROOTS)
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(VerificationError, match="another key") as caught:
        check_approver(found, spki(other), SERIAL)
    assert caught.value.code == "attestation-key"


def test_two_halves_of_two_attestations(key: ec.EllipticCurvePrivateKey) -> None:
    first, other = chain(key), chain(key, made.other_root())
    with pytest.raises(VerificationError, match="not signed by that YubiKey's slot f9"):
        verify_attestation(replace(first, device=other.device), ROOTS)


@pytest.mark.parametrize("number", [3, 8])
def test_a_statement_that_lacks_something(key: ec.EllipticCurvePrivateKey, number: int) -> None:
    device = made.device(made.test_root(), (5, 4, 3), SERIAL)
    values = {3: bytes((5, 4, 3)), 8: bytes((ALWAYS, TOUCH_ALWAYS))}
    del values[number]
    statement = made.certify(
        "YubiKey PIV Attestation 9c", key.public_key(), "Yubico PIV Attestation", device.private,
        [(made.extension(n, value), False) for n, value in values.items()],
    )  # fmt: skip
    with pytest.raises(VerificationError, match="lacks the extension"):
        verify_attestation(Attestation(der(statement), der(device.certificate)), ROOTS)


@pytest.mark.parametrize(
    "value", [b"", b"\x02\x00", b"\x02\x01\x80", b"\x02\x02\x01", b"\x04\x01\x01"]
)
def test_a_serial_number_that_is_none(key: ec.EllipticCurvePrivateKey, value: bytes) -> None:
    device = made.device(made.test_root(), (5, 4, 3), SERIAL)
    extensions = [(3, bytes((5, 4, 3))), (7, value), (8, bytes((ALWAYS, TOUCH_ALWAYS)))]
    statement = made.certify(
        "YubiKey PIV Attestation 9c", key.public_key(), "Yubico PIV Attestation", device.private,
        [(made.extension(n, v), False) for n, v in extensions],
    )  # fmt: skip
    with pytest.raises(VerificationError, match="no positive INTEGER"):
        verify_attestation(Attestation(der(statement), der(device.certificate)), ROOTS)


def test_words_for_people(key: ec.EllipticCurvePrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    unproven = prove(chain(key), spki(key))
    assert unproven.attested is None
    assert unproven.words.startswith("not proven to be on a YubiKey: slot f9 is certified by")
    assert "no attestation" in prove(None, spki(key)).words
    assert "cannot be read" in prove(Attestation(b"\x30\x00", b""), spki(key)).words
    monkeypatch.setattr(yubico, "pinned", lambda: ROOTS)
    assert prove(chain(key), spki(key)).words.endswith("PIN always, touch always, attested")
    assert "cached" in prove(chain(key, touch_policy=TOUCH_CACHED), spki(key)).words


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_junk_is_one_of_our_errors(statement: bytes, device: bytes) -> None:
    with pytest.raises((ParseError, VerificationError)):
        verify_attestation(Attestation(statement, device))


@given(st.data())
def test_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    attestation = _chain()
    part = data.draw(st.sampled_from(("statement", "device")))
    whole = getattr(attestation, part)
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[at // 8] ^= 1 << at % 8
    with pytest.raises((ParseError, VerificationError)):
        verify_attestation(replace(attestation, **{part: bytes(broken)}), ROOTS)


@cache
def _chain() -> Attestation:
    return chain(ec.generate_private_key(ec.SECP256R1()))
