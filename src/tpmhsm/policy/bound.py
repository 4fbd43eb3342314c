"""Commands that approvals are bound to.

An approval is for one command over named entities with exact parameters: its cpHash (TCG TPM 2.0
Library Part 1 §16.7). Who approves computes it from the bytes in front of them; who executes
computes it again; the chip computes it a third time and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tpmhsm.errors import UsageError
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import NV_Increment, NV_Write, Sign
from tpmhsm.wire.constants import ALG, CC, DIGEST_SIZES
from tpmhsm.wire.framing import Command, encode_parameters
from tpmhsm.wire.names import cp_hash, name_of_nv, name_of_public
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import NULL_HASHCHECK, Empty, SchemeHash, SigScheme


@dataclass(frozen=True)
class BoundCommand:
    """One TPM command: its code, the Names of its handles in order, its encoded parameters."""

    code: CC
    names: tuple[bytes, ...]
    parameters: bytes

    @cached_property
    def cp_hash(self) -> bytes:
        """H(code ‖ Names ‖ parameters), 32 bytes."""
        return cp_hash(self.code, self.names, self.parameters)


def sign_scheme(public: Public) -> SigScheme:
    """Return the scheme that a key's public area fixes; UsageError when it leaves it open."""
    parameters = public.parameters
    if isinstance(parameters, RsaParms | EccParms):
        scheme = parameters.scheme
        if scheme.scheme in (ALG.ECDSA, ALG.RSASSA, ALG.RSAPSS):
            return SigScheme(scheme.scheme, scheme.details)
    raise UsageError("the key's public area fixes no signature scheme")


def bound_sign(public: Public | bytes, digest: bytes) -> BoundCommand:
    """What officers approve: TPM2_Sign of `digest` by the key with this public area.

    The scheme is spelled out as the key fixes it, the ticket is NULL. UsageError when the digest
    is not one of the key's own hash algorithm.
    """
    area = decode(Public, public) if isinstance(public, bytes) else public
    scheme = sign_scheme(area)
    if not isinstance(scheme.details, SchemeHash):
        raise UsageError("the key's signature scheme has no hash algorithm")
    if len(digest) != DIGEST_SIZES.get(scheme.details.hash_alg):
        raise UsageError(f"a digest of {len(digest)} bytes is not of this key's hash algorithm")
    parameters = encode_parameters(Sign(0, digest, scheme, NULL_HASHCHECK))
    return BoundCommand(CC.Sign, (name_of_public(area),), parameters)


def increment_command(group: GroupDocument) -> Command[Empty]:
    """TPM2_NV_Increment of the group's epoch counter, which authorises itself by policy."""
    return NV_Increment(group.counter_index, group.counter_index)


def bound_increment(group: GroupDocument, *, written: bool) -> BoundCommand:
    """What custodians approve: the epoch goes up by one. `written`: not for the first time."""
    name = name_of_nv(counter_nv(group, written=written))
    return BoundCommand(CC.NV_Increment, (name, name), encode_parameters(increment_command(group)))


def roster_write_command(group: GroupDocument, roster: RosterDocument) -> Command[Empty]:
    """TPM2_NV_Write of all 74 bytes of a roster, at offset 0."""
    index = group.roster_index
    return NV_Write(index, index, roster_content(group, roster), 0)


def bound_roster_write(
    group: GroupDocument, roster: RosterDocument, *, written: bool
) -> BoundCommand:
    """What custodians approve: this roster is in force. `written`: it is not the first."""
    name = name_of_nv(roster_nv(group, written=written))
    parameters = encode_parameters(roster_write_command(group, roster))
    return BoundCommand(CC.NV_Write, (name, name), parameters)
