"""NV indices: small places in the chip that outlive power, each with its own rules.

No public area is believed before its Name was recomputed (`read_public`): an ordinary index that
poses as a counter would otherwise be rolled back. TCG Part 2, section 13; Part 3, section 31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    NotFoundError,
    UsageError,
    VerificationError,
)
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Attestation, Loaded
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import (
    GetCapability,
    NV_Certify,
    NV_DefineSpace,
    NV_Increment,
    NV_Read,
    NV_ReadPublic,
    NV_UndefineSpace,
    NV_Write,
)
from tpmhsm.wire.constants import ALG, CAP, HT, NT, PT, RC, RH
from tpmhsm.wire.constants import NvAttributes as Attribute
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.rc import base_code
from tpmhsm.wire.structures import NULL_SCHEME, NvPublic

FIRST_INDEX, LAST_INDEX = 0x01800000, 0x01BFFFFF
"""The owner's range (TCG Registry of Reserved TPM 2.0 Handles and Localities)."""

COUNTER_SIZE = 8  # bytes
_TYPE_SHIFT = 4  # the index type stands in bits 4-7 of the attributes
_READ = Attribute.AUTHREAD | Attribute.OWNERREAD | Attribute.NO_DA


@dataclass(frozen=True)
class NvIndex:
    """An index in the chip. `name` was recomputed from `public` and changes at the first write."""

    public: NvPublic
    name: bytes

    @property
    def index(self) -> int:
        """The handle."""
        return self.public.nv_index

    @property
    def written(self) -> bool:
        """Whether it was ever written: before that it can be neither read nor relied on."""
        return bool(self.public.attributes & Attribute.WRITTEN)

    @property
    def is_counter(self) -> bool:
        """Whether it can only go up."""
        return (self.public.attributes >> _TYPE_SHIFT) & 0xF == NT.COUNTER


def counter_public(index: int, policy: bytes) -> NvPublic:
    """A counter that is incremented under `policy` (32 bytes) alone and read by everybody."""
    attributes = NT.COUNTER << _TYPE_SHIFT | Attribute.POLICYWRITE | _READ
    return NvPublic(index, ALG.SHA256, attributes, policy, COUNTER_SIZE)


def ordinary_public(index: int, size: int, policy: bytes) -> NvPublic:
    """`size` bytes that are written under `policy` (32 bytes) alone and read by everybody."""
    return NvPublic(index, ALG.SHA256, Attribute.POLICYWRITE | _READ, policy, size)


def define(chip: Chip, public: NvPublic, auth: bytes = b"") -> NvIndex:
    """Make an index with this authorization value, by owner authorization.

    Raises UsageError for one that says it is written, ChipRefusedError (0x14c taken, 0x14b full).
    """
    if public.attributes & Attribute.WRITTEN:
        raise UsageError("an index is not written before it is made")
    chip.send(NV_DefineSpace(RH.OWNER, auth, public))
    made = read_public(chip, public.nv_index)
    if made.public != public:
        raise VerificationError(f"the chip made another index than was asked for at {_at(public)}")
    return made


def define_counter(chip: Chip, index: int, policy: bytes) -> NvIndex:
    """Make a counter; see `counter_public`."""
    return define(chip, counter_public(index, policy))


def define_ordinary(chip: Chip, index: int, size: int, policy: bytes) -> NvIndex:
    """Make an ordinary index; see `ordinary_public`."""
    return define(chip, ordinary_public(index, size, policy))


def undefine(chip: Chip, index: int) -> None:
    """Remove an index, by owner authorization. NotFoundError if there is none."""
    read_public(chip, index)
    chip.send(NV_UndefineSpace(RH.OWNER, index))


def read_public(chip: Chip, index: int) -> NvIndex:
    """The public area of an index, with the Name that it really has.

    NotFoundError if there is none; VerificationError if the chip's Name is not that of the area,
    or the area is another index's.
    """
    if not 0x01000000 <= index <= 0x01FFFFFF:
        raise UsageError(f"0x{index:08x} is no NV index")
    try:
        response = chip.send(NV_ReadPublic(index))
    except ChipRefusedError as error:
        if base_code(error.rc) != RC.HANDLE:
            raise
        raise NotFoundError(f"the chip has no NV index 0x{index:08x}") from error
    name = name_of_nv(response.nv_public)
    if name != response.nv_name or response.nv_public.nv_index != index:
        raise VerificationError(f"the chip gives a wrong Name for NV index 0x{index:08x}")
    return NvIndex(response.nv_public, name)


def read(chip: Chip, index: int, size: int | None = None, offset: int = 0) -> bytes:
    """`size` bytes from `offset` (default: all), by the index's own empty authorization or the
    owner's. ChipRefusedError 0x14a when it was never written.
    """
    public = read_public(chip, index).public
    authority = index if public.attributes & Attribute.AUTHREAD else RH.OWNER
    left = public.data_size - offset if size is None else size
    step = _buffer_size(chip) if left > 512 else max(left, 1)
    data = b""
    while left > len(data):
        part = chip.send(NV_Read(authority, index, min(step, left - len(data)), offset + len(data)))
        if not part.data:
            raise DeviceError(f"the chip gives too little of NV index 0x{index:08x}")
        data += part.data
    return data


def content(chip: Chip, public: NvPublic) -> bytes:
    """All of a small index whose public area was just read, in one command; see `read`."""
    authority = public.nv_index if public.attributes & Attribute.AUTHREAD else RH.OWNER
    return chip.send(NV_Read(authority, public.nv_index, public.data_size, 0)).data


def read_counter(chip: Chip, index: int) -> int:
    """A counter's value. VerificationError if the index is no counter."""
    if not read_public(chip, index).is_counter:
        raise VerificationError(
            f"NV index 0x{index:08x} is no counter",
            hint="somebody removed the counter and put an ordinary index in its place",
        )
    return int.from_bytes(read(chip, index, COUNTER_SIZE), "big")


def write(chip: Chip, index: int, data: bytes, *auths: Any, offset: int = 0) -> None:
    """Write in one command, by the index's own authorization (`auths` as for `Chip.send`).

    Raises UsageError for more than the chip takes at once, ChipRefusedError.
    """
    if len(data) > 512 and len(data) > (limit := _buffer_size(chip)):
        raise UsageError(f"the chip writes {limit} bytes at once, not {len(data)}")
    chip.send(NV_Write(index, index, data, offset), *auths)


def increment(chip: Chip, index: int, *auths: Any) -> None:
    """Add one to a counter, by its own authorization (`auths` as for `Chip.send`)."""
    chip.send(NV_Increment(index, index), *auths)


def certify(
    chip: Chip, ak: Loaded, index: int, qualifying: bytes, public: NvPublic | None = None
) -> Attestation:
    """TPM2_NV_Certify: the AK says what stands in the whole index (Part 3, section 31.16).

    `qualifying`: the asker's nonce, up to 32 bytes. For indices of up to one NV buffer. `public`
    where it is known already, so that the chip is not asked for it.
    """
    public = public or read_public(chip, index).public
    authority = index if public.attributes & Attribute.AUTHREAD else RH.OWNER
    size = public.data_size
    command = NV_Certify(ak.handle, authority, index, qualifying, NULL_SCHEME, size, 0)
    response = chip.send(command)
    return Attestation(response.certify_info, encode(response.signature))


def indices(chip: Chip) -> list[int]:
    """All NV indices in the chip, ascending."""
    return chip.handles(HT.NV_INDEX)


def free_index(chip: Chip, after: int = FIRST_INDEX - 1) -> int:
    """The first index above `after` in the owner's range that is free. DeviceError if none is."""
    taken = set(indices(chip))
    for index in range(max(after + 1, FIRST_INDEX), LAST_INDEX + 1):
        if index not in taken:
            return index
    raise DeviceError("no NV index is free in the owner's range")


def next_counter_value(chip: Chip) -> int:
    """What the first increment of a counter made now will give.

    A counter starts above the highest value that any counter ever had on this chip, so that it
    cannot be rolled back by making it anew (Part 1, section 37.2.4). No command tells that value:
    a counter is made, incremented once, and removed.
    """
    attributes = NT.COUNTER << _TYPE_SHIFT | Attribute.AUTHWRITE | _READ
    index = free_index(chip)
    define(chip, NvPublic(index, ALG.SHA256, attributes, b"", COUNTER_SIZE))
    try:
        increment(chip, index)
        return read_counter(chip, index) + 1
    finally:
        undefine(chip, index)


def _buffer_size(chip: Chip) -> int:
    """TPM_PT_NV_BUFFER_MAX: bytes that one command reads or writes."""
    items = chip.send(GetCapability(CAP.TPM_PROPERTIES, PT.NV_BUFFER_MAX, 1)).data.items
    if items and items[0].tag == PT.NV_BUFFER_MAX:
        return int(items[0].value)
    return 512  # the least that the PC Client profile allows


def _at(public: NvPublic) -> str:
    return f"0x{public.nv_index:08x}"
