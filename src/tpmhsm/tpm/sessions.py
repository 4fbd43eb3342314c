"""Authorizations: passwords, HMAC sessions, policy sessions (TCG TPM 2.0 Library Part 1 §17-§21).

    session = start_hmac(chip, salt_key=SaltKey(handle, public, name), encrypt=True)
    session.auth_value = pin
    chip.send(Unseal(handle), session)

A session is salted to a key whose Name the caller knows, so that nobody between us and the chip can
read what is encrypted or forge a response. Nonces are 16 octets, ours and the chip's.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from tpmhsm.errors import DeviceError, UsageError, VerificationError
from tpmhsm.policy.ahash import NONCE_SIZE
from tpmhsm.wire.codec import TPM2B
from tpmhsm.wire.commands import (
    StartAuthSession,
)
from tpmhsm.wire.constants import ALG, RH, SE, SessionAttributes
from tpmhsm.wire.framing import AuthResponse
from tpmhsm.wire.kdf import hash_name, kdf_a
from tpmhsm.wire.structures import AES128_CFB, NULL_SYM

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.salts import SaltKey

_CONTINUE = int(SessionAttributes.CONTINUE)


class Auth(Protocol):
    """What can stand for a handle: `Password`, `HmacSession`, `PolicySession`."""

    @property
    def keyed(self) -> bool:
        """Whether it has a key to compute an HMAC with."""
        ...

    @property
    def encrypts(self) -> bool:
        """Whether it encrypts parameters."""
        ...

    def plain_area(self) -> bytes:
        """TPMS_AUTH_COMMAND when it is not keyed."""
        ...

    def accept_plain(self, answer: AuthResponse) -> None:
        """Take the chip's answer to `plain_area`. Raises VerificationError."""
        ...


@dataclass(frozen=True)
class Password:
    """A password in the clear: for empty ones, and where nobody listens."""

    value: bytes = b""
    keyed: ClassVar[bool] = False
    encrypts: ClassVar[bool] = False

    def plain_area(self) -> bytes:
        """TPMS_AUTH_COMMAND for TPM_RS_PW (Part 1 §19.4)."""
        return b"\x40\x00\x00\x09\x00\x00\x00" + TPM2B.pack(self.value)

    def accept_plain(self, answer: AuthResponse) -> None:
        """Nothing can be verified. Raises VerificationError when the chip sends an HMAC."""
        if answer.nonce or answer.hmac:
            raise VerificationError("an HMAC in the response to a password")


EMPTY_PASSWORD = Password()
EMPTY_AREA = EMPTY_PASSWORD.plain_area()
EMPTY_ANSWER = b"\x00\x00\x01\x00\x00"
"""The chip's answer to a password: no nonce, continueSession, no HMAC."""


@dataclass(frozen=True)
class Bind:
    """The entity that a session is bound to, with its authorization value."""

    handle: int
    auth_value: bytes = b""


class Session:
    """What HMAC and policy sessions share. Made by `start_hmac`, `start_policy`, `start_trial`.

    `auth_value` is the authorization value of the entity that the session is used for next.
    `last` makes the chip end the session with the next command. `ended` says that it has. Where it
    encrypts, `both_ways` can be switched off: then commands go as they are, and only answers come
    back encrypted.
    """

    def __init__(
        self, handle: int, nonce_tpm: bytes, key: bytes, *, encrypts: bool, bound_name: bytes
    ) -> None:
        self.handle = handle
        self.nonce_tpm = nonce_tpm
        self.auth_value = b""
        self.last = False
        self.ended = False
        self.hash_alg = int(ALG.SHA256)
        self.nonce_caller = b""
        self._key = key
        self.encrypts = encrypts
        self.both_ways = True
        self._bound_name = bound_name
        self._head = handle.to_bytes(4, "big") + NONCE_SIZE.to_bytes(2, "big")

    @property
    def attributes(self) -> int:
        """TPMA_SESSION without encryption, which depends on the command."""
        return 0 if self.last else _CONTINUE

    def roll(self) -> bytes:
        """A fresh nonceCaller."""
        self.nonce_caller = os.urandom(NONCE_SIZE)
        return self.nonce_caller

    def area(self, attributes: int, mac: bytes) -> bytes:
        """TPMS_AUTH_COMMAND (Part 2 §10.13.2)."""
        return self._head + self.nonce_caller + bytes((attributes,)) + TPM2B.pack(mac)

    def includes_value(self, name: bytes | None) -> bool:
        """Whether the HMAC key has the value of the entity `name`; None for no entity."""
        raise NotImplementedError

    def value_for(self, name: bytes | None) -> bytes:
        """The authorization value in the HMAC key."""
        return self.auth_value.rstrip(b"\0") if self.includes_value(name) else b""

    def unbind(self) -> None:
        """The entity that the session was bound to has another value now."""
        self._bound_name = b""

    def hmac_key(self, value: bytes) -> bytes:
        """sessionKey ‖ authValue (Part 1 §19.6.5)."""
        return self._key + value

    def mac(self, hashed: bytes, attributes: int, value: bytes, extra: bytes) -> bytes:
        """The command's HMAC, over cpHash, nonces (`extra`: of other sessions) and attributes."""
        message = hashed + self.nonce_caller + self.nonce_tpm + extra + bytes((attributes,))
        return hmac.digest(self.hmac_key(value), message, hash_name(self.hash_alg))

    def accept(self, answer: AuthResponse, hashed: bytes, value: bytes) -> None:
        """Verify the response's HMAC and take its nonce. Raises VerificationError."""
        self._take(answer)
        message = hashed + answer.nonce + self.nonce_caller + bytes((answer.attributes,))
        expected = hmac.digest(self.hmac_key(value), message, hash_name(self.hash_alg))
        if not hmac.compare_digest(expected, answer.hmac):
            raise VerificationError("the HMAC of the chip's response is wrong")

    def _take(self, answer: AuthResponse) -> None:
        if len(answer.nonce) != NONCE_SIZE:
            raise VerificationError(f"a nonce of {len(answer.nonce)} octets from the chip")
        self.nonce_tpm = answer.nonce
        if self.last:
            self.ended = True

    def cipher(self, value: bytes, newer: bytes, older: bytes) -> tuple[bytes, bytes]:
        """Key and IV of parameter encryption with AES-128-CFB (Part 1 §21.3)."""
        out = kdf_a(self.hash_alg, self._key + value, b"CFB", newer, older, bits=256)
        return out[:16], out[16:]


class HmacSession(Session):
    """Proves an authorization value without showing it; encrypts parameters when asked to."""

    keyed: ClassVar[bool] = True

    def includes_value(self, name: bytes | None) -> bool:
        """Not for the entity that the session is bound to: it is in the session key."""
        return name is not None and (not self._bound_name or name != self._bound_name)

    def plain_area(self) -> bytes:
        """Never used: an HMAC session is always keyed."""
        raise NotImplementedError

    def accept_plain(self, answer: AuthResponse) -> None:
        """Never used: an HMAC session is always keyed."""
        raise NotImplementedError


class PolicySession(Session):
    """Satisfies a policy. Without salt, binding or PolicyAuthValue its HMAC is empty.

    Set `with_value` after TPM2_PolicyAuthValue (the value goes into the HMAC key), `with_password`
    after TPM2_PolicyPassword (the value is sent in plain).
    """

    with_value = False
    with_password = False

    @property
    def keyed(self) -> bool:
        """Whether there is anything to compute an HMAC with (Part 1 §19.6.5)."""
        return not self.with_password and bool(self._key or self.with_value)

    def includes_value(self, name: bytes | None) -> bool:
        """Only PolicyAuthValue puts the value into the key, bound or not."""
        return name is not None and self.with_value

    def plain_area(self) -> bytes:
        """An empty HMAC, or the password."""
        self.roll()
        return self.area(self.attributes, self.auth_value if self.with_password else b"")

    def accept_plain(self, answer: AuthResponse) -> None:
        """Raises VerificationError when there is an HMAC that cannot be."""
        self._take(answer)
        if answer.hmac:
            raise VerificationError("an HMAC in the response to a session without a key")


@dataclass(frozen=True)
class _Start:
    """What StartAuthSession gave, and the key derived from it."""

    handle: int
    nonce_tpm: bytes
    key: bytes
    bound_name: bytes


def _start(
    chip: Chip,
    kind: SE,
    salt_key: SaltKey | None = None,
    bind: Bind | None = None,
    *,
    encrypt: bool = False,
    hash_alg: int = ALG.SHA256,
) -> _Start:
    if encrypt and salt_key is None and bind is None:
        raise UsageError("a session that encrypts must be salted or bound")
    salt, encrypted = salt_key.salt() if salt_key else (b"", b"")
    nonce_caller = os.urandom(NONCE_SIZE)
    made = chip.send(
        StartAuthSession(
            tpm_key=salt_key.handle if salt_key else RH.NULL,
            bind=bind.handle if bind else RH.NULL,
            nonce_caller=nonce_caller,
            encrypted_salt=encrypted,
            session_type=kind,
            symmetric=AES128_CFB if encrypt else NULL_SYM,
            auth_hash=hash_alg,
        )
    )
    if len(made.nonce_tpm) != NONCE_SIZE:
        raise DeviceError(f"the chip gave a nonce of {len(made.nonce_tpm)} octets, not 16")
    key = b""
    if salt_key or bind:
        secret = (bind.auth_value.rstrip(b"\0") if bind else b"") + salt
        key = kdf_a(ALG.SHA256, secret, b"ATH", made.nonce_tpm, nonce_caller, bits=256)
    bound_name = chip.name_of(bind.handle) if bind else b""
    return _Start(made.session_handle, made.nonce_tpm, key, bound_name)


def start_hmac(
    chip: Chip,
    *,
    salt_key: SaltKey | None = None,
    bind: Bind | None = None,
    encrypt: bool = False,
) -> HmacSession:
    """An HMAC session with SHA-256; `encrypt` the first parameters both ways with AES-128-CFB.

    Raises what `Chip.send` raises, UsageError for encryption without salt or binding.
    """
    s = _start(chip, SE.HMAC, salt_key, bind, encrypt=encrypt)
    return HmacSession(s.handle, s.nonce_tpm, s.key, encrypts=encrypt, bound_name=s.bound_name)


def start_policy(
    chip: Chip,
    *,
    salt_key: SaltKey | None = None,
    bind: Bind | None = None,
    encrypt: bool = False,
) -> PolicySession:
    """A policy session with SHA-256. Raises as `start_hmac`."""
    s = _start(chip, SE.POLICY, salt_key, bind, encrypt=encrypt)
    return PolicySession(s.handle, s.nonce_tpm, s.key, encrypts=encrypt, bound_name=s.bound_name)


def start_plain_policy(chip: Chip, hash_alg: int) -> PolicySession:
    """A policy session without a key of its own, for a policy by another hash than SHA-256."""
    s = _start(chip, SE.POLICY, hash_alg=hash_alg)
    session = PolicySession(s.handle, s.nonce_tpm, b"", encrypts=False, bound_name=b"")
    session.hash_alg = hash_alg
    return session


def start_trial(chip: Chip) -> PolicySession:
    """A trial session: it computes a policy digest and authorizes nothing."""
    s = _start(chip, SE.TRIAL)
    return PolicySession(s.handle, s.nonce_tpm, s.key, encrypts=False, bound_name=b"")
