"""Budgets of keys on this host: where their indices are, what they hold, how they grow.

A key has an NV index for each group that grants it a budget. The index is made with the key; its
number is never used for another key, for approvals name nothing but the index.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError, UsageError
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.policy.budgets import Counted, Grant, budget_auth
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import BUDGET, check_branch, must_change

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tpmhsm.keys.groups import Groups
    from tpmhsm.policy.compile import KeyPolicy
    from tpmhsm.policy.plan import Officers
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device

FEW, FEW_OF = 10, 10
"""A budget ends soon when fewer than 10 units, or than a tenth of all, remain."""


@dataclass(frozen=True)
class Budget:
    """One budget of one key: `group` grants it, `index` counts it; `counted` is None while nothing
    was ever granted, or somebody removed the index.
    """

    key: str
    group: str
    index: int
    counted: Counted | None

    @property
    def left(self) -> int:
        """Units that remain."""
        return self.counted.left if self.counted else 0

    @property
    def ends_soon(self) -> bool:
        """Whether it is time to ask for more."""
        total = self.counted.total if self.counted else 0
        return self.left < FEW or self.left * FEW_OF < total

    @property
    def words(self) -> str:
        """'4,200 of 5,000 left, granted by officers'."""
        if self.counted is None:
            return f"nothing granted yet by {self.group}"
        return f"{self.left:,} of {self.counted.total:,} left, granted by {self.group}"


class Budgets:
    """The budgets of one home's keys."""

    def __init__(self, store: Store, device: Device, groups: Groups) -> None:
        self._store = store
        self._device = device
        self._groups = groups

    def place(self, chip: Chip, policy: KeyPolicy) -> KeyPolicy:
        """The policy of a key that is made now, with an index that nobody ever had for each budget.

        UsageError for a document that names indices: they are another key's.
        """
        if not policy.granting:
            return policy
        if policy.budgets:
            raise UsageError(
                "the policy document names the NV indices that count another key's budgets",
                code="policy-other-facts",
                hint="without [budget] it is for any key",
            )
        for label in policy.granting:
            self._must_grant(label)
        return self.place_after(chip, policy)

    def place_after(self, chip: Chip, policy: KeyPolicy, *more: int) -> KeyPolicy:
        """The same without a look at the groups, beyond the indices `more`."""
        from tpmhsm.tpm import nv

        with self._store.reading() as tx:
            last = max((*_taken(tx), *more), default=nv.FIRST_INDEX - 1)
        found: dict[str, int] = {}
        for label in policy.granting:
            found[label] = last = nv.free_index(chip, last)
        return replace(policy, budgets=found)

    def make_all(self, row: KeyRow) -> None:
        """Make the indices of a key, as far as they are not there."""
        policy = policy_of_row(row, self._groups)
        if policy.budgets:
            with self._device.transaction() as chip:
                must_be(chip, load_host(self._store))
                make(chip, policy, row.private)

    def _must_grant(self, label: str) -> None:
        state = self._groups.active(label)
        must_change(state.group)
        check_branch(state.roster, BUDGET)

    def of(self, rows: Iterable[KeyRow]) -> list[Budget]:
        """The budgets of these keys, as the chip counts them now. Asks it once for all."""
        wanted = [(row, policy_of_row(row, self._groups)) for row in rows if _has_budget(row)]
        if not wanted:
            return []
        with self._device.transaction() as chip:
            return [
                Budget(row.label, group, policy.budgets[group], counted(chip, policy, group))
                for row, policy in wanted
                for group in policy.granting
            ]

    def prepare(self, row: KeyRow, group: str = "") -> Budget:
        """The budget that a group is to grant, its index made anew if somebody removed it.

        UsageError for a key without a budget of that group (empty: of the policy's first).
        """
        from tpmhsm.tpm import budgets

        policy = policy_of_row(row, self._groups)
        label = group or (policy.granting or ("",))[0]
        if label not in policy.granting:
            raise UsageError(
                f"key {row.label!r} has no budget{f' of {label!r}' if label else ''}: {row.policy}",
                code="no-budget",
                hint="tpmhsm key create LABEL --policy 'budget(GROUP)' makes a key that has one",
            )
        self._must_grant(label)
        index = policy.budgets[label]
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            budgets.make(chip, index, policy.indices[label], budget_auth(row.private))
            return Budget(row.label, label, index, counted(chip, policy, label))

    def wait(self, row: KeyRow, group: str, until: datetime) -> bytes:
        """The nonce of a session that waits in the chip for the approvals of a first grant (16
        bytes); empty where one was granted before.
        """
        from tpmhsm.tpm import live

        policy = policy_of_row(row, self._groups)
        with self._device.transaction() as chip:
            if counted(chip, policy, group) is not None:
                return b""
            return live.begin(chip, until.timestamp())

    def drop(self, grant: Grant) -> None:
        """Let go of the session that waits for a first grant."""
        from tpmhsm.tpm import live

        with self._device.transaction() as chip:
            live.drop(chip, grant.nonce)

    def certify(self, index: int, qualifying: bytes) -> tuple[bytes, bytes]:
        """What a written index holds: TPMS_ATTEST, TPMT_SIGNATURE by the attestation key."""
        from tpmhsm.tpm import nv
        from tpmhsm.tpm.objects import attestation_key

        with self._device.transaction() as chip:
            found = nv.certify(chip, attestation_key(chip), index, qualifying)
        return found.attest, found.signature

    def grant(self, row: KeyRow, officers: Officers, grant: Grant) -> int:
        """Have the chip write the limit, unless it did before; gives the total that was there.

        RefusedError `budget-passed` when more is granted already, `budget-gone` when the index is
        not the one that was granted before, `live-session-gone` when a first grant has lost its
        session.
        """
        from tpmhsm.tpm import budgets, live

        policy = policy_of_row(row, self._groups)
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            before = counted(chip, policy, officers.group.name)
            if before is not None and before.total == grant.total:
                return before.total
            _check_before(row.label, grant, before)
            session = live.resume(chip, grant.nonce) if grant.first else None
            budgets.run_grant(chip, officers, grant, session)
        return before.total if before else 0

    def remove(self, row: KeyRow) -> None:
        """Remove the indices of a key that is deleted, as far as the chip can be asked."""
        from tpmhsm.tpm import budgets

        if not _has_budget(row):
            return
        policy = policy_of_row(row, self._groups)
        with suppress(DeviceError, ChipRefusedError), self._device.transaction() as chip:
            for label, index in policy.budgets.items():
                budgets.remove(chip, index, policy.indices[label])


def _check_before(label: str, grant: Grant, before: Counted | None) -> None:
    if before is None and not grant.first:
        raise RefusedError(
            f"the NV index that counts the budget of {label!r} is not the one that was granted "
            "before: somebody removed it",
            code="budget-gone",
        )
    if before is not None and (grant.first or before.total > grant.total):
        raise RefusedError(
            f"key {label!r} has a budget of {before.total:,} in all already; {grant.total:,} was "
            "asked for",
            code="budget-passed",
        )


def make(chip: Chip, policy: KeyPolicy, private: bytes) -> None:
    """Make the indices of a key that was made in this very transaction."""
    from tpmhsm.tpm import budgets

    for label, index in policy.budgets.items():
        budgets.make(chip, index, policy.indices[label], budget_auth(private))


def counted(chip: Chip, policy: KeyPolicy, group: str) -> Counted | None:
    """What a budget of a key holds; None while nothing was granted or the index is gone."""
    from tpmhsm.tpm import budgets

    return budgets.count(chip, policy.budgets[group], policy.indices[group])


def left(chip: Chip, policy: KeyPolicy, group: str) -> int:
    """How many units remain."""
    found = counted(chip, policy, group)
    return found.left if found else 0


def indices_of(row: KeyRow) -> tuple[int, ...]:
    """The NV indices of a key's budgets."""
    return tuple(read_policy(row.policy_document).budgets.values()) if _has_budget(row) else ()


def missing_indices(chip: Chip, row: KeyRow, groups: Groups) -> list[tuple[str, int]]:
    """The granting groups and NV indices of a key's budgets that the chip has not, or not so."""
    from tpmhsm.tpm import budgets

    if not _has_budget(row):
        return []
    policy = policy_of_row(row, groups)
    return [
        (label, index)
        for label, index in policy.budgets.items()
        if not budgets.present(chip, index, policy.indices[label])
    ]


def _has_budget(row: KeyRow) -> bool:
    return "budget(" in row.policy


def _taken(tx: Transaction) -> list[int]:
    """All indices that groups and keys have, or ever had."""
    groups = [i for g in tx.groups.all(failed=True) for i in (g.counter_index, g.roster_index)]
    return groups + [i for row in tx.keys.all(deleted=True) for i in indices_of(row)]
