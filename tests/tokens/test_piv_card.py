"""The double, held to programs that know the real card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from tests.tokens.attestations import test_root as pinned_root
from tests.tokens.piv_card import ALWAYS, NO_TOUCH, ONCE, P256, RSA2048, PivCard
from tests.tokens.readers import Readers

READER = "Yubico YubiKey OTP+FIDO+CCID"
OPENSC = "opensc-pkcs11.so"


def run(*command: str | Path, cwd: Path | None = None, code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def ykman(*arguments: str) -> str:
    return run(sys.executable, "-m", "ykman._cli", "--reader", f"{READER} 00 00", *arguments)


def piv_tool(*arguments: str | Path, code: int = 0) -> str:
    return run("yubico-piv-tool", f"--reader={READER}", *arguments, code=code)


def test_ykman_reads_it(readers: Readers) -> None:
    card = PivCard(serial=4711, firmware=(5, 4, 3))
    card.fill(0x9C, P256)
    readers.insert(card)
    shown = " ".join(ykman("piv", "info").split())
    assert "PIV version: 5.4.3" in shown
    assert "PIN tries remaining: 3/3" in shown
    assert "WARNING: Using default PIN!" in shown
    assert "Management key algorithm: TDES" in shown


def test_yubico_piv_tool_reads_it(readers: Readers) -> None:
    card = readers.insert(PivCard(serial=4711, firmware=(5, 4, 3)))
    card.pin.left = 2
    shown = piv_tool("-a", "status")
    assert "Version:\t5.4.3" in shown and "Serial Number:\t4711" in shown
    assert "PIN tries left:\t2" in shown


def test_yubico_piv_tool_works_it(readers: Readers, tmp_path: Path) -> None:
    """PIN and PUK, a key, its attestation, a certificate, a signature; wrong PINs count."""
    card = readers.insert(PivCard(serial=4711, strict=False))
    piv_tool("-a", "verify-pin", "-P", "000000", code=1)
    assert card.pin.left == 2
    piv_tool("-a", "change-pin", "-P", "123456", "-N", "271828")
    piv_tool("-a", "change-puk", "-P", "12345678", "-N", "31415926")
    piv_tool("-a", "unblock-pin", "-P", "31415926", "-N", "161803")
    assert (card.pin.value[:6], card.pin.left) == (b"161803", 3)
    public, statement = tmp_path / "public.pem", tmp_path / "statement.pem"
    piv_tool("-a", "generate", "-s", "9c", "-A", "ECCP256", "--pin-policy=always", "-o", public)
    slot = card.slots[0x9C]
    assert (slot.pin_policy, slot.touch_policy) == (ALWAYS, NO_TOUCH)
    piv_tool("-a", "attest", "-s", "9c", "-o", statement)
    device, root = tmp_path / "device.pem", tmp_path / "root.pem"
    piv_tool("-a", "read-certificate", "-s", "f9", "-o", device)
    root.write_bytes(pinned_root().certificate.public_bytes(Encoding.PEM))
    run("openssl", "verify", "-CAfile", root, "-untrusted", device, statement)
    certificate = tmp_path / "certificate.pem"
    card.keep_certificate(0x9C)
    piv_tool("-a", "read-certificate", "-s", "9c", "-o", certificate)
    test = ("-a", "verify-pin", "-P", "161803", "-a", "test-signature", "-s", "9c")
    assert "Successful ECDSA verification" in piv_tool(*test, "-i", certificate)
    piv_tool("-a", "import-certificate", "-s", "9a", "-i", certificate)
    assert certificate.read_text() == piv_tool("-a", "read-certificate", "-s", "9a")
    piv_tool("-a", "set-mgm-key", "-n", "40" * 24)
    piv_tool("-a", "generate", "-s", "9a", "-A", "ECCP256", code=1)  # by the factory's key


def test_blocked_and_reset_by_yubico_piv_tool(readers: Readers) -> None:
    card = readers.insert(PivCard(serial=4711).personalise())
    card.fill(0x9C)
    piv_tool("-a", "reset", code=1)
    card.pin.left = card.puk.left = 0
    piv_tool("-a", "reset")
    assert not card.slots and card.pin.left == 3


@pytest.mark.parametrize("algorithm", [P256, RSA2048])
def test_pkcs11_tool_signs_with_it(readers: Readers, tmp_path: Path, algorithm: int) -> None:
    card = readers.insert(PivCard(serial=4711).personalise())
    card.fill(0x9A, algorithm, ONCE, NO_TOUCH)
    card.keep_certificate(0x9A)
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"some data")
    mechanism = "ECDSA-SHA256" if algorithm == P256 else "SHA256-RSA-PKCS"
    run(
        *("pkcs11-tool", "--module", OPENSC, "--login", "--pin", "271828", "--sign", "--id", "01"),
        *("-m", mechanism, "--signature-format", "openssl", "-i", data, "-o", signature),
    )
    key = card.slots[0x9A].private.public_key()
    if algorithm == P256:
        key.verify(signature.read_bytes(), data.read_bytes(), ec.ECDSA(hashes.SHA256()))
    else:
        scheme = padding.PKCS1v15()
        key.verify(signature.read_bytes(), data.read_bytes(), scheme, hashes.SHA256())
