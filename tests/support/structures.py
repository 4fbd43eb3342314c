"""Hypothesis strategies for any structure of wire, from the same tables as its codec."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

from hypothesis import strategies as st

from tpmhsm.wire.codec import Codec, Select, Structure
from tpmhsm.wire.constants import CAP, DIGEST_SIZES, TPM_GENERATED
from tpmhsm.wire.structures import (
    AlgProperty,
    CapabilityData,
    Ha,
    PcrSelect,
    PcrSelection,
    TaggedPolicy,
    TaggedProperty,
)

_RANGES = {
    "B": (0, 0xFF),
    "H": (0, 0xFFFF),
    "I": (0, 0xFFFFFFFF),
    "Q": (0, (1 << 64) - 1),
    "b": (-128, 127),
    "i": (-(1 << 31), (1 << 31) - 1),
}
_OCTETS = st.binary(max_size=40)
_ITEMS: dict[int, Any] = {
    CAP.ALGS: AlgProperty,
    CAP.PCRS: PcrSelection,
    CAP.TPM_PROPERTIES: TaggedProperty,
    CAP.PCR_PROPERTIES: PcrSelect,
    CAP.AUTH_POLICIES: TaggedPolicy,
    CAP.ECC_CURVES: "H",
}


@st.composite
def of(draw: st.DrawFn, cls: type[Structure]) -> Any:
    """A valid value of a structure."""
    if cls is CapabilityData:
        return draw(_capability_data())
    values: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(cls, eval_str=True).items():
        values[name] = draw(_field(cls, name, hint, values))
    return cls(**values)


@st.composite
def _capability_data(draw: st.DrawFn) -> CapabilityData:
    capability = draw(st.sampled_from(list(CAP)))
    kind = _ITEMS.get(capability, "I")
    item = st.integers(*_RANGES[kind]) if isinstance(kind, str) else of(kind)
    return CapabilityData(int(capability), tuple(draw(st.lists(item, max_size=4))))


def _field(cls: type, name: str, hint: Any, earlier: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(hint, type):
        return of(hint)
    metadata = hint.__metadata__[0]
    if isinstance(metadata, Select):
        return _case(cls, metadata.cases[earlier[metadata.selector]], earlier[metadata.selector])
    if name == "magic":
        return st.just(TPM_GENERATED)
    selects = [
        h.__metadata__[0]
        for h in inspect.get_annotations(cls, eval_str=True).values()
        if not isinstance(h, type) and isinstance(h.__metadata__[0], Select)
    ]
    keys = [set(map(int, s.cases)) for s in selects if s.selector == name]
    if keys:
        return st.sampled_from(sorted(set.intersection(*keys)))
    return _plain(hint.__origin__, metadata)


def _case(cls: type, case: Any, selector: int) -> st.SearchStrategy[Any]:
    if case is None:
        return st.none()
    if isinstance(case, type):
        return of(case)
    if cls is Ha:
        size = DIGEST_SIZES[selector]
        return st.binary(min_size=size, max_size=size)
    return _OCTETS


def _plain(kind: Any, codec: Codec) -> st.SearchStrategy[Any]:
    if codec.format:
        return st.integers(*_RANGES[codec.format])
    if kind is bool:
        return st.booleans()
    if kind is bytes:
        return _OCTETS
    if isinstance(kind, types.UnionType):
        inner = next(k for k in typing.get_args(kind) if k is not types.NoneType)
        return st.none() | of(inner)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        plain = {int: st.integers(0, 0xFFFFFFFF), bytes: _OCTETS}
        item = plain[inner] if inner in plain else of(inner)
        return st.lists(item, max_size=4).map(tuple)
    return of(kind)
