"""Budgets: uses of a key that are granted in advance, counted and refused by the chip.

    budget index = TPM_NT_PIN_PASS, pinCount ‖ pinLimit       one for each key and granting group
    its policy   = AuthorizeNV(roster index of the group) ∧ CC(NV_Write)

TPM2_PolicySecret over the index succeeds while pinCount < pinLimit, and adds one to pinCount
(TCG TPM 2.0 Library Part 2, 13.3; Part 1, 37.2.8). Grants write pinLimit alone, as a cumulative
total, bound to the index's *written* Name: to replay one lowers the limit, or keeps it. The first
write, of both, is over the unwritten Name; who has the owner's authorisation can make the index
anew, so that it is approved only over the nonce of a live session.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.ahash import NONCE_SIZE
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.documents import Fields, canonical, parse_canonical
from tpmhsm.policy.group import FIRST_INDEX, LAST_INDEX
from tpmhsm.policy.steps import AuthorizeNv, CommandCode, Step, digest_of
from tpmhsm.wire.commands import NV_Write
from tpmhsm.wire.constants import ALG, CC, NT, NvAttributes
from tpmhsm.wire.framing import Command, encode_parameters
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.structures import Empty, NvPublic

FORMAT = "tpmhsm/grant/1"

ATTRIBUTES = NvAttributes.OWNERREAD | NvAttributes.NO_DA | NvAttributes.POLICYWRITE
"""Not AUTHREAD, which would let a reader's authorisation count; not ORDERLY, which a reset would
make unwritten; no right of owner or platform to write."""

SIZE = 8
LIMIT_OFFSET = 4
MOST = (1 << 32) - 1
"""Both numbers are u32."""

_AUTH_TAG = b"tpmhsm/budget/auth/1\0"


def write_steps(roster_name: bytes) -> tuple[Step, ...]:
    """The budget index's own policy, after the officers' branch of the roster."""
    return (AuthorizeNv(roster_name), CommandCode(CC.NV_Write))


def budget_nv(index: int, roster_name: bytes, *, written: bool = False) -> NvPublic:
    """The public area of a budget index that the group with this roster index (its written Name,
    34 bytes) grants, before or after its first write. UsageError outside the owner's range.
    """
    if not FIRST_INDEX <= index <= LAST_INDEX:
        raise UsageError(f"0x{index:08x} is no NV index of the range 0x01800000-0x01bfffff")
    return NvPublic(
        nv_index=index,
        name_alg=ALG.SHA256,
        attributes=ATTRIBUTES | NT.PIN_PASS << 4 | (NvAttributes.WRITTEN if written else 0),
        auth_policy=digest_of(write_steps(roster_name)),
        data_size=SIZE,
    )


@lru_cache(256)
def budget_name(index: int, roster_name: bytes) -> bytes:
    """The written Name of a budget index, 34 bytes: what a key's policy holds."""
    return name_of_nv(budget_nv(index, roster_name, written=True))


def budget_auth(private: bytes) -> bytes:
    """The authorisation value of the index of the key with this wrapped private part, 32 bytes.

    It keeps others, who may talk to the chip but not read our database, from burning units. It
    guards nothing else: whoever has it signs no more than was granted.
    """
    return sha256(_AUTH_TAG + private).hexdigest()[:32].encode()


@dataclass(frozen=True)
class Counted:
    """What a budget index holds: units used, and granted in all."""

    used: int
    total: int

    @classmethod
    def read(cls, data: bytes) -> Counted:
        """From pinCount ‖ pinLimit. ParseError for anything but 8 bytes."""
        if len(data) != SIZE:
            raise ParseError(f"a budget index holds {SIZE} bytes, not {len(data)}")
        return cls(int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big"))

    @property
    def left(self) -> int:
        """Units that remain."""
        return max(0, self.total - self.used)


@dataclass(frozen=True)
class Grant:
    """What officers are asked for: `total` is to be the pinLimit of NV index `index`, the budget of
    the key with the Name `key` (34 bytes). `nonce`: the live session's for a first write, which
    sets pinCount to 0; empty for all later ones, which leave it.
    """

    group: bytes
    key: bytes
    index: int
    total: int
    nonce: bytes = b""

    def __post_init__(self) -> None:
        if len(self.group) != 32 or len(self.key) != 34:
            raise UsageError("a grant names a group by its id and a key by its Name")
        if not 1 <= self.total <= MOST:
            raise UsageError(f"a budget is from 1 to {MOST:,} signatures in all")
        if len(self.nonce) not in (0, NONCE_SIZE):
            raise UsageError(f"a nonce that people sign has {NONCE_SIZE} bytes")

    @property
    def first(self) -> bool:
        """Whether this makes the index a budget, used by nobody yet."""
        return bool(self.nonce)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canonical(
            {
                "format": FORMAT,
                "group": self.group.hex(),
                "key": self.key.hex(),
                "index": self.index,
                "total": self.total,
                "nonce": self.nonce.hex(),
            }
        )

    def command(self) -> Command[Empty]:
        """TPM2_NV_Write: pinLimit alone at offset 4, or first 0 ‖ pinLimit at 0."""
        limit = self.total.to_bytes(4, "big")
        data, offset = (bytes(4) + limit, 0) if self.first else (limit, LIMIT_OFFSET)
        return NV_Write(self.index, self.index, data, offset)

    def bound(self, roster_name: bytes) -> BoundCommand:
        """What officers approve, over the index's Name before this very write."""
        name = name_of_nv(budget_nv(self.index, roster_name, written=not self.first))
        return BoundCommand(CC.NV_Write, (name, name), encode_parameters(self.command()))


@lru_cache(64)
def parse_grant(data: bytes) -> Grant:
    """Read a grant. ParseError unless it is valid and canonical."""
    what = "grant"
    fields = Fields(parse_canonical(data, what), what)
    fields.expect("format", FORMAT)
    facts = (fields.hex("group", 32), fields.hex("key", 34), fields.number("index"))
    total, nonce = fields.number("total"), fields.hex("nonce")
    fields.done()
    try:
        grant = Grant(*facts, total, nonce)
        budget_nv(grant.index, bytes(34))
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None
    return grant
