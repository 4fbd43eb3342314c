"""What root on the CA host does at the chip: any command in any order, with stolen approvals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tpmhsm.policy.plan import Approvals, Plan, plan_sign
from tpmhsm.requests.desk import votes_by_act
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.sessions import PolicySession, start_policy

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.cli.app import App
    from tpmhsm.policy.group import GroupDocument, RosterDocument
    from tpmhsm.policy.steps import Step
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.objects import Loaded
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


def loot_of(app: App, number: int) -> Loot:
    """The approvals of an executed signature, out of the database."""
    request = app.desk.request(number)
    assert request.key is not None and request.roster is not None  # noqa: S101 - it was signed
    row = app.keyring.get(request.key.label)
    (votes,) = votes_by_act(request)
    digest = hashlib.new(row.hash, request.content).digest()
    return Loot(request, request.roster, row, digest, votes)


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
    ) -> bytes:
        """Sign after these steps. Cleans up, so that the next attempt finds room in the chip."""
        loaded = self.load(key)
        try:
            session = self.session(steps, loot)
            command = objects.sign_command(loaded, digest or self.loot.digest)
            return objects.plain_signature(self.chip.send(command, session).signature)
        finally:
            self.chip.flush_all()
