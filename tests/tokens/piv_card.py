"""A double of a YubiKey 5's PIV application, behind the protocol of vsmartcard's virtual reader.

NIST SP 800-73-4 part 2, with Yubico's instructions. The only double: the daemon, the driver and all
libraries above it are the real ones. It is held to `ykman`, `yubico-piv-tool` and `pkcs11-tool` in
`test_piv_card`. Where the real card is lenient, it is strict: a key with PIN policy "always" signs
only if VERIFY was the very last command before.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.tokens.apdu import Command, parse, tlv, tlvs
from tests.tokens.attestations import (
    Facts,
    Issuer,
    attest,
    certify,
    device,
    new_key,
    test_root,
)

ATR = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")
PIV_AID, MANAGEMENT_AID = bytes.fromhex("a000000308"), bytes.fromhex("a000000527471117")

DEFAULT_PIN, DEFAULT_PUK = b"123456\xff\xff", b"12345678"
DEFAULT_MANAGEMENT = bytes.fromhex("0102030405060708" * 3)

TDES, AES128, AES192, AES256 = 0x03, 0x08, 0x0A, 0x0C
P256, P384, RSA2048, RSA3072, RSA4096 = 0x11, 0x14, 0x07, 0x05, 0x16
RSA_BITS = {0x06: 1024, RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}
CURVES: dict[int, ec.EllipticCurve] = {P256: ec.SECP256R1(), P384: ec.SECP384R1()}

NEVER, ONCE, ALWAYS = 1, 2, 3
NO_TOUCH, TOUCH_ALWAYS, TOUCH_CACHED = 1, 2, 3
ATTESTATION_SLOT = 0xF9

OK, SECURITY, BLOCKED, CONDITIONS, WRONG_DATA = 0x9000, 0x6982, 0x6983, 0x6985, 0x6A80
NOT_FOUND, WRONG_P1P2, NO_REFERENCE, NO_INSTRUCTION = 0x6A82, 0x6A86, 0x6A88, 0x6D00


class Refused(Exception):
    """A status word other than 9000."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04x}")
        self.sw = sw


@dataclass
class Slot:
    """A private key in a slot."""

    algorithm: int
    private: Any
    pin_policy: int
    touch_policy: int
    generated: bool = True


@dataclass
class Secret:
    """A PIN or PUK with its counter."""

    value: bytes
    default: bytes
    total: int = 3
    left: int = 3

    def check(self, given: bytes) -> None:
        """63Cx for a wrong one, 6983 when blocked."""
        if self.left == 0:
            raise Refused(BLOCKED)
        if given != self.value:
            self.left -= 1
            raise Refused(0x63C0 | self.left)
        self.left = self.total

    def set(self, value: bytes) -> None:
        self.value = value
        self.left = self.total


@dataclass
class PivCard:
    """The card's state and its knobs.

    `touch`: seconds until somebody touches it, None for nobody; it waits for 15 s, each as long
    as `second` says. `pulled_at`: the instruction at which the card is pulled out. `strict`: other
    commands between VERIFY and a signature undo VERIFY.
    """

    serial: int = 12345678
    firmware: tuple[int, int, int] = (5, 4, 3)
    touch: float | None = 0.0
    second: float = 1.0
    pulled_at: int | None = None
    strict: bool = True
    root: Issuer | None = None
    attests: Callable[[PivCard, int], bytes] | None = None
    pin: Secret = field(default_factory=lambda: Secret(DEFAULT_PIN, DEFAULT_PIN))
    puk: Secret = field(default_factory=lambda: Secret(DEFAULT_PUK, DEFAULT_PUK))
    management: bytes = DEFAULT_MANAGEMENT
    management_type: int = TDES
    slots: dict[int, Slot] = field(default_factory=dict)
    objects: dict[bytes, bytes] = field(default_factory=dict)
    log: list[Command] = field(default_factory=list)
    signatures: int = 0
    pause: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._selected = b""
        self._chain = b""
        self._rest = b""
        self._forget()
        self._witness = b""
        signer = self.attester
        der = signer.certificate.public_bytes(serialization.Encoding.DER)
        self.objects[bytes.fromhex("5fff01")] = tlv(0x70, der) + tlv(0x71, b"\0") + tlv(0xFE, b"")

    @property
    def attester(self) -> Issuer:
        """Slot f9."""
        return device(self.root or test_root(), self.firmware, self.serial)

    def personalise(self, pin: str = "271828", puk: str = "31415926") -> PivCard:
        """What a careful owner does first: no defaults left."""
        self.pin.value = pin.encode().ljust(8, b"\xff")
        self.puk.value = puk.encode().ljust(8, b"\xff")
        self.management = bytes(range(0x40, 0x40 + len(self.management)))
        return self

    def _forget(self) -> None:
        self._verified = self._fresh = self._managed = False

    # ── the reader's side ────────────────────────────────────────────────────

    def transmit(self, apdu: bytes) -> bytes:
        """Answer one APDU: data and status word."""
        command = parse(apdu)
        if command.ins == 0xC0:
            return self._next(command.room)
        if command.cla & 0x10:
            self._chain += command.data
            return OK.to_bytes(2, "big")
        command = Command(
            command.cla, command.ins, command.p1, command.p2, self._chain + command.data,
            command.room,
        )  # fmt: skip
        self._chain = self._rest = b""
        self.log.append(command)
        if command.ins != 0x87 and self.strict:
            self._fresh = False
        try:
            data = self._run(command)
        except Refused as refused:
            return refused.sw.to_bytes(2, "big")
        finally:
            if command.ins == 0x87:
                self._fresh = False
        self._rest = data
        return self._next(command.room)

    def _next(self, room: int) -> bytes:
        data, self._rest = self._rest[:room], self._rest[room:]
        sw = 0x6100 | min(len(self._rest), 0xFF) if self._rest else OK
        return data + sw.to_bytes(2, "big")

    def reset(self) -> None:
        """Power lost or a reset: nobody is verified, nothing is selected."""
        self._selected = self._chain = self._rest = b""
        self._forget()

    def _run(self, c: Command) -> bytes:
        if c.ins == 0xA4:
            return self._select(c.data)
        if self._selected == MANAGEMENT_AID:
            if c.ins == 0x1D:
                return self._configuration() if c.p1 == 0 else b"\0"
            raise Refused(NO_INSTRUCTION)
        if self._selected != PIV_AID:
            raise Refused(NO_INSTRUCTION)
        action = {
            0x20: self._verify,
            0x24: self._change,
            0x2C: self._unblock,
            0x47: self._generate,
            0x87: self._authenticate,
            0xCB: self._get_data,
            0xDB: self._put_data,
            0xF7: self._metadata,
            0xF8: lambda _: self.serial.to_bytes(4, "big"),
            0xF9: self._attest,
            0xFA: self._set_retries,
            0xFB: self._reset_application,
            0xFD: lambda _: bytes(self.firmware),
            0xFE: self._import,
            0xFF: self._set_management,
        }.get(c.ins)
        if action is None:
            raise Refused(NO_INSTRUCTION)
        return action(c)

    def _select(self, aid: bytes) -> bytes:
        self._forget()
        if aid and PIV_AID.startswith(aid[:5]) and len(aid) >= 5:
            self._selected = PIV_AID
            application = tlv(0x4F, bytes.fromhex("000010000100"))
            return tlv(0x61, application + tlv(0x79, tlv(0x4F, PIV_AID)))
        if aid == MANAGEMENT_AID[: len(aid)] and len(aid) >= 7:
            self._selected = MANAGEMENT_AID
            return b"Virtual mgr - FW version " + ".".join(map(str, self.firmware)).encode()
        self._selected = b""
        raise Refused(NOT_FOUND)

    def _configuration(self) -> bytes:
        piv = b"\x00\x10"  # of USB's applications, PIV alone is there
        fields = (
            tlv(0x01, piv)
            + tlv(0x02, self.serial.to_bytes(4, "big"))
            + tlv(0x03, piv)
            + tlv(0x04, b"\x01")
            + tlv(0x05, bytes(self.firmware))
            + tlv(0x06, b"\0\0")
            + tlv(0x07, b"\x0f")
            + tlv(0x08, b"\0")
            + tlv(0x0A, b"\0")
        )
        return bytes([len(fields)]) + fields

    # ── PIN and PUK ──────────────────────────────────────────────────────────

    def _verify(self, c: Command) -> bytes:
        if c.p2 != 0x80:
            raise Refused(NO_REFERENCE)
        if c.p1 == 0xFF:
            self._verified = False
            return b""
        if not c.data:
            if self._verified:
                return b""
            raise Refused(0x63C0 | self.pin.left if self.pin.left else BLOCKED)
        self._verified = False
        if len(c.data) != 8:
            raise Refused(WRONG_DATA)
        self.pin.check(c.data)
        self._verified = self._fresh = True
        return b""

    def _change(self, c: Command) -> bytes:
        secret = {0x80: self.pin, 0x81: self.puk}.get(c.p2)
        if secret is None or len(c.data) != 16:
            raise Refused(WRONG_DATA)
        secret.check(c.data[:8])
        secret.set(c.data[8:])
        return b""

    def _unblock(self, c: Command) -> bytes:
        if len(c.data) != 16:
            raise Refused(WRONG_DATA)
        self.puk.check(c.data[:8])
        self.pin.set(c.data[8:])
        return b""

    def _set_retries(self, c: Command) -> bytes:
        if not (self._managed and self._verified):
            raise Refused(SECURITY)
        self.pin = Secret(DEFAULT_PIN, DEFAULT_PIN, c.p1, c.p1)
        self.puk = Secret(DEFAULT_PUK, DEFAULT_PUK, c.p2, c.p2)
        return b""

    def _reset_application(self, _: Command) -> bytes:
        if self.pin.left or self.puk.left:
            raise Refused(CONDITIONS)
        kept = {k: v for k, v in self.objects.items() if k == bytes.fromhex("5fff01")}
        self.pin = Secret(DEFAULT_PIN, DEFAULT_PIN)
        self.puk = Secret(DEFAULT_PUK, DEFAULT_PUK)
        self.management, self.management_type = DEFAULT_MANAGEMENT, TDES
        self.slots, self.objects = {}, kept
        self._forget()
        return b""

    # ── keys ─────────────────────────────────────────────────────────────────

    def _manage(self) -> None:
        if not self._managed:
            raise Refused(SECURITY)

    def _policies(self, slot: int, fields: dict[int, bytes]) -> tuple[int, int]:
        default = {0x9C: ALWAYS, 0x9E: NEVER}.get(slot, ONCE)
        pin = fields.get(0xAA, b"\0")[0] or default
        return pin, fields.get(0xAB, b"\0")[0] or NO_TOUCH

    def _generate(self, c: Command) -> bytes:
        self._manage()
        fields = dict(tlvs(dict(tlvs(c.data))[0xAC]))
        algorithm = fields[0x80][0]
        slot = self.fill(c.p2, algorithm, *self._policies(c.p2, fields))
        return tlv(0x7F49, public_fields(slot.private.public_key()))

    def fill(
        self, slot: int, algorithm: int = P256, pin: int = ALWAYS, touch: int = TOUCH_ALWAYS
    ) -> Slot:
        """Generate a key in a slot, as its owner might have done before."""
        private: Any
        if algorithm in CURVES:
            private = ec.generate_private_key(CURVES[algorithm])
        elif algorithm in RSA_BITS:
            if algorithm in (RSA3072, RSA4096) and self.firmware < (5, 7, 0):
                raise Refused(WRONG_DATA)
            private = rsa.generate_private_key(65537, RSA_BITS[algorithm])
        else:
            raise Refused(WRONG_DATA)
        self.slots[slot] = Slot(algorithm, private, pin, touch)
        return self.slots[slot]

    def _import(self, c: Command) -> bytes:
        self._manage()
        fields = dict(tlvs(c.data))
        private: Any
        if c.p1 in CURVES:
            private = ec.derive_private_key(int.from_bytes(fields[6], "big"), CURVES[c.p1])
        else:
            p, q = (int.from_bytes(fields[i], "big") for i in (1, 2))
            d = rsa.rsa_recover_private_exponent(65537, p, q)
            private = rsa.RSAPrivateNumbers(
                p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p),
                rsa.RSAPublicNumbers(65537, p * q),
            ).private_key()  # fmt: skip
        self.slots[c.p2] = Slot(c.p1, private, *self._policies(c.p2, fields), generated=False)
        return b""

    def _authenticate(self, c: Command) -> bytes:
        fields = dict(tlvs(dict(tlvs(c.data))[0x7C]))
        if c.p2 == 0x9B:
            return self._authenticate_manager(c.p1, fields)
        slot = self.slots.get(c.p2)
        if slot is None or slot.algorithm != c.p1:
            raise Refused(WRONG_DATA)
        if self.pulled_at == 0x87:
            raise ConnectionAbortedError
        if slot.pin_policy != NEVER:
            ready = self._fresh if slot.pin_policy == ALWAYS else self._verified
            if not ready:
                raise Refused(SECURITY)
        if slot.pin_policy == ALWAYS:
            self._verified = False
        if slot.touch_policy != NO_TOUCH:
            self._wait_for_touch()
        self.signatures += 1
        return tlv(0x7C, tlv(0x82, raw_signature(slot, fields[0x81])))

    def _wait_for_touch(self) -> None:
        patience = 15 * self.second
        wanted = None if self.touch is None else self.touch * self.second
        refused = wanted is None or wanted >= patience
        if self.pause.wait(patience if refused else wanted):
            raise ConnectionAbortedError
        if refused:
            raise Refused(SECURITY)

    def _authenticate_manager(self, algorithm: int, fields: dict[int, bytes]) -> bytes:
        if algorithm != self.management_type:
            raise Refused(WRONG_DATA)
        kind = TripleDES if algorithm == TDES else algorithms.AES
        cipher = Cipher(kind(self.management), modes.ECB())
        size = 8 if algorithm == TDES else 16
        if 0x81 in fields and 0x80 in fields:
            if not self._witness or fields[0x80] != self._witness:
                raise Refused(SECURITY)
            self._witness, self._managed = b"", True
            encryptor = cipher.encryptor()
            return tlv(0x7C, tlv(0x82, encryptor.update(fields[0x81]) + encryptor.finalize()))
        if fields.get(0x80) == b"":
            self._witness = os.urandom(size)
            encryptor = cipher.encryptor()
            return tlv(0x7C, tlv(0x80, encryptor.update(self._witness) + encryptor.finalize()))
        raise Refused(WRONG_DATA)

    def _set_management(self, c: Command) -> bytes:
        self._manage()
        algorithm, (_, value) = c.data[0], next(iter(tlvs(c.data[1:])))
        self.management_type, self.management = algorithm, value
        return b""

    def _metadata(self, c: Command) -> bytes:
        if self.firmware < (5, 3, 0):
            raise Refused(NO_INSTRUCTION)
        if c.p2 in (0x80, 0x81):
            secret = self.pin if c.p2 == 0x80 else self.puk
            default = secret.value == secret.default
            return (
                tlv(1, b"\xff")
                + tlv(5, bytes([default]))
                + tlv(6, bytes([secret.total, secret.left]))
            )
        if c.p2 == 0x9B:
            default = self.management == DEFAULT_MANAGEMENT
            return (
                tlv(1, bytes([self.management_type])) + tlv(2, b"\0\x01") + tlv(5, bytes([default]))
            )
        slot = self.slots.get(c.p2)
        if slot is None:
            raise Refused(NO_REFERENCE)
        return (
            tlv(1, bytes([slot.algorithm]))
            + tlv(2, bytes([slot.pin_policy, slot.touch_policy]))
            + tlv(3, bytes([1 if slot.generated else 2]))
            + tlv(4, public_fields(slot.private.public_key()))
        )

    def _attest(self, c: Command) -> bytes:
        slot = self.slots.get(c.p1)
        if slot is None or not slot.generated:
            raise Refused(WRONG_DATA)
        return self.attests(self, c.p1) if self.attests else self.attestation(c.p1)

    def attestation(self, number: int, **changed: Any) -> bytes:
        """What ATTEST says about a slot; `changed`: other facts than the true ones."""
        slot = self.slots[number]
        facts = {
            "slot": number,
            "firmware": self.firmware,
            "serial": self.serial,
            "pin_policy": slot.pin_policy,
            "touch_policy": slot.touch_policy,
        }
        signed = attest(self.attester, slot.private.public_key(), Facts(**{**facts, **changed}))
        return signed.public_bytes(serialization.Encoding.DER)

    def keep_certificate(self, number: int) -> None:
        """A certificate of a slot's key, in the slot's object: what PKCS #11 modules look for."""
        key = self.slots[number].private
        made = certify(f"slot {number:02x}", key.public_key(), "somebody", new_key(), [])
        der = made.public_bytes(serialization.Encoding.DER)
        where = {0x9A: "5fc105", 0x9C: "5fc10a", 0x9D: "5fc10b", 0x9E: "5fc101"}[number]
        self.objects[bytes.fromhex(where)] = tlv(0x70, der) + tlv(0x71, b"\0") + tlv(0xFE, b"")

    # ── data ─────────────────────────────────────────────────────────────────

    def _get_data(self, c: Command) -> bytes:
        wanted = dict(tlvs(c.data)).get(0x5C, b"")
        if wanted == b"\x7e":
            aid = tlv(0x4F, bytes.fromhex("a000000308000010000100"))
            return tlv(0x7E, aid + tlv(0x5F2F, b"\x40\x10"))
        if wanted not in self.objects:
            raise Refused(NOT_FOUND)
        return tlv(0x53, self.objects[wanted])

    def _put_data(self, c: Command) -> bytes:
        self._manage()
        fields = dict(tlvs(c.data))
        if fields[0x53]:
            self.objects[fields[0x5C]] = fields[0x53]
        else:
            self.objects.pop(fields[0x5C], None)
        return b""


def public_fields(key: Any) -> bytes:
    """A public key as GENERATE ASYMMETRIC and GET METADATA give it."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        return tlv(0x81, modulus) + tlv(0x82, b"\x01\x00\x01")
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return tlv(0x86, point)


def raw_signature(slot: Slot, challenge: bytes) -> bytes:
    """ECDSA over a digest; for RSA, the bare power of a block that the host padded."""
    if slot.algorithm in RSA_BITS:
        numbers = slot.private.private_numbers()
        n = numbers.public_numbers.n
        if len(challenge) != RSA_BITS[slot.algorithm] // 8:
            raise Refused(WRONG_DATA)
        power = pow(int.from_bytes(challenge, "big"), numbers.d, n)
        return power.to_bytes(len(challenge), "big")
    digest = hashes.SHA256() if slot.algorithm == P256 else hashes.SHA384()
    challenge = challenge.rjust(digest.digest_size, b"\0")
    return slot.private.sign(challenge, ec.ECDSA(Prehashed(digest)))


class Inserted:
    """A card in a reader: a thread that answers what the reader's driver says."""

    def __init__(self, card: PivCard, connect: Callable[[], socket.socket]) -> None:
        self.card = card
        self._socket = connect()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def exchange(self, card: PivCard) -> None:
        """Another card, unnoticed."""
        card.reset()
        self.card = card

    def pull(self) -> None:
        """Take the card out; it returns when the thread has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.card.pause.set()
        self._thread.join(10)
        self._socket.close()
        self.card.pause.clear()
        self.card.reset()

    def _serve(self) -> None:
        try:
            while message := self._receive():
                self._answer(message)
        except (OSError, EOFError):
            self._socket.close()

    def _answer(self, message: bytes) -> None:
        if len(message) > 1:
            self._send(self.card.transmit(message))
        elif message == b"\x04":
            self._send(ATR)
        else:  # power off, power on, reset
            self.card.reset()

    def _receive(self) -> bytes:
        size = int.from_bytes(self._exactly(2), "big")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _send(self, data: bytes) -> None:
        self._socket.sendall(len(data).to_bytes(2, "big") + data)
