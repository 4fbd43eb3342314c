"""Policy steps and what each does to a policy digest.

A step is one TPM2_Policy… command. `extend` is the digest update that TCG TPM 2.0 Library Part 3,
section 23 ("Enhanced Authorization") defines for it, with SHA-256. All digests are 32 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from tpmhsm.errors import UsageError
from tpmhsm.wire.constants import CC, EO

START = bytes(32)
"""The digest of a session in which no policy command has run."""

MAX_BRANCHES = 8


class Step(Protocol):
    """One policy command: what it does to the digest of the session it runs in."""

    def extend(self, digest: bytes) -> bytes:
        """Return the session's digest after the step, given the digest before it."""
        ...


def digest_of(steps: Iterable[Step], start: bytes = START) -> bytes:
    """Return the digest after all `steps`, as a trial session computes it."""
    for step in steps:
        start = step.extend(start)
    return start


def walk(steps: Iterable[Step], start: bytes = START) -> bytes:
    """Return the digest after `steps` as a real session computes it.

    Unlike a trial session a real one refuses a PolicyOR whose branches lack the digest that it
    has; so does this function, with UsageError.
    """
    for step in steps:
        if isinstance(step, Or) and start not in step.branches:
            raise UsageError("a PolicyOR of this plan is reached from outside its branches")
        start = step.extend(start)
    return start


def _update(digest: bytes, code: int, data: bytes = b"") -> bytes:
    return sha256(digest + code.to_bytes(4, "big") + data).digest()


def _operand(operand: bytes, offset: int, operation: int) -> bytes:
    return sha256(operand + offset.to_bytes(2, "big") + operation.to_bytes(2, "big")).digest()


@dataclass(frozen=True)
class CommandCode:
    """TPM2_PolicyCommandCode: only this command (Part 3, PolicyCommandCode)."""

    code: int

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ code)."""
        return _update(digest, CC.PolicyCommandCode, self.code.to_bytes(4, "big"))


@dataclass(frozen=True)
class Signed:
    """TPM2_PolicySigned: a signature by the approver with this Name, for this policyRef."""

    approver: bytes
    policy_ref: bytes

    def extend(self, digest: bytes) -> bytes:
        """H(H(old ‖ CC ‖ Name) ‖ policyRef)."""
        inner = _update(digest, CC.PolicySigned, self.approver)
        return sha256(inner + self.policy_ref).digest()


@dataclass(frozen=True)
class Or:
    """TPM2_PolicyOR: the session's digest is one of these 2 to 8."""

    branches: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.branches) <= MAX_BRANCHES:
            raise UsageError(f"PolicyOR takes 2 to {MAX_BRANCHES} branches: {len(self.branches)}")

    def extend(self, digest: bytes) -> bytes:
        """H(00… ‖ CC ‖ branches): whatever came before is replaced."""
        return _update(START, CC.PolicyOR, b"".join(self.branches))


@dataclass(frozen=True)
class Nv:
    """TPM2_PolicyNV: the index compares with `operand` at `offset` (`operation`: TPM_EO)."""

    name: bytes
    operand: bytes
    offset: int = 0
    operation: int = EO.EQ

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ H(operand ‖ offset ‖ operation) ‖ Name)."""
        args = _operand(self.operand, self.offset, self.operation)
        return _update(digest, CC.PolicyNV, args + self.name)


@dataclass(frozen=True)
class Climbed:
    """No command: a static group's ladders, of which this is the digest at the end. A plan has the
    commands in its place.
    """

    end: bytes

    def extend(self, digest: bytes) -> bytes:
        """The digest at the end. UsageError unless nothing stands before it."""
        if digest != START:
            raise UsageError("a static group's ladders stand first")
        return self.end


@dataclass(frozen=True)
class AuthorizeNv:
    """TPM2_PolicyAuthorizeNV: the session's digest is the one that the index holds."""

    name: bytes

    def extend(self, digest: bytes) -> bytes:
        """H(00… ‖ CC ‖ Name): whatever came before is replaced."""
        return _update(START, CC.PolicyAuthorizeNV, self.name)


@dataclass(frozen=True)
class NameHash:
    """TPM2_PolicyNameHash: only over the entities whose Names hash to this."""

    name_hash: bytes

    @classmethod
    def of(cls, *names: bytes) -> NameHash:
        """The step for exactly these Names, in the order of the command's handles."""
        return cls(sha256(b"".join(names)).digest())

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ nameHash)."""
        return _update(digest, CC.PolicyNameHash, self.name_hash)


@dataclass(frozen=True)
class Secret:
    """TPM2_PolicySecret: whoever knows the authorisation value of the entity with this Name."""

    entity: bytes
    policy_ref: bytes = b""

    def extend(self, digest: bytes) -> bytes:
        """H(H(old ‖ CC ‖ Name) ‖ policyRef)."""
        inner = _update(digest, CC.PolicySecret, self.entity)
        return sha256(inner + self.policy_ref).digest()


@dataclass(frozen=True)
class AuthValue:
    """TPM2_PolicyAuthValue (and PolicyPassword, whose digest is the same)."""

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC)."""
        return _update(digest, CC.PolicyAuthValue)


@dataclass(frozen=True)
class Pcr:
    """TPM2_PolicyPCR: the PCRs of `selection` (an encoded TPML_PCR_SELECTION) hash to `digest`."""

    selection: bytes
    digest: bytes

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ selection ‖ pcrDigest)."""
        return _update(digest, CC.PolicyPCR, self.selection + self.digest)


@dataclass(frozen=True)
class NvWritten:
    """TPM2_PolicyNvWritten: the index that the command names has been written, or has not."""

    written: bool

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ written)."""
        return _update(digest, CC.PolicyNvWritten, bytes([self.written]))


@dataclass(frozen=True)
class CounterTimer:
    """TPM2_PolicyCounterTimer: TPMS_TIME_INFO compares with `operand` at `offset`."""

    operand: bytes
    offset: int
    operation: int

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ H(operand ‖ offset ‖ operation))."""
        args = _operand(self.operand, self.offset, self.operation)
        return _update(digest, CC.PolicyCounterTimer, args)


@dataclass(frozen=True)
class DuplicationSelect:
    """TPM2_PolicyDuplicationSelect: only a copy to this new parent (and, given, of this object)."""

    new_parent: bytes
    object_name: bytes = b""

    def extend(self, digest: bytes) -> bytes:
        """H(old ‖ CC ‖ [object] ‖ new parent ‖ includeObject)."""
        data = self.object_name + self.new_parent + bytes([bool(self.object_name)])
        return _update(digest, CC.PolicyDuplicationSelect, data)
