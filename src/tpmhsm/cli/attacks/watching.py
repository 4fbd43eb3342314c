"""Every command that goes to the chip, and its answer, in words: read from the bytes themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.tpm.door import Door
from tpmhsm.wire import commands
from tpmhsm.wire.codec import Structure, decode, decode_from
from tpmhsm.wire.constants import ALG, CC, EO, HT, RH, SE, ST
from tpmhsm.wire.framing import AuthCommand, Command, layout_of
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.rc import describe
from tpmhsm.wire.structures import (
    NvPublic,
    Sensitive,
    SensitiveCreate,
    Signature,
    SigScheme,
    SymDef,
    Ticket,
)

_KINDS: dict[int, type[Command[Any]]] = {
    int(kind.CODE): kind
    for kind in vars(commands).values()
    if isinstance(kind, type) and issubclass(kind, Command)
}
_HEADER = 10
_SAYS_NOTHING = frozenset({"auth_hash"})
_SEVERAL = {"hash_list": "alternatives"}
_SHORT = 8
"""Octets of a longer value that are shown."""


@dataclass(frozen=True)
class Heard:
    """One command as it was sent: its name without "TPM2_", what it named, by whose authority,
    with which parameters; `rc` the chip's answer, `raw` the command's bytes.
    """

    name: str
    handles: tuple[str, ...]
    auths: tuple[str, ...]
    parameters: tuple[str, ...]
    rc: int
    raw: bytes

    @property
    def words(self) -> str:
        """The command in a line, as `Sign(key "root"; digest 4f1c9b07…; by a policy session)`."""
        named = dict.fromkeys(self.handles)  # an NV index stands for itself, and is named twice
        parts = [", ".join(named), ", ".join(self.parameters)]
        parts += [f"by {' and '.join(self.auths)}"] if self.auths else []
        return f"{self.name}({'; '.join(part for part in parts if part)})"

    @property
    def answer(self) -> str:
        """What the chip said, with its code and the code's name."""
        return describe(self.rc, self.name) if self.rc else "ok"


class Names:
    """What handles and Names stand for, in words; learns from what goes by."""

    def __init__(self, known: Mapping[bytes, str], indices: Mapping[int, str]) -> None:
        self._known = dict(known)
        self._at: dict[int, str] = {int(one): words for one, words in _HIERARCHIES.items()}
        self._at.update({index: f"{words} 0x{index:08x}" for index, words in indices.items()})

    def of(self, handle: int) -> str:
        """A handle in words."""
        kind = handle >> 24
        if kind == HT.PCR:
            return f"PCR {handle}"
        if handle not in self._at and kind in (HT.HMAC_SESSION, HT.POLICY_SESSION):
            return "session"
        return self._at.get(handle, f"0x{handle:08x}")

    def called(self, name: bytes) -> str:
        """What a Name stands for; empty when nobody knows, or it is none."""
        return self._known.get(name, "")

    def learn(self, command: Any, answer: bytes) -> None:
        """Remember what a handle that the chip gave, or told of, stands for."""
        if isinstance(command, commands.ReadPublic):
            shown = decode(commands.ReadPublicResponse, answer[_HEADER:])
            if words := self._known.get(shown.name):
                self._at[command.object_handle] = words
            return
        public = getattr(command, "in_public", None)
        if not isinstance(public, Public) or len(answer) < _HEADER + 4:
            return
        handle = int.from_bytes(answer[_HEADER : _HEADER + 4], "big")
        self._at[handle] = self._known.get(name_of_public(public), "an object of root's")


_HIERARCHIES = {
    RH.OWNER: "owner",
    RH.NULL: "null",
    RH.ENDORSEMENT: "endorsement",
    RH.PLATFORM: "platform",
    RH.LOCKOUT: "lockout",
}


class WatchedDoor:
    """A door that tells of all that goes through it."""

    def __init__(self, inner: Door, names: Names, hear: Callable[[Heard], None]) -> None:
        self._inner, self._names, self._hear = inner, names, hear
        self.broken = False

    def send(self, command: bytes) -> bytes:
        """Send it on, then tell. Raises DeviceError."""
        try:
            answer = self._inner.send(command)
        finally:
            self.broken = self._inner.broken
        self._hear(heard(command, answer, self._names))
        return answer

    def close(self) -> None:
        """Let go of the chip."""
        self._inner.close()


def heard(command: bytes, answer: bytes, names: Names) -> Heard:
    """A command and its answer in words; what is unknown is shown as it is."""
    rc = int.from_bytes(answer[6:10], "big")
    code = int.from_bytes(command[6:10], "big")
    kind = _KINDS.get(code)
    if kind is None:
        return Heard(f"command 0x{code:03x}", (), (), (command[_HEADER:].hex(),), rc, command)
    count = len(layout_of(kind).handles)
    at = _HEADER + 4 * count
    handles = [int.from_bytes(command[i : i + 4], "big") for i in range(_HEADER, at, 4)]
    area, rest = _split(command, at)
    shown: tuple[str, ...]
    try:
        value: Any = decode(kind, command[_HEADER:at] + rest)
        shown = tuple(filter(None, (_field(f.name, getattr(value, f.name), names) for f in
                                    fields(value)[count:])))  # fmt: skip
        if not rc:
            names.learn(value, answer)
    except ParseError:  # encrypted by a session
        shown = (f"{len(rest)} octets",)
    named = tuple(names.of(handle) for handle in handles)
    return Heard(kind.__name__, named, _auths(area, names), shown, rc, command)


def _split(command: bytes, at: int) -> tuple[bytes, bytes]:
    """The authorization area and the parameters."""
    if int.from_bytes(command[:2], "big") != ST.SESSIONS:
        return b"", command[at:]
    end = at + 4 + int.from_bytes(command[at : at + 4], "big")
    return command[at + 4 : end], command[end:]


def _auths(area: bytes, names: Names) -> tuple[str, ...]:
    found, at = [], 0
    while at < len(area):
        auth, at = decode_from(AuthCommand, area, at)
        if auth.session == RH.PW:
            found.append("a password" if auth.hmac else "the empty password")
        elif auth.session >> 24 == HT.POLICY_SESSION:
            found.append("a policy session")
        else:
            found.append("an HMAC session")
    return tuple(found)


def _field(name: str, value: Any, names: Names) -> str:
    """One parameter in words; empty for one that says nothing."""
    words = name.replace("_", " ")
    if isinstance(value, bytes):
        return f"{words} {names.called(value) or _octets(value)}" if value else ""
    if isinstance(value, bool):
        return words if value else ""
    if isinstance(value, int):
        return "" if name in _SAYS_NOTHING else f"{words} {_number(name, value)}"
    if isinstance(value, tuple):
        return f"{len(value)} {_SEVERAL.get(name, words)}" if value else ""
    return _structure(words, value) if isinstance(value, Structure) else ""


def _octets(value: bytes) -> str:
    if len(value) <= _SHORT:
        return value.hex()
    return f"{value[:_SHORT].hex()}…({len(value)})"


def _number(name: str, value: int) -> str:
    if name == "session_type":
        return SE(value).name.lower() if value in set(SE) else hex(value)
    if name == "hierarchy":
        return _HIERARCHIES.get(RH(value), hex(value)) if value in set(RH) else hex(value)
    if name == "operation":
        return EO(value).name if value in set(EO) else hex(value)
    if name == "code":
        return CC(value).name if value in set(CC) else hex(value)
    if "alg" in name or "hash" in name:
        return ALG(value).name if value in set(ALG) else hex(value)
    return str(value)


def _structure(words: str, value: Structure) -> str:
    if isinstance(value, NvPublic):
        return f"index 0x{value.nv_index:08x}, attributes 0x{value.attributes:08x}"
    if isinstance(value, Signature):
        return "a signature"
    if isinstance(value, Ticket):
        return f"ticket {_octets(value.digest)}" if value.digest else ""
    if isinstance(value, SigScheme):
        return f"scheme {ALG(value.scheme).name}"
    return "" if isinstance(value, (Public, SymDef, SensitiveCreate, Sensitive)) else words
