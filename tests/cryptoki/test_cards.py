"""Smart cards through the modules of OpenSC and Yubico, on the real PC/SC stack.

The card is a double (`tests/tokens/piv_card.py`): its key wants a PIN before every signature.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.tokens.apdu import tlv
from tests.tokens.conftest import both_readers, readers
from tests.tokens.piv_card import ALWAYS, NO_TOUCH, P256, RSA2048, TOUCH_ALWAYS, PivCard, Slot
from tests.tokens.readers import Readers

LIBRARIES = ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
MODULES = {"opensc": "pkcs11/opensc-pkcs11.so", "ykcs11": "libykcs11.so"}
PIN = "271828"
SIGN = 0x87


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("pkcs11")
    found = [f"{folder}/{MODULES[request.param]}" for folder in LIBRARIES]
    path = next((path for path in found if Path(path).exists()), None)
    if path is None:
        pytest.skip(f"{request.param} is not installed")
    return path


def filled(algorithm: int = P256, touch: int = NO_TOUCH) -> PivCard:
    """A card with a key for signatures and its certificate, without which OpenSC sees no key."""
    card = PivCard(serial=4711, second=0.02).personalise(PIN)
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == P256
        else rsa.generate_private_key(65537, 2048)
    )
    card.slots[0x9C] = Slot(algorithm, private, ALWAYS, touch)
    name = x509.Name.from_rfc4514_string("CN=alice")
    made = x509.CertificateBuilder(name, name, private.public_key(), 5)
    dated = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    signed = dated.not_valid_after(datetime(2036, 1, 1, tzinfo=UTC)).sign(private, hashes.SHA256())
    der = signed.public_bytes(serialization.Encoding.DER)
    card.objects[bytes.fromhex("5fc10a")] = tlv(0x70, der) + tlv(0x71, b"\0") + tlv(0xFE, b"")
    return card


class Visit:
    """One run of `tests.cryptoki.visitor`."""

    def __init__(self, module: str, pin: str = PIN) -> None:
        command = [sys.executable, "-m", "tests.cryptoki.visitor", module, pin]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def sign(self) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> None:
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise


@contextmanager
def visit(module: str, pin: str = PIN) -> Iterator[Visit]:
    visitor = Visit(module, pin)
    try:
        yield visitor
    finally:
        visitor.end()


def outcome(module: str, pin: str = PIN) -> str:
    with visit(module, pin) as visitor:
        return visitor.said


@pytest.mark.parametrize("algorithm", [P256, RSA2048])
def test_a_pin_before_every_signature(readers: Readers, module: str, algorithm: int) -> None:
    card = readers.insert(filled(algorithm))
    with visit(module) as visitor:
        assert visitor.said.startswith("open:") and "software" not in visitor.said
        assert [visitor.sign(), visitor.sign()] == ["signed", "signed"]
    assert [c.ins for c in card.log].count(SIGN) == 2


def test_wrong_pins_stop_before_the_last_try(readers: Readers, module: str) -> None:
    card = readers.insert(filled())
    assert outcome(module, "111111").startswith("wrong-pin")
    assert "one try is left" in outcome(module, "222222")
    assert card.pin.left == 1
    for pin in ("333333", PIN):
        assert outcome(module, pin).startswith("pin-last-try")
        assert card.pin.left == 1


def test_a_blocked_pin(readers: Readers, module: str) -> None:
    card = filled()
    card.pin.left = 0
    readers.insert(card)
    assert outcome(module).startswith("pin-locked")


def test_the_card_is_pulled(readers: Readers, module: str) -> None:
    readers.insert(filled())
    with visit(module) as visitor:
        readers.pull()
        assert visitor.sign().startswith(("token-removed", "token-failed"))
    assert outcome(module).startswith("no-token")


def test_the_card_is_pulled_at_the_signature(readers: Readers, module: str) -> None:
    card = readers.insert(filled())
    with visit(module) as visitor:
        card.pulled_at = SIGN
        assert visitor.sign().startswith(("token-removed", "token-failed"))


def test_nobody_touches(readers: Readers, module: str) -> None:
    card = filled(touch=TOUCH_ALWAYS)
    card.touch = None
    readers.insert(card)
    with visit(module) as visitor:
        said = visitor.sign()
        assert said.startswith("token-refused") and "not touched in time" in said


def test_two_cards(readers: Readers, module: str) -> None:
    readers.insert(filled())
    other = filled()
    other.serial = 4712
    readers.insert(other, 1)
    assert outcome(module).startswith("several-tokens")


__all__ = ["both_readers", "readers"]
