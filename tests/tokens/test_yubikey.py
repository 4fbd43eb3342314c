"""A YubiKey as an identity: what it signs, what is refused, what happens when people slip."""

from __future__ import annotations

import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.tokens import piv_card
from tests.tokens.piv_card import (
    AES192,
    ALWAYS,
    DEFAULT_MANAGEMENT,
    DEFAULT_PIN,
    DEFAULT_PUK,
    NO_TOUCH,
    ONCE,
    P256,
    P384,
    RSA2048,
    RSA3072,
    TOUCH_ALWAYS,
    TOUCH_CACHED,
    PivCard,
)
from tests.tokens.readers import Readers

from tpmhsm.approval.identity import open_identity, scheme_of
from tpmhsm.approval.statements import prove_possession, verify_possession
from tpmhsm.approval.yubico import read_attestation
from tpmhsm.approval.yubikey import (
    Making,
    YubikeyIdentity,
    create_yubikey_key,
    open_yubikey,
)
from tpmhsm.errors import (
    ApprovalRefusedError,
    DeviceError,
    NotFoundError,
    RefusedError,
    TpmHsmError,
    UsageError,
    VerificationError,
)
from tpmhsm.policy.approver import key_identity

PIN = "271828"
A_HASH = bytes(4) + bytes(range(64))
VERIFY, AUTHENTICATE = 0x20, 0x87


def give(secret: str):
    return lambda prompt: secret.encode()


def never(prompt: str) -> bytes:
    raise AssertionError(f"asked: {prompt}")


def fit(serial: int = 4711, algorithm: int = P256, **knobs: object) -> PivCard:
    """A card as an approver has it: no defaults, a key in 9c."""
    card = PivCard(serial=serial, **knobs).personalise()  # type: ignore[arg-type]
    card.fill(0x9C, algorithm)
    return card


def opened(spec: str = "yubikey", pin: str = PIN) -> YubikeyIdentity:
    return open_yubikey(spec, give(pin))


def refusal(action, kind: type[TpmHsmError], code: str) -> TpmHsmError:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.code == code, caught.value
    return caught.value


# ── what it signs ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("algorithm", "firmware"), [(P256, (5, 4, 3)), (RSA2048, (5, 4, 3)), (RSA3072, (5, 7, 1))]
)
def test_each_kind_of_key_signs(
    readers: Readers, algorithm: int, firmware: tuple[int, int, int]
) -> None:
    card = readers.insert(fit(algorithm=algorithm, firmware=firmware))
    told: list[str] = []
    person = open_identity("yubikey", give(PIN), told.append)
    assert (person.kind, person.description) == ("yubikey", "YubiKey 4711")
    answer = prove_possession(person, b"a challenge", "test")
    assert key_identity(verify_possession(answer, b"a challenge", "test")) == key_identity(
        person.public_key
    )
    person.sign(A_HASH)
    assert card.signatures == 2
    assert told == ["touch YubiKey 4711 when it blinks"] * 2


def test_verify_is_the_very_last_command_before_each_signature(readers: Readers) -> None:
    card = readers.insert(fit())
    person = opened()
    for _ in range(2):
        person.sign(A_HASH)
    instructions = [command.ins for command in card.log]
    assert instructions.count(VERIFY) == instructions.count(AUTHENTICATE) == 2
    for at, instruction in enumerate(instructions):
        if instruction == AUTHENTICATE:
            assert instructions[at - 1] == VERIFY


def test_a_pin_is_asked_for_once_and_only_to_sign(readers: Readers) -> None:
    readers.insert(fit())
    person = open_yubikey("yubikey", never)
    with pytest.raises(AssertionError, match="asked: PIN of YubiKey 4711"):
        person.sign(A_HASH)


def test_no_pin_stays_verified_after_us(readers: Readers) -> None:
    card = readers.insert(fit(touch=None, second=0.01))
    person = opened()
    refusal(lambda: person.sign(A_HASH), RefusedError, "not-touched")
    assert not card._verified and not card._fresh


def test_it_signs_approvals_and_statements_only(readers: Readers) -> None:
    card = readers.insert(fit())
    person = opened()
    for message in (b"", bytes(32), b"x" * 200):
        with pytest.raises(ApprovalRefusedError):
            person.sign(message)
    assert VERIFY not in [command.ins for command in card.log]


def test_another_slot(readers: Readers) -> None:
    card = readers.insert(fit())
    card.fill(0x82)
    person = opened("yubikey:4711/82")
    assert person.description == "YubiKey 4711 slot 82"
    assert key_identity(person.public_key) != key_identity(opened().public_key)
    person.sign(A_HASH)


def test_a_signature_that_does_not_verify_is_not_kept(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = readers.insert(fit())
    person = opened()
    other = ec.generate_private_key(ec.SECP256R1())
    honest = piv_card.raw_signature
    monkeypatch.setattr(
        piv_card, "raw_signature", lambda slot, data: honest(replace(slot, private=other), data)
    )
    with pytest.raises(VerificationError, match="not by this key"):
        person.sign(A_HASH)
    assert card.signatures == 1


def test_the_pin_is_in_no_log(readers: Readers, caplog: pytest.LogCaptureFixture) -> None:
    readers.insert(fit())
    with caplog.at_level(logging.NOTSET):
        person = opened()
        person.sign(A_HASH)
    said = caplog.text + repr(person)
    assert PIN not in said and PIN.encode().hex() not in said


# ── what is refused ──────────────────────────────────────────────────────────


def test_wrong_pins_count_down_and_stop_before_the_last_try(readers: Readers) -> None:
    card = readers.insert(fit())
    for left in (2, 1):
        person = opened(pin="000000")
        error = refusal(lambda p=person: p.sign(A_HASH), RefusedError, "wrong-pin")  # type: ignore[misc]
        assert error.details["tries_left"] == left == card.pin.left
    for pin in ("000000", PIN):
        refusal(lambda p=pin: opened(pin=p), RefusedError, "pin-tries")  # type: ignore[misc]
    assert card.pin.left == 1
    assert card.signatures == 0


def test_a_last_try_is_not_used_by_a_key_that_is_open_already(readers: Readers) -> None:
    card = readers.insert(fit())
    person = opened()
    card.pin.left = 1
    refusal(lambda: person.sign(A_HASH), RefusedError, "pin-tries")
    assert card.pin.left == 1


def test_a_blocked_pin(readers: Readers) -> None:
    card = readers.insert(fit())
    card.pin.left = 0
    error = refusal(opened, RefusedError, "pin-blocked")
    assert "unblock-pin" in error.hint


@pytest.mark.parametrize("pin", ["", "123456789", "pässword"])
def test_what_is_no_pin_costs_no_try(readers: Readers, pin: str) -> None:
    card = readers.insert(fit())
    person = opened(pin=pin)
    with pytest.raises(UsageError, match="no PIN"):
        person.sign(A_HASH)
    assert card.pin.left == 3


@pytest.mark.parametrize(
    ("what", "value", "code"),
    [
        ("pin", DEFAULT_PIN, "default-pin"),
        ("puk", DEFAULT_PUK, "default-puk"),
        ("management", DEFAULT_MANAGEMENT, "default-management-key"),
    ],
)
def test_what_the_factory_set(readers: Readers, what: str, value: bytes, code: str) -> None:
    card = fit()
    if what == "management":
        card.management = value
    else:
        getattr(card, what).value = value
    readers.insert(card)
    error = refusal(opened, RefusedError, code)
    assert "ykman piv access change-" in error.hint


def test_a_blocked_puk_is_no_default(readers: Readers) -> None:
    card = fit()
    card.puk.value, card.puk.left = DEFAULT_PUK, 0
    readers.insert(card)
    opened().sign(A_HASH)


@pytest.mark.parametrize(
    ("algorithm", "pin", "touch", "code"),
    [
        (P256, ALWAYS, TOUCH_CACHED, "touch-policy"),
        (P256, ALWAYS, NO_TOUCH, "touch-policy"),
        (P256, ONCE, TOUCH_ALWAYS, "pin-policy"),
        (P384, ALWAYS, TOUCH_ALWAYS, "wrong-key-kind"),
    ],
)
def test_keys_that_are_not_for_approvals(
    readers: Readers, algorithm: int, pin: int, touch: int, code: str
) -> None:
    card = fit()
    card.fill(0x9C, algorithm, pin, touch)
    readers.insert(card)
    refusal(opened, RefusedError, code)


def test_an_imported_key(readers: Readers) -> None:
    card = fit()
    card.slots[0x9C].generated = False
    readers.insert(card)
    refusal(opened, RefusedError, "key-imported")


def test_an_empty_slot(readers: Readers) -> None:
    readers.insert(PivCard(serial=4711).personalise())
    error = refusal(opened, NotFoundError, "slot-empty")
    assert error.hint == "tpmhsm approver create NAME -i yubikey:4711/9c"


def test_a_card_that_cannot_tell(readers: Readers) -> None:
    readers.insert(fit(firmware=(5, 2, 7)))
    error = refusal(opened, RefusedError, "card-too-old")
    assert "5.2.7" in error.message


@pytest.mark.parametrize(
    "spec", ["yubikey:", "yubikey:x", "yubikey/zz", "yubikey/9b", "yubikey:1/"]
)
def test_what_names_no_yubikey(spec: str) -> None:
    with pytest.raises(UsageError):
        opened(spec)


def test_files_that_begin_like_a_yubikey() -> None:
    assert [
        scheme_of(s) for s in ("yubikey.key", "yubikey/alice.key", "./yubikey", "yubikeys")
    ] == ["file"] * 4
    assert [scheme_of(s) for s in ("yubikey", "yubikey:1", "yubikey:1/9d", "yubikey/9d")] == [
        "yubikey"
    ] * 4


# ── touch ────────────────────────────────────────────────────────────────────


def test_a_refused_touch(readers: Readers) -> None:
    card = readers.insert(fit(touch=None, second=0.05))
    person = opened()
    error = refusal(lambda: person.sign(A_HASH), RefusedError, "not-touched")
    assert "15 seconds" in error.message
    card.touch = 0.0
    person.sign(A_HASH)
    assert card.signatures == 1


def test_a_late_touch(readers: Readers) -> None:
    card = readers.insert(fit(touch=14, second=0.1))
    person = opened()
    began = time.monotonic()
    person.sign(A_HASH)
    assert card.signatures == 1 and time.monotonic() - began >= 1.4


@pytest.mark.long
def test_a_touch_after_14_seconds(readers: Readers) -> None:
    card = readers.insert(fit(touch=14))
    opened().sign(A_HASH)
    assert card.signatures == 1


# ── cards that come and go ───────────────────────────────────────────────────


def test_no_card(readers: Readers) -> None:
    readers.empty()
    refusal(opened, DeviceError, "no-card")


def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpmhsm.approval.piv", None)
    error = refusal(opened, UsageError, "not-installed")
    assert error.hint == "pip install 'tpmhsm[yubikey]'"


def test_two_cards(readers: Readers) -> None:
    first, second = readers.insert(fit(1111), 0), readers.insert(fit(2222), 1)
    error = refusal(opened, UsageError, "several-cards")
    assert error.details["serials"] == [1111, 2222]
    opened("yubikey:2222").sign(A_HASH)
    assert (first.signatures, second.signatures) == (0, 1)
    assert VERIFY not in [command.ins for command in first.log]


def test_the_wrong_card(readers: Readers) -> None:
    readers.insert(fit(1111))
    error = refusal(lambda: opened("yubikey:2222"), DeviceError, "wrong-card")
    assert "there is 1111" in error.message


def test_another_card_by_the_time_of_signing(readers: Readers) -> None:
    readers.insert(fit(1111))
    person = opened()
    readers.pull()
    other = readers.insert(fit(2222))
    refusal(lambda: person.sign(A_HASH), DeviceError, "wrong-card")
    assert VERIFY not in [command.ins for command in other.log]


def test_another_key_by_the_time_of_signing(readers: Readers) -> None:
    card = readers.insert(fit())
    person = opened()
    card.fill(0x9C)
    refusal(lambda: person.sign(A_HASH), RefusedError, "other-key")
    assert VERIFY not in [command.ins for command in card.log]


def test_pulled_out_between_pin_and_signature(readers: Readers) -> None:
    card = readers.insert(fit())
    person = opened()
    card.pulled_at = AUTHENTICATE
    refusal(lambda: person.sign(A_HASH), DeviceError, "card-removed")
    assert card.signatures == 0


def test_pulled_out_while_it_waits_for_a_touch(readers: Readers) -> None:
    readers.insert(fit(touch=None))
    person = opened()
    threading.Timer(0.5, readers.pull).start()
    refusal(lambda: person.sign(A_HASH), DeviceError, "card-removed")


class Other:
    """Another program with a connection to the card in the first reader."""

    def __init__(self, mode: str = "SHARED") -> None:
        from smartcard import scard

        self.scard = scard
        result, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        assert result == 0, scard.SCardGetErrorMessage(result)
        _, names = scard.SCardListReaders(self._context, [])
        result, self._card, _ = scard.SCardConnect(
            self._context,
            sorted(names)[0],
            getattr(scard, f"SCARD_SHARE_{mode}"),
            scard.SCARD_PROTOCOL_T1,
        )
        assert result == 0, scard.SCardGetErrorMessage(result)

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self.scard.SCardDisconnect(self._card, self.scard.SCARD_LEAVE_CARD)
        self.scard.SCardReleaseContext(self._context)

    def take(self) -> None:
        assert self.scard.SCardBeginTransaction(self._card) == 0

    def let_go(self, disposition: str = "LEAVE") -> None:
        code = getattr(self.scard, f"SCARD_{disposition}_CARD")
        assert self.scard.SCardEndTransaction(self._card, code) == 0

    def select(self) -> None:
        command = [0, 0xA4, 4, 0, 5, *piv_card.PIV_AID]
        self.scard.SCardTransmit(self._card, self.scard.SCARD_PCI_T1, command)


def test_other_programs_keep_their_connection(readers: Readers) -> None:
    """A program that shares the card is not ended, and cannot speak between PIN and signature."""
    card = readers.insert(fit(touch=8, second=0.1))
    seen: list[int] = []
    with Other() as other:

        def meddle() -> None:
            other.select()
            seen.append(card.signatures)

        person = opened()
        meddler = threading.Timer(0.3, meddle)
        meddler.start()
        person.sign(A_HASH)
        meddler.join()
    assert seen == [1]


def test_a_card_that_another_program_keeps_for_itself(readers: Readers) -> None:
    readers.insert(fit())
    with Other("EXCLUSIVE"):
        error = refusal(opened, DeviceError, "card-busy")
    assert "scdaemon" in error.hint


def test_a_card_that_another_program_does_not_let_go(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpmhsm.approval import piv

    card = readers.insert(fit())
    with Other() as other:
        other.take()
        monkeypatch.setattr(piv, "PATIENCE", 0.3)
        refusal(opened, DeviceError, "card-busy")
        assert not card.log
        other.let_go()
        monkeypatch.undo()  # who waited too long gets the card now, resets it, and lets it go
        opened().sign(A_HASH)


@pytest.mark.parametrize("disposition", ["LEAVE", "RESET", "UNPOWER"])
def test_a_card_that_another_program_lets_go_in_time(readers: Readers, disposition: str) -> None:
    """Who ends with a reset, as this program does, takes the card from nobody who waits for it."""
    card = readers.insert(fit())
    with Other() as other:
        other.take()
        ending = threading.Timer(0.5, other.let_go, [disposition])
        ending.start()
        opened().sign(A_HASH)
        ending.join()
    assert card.signatures == 1


def test_a_card_that_is_reset_time_and_again(readers: Readers) -> None:
    """Two programs at one card, each of which resets it whenever it is done: both get on."""
    card = readers.insert(fit())
    persons = [opened(), opened()]

    def work(person: YubikeyIdentity) -> None:
        for _ in range(5):
            person.sign(A_HASH)

    with ThreadPoolExecutor(2) as programs:
        for done in [programs.submit(work, person) for person in persons]:
            done.result()
    assert card.signatures == 10


# ── keys that are made ───────────────────────────────────────────────────────


def making(card: PivCard, algorithm: str = "p256", management: str | None = None) -> Making:
    key = card.management.hex() if management is None else management
    return Making(algorithm, give(PIN), give(key))


@pytest.mark.parametrize("algorithm", ["p256", "rsa2048"])
def test_a_key_is_made_in_an_empty_slot(readers: Readers, algorithm: str) -> None:
    card = readers.insert(PivCard(serial=4711).personalise())
    person, attestation = create_yubikey_key("yubikey", making(card, algorithm))
    slot = card.slots[0x9C]
    assert (slot.pin_policy, slot.touch_policy) == (ALWAYS, TOUCH_ALWAYS)
    assert isinstance(person.public_key, rsa.RSAPublicKey) is (algorithm == "rsa2048")
    found = read_attestation(attestation)
    assert (found.serial, found.slot, found.firmware) == (4711, 0x9C, (5, 4, 3))
    person.sign(A_HASH)
    again, _ = create_yubikey_key("yubikey", Making("p256", never, never))
    assert key_identity(again.public_key) == key_identity(person.public_key)


def test_aes_management_keys(readers: Readers) -> None:
    card = PivCard(serial=4711, firmware=(5, 7, 1), management_type=AES192).personalise()
    readers.insert(card)
    create_yubikey_key("yubikey/9d", making(card, "rsa3072"))
    assert card.slots[0x9D].algorithm == RSA3072


def test_a_management_key_behind_the_pin(readers: Readers) -> None:
    card = PivCard(serial=4711).personalise()
    card.objects[bytes.fromhex("5fff00")] = bytes.fromhex("8003810102")
    inner = bytes([0x89, 24]) + card.management
    card.objects[bytes.fromhex("5fc109")] = bytes([0x88, len(inner)]) + inner
    readers.insert(card)
    create_yubikey_key("yubikey", Making("p256", give(PIN), never))
    assert card.slots[0x9C].generated


@pytest.mark.parametrize(("key", "code"), [("00" * 24, "wrong-management-key"), ("zz", "usage")])
def test_a_wrong_management_key(readers: Readers, key: str, code: str) -> None:
    card = readers.insert(PivCard(serial=4711).personalise())
    with pytest.raises(TpmHsmError) as caught:
        create_yubikey_key("yubikey", making(card, management=key))
    assert caught.value.code == code
    assert not card.slots


def test_a_key_that_is_there_is_never_replaced(readers: Readers) -> None:
    card = fit()
    card.fill(0x9C, P256, ALWAYS, TOUCH_CACHED)
    before = card.slots[0x9C]
    readers.insert(card)
    with pytest.raises(RefusedError) as caught:
        create_yubikey_key("yubikey", making(card))
    assert caught.value.code == "touch-policy"
    assert card.slots[0x9C] is before


def test_an_attestation_of_another_card(readers: Readers) -> None:
    card = fit()
    card.attests = lambda card, slot: card.attestation(slot, serial=999)
    readers.insert(card)
    with pytest.raises(VerificationError, match="that of YubiKey 999, not 4711"):
        create_yubikey_key("yubikey", making(card))
