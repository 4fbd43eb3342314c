"""Commands and responses as they travel: header, handles, authorization area, parameters.

TCG TPM 2.0 Library Part 1 §18 (command and response structure) and Part 3 §4.4.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, dataclass_transform

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.wire.codec import (
    _ENCODING,
    U8,
    U32,
    Codec,
    Pack,
    Structure,
    Tpm2b,
    codec_of,
    decode_from,
    hints_of,
    structure,
)
from tpmhsm.wire.compiler import pack_fields
from tpmhsm.wire.constants import CC, ST

R = TypeVar("R", bound=Structure)
C = TypeVar("C", bound="Command[Any]")

_HEADER = struct.Struct(">HII")
_SIZE = struct.Struct(">I")
HEADER_SIZE = _HEADER.size
_TAGS = frozenset((ST.NO_SESSIONS, ST.SESSIONS, ST.RSP_COMMAND))


class Layout(NamedTuple):
    """What the table of a command says about it.

    `auths` of the `handles` need an authorization (they stand first). `encryptable` and
    `response_encryptable` say that the first parameter is a TPM2B, which a session can encrypt.
    """

    code: int
    handles: tuple[str, ...]
    auths: int
    pack_handles: Pack
    pack_parameters: Pack
    encryptable: bool
    response: type[Structure]
    response_handle: bool
    response_encryptable: bool


class Command(Structure, Generic[R]):
    """A command with its typed response; subclasses are made by `command`."""

    CODE: ClassVar[CC]
    Response: ClassVar[type[Structure]]
    _layout: ClassVar[Layout | None] = None


@dataclass_transform(frozen_default=True)
def command(code: CC) -> Any:
    """Make a `Command` of a class whose annotations name handles, then parameters."""

    def make(cls: type[C]) -> type[C]:
        made = structure(cls)
        made.CODE = code
        made.Response = cls.__orig_bases__[0].__args__[0]  # type: ignore[attr-defined]
        made._layout = None
        return made

    return make


def _first_sized(fields: tuple[tuple[str, Any], ...]) -> bool:
    return bool(fields) and isinstance(fields[0][1], Codec) and fields[0][1].sized


def layout_of(cls: type[Command[Any]]) -> Layout:
    """The layout of a command, built on first use."""
    if cls._layout is None:
        fields = tuple(hints_of(cls))
        handles = tuple(f for f in fields if getattr(f[1], "handle", ""))
        parameters = fields[len(handles) :]
        answers = tuple(hints_of(cls.Response))
        gives = bool(answers) and bool(getattr(answers[0][1], "handle", ""))
        cls._layout = Layout(
            code=int(cls.CODE),
            handles=tuple(name for name, _ in handles),
            auths=sum(1 for _, kind in handles if getattr(kind, "handle", "") == "auth"),
            pack_handles=pack_fields(handles),
            pack_parameters=pack_fields(parameters),
            encryptable=_first_sized(parameters),
            response=cls.Response,
            response_handle=gives,
            response_encryptable=_first_sized(answers[1:] if gives else answers),
        )
    return cls._layout


def handles_of(value: Command[Any]) -> tuple[int, ...]:
    """The handles of a command, in order."""
    return tuple([getattr(value, name) for name in layout_of(type(value)).handles])


def encode_handles(value: Command[Any]) -> bytes:
    """The handle area of a command. Raises UsageError."""
    try:
        return layout_of(type(value)).pack_handles(value)
    except _ENCODING as e:
        raise UsageError(f"{type(value).__name__} cannot be encoded: {e}") from e


def encode_parameters(value: Command[Any]) -> bytes:
    """The parameter area of a command, which cpHash covers. Raises UsageError."""
    try:
        return layout_of(type(value)).pack_parameters(value)
    except _ENCODING as e:
        raise UsageError(f"{type(value).__name__} cannot be encoded: {e}") from e


def build(code: int, handles: bytes, parameters: bytes, auth_area: bytes = b"") -> bytes:
    """A whole command; with an authorization area its tag is TPM_ST_SESSIONS."""
    if not auth_area:
        size = 10 + len(handles) + len(parameters)
        return _HEADER.pack(ST.NO_SESSIONS, size, code) + handles + parameters
    size = 14 + len(handles) + len(auth_area) + len(parameters)
    head = _HEADER.pack(ST.SESSIONS, size, code)
    return b"".join([head, handles, _SIZE.pack(len(auth_area)), auth_area, parameters])


def encode_command(value: Command[Any], auth_area: bytes = b"") -> bytes:
    """A whole command with a ready authorization area. Raises UsageError."""
    handles, parameters = encode_handles(value), encode_parameters(value)
    return build(layout_of(type(value)).code, handles, parameters, auth_area)


@structure
class AuthCommand(Structure):
    """TPMS_AUTH_COMMAND (Part 2 §10.13.2, table 128)."""

    session: U32
    nonce: Tpm2b
    attributes: U8
    hmac: Tpm2b


@structure
class AuthResponse(Structure):
    """TPMS_AUTH_RESPONSE (Part 2 §10.13.3, table 129)."""

    nonce: Tpm2b
    attributes: U8
    hmac: Tpm2b


class Reply(NamedTuple):
    """The parts of a response. All but `rc` are empty when `rc` is not 0."""

    rc: int
    handle: bytes
    parameters: bytes
    auth_area: bytes


def parse_header(data: bytes) -> tuple[int, int]:
    """The tag and return code of a response whose size field is right. Raises ParseError."""
    if len(data) < HEADER_SIZE:
        raise ParseError(f"a response of {len(data)} octets")
    tag, size, rc = _HEADER.unpack_from(data)
    if size != len(data):
        raise ParseError(f"a response of {len(data)} octets says it has {size}")
    if tag not in _TAGS:
        raise ParseError(f"a response with the tag 0x{tag:04x}")
    return tag, rc


def split_response(data: bytes, *, handle: bool, sessions: bool) -> Reply:
    """The parts of a response to a command that was sent with or without sessions, and whether the
    response has a handle. Raises ParseError.
    """
    tag, rc = parse_header(data)
    if rc:
        return Reply(rc, b"", b"", b"")
    if tag != (ST.SESSIONS if sessions else ST.NO_SESSIONS):
        how = "with" if sessions else "without"
        raise ParseError(f"a response with the tag 0x{tag:04x} to a command {how} sessions")
    at = 14 if handle else 10
    if not sessions:
        if len(data) < at:
            raise ParseError("a response without its handle")
        return Reply(rc, data[10:at], data[at:], b"")
    end = at + 4 + int.from_bytes(data[at : at + 4], "big")
    if len(data) < at + 4 or len(data) < end:
        raise ParseError("a response shorter than its parameter size")
    return Reply(rc, data[10:at], data[at + 4 : end], data[end:])


def parse_auth_area(data: bytes, sessions: int) -> tuple[AuthResponse, ...]:
    """The answers to that many sessions. Raises ParseError."""
    auths, at = [], 0
    for _ in range(sessions):
        auth, at = decode_from(AuthResponse, data, at)
        auths.append(auth)
    if at != len(data):
        raise ParseError(f"{len(data) - at} octets too many after the authorizations")
    return tuple(auths)


def parse_response(cls: type[Command[Any]], reply: Reply) -> Structure:
    """The typed response of a command. Raises ParseError."""
    layout = layout_of(cls)
    body = reply.handle + reply.parameters if reply.handle else reply.parameters
    try:
        value, end = codec_of(layout.response).unpack(body, 0)
    except (IndexError, struct.error) as e:
        raise ParseError(f"the response to {cls.__name__} ends too early") from e
    if end != len(body):
        raise ParseError(f"{len(body) - end} octets too many in the response to {cls.__name__}")
    return value  # type: ignore[no-any-return]
