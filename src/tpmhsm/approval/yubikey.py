"""An approver's key in a YubiKey: PIN and touch for each signature, attested by the chip itself.

`yubikey[:SERIAL][/SLOT]` names it; without a slot, 9c. The card is held only while it is spoken to:
not while a person reads. PIN, PUK and management key must not be the factory's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpmhsm.approval.identity import Passphrase, Tell, check_signable
from tpmhsm.approval.yubico import (
    PIN_ALWAYS,
    PIN_POLICIES,
    TOUCH_ALWAYS,
    TOUCH_POLICIES,
    Attestation,
    check_approver,
    read_attestation,
)
from tpmhsm.errors import NotFoundError, RefusedError, UsageError
from tpmhsm.policy.approver import spki_of

if TYPE_CHECKING:
    from yubikit.piv import PivSession, SlotMetadata

    from tpmhsm.approval.piv import Card
    from tpmhsm.policy.approver import PublicKey

SLOTS = (0x9C, 0x9A, 0x9D, 0x9E, *range(0x82, 0x96))
FEWEST_TRIES = 2
"""The last try is never ours: a slip of the finger would block the PIN."""

ALGORITHMS = {"p256": "ECCP256", "rsa2048": "RSA2048", "rsa3072": "RSA3072"}

_SPEC = re.compile(r"yubikey(?::([0-9]{1,10}))?(?:/([0-9a-fA-F]{2}))?")
_NOT_TOUCHED = 0x6982


@dataclass(frozen=True)
class Place:
    """Which YubiKey (None: the only one), and which slot."""

    serial: int | None
    slot: int

    @classmethod
    def parse(cls, spec: str) -> Place:
        """Read `yubikey[:SERIAL][/SLOT]`; UsageError for anything else."""
        match = _SPEC.fullmatch(spec)
        slot = int(match[2] or "9c", 16) if match else 0
        if match is None or slot not in SLOTS:
            raise UsageError(
                f"{spec!r} names no YubiKey",
                hint="-i yubikey, -i yubikey:12345678, or with another slot -i yubikey/9a",
            )
        return cls(int(match[1]) if match[1] else None, slot)


@dataclass(frozen=True)
class YubikeyIdentity:
    """A key in a YubiKey's slot."""

    serial: int
    slot: int
    public_key: PublicKey
    _secret: Passphrase = field(repr=False, compare=False)
    _tell: Tell | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """Always 'yubikey'."""
        return "yubikey"

    @property
    def description(self) -> str:
        """Words: 'YubiKey 12345678'."""
        slot = "" if self.slot == SLOTS[0] else f" slot {self.slot:02x}"
        return f"YubiKey {self.serial}{slot}"

    @property
    def token(self) -> None:
        """Nothing that a card need repeat."""
        return

    def close(self) -> None:
        """Nothing is open between two signatures."""

    def sign(self, message: bytes) -> bytes:
        """Verify the PIN, wait for a touch, sign with SHA-256; the signature is verified.

        RefusedError: 'wrong-pin', 'pin-tries' (too few left), 'pin-blocked', 'not-touched',
        'other-key' (not the key that was opened), what `check_card` and `check_slot` refuse.
        DeviceError as `piv.hold_card` says.
        """
        from tpmhsm.policy.approver import check_signature, key_identity, tpmt_signature

        check_signable(message)
        pin = self._pin()
        with _hold(Place(self.serial, self.slot)) as card:
            check_card(card)
            found = check_slot(card, self.slot)
            if key_identity(_public(found)) != key_identity(self.public_key):
                raise RefusedError(f"{self.description} has another key by now", code="other-key")
            card.session.verify_pin(pin)
            if self._tell is not None:  # now it waits for a touch, and not with a wrong PIN
                self._tell(f"touch {self.description} when it blinks")
            signature = _sign(card.session, found, self.slot, message)
        check_signature(self.public_key, message, tpmt_signature(self.public_key, signature))
        return signature

    def _pin(self) -> str:
        return _text(self._secret(f"PIN of YubiKey {self.serial}: "), "PIN")


def open_yubikey(spec: str, secret: Passphrase, tell: Tell | None = None) -> YubikeyIdentity:
    """Open the key in a slot; the PIN is asked for when it signs.

    UsageError when `spec` is none or two YubiKeys are there, NotFoundError for an empty slot,
    RefusedError when card or key are not fit for approvals, DeviceError as `piv.hold_card` says.
    """
    place = Place.parse(spec)
    with _hold(place) as card:
        check_card(card)
        public = _public(check_slot(card, place.slot))
        return YubikeyIdentity(card.serial, place.slot, public, secret, tell)


@dataclass(frozen=True)
class Making:
    """What making a key takes: a word of ALGORITHMS, the PIN's source, and the management key's,
    which is asked for unless the card keeps it behind the PIN.
    """

    algorithm: str
    secret: Passphrase
    management: Passphrase


def create_yubikey_key(
    spec: str, making: Making, tell: Tell | None = None
) -> tuple[YubikeyIdentity, Attestation]:
    """Make a key in an empty slot, PIN and touch always; a fit key that is there is opened.

    Also returns the card's attestation of it, which was compared with key, slot and serial; that
    it comes from Yubico it need not: `yubico.verify_attestation` says so. Raises what
    `open_yubikey` raises, RefusedError for a wrong management key, VerificationError for an
    attestation of something else.
    """
    place = Place.parse(spec)
    with _hold(place) as card:
        check_card(card)
        serial = card.serial
        empty = _metadata(card.session, place.slot) is None
        protected = empty and _keeps_management_key(card.session)
    if empty:
        prompt = f"PIN of YubiKey {serial}: "
        pin = _text(making.secret(prompt), "PIN") if protected else ""
        key = b"" if protected else _management_key(making.management, serial)
        with _hold(Place(serial, place.slot)) as card:
            check_card(card)
            _generate(card.session, place.slot, ALGORITHMS[making.algorithm], pin, key)
    place = Place(serial, place.slot)
    with _hold(place) as card:
        check_card(card)
        public = _public(check_slot(card, place.slot))
        attestation = _attest(card.session, place.slot)
    check_approver(read_attestation(attestation), spki_of(public), serial)
    return YubikeyIdentity(serial, place.slot, public, making.secret, tell), attestation


# ── what is refused ──────────────────────────────────────────────────────────


def check_card(card: Card) -> None:
    """Refuse (RefusedError) the factory's PIN, PUK or management key, and too few tries."""
    session = card.session
    pin, puk = session.get_pin_metadata(), session.get_puk_metadata()
    of = f"of YubiKey {card.serial}"
    if pin.attempts_remaining == 0:
        raise RefusedError(
            f"the PIN {of} is blocked",
            code="pin-blocked",
            hint="ykman piv access unblock-pin (it asks for the PUK)",
            details={"tries_left": 0},
        )
    if pin.attempts_remaining < FEWEST_TRIES:
        raise RefusedError(
            f"only one try is left for the PIN {of}: it is not used here",
            code="pin-tries",
            hint="ykman piv access unblock-pin (it asks for the PUK)",
            details={"tries_left": pin.attempts_remaining},
        )
    if pin.default_value:
        raise _default(f"the PIN {of} is the factory's", "default-pin", "change-pin")
    if puk.default_value and puk.attempts_remaining:
        raise _default(f"the PUK {of} is the factory's", "default-puk", "change-puk")
    if session.get_management_key_metadata().default_value:
        raise _default(
            f"the management key {of} is the factory's",
            "default-management-key",
            "change-management-key --generate --protect",
        )


def _default(message: str, code: str, command: str) -> RefusedError:
    return RefusedError(message, code=code, hint=f"ykman piv access {command}")


def check_slot(card: Card, slot: int) -> SlotMetadata:
    """Return what is in a slot; refuse a key that was imported, of another kind, or that signs
    without a PIN and a touch each time. NotFoundError when there is none.
    """
    where = f"slot {slot:02x} of YubiKey {card.serial}"
    found = _metadata(card.session, slot)
    if found is None:
        raise NotFoundError(
            f"{where} holds no key",
            code="slot-empty",
            hint=f"tpmhsm approver create NAME -i yubikey:{card.serial}/{slot:02x}",
        )
    if not found.generated:
        raise RefusedError(
            f"the key in {where} was imported: a copy may exist",
            code="key-imported",
            hint=f"make one in another slot: -i yubikey:{card.serial}/9d",
        )
    if found.key_type.name not in ALGORITHMS.values():
        raise RefusedError(
            f"the key in {where} is {found.key_type.name}; approvers have P-256, RSA-2048 or -3072",
            code="wrong-key-kind",
        )
    if found.pin_policy != PIN_ALWAYS:
        words = PIN_POLICIES.get(found.pin_policy, "?")
        raise RefusedError(f"the key in {where} takes a PIN {words}, not always", code="pin-policy")
    if found.touch_policy != TOUCH_ALWAYS:
        words = TOUCH_POLICIES.get(found.touch_policy, "?")
        raise RefusedError(
            f"the key in {where} signs with touch {words}, not always", code="touch-policy"
        )
    return found


# ── the card ─────────────────────────────────────────────────────────────────


@contextmanager
def _hold(place: Place) -> Iterator[Card]:
    try:
        from tpmhsm.approval.piv import hold_card
    except ImportError as error:
        raise UsageError(
            f"YubiKeys need more than is installed here: {error}",
            code="not-installed",
            hint="pip install 'tpmhsm[yubikey]'",
        ) from None
    with hold_card(place.serial) as card:
        yield card


def _metadata(session: PivSession, slot: int) -> SlotMetadata | None:
    from yubikit.core.smartcard import SW, ApduError
    from yubikit.piv import SLOT

    try:
        return session.get_slot_metadata(SLOT(slot))
    except ApduError as error:
        if error.sw == SW.REFERENCE_DATA_NOT_FOUND:
            return None
        raise


def _public(found: SlotMetadata) -> PublicKey:
    from tpmhsm.policy.approver import check_key

    return check_key(found.public_key)


def _sign(session: PivSession, found: SlotMetadata, slot: int, message: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from yubikit.core.smartcard import ApduError
    from yubikit.piv import SLOT

    try:
        return session.sign(
            SLOT(slot), found.key_type, message, hashes.SHA256(), padding.PKCS1v15()
        )
    except ApduError as error:
        if error.sw != _NOT_TOUCHED:
            raise
        raise RefusedError(
            "the YubiKey was not touched within 15 seconds: nothing was signed",
            code="not-touched",
            hint="try again, and touch it when it blinks",
        ) from None


def _attest(session: PivSession, slot: int) -> Attestation:
    from cryptography.hazmat.primitives.serialization import Encoding
    from yubikit.piv import SLOT

    statement = session.attest_key(SLOT(slot)).public_bytes(Encoding.DER)
    device = session.get_certificate(SLOT.ATTESTATION).public_bytes(Encoding.DER)
    return Attestation(statement, device)


def _generate(session: PivSession, slot: int, algorithm: str, pin: str, key: bytes) -> None:
    from yubikit.core.smartcard import SW, ApduError
    from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

    try:
        session.authenticate(key or _stored_management_key(session, pin))
    except (ApduError, ValueError) as error:
        if isinstance(error, ApduError) and error.sw != SW.SECURITY_CONDITION_NOT_SATISFIED:
            raise
        raise RefusedError("wrong management key", code="wrong-management-key") from None
    session.generate_key(SLOT(slot), KEY_TYPE[algorithm], PIN_POLICY.ALWAYS, TOUCH_POLICY.ALWAYS)


# ykman keeps a random management key behind the PIN (`change-management-key --protect`): a flag in
# the object 5FFF00, the key in the object "printed information", which needs the PIN.
_PIVMAN, _PRINTED = 0x5FFF00, 0x5FC109


def _keeps_management_key(session: PivSession) -> bool:
    from yubikit.core import Tlv
    from yubikit.core.smartcard import SW, ApduError

    try:
        inner = Tlv.parse_dict(Tlv.unpack(0x80, session.get_object(_PIVMAN)))
    except ApduError as error:
        if error.sw == SW.FILE_NOT_FOUND:
            return False
        raise
    flags = inner.get(0x81, b"")
    return bool(flags and flags[0] & 2)


def _stored_management_key(session: PivSession, pin: str) -> bytes:
    from yubikit.core import Tlv

    session.verify_pin(pin)
    return Tlv.unpack(0x89, Tlv.unpack(0x88, session.get_object(_PRINTED)))


def _management_key(source: Passphrase, serial: int) -> bytes:
    text = _text(source(f"Management key of YubiKey {serial} (hex): "), "management key", 64)
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) not in (16, 24, 32):
        raise UsageError("a management key is 32, 48 or 64 hexadecimal digits")
    return key


def _text(secret: bytes, what: str, longest: int = 8) -> str:
    """A PIN is up to 8 bytes: a longer one is not sent, so it costs no try."""
    try:
        text = secret.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 0 < len(text) <= longest:
        raise UsageError(f"that is no {what}: 1 to {longest} ASCII characters")
    return text
