"""M of N, enforced by the chip.

TPM2_PolicySigned demands one approver, TPM2_PolicyOR merges alternatives. Walk the approvers in a
fixed order and keep one digest for each state (i approvers passed, c of them approved):

    D(0,0) = the digest of all steps before the ladder
    D(i,c) = merge of signed(D(i-1,c-1), approver i) and D(i-1,c)

One alternative stands for itself, two become a PolicyOR. Only states from which M can still be
reached exist, so the digests number O(N·M), where an OR of all combinations needs C(N,M).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tpmhsm.errors import UsageError
from tpmhsm.policy.steps import START, Or, Signed, Step

State = tuple[int, int]

MAX_APPROVERS = 128


@dataclass(frozen=True)
class Ladder:
    """`m` of the approvers with these Names, in this order, for one policyRef."""

    m: int
    names: tuple[bytes, ...]
    policy_ref: bytes

    def __post_init__(self) -> None:
        n = len(self.names)
        if not 1 <= self.m <= n or n > MAX_APPROVERS:
            raise UsageError(f"{self.m} of {n} approvers (1 to {MAX_APPROVERS}) is no threshold")
        if len(set(self.names)) != n:
            raise UsageError("the same approver stands twice on one ladder")

    def exists(self, i: int, c: int) -> bool:
        """Whether state (i, c) can be part of a way from (0, 0) to (N, M)."""
        return max(0, self.m - (len(self.names) - i)) <= c <= min(i, self.m)

    def states(self, start: bytes = START) -> dict[State, bytes]:
        """Return the digest of every state, given the digest before the ladder."""
        digests: dict[State, bytes] = {(0, 0): start}
        for i in range(1, len(self.names) + 1):
            for c in range(min(i, self.m) + 1):
                if self.exists(i, c):
                    found = self._alternatives(digests, i, c)
                    digests[i, c] = found[0] if len(found) == 1 else Or(found).extend(START)
        return digests

    def _alternatives(self, digests: dict[State, bytes], i: int, c: int) -> tuple[bytes, ...]:
        """The one or two digests that lead to state (i, c)."""
        found = []
        if (i - 1, c - 1) in digests:
            found.append(self._signed(i).extend(digests[i - 1, c - 1]))
        if (i - 1, c) in digests:
            found.append(digests[i - 1, c])
        return tuple(found)

    def _signed(self, i: int) -> Signed:
        return Signed(self.names[i - 1], self.policy_ref)

    def digest(self, start: bytes = START) -> bytes:
        """Return D(N, M)."""
        return self.states(start)[len(self.names), self.m]

    def ends(self, start: bytes = START) -> tuple[bytes, ...]:
        """Return the last alternatives, that D(N, M) merges: one if all are needed, or two."""
        n = len(self.names)
        return self._alternatives(self.states(start), n, self.m)

    def plan(self, approvers: Collection[int], start: bytes = START) -> tuple[Step, ...]:
        """Return the commands by which these approvers (indices from 0) climb the ladder.

        Exactly M are walked, the first M in the ladder's order. UsageError when there are fewer.
        """
        chosen = set(sorted(set(approvers))[: self.m])
        if len(chosen) < self.m:
            raise UsageError(f"{len(chosen)} of the {self.m} approvals that this ladder needs")
        if not chosen <= set(range(len(self.names))):
            raise UsageError("an approval by somebody who is not on this ladder")
        digests = self.states(start)
        steps: list[Step] = []
        c = 0
        for i in range(1, len(self.names) + 1):
            if i - 1 in chosen:
                steps.append(self._signed(i))
                c += 1
            found = self._alternatives(digests, i, c)
            if len(found) == 2:
                steps.append(Or(found))
        return tuple(steps)


def end_of(ladders: Collection[Ladder], start: bytes = START) -> bytes:
    """Return the digest after several ladders: the end of one is the start of the next."""
    for ladder in ladders:
        start = ladder.digest(start)
    return start
