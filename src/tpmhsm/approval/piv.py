"""The conversation with a YubiKey's PIV application, over a PC/SC connection of our own.

The libraries are those of `tpmhsm[yubikey]`; this module is imported when a card is needed. Nothing
else is touched: other programs' connections stay (ykman's helper ends gpg's scdaemon). While we
speak we hold a transaction, so that nobody slips a command between VERIFY and a signature, and at
its end the card is reset, so that no PIN stays verified.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from smartcard import scard
from yubikit.core import (
    TRANSPORT,
    ApplicationNotAvailableError,
    BadResponseError,
    CommandError,
    InvalidPinError,
    NotSupportedError,
)
from yubikit.core.smartcard import SW, ApduError, SmartCardConnection
from yubikit.piv import PivSession

from tpmhsm.errors import DeviceError, RefusedError, TpmHsmError, UsageError

YUBIKEY = "yubico yubikey"
PATIENCE = 10.0
"""Seconds for other programs to finish what they do with the card."""

OLDEST = (5, 3, 0)
"""Older ones do not tell whether the PIN is the factory's, nor a key's policies."""

_GONE = {
    scard.SCARD_W_REMOVED_CARD,
    scard.SCARD_W_UNPOWERED_CARD,
    scard.SCARD_W_RESET_CARD,
    scard.SCARD_E_NO_SMARTCARD,
    scard.SCARD_E_READER_UNAVAILABLE,
    scard.SCARD_E_UNKNOWN_READER,
    scard.SCARD_E_INVALID_HANDLE,
    scard.SCARD_E_NOT_TRANSACTED,
    scard.SCARD_F_COMM_ERROR,
}
_NO_SERVICE = {
    scard.SCARD_E_NO_SERVICE,
    scard.SCARD_E_SERVICE_STOPPED,
    scard.SCARD_F_INTERNAL_ERROR,
}


@dataclass(frozen=True)
class Card:
    """A YubiKey that is held for now."""

    serial: int
    firmware: tuple[int, int, int]
    session: PivSession


class Connection(SmartCardConnection):
    """A card in a reader, shared with other programs, in a transaction until closed.

    Making one waits for the end of other programs' transactions, for ever if need be. Those may
    end with a reset of the card (ours do): it is told to us once, and takes nothing from us, who
    have not spoken to the card yet.
    """

    def __init__(self, reader: str) -> None:
        self._context = _context()
        try:
            self._connect(reader)
        except BaseException:
            scard.SCardReleaseContext(self._context)
            raise

    def _connect(self, reader: str) -> None:
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        result, self._card, active = scard.SCardConnect(
            self._context, reader, scard.SCARD_SHARE_SHARED, protocols
        )
        _check(result)
        while (result := scard.SCardBeginTransaction(self._card)) == scard.SCARD_W_RESET_CARD:
            result, active = scard.SCardReconnect(
                self._card, scard.SCARD_SHARE_SHARED, protocols, scard.SCARD_LEAVE_CARD
            )
            _check(result)
        _check(result)
        t1 = active == scard.SCARD_PROTOCOL_T1
        self._header = scard.SCARD_PCI_T1 if t1 else scard.SCARD_PCI_T0

    @property
    def transport(self) -> TRANSPORT:
        """Only YubiKeys in a USB port are looked for."""
        return TRANSPORT.USB

    def send_and_receive(self, apdu: bytes) -> tuple[bytes, int]:
        """One command APDU; its data and status word."""
        result, answer = scard.SCardTransmit(self._card, self._header, list(apdu))
        _check(result)
        data = bytes(answer)
        if len(data) < 2:
            raise _gone()
        return data[:-2], int.from_bytes(data[-2:], "big")

    def close(self) -> None:
        """Reset the card and let it go; a card that is gone is let go too."""
        scard.SCardEndTransaction(self._card, scard.SCARD_RESET_CARD)
        scard.SCardDisconnect(self._card, scard.SCARD_LEAVE_CARD)
        scard.SCardReleaseContext(self._context)


@contextmanager
def hold_card(serial: int | None) -> Iterator[Card]:
    """Hold the YubiKey with this serial number, or the only one, until the block ends.

    DeviceError: no daemon ('no-card-service'), no YubiKey ('no-card'), another one ('wrong-card'),
    another program has it ('card-busy'), pulled out in the block ('card-removed'). UsageError: two
    of them ('several-cards'). RefusedError: too old, or its PIV application does not work.
    """
    found: list[tuple[Card, Connection]] = []
    try:
        with _translated():
            for reader in readers():
                if (connection := _connect(reader)) is not None:
                    found.append((_greet(connection), connection))
            yield _choose([card for card, _ in found], serial)
    finally:
        for _, connection in found:
            connection.close()


def _context() -> int:
    result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _check(result)
    return int(context)


def readers() -> list[str]:
    """The readers of all YubiKeys that are plugged in. DeviceError 'no-card-service' without the
    smart card daemon.
    """
    context = _context()
    result, names = scard.SCardListReaders(context, [])
    scard.SCardReleaseContext(context)
    if result == scard.SCARD_E_NO_READERS_AVAILABLE:
        return []
    _check(result)
    return [name for name in names if YUBIKEY in name.lower()]


def _connect(reader: str) -> Connection | None:
    """Connect, or give up after a while (DeviceError 'card-busy'); None for an empty reader.

    The library cannot give up: a thread waits in our place, and lets go of what it gets too late.
    """
    done: list[Connection | DeviceError] = []
    lock, late = threading.Lock(), threading.Event()

    def attempt() -> None:
        outcome: Connection | DeviceError
        try:
            outcome = Connection(reader)
        except DeviceError as error:
            outcome = error
        with lock:
            done.append(outcome)
            if late.is_set() and isinstance(outcome, Connection):
                outcome.close()

    waiting = threading.Thread(target=attempt, daemon=True)
    waiting.start()
    waiting.join(PATIENCE)
    with lock:
        if not done:
            late.set()
            raise _busy()
    if isinstance(done[0], Connection):
        return done[0]
    if done[0].code == "card-removed":
        return None
    raise done[0]


def _greet(connection: Connection) -> Card:
    try:
        session = PivSession(connection)
        version = session.version
        firmware = (version.major, version.minor, version.patch)
        serial = session.get_serial()
    except BaseException:
        connection.close()
        raise
    return Card(serial, firmware, session)


def _choose(cards: list[Card], serial: int | None) -> Card:
    serials = sorted(card.serial for card in cards)
    listed = ", ".join(map(str, serials))
    if not cards:
        raise DeviceError("no YubiKey is plugged in", code="no-card", hint="plug it in, try again")
    if serial is None and len(cards) > 1:
        raise UsageError(
            f"there are {len(cards)} YubiKeys: {listed}",
            code="several-cards",
            hint=f"say which: -i yubikey:{serials[0]}",
            details={"serials": serials},
        )
    card = next((c for c in cards if serial in (None, c.serial)), None)
    if card is None:
        raise DeviceError(
            f"YubiKey {serial} is not plugged in; there is {listed}",
            code="wrong-card",
            hint="plug in the other one, try again",
            details={"serials": serials},
        )
    if card.firmware < OLDEST:
        version = ".".join(map(str, card.firmware))
        raise RefusedError(
            f"YubiKey {card.serial} has firmware {version}, which cannot tell a default PIN",
            code="card-too-old",
            hint="approvers need firmware 5.3 or later",
        )
    return card


def _gone() -> DeviceError:
    return DeviceError(
        "the YubiKey was pulled out, or another program reset it",
        code="card-removed",
        hint="plug it in and try again; nothing was signed",
    )


def _busy() -> DeviceError:
    return DeviceError(
        "another program holds the YubiKey",
        code="card-busy",
        hint="close it; gpg's daemon ends with: gpgconf --kill scdaemon",
    )


def _check(result: int) -> None:
    """Raise DeviceError for a result of PC/SC that is no success."""
    if result == scard.SCARD_S_SUCCESS:
        return
    if result in _GONE:
        raise _gone()
    if result in _NO_SERVICE:
        raise DeviceError(
            "the smart card daemon does not answer",
            code="no-card-service",
            hint="apt-get install pcscd; systemctl start pcscd.socket",
        )
    if result == scard.SCARD_E_SHARING_VIOLATION:
        raise _busy()
    raise DeviceError(f"the card reader failed: {scard.SCardGetErrorMessage(result)}", code="card")


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the library, as ours. Errors of wrong PINs say how many tries are left."""
    try:
        yield
    except TpmHsmError:
        raise
    except InvalidPinError as error:
        raise wrong_pin(error.attempts_remaining) from None
    except ApplicationNotAvailableError:
        raise RefusedError(
            "the YubiKey's PIV application is switched off",
            code="no-piv",
            hint="ykman config usb --enable PIV",
        ) from None
    except ApduError as error:
        raise RefusedError(
            f"the YubiKey refused with {error.sw:04X} ({_words(error.sw)})",
            code="card-refused",
            details={"sw": f"{error.sw:04x}"},
        ) from None
    except NotSupportedError as error:
        raise RefusedError(f"this YubiKey cannot do that: {error}", code="card-refused") from None
    except (BadResponseError, CommandError, ValueError, KeyError, IndexError) as error:
        raise DeviceError(
            f"the YubiKey gave an answer that makes no sense: {error}", code="card"
        ) from None


def _words(sw: int) -> str:
    try:
        return SW(sw).name.lower().replace("_", " ")
    except ValueError:
        return "unknown"


def wrong_pin(left: int) -> RefusedError:
    """The refusal of a PIN."""
    if left == 0:
        return RefusedError(
            "wrong PIN, and the PIN is blocked now",
            code="pin-blocked",
            hint="ykman piv access unblock-pin (it asks for the PUK)",
            details={"tries_left": 0},
        )
    return RefusedError(
        f"wrong PIN: {left} {'try' if left == 1 else 'tries'} left before it is blocked",
        code="wrong-pin",
        hint="nothing was signed: the same command asks again",
        details={"tries_left": left},
    )
