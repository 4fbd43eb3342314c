"""Keys that custodians may have copied to a second chip: policy, request and command.

    key = any of  its alternatives (`tpmhsm.policy.compile`)
                  ladder(custodians, ref duplicate) ∧ CC(Duplicate)
                  AuthorizeNV(roster) ∧ CC(Certify)

An approval of a copy is bound by cpHash to the key, the new parent and the inner cipher
(TCG TPM 2.0 Library Part 3 §13.1); PolicyDuplicationSelect cannot stand beside that (0x151). The
Certify alternative is closed until a roster has a branch for it: a free one would satisfy the USER
role of a signing handle, too, and the chip would sign a TPMS_ATTEST of anybody's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.documents import Fields, canonical, parse_canonical, to_base64
from tpmhsm.policy.group import KEY_NAME, GroupDocument
from tpmhsm.policy.ladder import Ladder, end_of
from tpmhsm.policy.people import ladders
from tpmhsm.policy.steps import AuthorizeNv, Climbed, CommandCode, Step
from tpmhsm.policy.tree import must_change
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import Duplicate, DuplicateResponse
from tpmhsm.wire.constants import ALG, CC
from tpmhsm.wire.framing import Command, encode_parameters
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import AES128_CFB

COPY_FORMAT = "tpmhsm/copy/1"


def copy_ladders(group: GroupDocument) -> tuple[Ladder, ...]:
    """The custodians' rule for a copy. UsageError for a static group, which has none."""
    must_change(group)
    return ladders(group.custodians, "duplicate", group.id)


@lru_cache(32)
def copy_end(group: GroupDocument) -> bytes:
    """The digest at the end of that rule, 32 bytes: what the policies of keys hold."""
    return end_of(copy_ladders(group))


def copy_branches(end: bytes, roster_name: bytes) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The two further alternatives of a key that may be copied, given `copy_end` and the written
    Name of the roster index.
    """
    return (
        (Climbed(end), CommandCode(CC.Duplicate)),
        (AuthorizeNv(roster_name), CommandCode(CC.Certify)),
    )


def copy_command(key: int, new_parent: int) -> Command[DuplicateResponse]:
    """TPM2_Duplicate as it is always sent: the chip makes the key of the inner wrapper, AES-128."""
    return Duplicate(key, new_parent, b"", AES128_CFB)


def bound_copy(key_name: bytes, parent_name: bytes) -> BoundCommand:
    """What custodians approve: a copy of the key with this Name for the parent with that one."""
    parameters = encode_parameters(copy_command(0, 0))
    return BoundCommand(CC.Duplicate, (key_name, parent_name), parameters)


@dataclass(frozen=True)
class CopyDocument:
    """What custodians approve: a copy of the key with the Name `key` (34 bytes) for the storage key
    `parent` (TPMT_PUBLIC) of the device with these EK and AK, as in a group document.
    """

    group: bytes
    key: bytes
    parent: bytes
    device_ek: bytes
    device_ak: bytes

    def __post_init__(self) -> None:
        sizes = (len(self.group), len(self.key), len(self.device_ek), len(self.device_ak))
        if sizes != (32, KEY_NAME, 32, KEY_NAME):
            raise UsageError("a hash or Name of a copy has a wrong length")

    @cached_property
    def parent_name(self) -> bytes:
        """The Name of the new parent, 34 bytes."""
        return name_of_public(self.parent)

    @property
    def bound(self) -> BoundCommand:
        """The command that is approved."""
        return bound_copy(self.key, self.parent_name)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canonical(
            {
                "format": COPY_FORMAT,
                "group": self.group.hex(),
                "key": self.key.hex(),
                "parent": to_base64(self.parent),
                "device": {"ek": self.device_ek.hex(), "ak": self.device_ak.hex()},
            }
        )


@lru_cache(64)
def parse_copy(data: bytes) -> CopyDocument:
    """Read what is asked for. ParseError unless it is valid and canonical, and the parent is a
    public area with a SHA-256 Name.
    """
    what = "copy"
    fields = Fields(parse_canonical(data, what), what)
    fields.expect("format", COPY_FORMAT)
    device = fields.fields("device")
    group, key, parent = (
        fields.hex("group", 32),
        fields.hex("key", KEY_NAME),
        fields.base64("parent"),
    )
    ek, ak = device.hex("ek", 32), device.hex("ak", KEY_NAME)
    device.done()
    fields.done()
    if decode(Public, parent).name_alg != ALG.SHA256:
        raise ParseError(f"{what}: the parent's Name is not a SHA-256 Name")
    return CopyDocument(group, key, parent, ek, ak)
