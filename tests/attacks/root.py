"""What root on the CA host does at the chip: any command in any order, with stolen approvals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tpmhsm.approval.acts import acts_of
from tpmhsm.approval.request import Request
from tpmhsm.approval.verify import verify_approval
from tpmhsm.errors import ApprovalRefusedError, ChipRefusedError, VerificationError
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.plan import Approvals, Plan, plan_sign
from tpmhsm.policy.steps import Step
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.framing import Command


@dataclass(frozen=True)
class Loot:
    """A signature that enough people approved: `votes` are TPMT_SIGNATUREs by place in the rule,
    `digest` is what they approved under `key`.
    """

    request: Request
    roster: RosterDocument
    key: KeyRow
    digest: bytes
    votes: Approvals

    @property
    def group(self) -> GroupDocument:
        """The group whose officers approved."""
        return self.request.group

    @cached_property
    def plan(self) -> Plan:
        """The honest steps."""
        return plan_sign(self.group, self.roster, self.key.public, self.digest, self.votes)


def votes_of(request: Request) -> list[dict[int, bytes]]:
    """The approvals in a request, act by act: TPMT_SIGNATUREs by place in the rule."""
    found: dict[bytes, dict[int, bytes]] = {act.cp_hash: {} for act in acts_of(request)}
    for approval in request.approvals:
        verified = verify_approval(request, approval)
        for act, signature in verified.signatures:
            found[act.cp_hash][verified.index] = signature
    return list(found.values())


class Root:
    """Root with one conversation with the chip, beside everything that the product checks."""

    def __init__(self, chip: Chip, loot: Loot) -> None:
        self.chip = chip
        self.loot = loot
        self.group = loot.group

    def load(self, row: KeyRow | None = None) -> Loaded:
        """A key out of the database."""
        row = row or self.loot.key
        return objects.load_key(
            self.chip, objects.storage_parent(self.chip), row.public, row.private
        )

    def session(
        self, steps: Iterable[Step] | None = None, loot: Loot | None = None
    ) -> PolicySession:
        """A policy session after these steps; by default all of the honest ones."""
        plan = (loot or self.loot).plan
        session = start_policy(self.chip)
        for step in plan.steps if steps is None else steps:
            policies.run_step(self.chip, session, plan, step)
        return session

    def send(self, command: Command[Any], steps: Iterable[Step] | None = None) -> Any:
        """One command that a session with these steps (default: the honest ones) stands for."""
        return self.chip.send(command, self.session(steps))

    def try_sign(
        self,
        steps: Iterable[Step] | None = None,
        *,
        digest: bytes = b"",
        key: KeyRow | None = None,
        loot: Loot | None = None,
    ) -> None:
        """Sign after these steps. Cleans up, so that the next attempt finds room in the chip."""
        loaded = self.load(key)
        try:
            session = self.session(steps, loot)
            self.chip.send(objects.sign_command(loaded, digest or self.loot.digest), session)
        finally:
            self.chip.flush_all()

    def honest(self, loot: Loot | None = None) -> bytes:
        """The same approvals, used for what they were given for. Gives the checked signature."""
        loot = loot or self.loot
        key = self.load(loot.key)
        try:
            signature = policies.sign_with_quorum(
                self.chip, key, loot.digest, loot.group, loot.roster, loot.votes
            )
        finally:
            self.chip.flush_all()
        check(loot.key, loot.digest, signature)
        return signature


def check(key: KeyRow, digest: bytes, signature: bytes) -> None:
    """Judge a signature with a library that is not ours."""
    public = load_der_public_key(key.spki)
    hashed = Prehashed(hashes.SHA256())
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, digest, ec.ECDSA(hashed))
    else:
        public.verify(signature, digest, padding.PKCS1v15(), hashed)


@contextmanager
def refused(rc: int, command: str) -> Iterator[None]:
    """The chip refuses this command with exactly this return code."""
    with pytest.raises(ChipRefusedError) as caught:
        yield
    assert (f"0x{caught.value.rc:03x}", caught.value.command) == (f"0x{rc:03x}", command)


@contextmanager
def declined(code: str) -> Iterator[None]:
    """The approver's tool will not sign, and says so with this stable code."""
    with pytest.raises(ApprovalRefusedError) as caught:
        yield
    assert caught.value.code == code, caught.value.message


@contextmanager
def rejected(code: str) -> Iterator[None]:
    """The host does not take an approval, and says so with this stable code."""
    with pytest.raises(VerificationError) as caught:
        yield
    assert caught.value.code == code, caught.value.message
