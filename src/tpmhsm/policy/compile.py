"""From a policy to the chip's tree, its digest, and the steps to each alternative.

    alternative = [AuthorizeNV(roster of the group)] ∧ [PCRs] ∧ [PIN] ∧ [budget] ∧ CC(Sign)
    key         = the only alternative, or PolicyOR over all of them, and over those for a copy

AuthorizeNV stands first, since it replaces what ran before it; the budget last, so that what fails
before it uses up no unit. CommandCode stands inside every
alternative: with it only outside, another command could use what one alternative leaves open.
PolicyOR takes eight: more alternatives are merged in eights, from the left, level by level; one
that is left alone rises as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tpmhsm.errors import UsageError
from tpmhsm.policy.copying import copy_branches, copy_end
from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.merging import Merged, in_eights
from tpmhsm.policy.model import Budget, Policy, Window, parts_of
from tpmhsm.policy.normal import Alternative, normal_form, policy_of
from tpmhsm.policy.pcrs import Measured, encode_selection, pcr_digest
from tpmhsm.policy.steps import (
    AuthValue,
    CommandCode,
    Pcr,
    Secret,
    Step,
    digest_of,
)
from tpmhsm.policy.text import format_policy
from tpmhsm.policy.tree import NAME_SIZE, people_step
from tpmhsm.wire.constants import CC


@dataclass(frozen=True)
class KeyPolicy:
    """A key's policy and all that its digest depends on.

    `alternatives` in canonical order (`normal_form`), `indices` the `anchor` of each group by its
    label (the written Name of its roster index), `measured` the PCRs at the key's birth, `budgets`
    the NV index of each budget by the label of the group that grants it. Without the latter three a
    policy is complete only if it names no group, no PCR, no budget. `command` is the one that the
    key is for: TPM2_Sign, TPM2_RSA_Decrypt or TPM2_ECDH_ZGen. `backup`: the label of the group
    whose custodians may have the key copied, and `copying.copy_end` of it; none for most keys.
    """

    alternatives: tuple[Alternative, ...]
    indices: Mapping[str, bytes] = field(default_factory=dict)
    measured: Measured = field(default_factory=dict)
    budgets: Mapping[str, int] = field(default_factory=dict)
    command: CC = CC.Sign
    backup: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy) -> KeyPolicy:
        """The policy alone, nothing bound yet. UsageError for what cannot be expressed."""
        return cls(normal_form(policy))

    @property
    def policy(self) -> Policy:
        """The canonical policy."""
        return policy_of(self.alternatives)

    @property
    def text(self) -> str:
        """The canonical policy as text."""
        return format_policy(self.policy)

    @property
    def is_open(self) -> bool:
        """Whether it demands nothing."""
        return self.alternatives == (Alternative(),)

    @property
    def is_complete(self) -> bool:
        """Whether all facts are here that the digest depends on."""
        return (
            bool(self.measured or not self.has_pcrs)
            and bool(self.indices or not self.rosters)
            and bool(self.budgets or not self.granting)
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The labels of all groups that can sign, each once."""
        named = (alternative.group for alternative in self.alternatives)
        return tuple(dict.fromkeys(label for label in named if label))

    @property
    def granting(self) -> tuple[str, ...]:
        """The labels of all groups that grant budgets, each once."""
        named = (alternative.budget for alternative in self.alternatives)
        return tuple(dict.fromkeys(label for label in named if label))

    @property
    def rosters(self) -> tuple[str, ...]:
        """The labels of all groups whose rosters the policy depends on."""
        return tuple(dict.fromkeys((*self.groups, *self.granting)))

    @property
    def has_pin(self) -> bool:
        """Whether an alternative wants the PIN; the key then counts wrong ones."""
        return any(alternative.pin for alternative in self.alternatives)

    @property
    def windows(self) -> tuple[str, ...]:
        """The labels of all groups that are to open the key, each once."""
        named = (alternative.group for alternative in self.alternatives if alternative.window)
        return tuple(dict.fromkeys(label for label in named if label))

    @property
    def has_pcrs(self) -> bool:
        """Whether an alternative wants the machine's state."""
        return any(alternative.pcrs for alternative in self.alternatives)

    def steps_of(self, alternative: Alternative) -> tuple[Step, ...]:
        """The steps of one alternative, before any PolicyOR. UsageError when a fact is missing."""
        steps: list[Step] = []
        if alternative.group:
            steps.append(people_step(self._index(alternative.group)))
        if alternative.pcrs:
            selection = encode_selection(alternative.pcrs)
            steps.append(Pcr(selection, pcr_digest(alternative.pcrs, self.measured)))
        if alternative.pin:
            steps.append(AuthValue())
        if alternative.budget:
            steps.append(Secret(self.budget_name(alternative.budget)))
        return (*steps, CommandCode(self.command))

    def for_command(self, command: CC) -> KeyPolicy:
        """The same policy of a key with this command. UsageError (`policy-not-for-decryption`) for
        a decryption key with a window or a budget, which are for signatures.
        """
        odd = [p for p in parts_of(self.policy) if isinstance(p, Window | Budget)]
        if command != CC.Sign and odd:
            raise UsageError(
                f"{format_policy(odd[0])}: windows and budgets are for keys that sign",
                code="policy-not-for-decryption",
                hint="a decryption key knows open, pin, pcr, quorum, all and any",
            )
        return replace(self, command=command)

    def copied_by(self, group: GroupDocument) -> KeyPolicy:
        """The same policy of a key that this group's custodians may have copied to another chip.

        UsageError for one that would then hold less than it says: `backup-not-guarded`,
        `backup-other-group`, `backup-budget`, `backup-pcr`, `static-group`.
        """
        if any(one.group != group.name for one in self.alternatives):
            guarded = all(one.group for one in self.alternatives) and self.alternatives
            raise UsageError(
                f"{self.text}: custodians of {group.name!r} have a key copied that officers of "
                f"{group.name!r} approve each use of, by every alternative",
                code="backup-other-group" if guarded else "backup-not-guarded",
                hint=f"--policy 'quorum({group.name})', or all(quorum({group.name}), pin)",
            )
        if self.granting:
            raise UsageError(
                f"{self.text}: each chip counts a budget for itself, so what is granted once would "
                "be used on both",
                code="backup-budget",
                hint="a key with a budget stays in its chip: the other chip gets a key of its own",
            )
        if self.has_pcrs:
            raise UsageError(
                f"{self.text}: the PCRs of another machine are other ones, and a copy there would "
                "be of no use",
                code="backup-pcr",
                hint=f"PCRs in the roster can be approved anew: tpmhsm group change {group.name} "
                "--pcr BANK:N,…",
            )
        return replace(self, backup={group.name: copy_end(group)})

    def budget_name(self, group: str) -> bytes:
        """The written Name (34 bytes) of the index that counts what a group granted. UsageError."""
        from tpmhsm.policy.budgets import budget_name

        index = self.budgets.get(group)
        if index is None:
            raise UsageError(
                f"which NV index counts budget({group}) is not known here",
                code="policy-unknown-budget",
                hint="each key has one of its own, made with it: tpmhsm key show prints the policy "
                "document that names it",
            )
        roster = self._index(group)
        if len(roster) != NAME_SIZE:
            raise UsageError(
                f'budget({group}): the group "{group}" is static, and grants no budgets',
                code="policy-static-budget",
                hint="a chip with TPM2_PolicyAuthorizeNV (tpmhsm device probe), and a group there",
            )
        return budget_name(index, roster)

    def _index(self, group: str) -> bytes:
        name = self.indices.get(group)
        if name is None:
            raise UsageError(
                f'the group "{group}" is not known here',
                code="policy-unknown-group",
                hint="tpmhsm group list; or the policy document that is published with the key",
            )
        return name

    @cached_property
    def digest(self) -> bytes:
        """The key's authPolicy, 32 bytes; empty for an open key."""
        return b"" if self.is_open else self._merged.digest

    @cached_property
    def _merged(self) -> Merged:
        ways = [self.steps_of(one) for one in self.alternatives]
        return in_eights([digest_of(steps) for steps in (*ways, *self.copying)])

    @property
    def copying(self) -> tuple[tuple[Step, ...], ...]:
        """The two further alternatives of a key that may be copied; none for others."""
        return tuple(
            branch
            for label, end in self.backup.items()
            for branch in copy_branches(end, self._index(label))
        )

    def copy_way(self) -> tuple[Step, ...]:
        """The steps after the custodians' ladders by which a copy is made. UsageError for a key
        that is not copied.
        """
        if not self.backup:
            raise UsageError(
                "this key was made to stay in its chip: nobody can have it copied",
                code="not-to-be-copied",
                hint="tpmhsm key create LABEL --policy 'quorum(GROUP)' --backup-to GROUP makes one "
                "that can be",
            )
        (climbed, code), _ = self.copying
        return (code, *self._merged.ways[digest_of((climbed, code))])

    def way(self, alternative: Alternative) -> tuple[Step, ...]:
        """The steps by which one alternative leads to the key's policy, each of them needed."""
        steps = self.steps_of(alternative)
        return (*steps, *self._merged.ways[digest_of(steps)])

    def satisfiable(
        self, *, groups: Collection[str] = (), pin: bool = False, pcrs: Measured | None = None
    ) -> tuple[Alternative, ...]:
        """The alternatives that can be met, those with the fewest demands first. Whether a budget
        has units left is not looked at.

        `groups` have approved, `pin` is at hand, `pcrs` are the values now (None: not looked at).
        """
        found = [
            one
            for one in self.alternatives
            if (not one.group or one.group in groups)
            and (pin or not one.pin)
            and (pcrs is None or self._as_measured(one, pcrs))
        ]
        return tuple(
            sorted(found, key=lambda one: (one.pin, bool(one.budget), len(self.steps_of(one))))
        )

    def _as_measured(self, alternative: Alternative, now: Measured) -> bool:
        return all(
            now.get(pcr.bank, {}).get(number) == self.measured[pcr.bank][number]
            for pcr in alternative.pcrs
            for number in pcr.pcrs
        )
