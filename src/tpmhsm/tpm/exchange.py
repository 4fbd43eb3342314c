"""One command under sessions: encryption, HMACs, and the verification of the answer.

TCG TPM 2.0 Library Part 1 §19 (authorizations) and §21 (session-based encryption).
"""

from __future__ import annotations

from typing import Any

from tpmhsm.tpm.sessions import Auth, Session
from tpmhsm.wire.cfb import cfb_decrypt, cfb_encrypt
from tpmhsm.wire.commands import (
    Clear,
    HierarchyChangeAuth,
    NV_ChangeAuth,
    NV_UndefineSpaceSpecial,
)
from tpmhsm.wire.constants import SessionAttributes
from tpmhsm.wire.framing import Command, Layout, Reply, parse_auth_area
from tpmhsm.wire.names import cp_hash, rp_hash

_DECRYPT = int(SessionAttributes.DECRYPT)
_ENCRYPT = int(SessionAttributes.ENCRYPT)


class Exchange:
    """The authorization area of one command, and the verification of its response.

    `hashed` says that the Names of the handles are needed, for cpHash.
    """

    def __init__(self, command: Command[Any], layout: Layout, auths: tuple[Auth, ...]) -> None:
        self._command = command
        self._layout = layout
        self._auths = auths
        self._names: tuple[bytes, ...] = ()
        self._attributes: list[int] = []
        self._decrypts: int | None = None
        self._encrypts: int | None = None
        self.hashed = False
        for auth in auths:
            if auth.keyed or auth.encrypts:
                self.hashed = True

    def protect(self, names: tuple[bytes, ...], parameters: bytes) -> tuple[bytes, bytes]:
        """The parameters, encrypted if a session does that, and the authorization area."""
        if not self.hashed:
            return parameters, b"".join([auth.plain_area() for auth in self._auths])
        self._names = names
        self._choose()
        parameters = self._encrypt(parameters)
        hashed = cp_hash(self._layout.code, names, parameters)
        return parameters, b"".join([self._area(i, hashed) for i in range(len(self._auths))])

    def _choose(self) -> None:
        """Roll nonces; the first session that can encrypts (Part 1 §21.1: one each way)."""
        for i, auth in enumerate(self._auths):
            bits = 0
            if isinstance(auth, Session):
                auth.roll()
                bits = auth.attributes
                to_chip = auth.encrypts and auth.both_ways
                if to_chip and self._layout.encryptable and self._decrypts is None:
                    self._decrypts, bits = i, bits | _DECRYPT
                if auth.encrypts and self._layout.response_encryptable and self._encrypts is None:
                    self._encrypts, bits = i, bits | _ENCRYPT
            self._attributes.append(bits)

    def _session(self, i: int) -> Session:
        session = self._auths[i]
        assert isinstance(session, Session)  # noqa: S101 (chosen by _choose)
        return session

    def _name(self, i: int) -> bytes | None:
        return self._names[i] if i < self._layout.auths else None

    def _encryption_value(self, i: int) -> bytes:
        """A session that stands for an entity encrypts with its value, bound or not (§21.2)."""
        return self._session(i).auth_value.rstrip(b"\0") if i < self._layout.auths else b""

    def _encrypt(self, parameters: bytes) -> bytes:
        if self._decrypts is None:
            return parameters
        session = self._session(self._decrypts)
        value = self._encryption_value(self._decrypts)
        key, iv = session.cipher(value, session.nonce_caller, session.nonce_tpm)
        end = 2 + int.from_bytes(parameters[:2], "big")
        return parameters[:2] + cfb_encrypt(key, iv, parameters[2:end]) + parameters[end:]

    def _area(self, i: int, hashed: bytes) -> bytes:
        auth = self._auths[i]
        if not isinstance(auth, Session):
            return auth.plain_area()
        bits = self._attributes[i]
        if not auth.keyed:
            value = auth.auth_value if getattr(auth, "with_password", False) else b""
            return auth.area(bits, value)
        return auth.area(
            bits, auth.mac(hashed, bits, auth.value_for(self._name(i)), self._extra(i))
        )

    def _extra(self, i: int) -> bytes:
        """The first session's HMAC covers the nonces of the encrypting ones (Part 1 §19.6.5)."""
        if i:
            return b""
        others = [self._decrypts, self._encrypts if self._encrypts != self._decrypts else None]
        return b"".join([self._session(k).nonce_tpm for k in others if k])

    def verify(self, reply: Reply) -> bytes:
        """Verify every session's answer; the response's parameters, decrypted.

        Raises VerificationError, ParseError.
        """
        answers = parse_auth_area(reply.auth_area, len(self._auths))
        if not self.hashed:
            for auth, answer in zip(self._auths, answers, strict=True):
                auth.accept_plain(answer)
            return reply.parameters
        hashed = rp_hash(self._layout.code, reply.parameters)
        for i, (auth, answer) in enumerate(zip(self._auths, answers, strict=True)):
            if isinstance(auth, Session) and auth.keyed:
                auth.accept(answer, hashed, self._value_after(i, auth))
            else:
                auth.accept_plain(answer)
        return self._decrypt(reply.parameters)

    def _value_after(self, i: int, session: Session) -> bytes:
        """The value in the response's HMAC, which the command itself may have changed.

        Whether it is included was decided before; a bound session is then bound no more.
        """
        name = self._name(i)
        after = None if i else _new_value(self._command)
        if after is None:
            return session.value_for(name)
        included = session.includes_value(name)
        session.unbind()
        return after if included else b""

    def _decrypt(self, parameters: bytes) -> bytes:
        if self._encrypts is None:
            return parameters
        session = self._session(self._encrypts)
        value = self._encryption_value(self._encrypts)
        key, iv = session.cipher(value, session.nonce_tpm, session.nonce_caller)
        end = 2 + int.from_bytes(parameters[:2], "big")
        return parameters[:2] + cfb_decrypt(key, iv, parameters[2:end]) + parameters[end:]


def _new_value(command: Command[Any]) -> bytes | None:
    """The value of the first handle's entity after the command, when the command changes it."""
    if isinstance(command, HierarchyChangeAuth | NV_ChangeAuth):
        return command.new_auth.rstrip(b"\0")
    return b"" if isinstance(command, Clear | NV_UndefineSpaceSpecial) else None
