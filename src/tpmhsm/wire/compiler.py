"""From the fields of a structure to one function that writes it and one that reads it.

The functions are written as source and compiled, once for a class, as `dataclasses` does with
`__init__`: nested closures took three times as long, and a chip signs often. What goes into the
source are names of fields, which are Python identifiers of ours; nothing from outside.

    def unpack(data, at):                             # for TPMS_SIGNATURE_ECC
        f_hash_alg, size, = read0(data, at)
        at += 4; end = at + size
        if end > total: raise short(size, total - at)
        f_r = data[at:end]; at = end
        …
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.wire.codec import TPM2B, Codec, Pack, Select, Structure, Unpack, resolve

Fields = tuple[tuple[str, Codec | Select], ...]
Scope = dict[str, Any]


def compile_fields(cls: type[Structure], fields: Fields) -> Codec:
    """The codec of a class with these fields."""
    return Codec(pack_fields(fields), _unpacker(cls, fields))


def pack_fields(fields: Fields) -> Pack:
    """An encoder for some fields of a structure."""
    scope: Scope = {}
    parts: list[str] = []
    run: list[str] = []
    letters = ""
    for name, kind in (*fields, ("", None)):
        if isinstance(kind, Codec) and kind.format:
            run.append(f"value.{name}")
            letters += kind.format
            continue
        if run:
            scope[f"write{len(parts)}"] = struct.Struct(">" + letters).pack
            parts.append(f"write{len(parts)}({', '.join(run)})")
            run, letters = [], ""
        if kind is not None:
            parts += _written(name, kind, f"write{len(parts)}", scope)
    body = parts[0] if len(parts) == 1 else f'b"".join(({"".join(p + ", " for p in parts)}))'
    function: Pack = _make("pack", ["def pack(value):", f"    return {body}"], scope)
    return function


def _written(name: str, kind: Codec | Select, function: str, scope: Scope) -> list[str]:
    if kind is TPM2B:
        return [f'len(value.{name}).to_bytes(2, "big")', f"value.{name}"]
    if isinstance(kind, Codec):
        scope[function] = kind.pack
        return [f"{function}(value.{name})"]
    scope[function] = _union_writer(name, kind)
    return [f"{function}(value.{kind.selector}, value.{name})"]


def _unpacker(cls: type[Structure], fields: Fields) -> Unpack:
    scope: Scope = {"cls": cls, "new": object.__new__, "short": _short}
    lines = ["def unpack(data, at):", "    total = len(data)"]
    run: list[str] = []
    letters = ""
    for i, (name, kind) in enumerate(fields):
        if isinstance(kind, Codec) and kind.format:
            run.append(f"f_{name}")
            letters += kind.format
            continue
        if kind is TPM2B:  # its size is read together with the integers before it
            lines += _integers([*run, "size"], letters + "H", f"read{i}", scope)
            lines += ["    end = at + size", "    if end > total: raise short(size, total - at)"]
            lines += [f"    f_{name} = data[at:end]", "    at = end"]
        else:
            lines += _integers(run, letters, f"reads{i}", scope)
            lines.append(_read(name, kind, f"read{i}", scope))
        run, letters = [], ""
    lines += _integers(run, letters, "reads", scope)
    lines += ["    made = new(cls)", "    d = made.__dict__"]
    lines += [f"    d[{name!r}] = f_{name}" for name, _ in fields]
    function: Unpack = _make("unpack", [*lines, "    return made, at"], scope)
    return function


def _integers(names: list[str], letters: str, function: str, scope: Scope) -> list[str]:
    if not names:
        return []
    st = struct.Struct(">" + letters)
    scope[function] = st.unpack_from
    return [f"    {', '.join(names)}, = {function}(data, at)", f"    at += {st.size}"]


def _read(name: str, kind: Codec | Select, function: str, scope: Scope) -> str:
    if isinstance(kind, Codec):
        scope[function] = kind.unpack
        return f"    f_{name}, at = {function}(data, at)"
    scope[function] = _union_reader(kind)
    return f"    f_{name}, at = {function}(f_{kind.selector}, data, at)"


def _make(name: str, lines: list[str], scope: Scope) -> Any:
    exec("\n".join(lines), scope)  # noqa: S102 (our own tables; see above)
    return scope[name]


def _short(size: int, left: int) -> ParseError:
    return ParseError(f"a size field says {size} octets, {left} are left")


def _cases(union: Select) -> dict[int, Codec | None]:
    return {int(k): None if case is None else resolve(case) for k, case in union.cases.items()}


def _unknown(union: Select, selector: int) -> ParseError:
    return ParseError(f"0x{selector:x} is no known {union.selector}")


def _union_writer(name: str, union: Select) -> Callable[[int, Any], bytes]:
    cases = _cases(union)

    def write(selector: int, inner: Any) -> bytes:
        if selector not in cases:
            raise _unknown(union, selector)
        case = cases[selector]
        if case is not None:
            return case.pack(inner)
        if inner is not None:
            raise UsageError(f"{name} must be None for {union.selector} {selector!r}")
        return b""

    return write


def _union_reader(union: Select) -> Callable[[int, bytes, int], tuple[Any, int]]:
    cases = _cases(union)

    def read(selector: int, data: bytes, at: int) -> tuple[Any, int]:
        if selector not in cases:
            raise _unknown(union, selector)
        case = cases[selector]
        return (None, at) if case is None else case.unpack(data, at)

    return read
