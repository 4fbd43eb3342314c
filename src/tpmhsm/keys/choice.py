"""How a key is used now: which alternative of its policy, and with which PIN.

People are asked here, never while the chip is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, Protocol

from tpmhsm.errors import RefusedError, UsageError
from tpmhsm.policy.bound import command_of
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import anchor, must_change
from tpmhsm.wire.constants import CC

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.windows import Windows
    from tpmhsm.policy.model import Pcr
    from tpmhsm.policy.pcrs import Measured
    from tpmhsm.policy.plan import Officers, Opened, Plan, Spend
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.device import Device


class Pins(Protocol):
    """Where PINs come from, and whose approvals are wanted. `given`: a PIN was named, so that
    nobody need be asked; `group`: of a policy's groups this one, or empty.
    """

    @property
    def group(self) -> str:
        """The label of a group, or empty."""
        ...

    @property
    def given(self) -> bool:
        """Whether a file or descriptor has it."""
        ...

    def pin_of(self, label: str) -> bytes:
        """The PIN of a key. Raises UsageError, RefusedError when it is stopped."""
        ...


@dataclass(frozen=True)
class Choice:
    """One alternative of a key's policy, the PIN if it wants one, and the window that is open, if
    that stands for approvals.
    """

    policy: KeyPolicy
    alternative: Alternative
    pin: bytes = field(default=b"", repr=False)
    opened: Opened | None = None

    def plan(self, row: KeyRow, content: bytes, officers: Officers | None = None) -> Plan | None:
        """The steps of one signature or decryption; None for an open key."""
        from tpmhsm.policy.plan import plan_use

        if self.policy.is_open:
            return None
        one = self.alternative
        spend = _spend(row, one.budget) if one.budget else None
        people = officers or self.opened
        return plan_use(self.policy, one, row.public, content, people, spend)


def _spend(row: KeyRow, group: str) -> Spend:
    from tpmhsm.policy.budgets import budget_auth
    from tpmhsm.policy.plan import Spend

    return Spend(budget_auth(row.private), row.label, group)


def policy_of_row(row: KeyRow, groups: Groups) -> KeyPolicy:
    """A key's policy with all its facts. The document of its birth has them; a policy that names
    groups alone is bound by the groups' own documents.
    """
    if row.policy_document:
        return read_policy(row.policy_document)
    policy = read_policy(row.policy)
    command = command_of(row.public)
    indices = {label: anchor(groups.state(label).group, command) for label in policy.groups}
    return KeyPolicy(policy.alternatives, indices, command=command)


def bind(policy: KeyPolicy, groups: Groups, device: Device, command: CC = CC.Sign) -> KeyPolicy:
    """The policy of a key that is made now: rosters' Names, and the PCRs as they are. Budgets get
    their NV indices with the key (`tpmhsm.keys.budgets`).

    UsageError for a group that is not in force or cannot open keys, for PCRs that prove nothing,
    and for a document whose facts are others than those of this chip, or that is for another
    `command`.
    """
    from tpmhsm.tpm.pcrs import measure_at_birth

    if policy.command not in (CC.Sign, command):
        raise UsageError(
            f"the policy document is for keys of {policy.command.name}, not of {command.name}",
            code="policy-other-facts",
            hint="without `command` it is for any key",
        )
    policy = policy.for_command(command)

    indices = {label: anchor(groups.active(label).group, command) for label in policy.rosters}
    for one in policy.alternatives:
        if one.window:
            must_change(groups.active(one.group).group)
    measured: Measured = {}
    if policy.has_pcrs:
        with device.transaction() as chip:
            measured = measure_at_birth(chip, _pcrs(policy.alternatives))
    for what, said, found in (
        ("rosters", policy.indices, indices),
        ("PCRs", policy.measured, measured),
    ):
        if said and said != found:
            raise UsageError(
                f"the policy document was made with other {what} than this chip has now",
                code="policy-other-facts",
                hint="without [roster] and [measured] it is for any chip",
            )
    return replace(policy, indices=indices, measured=measured)


def _pcrs(alternatives: Sequence[Alternative]) -> list[Pcr]:
    return [pcr for one in alternatives for pcr in one.pcrs]


class Chooser:
    """Chooses alternatives for one home's keys."""

    def __init__(self, groups: Groups, device: Device, pins: Pins | None, windows: Windows) -> None:
        self._groups = groups
        self._device = device
        self._pins = pins
        self._windows = windows

    def people(self, row: KeyRow) -> str | None:
        """The group that must approve now; None when the key signs without people.

        Of several groups the one that is wanted is asked, or else the first. Where a PIN or the
        machine's state would do as well, nobody is asked if the PIN was named beforehand, or the
        PCRs are as they were; nor while a window is open. A key whose officers only open it asks
        nobody: it is refused while it is closed.
        """
        policy = read_policy(row.policy)
        if self._pins is not None and self._pins.group:
            return _one_of(row, policy, self._pins.group)
        alone = [one for one in policy.alternatives if not one.group or self._opened(row, one)]
        if not policy.groups or self._possible(row, alone):
            return None
        return next((one.group for one in policy.alternatives if _asks(one)), None)

    def _opened(self, row: KeyRow, one: Alternative) -> Opened | None:
        """The window by which a key is open for this alternative."""
        return self._windows.current(row, one.group) if one.group else None

    def _possible(self, row: KeyRow, alone: Sequence[Alternative]) -> bool:
        pin = self._pins is not None and self._pins.given
        able = [one for one in alone if pin or not one.pin]
        if not able or not all(one.pcrs or one.budget for one in able):
            return bool(able)
        return bool(self._met(policy_of_row(row, self._groups), able))

    def choose(self, row: KeyRow, group: str = "") -> Choice:
        """The alternative by which the key signs now; with `group`, by that group's approvals.

        Asks for the PIN if there is no way without, and uses no budget if there is one. PCRs and
        budgets are read only where they decide between alternatives: otherwise the chip itself
        refuses. Raises RefusedError when people are needed or no alternative can be met.
        """
        policy = policy_of_row(row, self._groups)
        opened = {one: None if group else self._opened(row, one) for one in policy.alternatives}
        able = [one for one in policy.alternatives if one.group == group or opened[one]]
        if not able:
            _no_way(row, policy, group)
        if len(able) > 1 and any(one.pcrs or one.budget for one in able):
            able = self._met(policy, able)
            if not able:
                raise _none_met(row, policy)
        chosen = min(able, key=lambda one: (one.pin, bool(one.budget)))
        pin = self._pin(row) if chosen.pin else b""
        return Choice(policy, chosen, pin, opened[chosen])

    def _met(self, policy: KeyPolicy, able: Sequence[Alternative]) -> list[Alternative]:
        """Those whose PCRs are as they were, and whose budgets have units left."""
        from tpmhsm.keys.budgets import left
        from tpmhsm.tpm.pcrs import measure

        with self._device.transaction() as chip:
            now = measure(chip, _pcrs(able)) if _pcrs(able) else None
            units = {one.budget: left(chip, policy, one.budget) for one in able if one.budget}
        met = policy.satisfiable(groups=policy.groups, pin=True, pcrs=now)
        return [one for one in met if one in able and units.get(one.budget, 1)]

    def _pin(self, row: KeyRow) -> bytes:
        if self._pins is None:
            raise UsageError(
                f"key {row.label!r} wants its PIN", code="pin-needed", hint="--pin-file F"
            )
        return self._pins.pin_of(row.label)


def _asks(one: Alternative) -> bool:
    """Whether people are asked for each signature."""
    return bool(one.group) and not one.window


def _none_met(row: KeyRow, policy: KeyPolicy) -> RefusedError:
    if policy.granting:
        return RefusedError(
            f"key {row.label!r}: no alternative of {row.policy} can be met now: budgets are used "
            "up, or none was granted" + (", or PCRs have other values" if policy.has_pcrs else ""),
            code="policy-not-met",
            hint=f"tpmhsm key grant {row.label} N asks {' or '.join(policy.granting)} for N more",
        )
    return RefusedError(
        f"key {row.label!r}: no alternative of {row.policy} can be met with the PCRs as they are "
        "now",
        code="policy-pcrs-moved",
        hint="start the machine as it was when the key was made",
    )


def _one_of(row: KeyRow, policy: KeyPolicy, group: str) -> str:
    if group in policy.groups:
        return group
    raise UsageError(
        f"key {row.label!r} is not used by approvals of {group!r}: {row.policy}",
        code="other-group",
        hint=f"--by {' or '.join(policy.groups)}" if policy.groups else "leave --by out",
    )


def _no_way(row: KeyRow, policy: KeyPolicy, group: str) -> NoReturn:
    if group:
        raise RefusedError(
            f"the officers of {group!r} have no part in key {row.label!r}: {row.policy}",
            code="other-group",
        )
    closed = next((one.group for one in policy.alternatives if one.window), "")
    if closed and not any(map(_asks, policy.alternatives)):
        raise RefusedError(
            f"key {row.label!r} is closed: its window has ended, or the chip was started anew, or "
            f"the officers of {closed!r} have not opened it",
            code="window-closed",
            hint=f"tpmhsm key open {row.label} --for 15m asks them",
        )
    raise RefusedError(
        f"key {row.label!r} signs only with approvals of {' or '.join(map(repr, policy.groups))}",
        code="needs-people",
        hint="tpmhsm ca sign, csr create and key sign make approval requests",
    )
