"""How a table becomes an encoder and a decoder.

A structure is a frozen dataclass with one line a field; each annotation names the field's codec.
The codec of a class is built by `compiler` on first use, once. Nothing is looked up by reflection
per call.

    @structure
    class NvPublic(Structure):
        '''TPMS_NV_PUBLIC.'''

        nv_index: U32
        name_alg: U16
        …

All integers are big-endian (Part 1 §5.8 of the TCG TPM 2.0 Library).
"""

from __future__ import annotations

import dataclasses
import inspect
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar, dataclass_transform

from tpmhsm.errors import ParseError, UsageError

Pack = Callable[[Any], bytes]
Unpack = Callable[[bytes, int], tuple[Any, int]]

MAX_SIZE = 0xFFFF
_ENCODING = (struct.error, TypeError, OverflowError, AttributeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Codec:
    """How one value is written and read.

    `unpack(data, at)` gives the value and the place after it; on short data it may raise
    IndexError or struct.error, which `decode` turns into ParseError. `format` is the letter of a
    plain integer for `struct`, else empty. `sized` says that the value begins with a 16-bit size
    of what follows (TPM2B), which is what the TPM can encrypt. `handle` is "handle" or "auth" for
    a handle of a command.
    """

    pack: Pack
    unpack: Unpack
    format: str = ""
    sized: bool = False
    handle: str = ""


@dataclasses.dataclass(frozen=True)
class Select:
    """A union: which codec applies is said by an earlier field (`None`: no octets)."""

    selector: str
    cases: Mapping[int, Codec | type[Structure] | None]


def _integer(letter: str, handle: str = "") -> Codec:
    st = struct.Struct(">" + letter)
    size = st.size
    read = st.unpack_from

    def unpack(data: bytes, at: int) -> tuple[int, int]:
        return read(data, at)[0], at + size

    return Codec(st.pack, unpack, format=letter, handle=handle)


def _pack_tpm2b(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _unpack_tpm2b(data: bytes, at: int) -> tuple[bytes, int]:
    at += 2
    end = at + (data[at - 2] << 8 | data[at - 1])
    if end > len(data):
        raise ParseError(f"a size field says {end - at} octets, {len(data) - at} are left")
    return data[at:end], end


def _pack_octets8(value: bytes) -> bytes:
    return len(value).to_bytes(1, "big") + value


def _unpack_octets8(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise ParseError(f"a size field says {data[at]} octets, {len(data) - at - 1} are left")
    return data[at + 1 : end], end


def fixed(size: int) -> Codec:
    """Exactly `size` octets."""

    def pack(value: bytes) -> bytes:
        if len(value) != size:
            raise UsageError(f"{len(value)} octets where {size} belong")
        return bytes(value)

    def unpack(data: bytes, at: int) -> tuple[bytes, int]:
        end = at + size
        if end > len(data):
            raise ParseError(f"{size} octets expected, {len(data) - at} are left")
        return data[at:end], end

    return Codec(pack, unpack)


def _yes_no() -> Codec:
    def unpack(data: bytes, at: int) -> tuple[bool, int]:
        if data[at] > 1:
            raise ParseError(f"0x{data[at]:02x} where YES (1) or NO (0) belongs")
        return data[at] == 1, at + 1

    return Codec(lambda value: b"\x01" if value else b"\x00", unpack)


def constant(expected: int, letter: str) -> Codec:
    """An integer that can have one value only; any other is a ParseError."""
    inner = _integer(letter)

    def unpack(data: bytes, at: int) -> tuple[int, int]:
        value, end = inner.unpack(data, at)
        if value != expected:
            raise ParseError(f"0x{value:x} where 0x{expected:x} belongs")
        return value, end

    return Codec(inner.pack, unpack)


def resolve(kind: Codec | type[Structure]) -> Codec:
    """The codec itself, or that of a structure."""
    return kind if isinstance(kind, Codec) else codec_of(kind)


def listed(kind: Codec | type[Structure]) -> Codec:
    """A 32-bit count and that many items (TPML); values are tuples."""

    def pack(value: tuple[Any, ...]) -> bytes:
        one = resolve(kind).pack
        return len(value).to_bytes(4, "big") + b"".join([one(item) for item in value])

    def unpack(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        one = resolve(kind).unpack
        count = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if count > len(data) - at:  # every item has at least one octet
            raise ParseError(f"a list says {count} items, {max(0, len(data) - at)} octets are left")
        items = []
        for _ in range(count):
            item, at = one(data, at)
            items.append(item)
        return tuple(items), at

    return Codec(pack, unpack)


def sized(kind: type[Structure]) -> Codec:
    """A structure inside a TPM2B: its size in 16 bits, then exactly that; `None` is empty."""

    def pack(value: Any) -> bytes:
        return _pack_tpm2b(b"" if value is None else codec_of(kind).pack(value))

    def unpack(data: bytes, at: int) -> tuple[Any, int]:
        inner, end = _unpack_tpm2b(data, at)
        if not inner:
            return None, end
        value, used = codec_of(kind).unpack(inner, 0)
        if used != len(inner):
            raise ParseError(f"{len(inner) - used} octets too many in {kind.__name__}")
        return value, end

    return Codec(pack, unpack, sized=True)


def _required(kind: type[Structure]) -> Codec:
    inner = sized(kind)

    def unpack(data: bytes, at: int) -> tuple[Any, int]:
        value, end = inner.unpack(data, at)
        if value is None:
            raise ParseError(f"an empty {kind.__name__}")
        return value, end

    return dataclasses.replace(inner, unpack=unpack)


def sized_required(kind: type[Structure]) -> Codec:
    """As `sized`, but an empty TPM2B is refused."""
    return _required(kind)


U8 = Annotated[int, _integer("B")]
U16 = Annotated[int, _integer("H")]
U32 = Annotated[int, _integer("I")]
U64 = Annotated[int, _integer("Q")]
I8 = Annotated[int, _integer("b")]
I32 = Annotated[int, _integer("i")]
Handle = Annotated[int, _integer("I", handle="handle")]
AuthHandle = Annotated[int, _integer("I", handle="auth")]
YesNo = Annotated[bool, _yes_no()]
Tpm2b = Annotated[bytes, Codec(_pack_tpm2b, _unpack_tpm2b, sized=True)]
Octets8 = Annotated[bytes, Codec(_pack_octets8, _unpack_octets8)]

TPM2B: Codec = Tpm2b.__metadata__[0]  # type: ignore[attr-defined]
UINT16: Codec = U16.__metadata__[0]  # type: ignore[attr-defined]
UINT32: Codec = U32.__metadata__[0]  # type: ignore[attr-defined]


class Structure:
    """A frozen value with named fields; subclasses are made by `structure` and `command`."""

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _codec: ClassVar[Codec | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self._names
        if len(args) == len(names) and not kwargs:
            self.__dict__.update(zip(names, args, strict=True))
            return
        values = {**self._defaults, **dict(zip(names, args, strict=False)), **kwargs}
        given = len(args) + len(kwargs)
        if values.keys() != set(names) or len(args) > len(names) or given > len(names):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names) or 'none'}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[Any, ...]:
        return tuple([self.__dict__[name] for name in self._names])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_show(self.__dict__[name])}" for name in self._names)
        return f"{type(self).__name__}({shown})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})


def _show(value: object) -> str:
    return f"'{value.hex()}'" if isinstance(value, bytes) else repr(value)


T = TypeVar("T")
S = TypeVar("S", bound=Structure)


@dataclass_transform(frozen_default=True)
def structure(cls: type[S]) -> type[S]:
    """Make a `Structure` of a class whose annotations name codecs, one line a field."""
    cls._names = tuple(inspect.get_annotations(cls))
    cls._defaults = {n: cls.__dict__[n] for n in cls._names if n in cls.__dict__}
    cls._codec = None
    # For dataclasses.fields and .replace; __init__ and the rest come from Structure, because
    # writing them anew for each of some 200 classes would cost 100 ms at every start.
    return dataclasses.dataclass(init=False, repr=False, eq=False)(cls)


def hints_of(cls: type[Structure]) -> Iterator[tuple[str, Codec | Select]]:
    """The fields of a structure with their codecs, in order."""
    for name, hint in inspect.get_annotations(cls, eval_str=True).items():
        if isinstance(hint, type) and issubclass(hint, Structure):
            yield name, codec_of(hint)
        else:
            yield name, hint.__metadata__[0]


def codec_of(cls: type[Structure]) -> Codec:
    """The codec of a structure, built on first use."""
    if cls._codec is None:
        from tpmhsm.wire.compiler import compile_fields

        cls._codec = compile_fields(cls, tuple(hints_of(cls)))
    return cls._codec


def encode(value: Structure) -> bytes:
    """The octets of a structure.

    Raises UsageError when a field has a value that does not fit it.
    """
    try:
        return codec_of(type(value)).pack(value)
    except _ENCODING as e:
        raise UsageError(f"{type(value).__name__} cannot be encoded: {e}") from e


def decode(cls: type[S], data: bytes) -> S:
    """The structure that fills `data` completely.

    Raises ParseError on anything else: short or long data, unknown selectors, wrong sizes.
    """
    value, end = decode_from(cls, data, 0)
    if end != len(data):
        raise ParseError(f"{len(data) - end} octets too many after {cls.__name__}")
    return value


def decode_from(cls: type[S], data: bytes, at: int) -> tuple[S, int]:
    """The structure at offset `at`, and the offset after it. Raises ParseError."""
    try:
        return codec_of(cls).unpack(data, at)
    except (IndexError, struct.error) as e:
        raise ParseError(f"the data end inside {cls.__name__}") from e
