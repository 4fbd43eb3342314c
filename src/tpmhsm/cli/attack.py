"""What root on the CA host can try: the chip's commands, without any of our checks before them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.keys.host import load_host
from tpmhsm.policy.plan import Plan, plan_sign
from tpmhsm.policy.steps import Signed, Step
from tpmhsm.requests.desk import votes_by_act
from tpmhsm.store import Store
from tpmhsm.tpm.device import open_device
from tpmhsm.tpm.objects import load_key, sign_command, storage_parent
from tpmhsm.tpm.policies import run_step
from tpmhsm.tpm.sessions import start_policy

if TYPE_CHECKING:
    from tpmhsm.store.keys import KeyRow


@dataclass(frozen=True)
class Approved:
    """A signature that was approved: its plan, the key, and the digest."""

    plan: Plan
    key: KeyRow
    digest: bytes


class Root:
    """Root on the host, with the home's database and chip."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def approved(self, request: int) -> Approved:
        """An executed request's approvals, to be misused."""
        from tpmhsm.keys.groups import Groups
        from tpmhsm.keys.keyring import Keyring
        from tpmhsm.requests.desk import Desk

        device = open_device("software", self._home)
        with Store.open(self._home) as store:
            groups, keys = Groups(store, device), Keyring(store, device)
            found = Desk(store, keys, groups).request(request)
            key = keys.get(found.key.label if found.key else "")
        digest = hashlib.new(key.hash, found.content).digest()
        (votes,) = votes_by_act(found)
        assert found.roster is not None  # noqa: S101 - signatures have one
        return Approved(
            plan_sign(found.group, found.roster, key.public, digest, votes), key, digest
        )

    def with_one(self, approved: Approved) -> None:
        """All steps but the second person's."""
        people = [s for s in approved.plan.steps if isinstance(s, Signed)]
        self._try(approved, [s for s in approved.plan.steps if s is not people[-1]])

    def others(self, approved: Approved) -> None:
        """All steps as approved, then another digest."""
        self._try(approved, approved.plan.steps, hashlib.sha256(b"a certificate for root").digest())

    def again(self, approved: Approved) -> None:
        """All steps as they were once approved."""
        self._try(approved, approved.plan.steps)

    def _try(
        self, approved: Approved, steps: list[Step] | tuple[Step, ...], digest: bytes = b""
    ) -> None:
        key = approved.key
        with Store.open(self._home) as store:
            parent_name = load_host(store).parent_name
        with open_device("software", self._home).transaction() as chip:
            parent = storage_parent(chip, parent_name)
            loaded = load_key(chip, parent, key.public, key.private)
            session = start_policy(chip)
            for step in steps:
                run_step(chip, session, approved.plan, step)
            chip.send(sign_command(loaded, digest or approved.digest), session)
