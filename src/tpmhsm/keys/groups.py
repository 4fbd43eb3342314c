"""Groups on this host: founded, changed, read back from the chip.

The documents say what a group is; the chip says what is in force. Every act here can be run again
after a power failure: it looks at what the chip holds and does what is missing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import NotFoundError, RefusedError, UsageError
from tpmhsm.keys.host import HostDevice, load_host
from tpmhsm.policy.approver import key_identity
from tpmhsm.policy.explain import explain_group, explain_policy
from tpmhsm.policy.fingerprint import fingerprint
from tpmhsm.policy.group import (
    GroupDocument,
    RosterDocument,
    founders_of,
    parse_group,
    parse_roster,
)
from tpmhsm.policy.model import Open, Policy, groups_of, makeable
from tpmhsm.policy.people import Threshold, members_of
from tpmhsm.policy.plan import Approvals
from tpmhsm.policy.tree import as_written, counter_nv, key_policy, roster_content, roster_nv

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.store.groups import GroupRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.wire.structures import NvPublic


@dataclass(frozen=True)
class GroupState:
    """A group as the database knows it: the documents, and the roster that is in force."""

    row: GroupRow
    group: GroupDocument
    roster: RosterDocument
    in_force: bool


@dataclass(frozen=True)
class Certified:
    """What the chip said of a group: two NV_Certify by its attestation key, as TPMS_ATTEST and
    TPMT_SIGNATURE, over the counter and over the roster index."""

    counter: tuple[bytes, bytes]
    roster: tuple[bytes, bytes]


class Groups:
    """Groups by name."""

    def __init__(self, store: Store, device: Device) -> None:
        self._store = store
        self._device = device

    # ── reading ──────────────────────────────────────────────────────────────

    def all(self) -> list[GroupRow]:
        """All groups, by name."""
        with self._store.reading() as tx:
            return tx.groups.all()

    def state(self, name: str) -> GroupState:
        """One group with its roster in force, or while it is founded, the proposed one."""
        with self._store.reading() as tx:
            row = tx.groups.get(name)
            rosters = tx.rosters.all(row.id)
        current = next((r for r in rosters if r.state == "in-force"), None)
        roster = parse_roster((current or rosters[0]).document)
        return GroupState(row, parse_group(row.document), roster, current is not None)

    def active(self, name: str) -> GroupState:
        """One group that is in force. Raises NotFoundError; UsageError while it is founded."""
        found = self.state(name)
        if not found.in_force:
            raise UsageError(
                f"group {name!r} still waits for its custodians",
                hint="tpmhsm request list",
                code="group-founding",
            )
        return found

    def by_id(self, group_id: str) -> GroupState:
        """The group of an id (hexadecimal)."""
        with self._store.reading() as tx:
            row = tx.groups.get_by_id(group_id)
        return self.state(row.name)

    def describe(self, name: str) -> dict[str, Any]:
        """JSON-ready facts of one group."""
        found = self.state(name)
        officers, custodians = found.roster.officers, found.group.custodians
        return {
            "name": name,
            "id": found.row.id,
            "state": found.row.state,
            "epoch": found.roster.epoch,
            "officers": _rule(officers),
            "custodians": _rule(custodians),
            "counter_index": f"0x{found.row.counter_index:08x}",
            "roster_index": f"0x{found.row.roster_index:08x}",
            "fingerprint": found.row.fingerprint,
        }

    def explain(self, name: str, without: str | None) -> str:
        """In words: who can sign, who can replace whom."""
        found = self.state(name)
        return "\n".join(explain_group(found.group, found.roster, without or ""))

    def explain_policy(self, policy: Policy) -> str:
        """In words: what a policy demands, and what it does not protect."""
        states = {name: self.state(name) for name in groups_of(policy)}
        documents = {name: (found.group, found.roster) for name, found in states.items()}
        return "\n".join(explain_policy(policy, documents))

    def policy_digest(self, policy: Policy) -> bytes:
        """The authPolicy of a key of this policy; empty for `open`."""
        wanted = makeable(policy)
        if isinstance(wanted, Open):
            return b""
        return key_policy(self.active(wanted.group).group)

    # ── founding ─────────────────────────────────────────────────────────────

    def plan_founding(
        self, name: str, officers: Threshold, custodians: Threshold, contributions: Iterable[bytes]
    ) -> tuple[GroupDocument, RosterDocument, str]:
        """Documents of a new group and its fingerprint; nothing is changed, in chip or database.

        Raises UsageError when another group is being founded: both would begin at one epoch.
        """
        from tpmhsm.tpm.nv import free_index, next_counter_value

        host = load_host(self._store)
        rows = self.all()
        if name in {row.name for row in rows}:
            raise UsageError(f"a group named {name!r} exists already", code="exists")
        pending = sum(row.state == "founding" for row in rows)
        taken = max((i for row in rows for i in (row.counter_index, row.roster_index)), default=0)
        with self._device.transaction() as chip:
            self._same_chip(chip, host)
            counter = free_index(chip, taken)
            roster = free_index(chip, counter)
            epoch = next_counter_value(chip) + pending
        document = GroupDocument(
            name=name,
            device_ek=host.ek_digest,
            device_ak=host.ak_name,
            nonce=secrets.token_bytes(32),
            counter_index=counter,
            roster_index=roster,
            custodians=(custodians,),
            founders=founders_of(contributions),
        )
        first = RosterDocument(document.id, epoch, (officers,))
        words = fingerprint(document, first, host.ek_certificate)
        return document, first, " ".join(words)

    def found(
        self, group: GroupDocument, roster: RosterDocument, approvals: Sequence[Approvals]
    ) -> None:
        """Make the indices, walk the counter to the first epoch, write the first roster.

        `approvals`: for the increment over the unwritten Name, the increment over the written
        Name, and the write. Raises RefusedError when the chip's counters have moved past.
        """
        from tpmhsm.tpm import nv, policies

        with self._device.transaction() as chip:
            self._same_chip(chip, load_host(self._store))
            if not _ensure(chip, counter_nv(group)):
                policies.run_increment(chip, group, approvals[0], written=False)
            while (value := nv.read_counter(chip, group.counter_index)) < roster.epoch:
                policies.run_increment(chip, group, approvals[1], written=True)
            if value > roster.epoch:
                nv.undefine(chip, group.counter_index)
                raise RefusedError(
                    f"the chip's counters moved on to {value}; epoch {roster.epoch} was approved",
                    code="epoch-passed",
                    hint=f"tpmhsm group create {group.name} … once more",
                )
            if not _ensure(chip, roster_nv(group)):
                policies.run_roster_write(chip, group, roster, approvals[2], written=False)

    # ── change ───────────────────────────────────────────────────────────────

    def plan_roster(self, name: str, officers: Threshold) -> tuple[GroupState, RosterDocument]:
        """The roster that puts these officers in the place of those in force.

        This version replaces one officer, or none (to go on when the epoch was pushed forward).
        """
        from tpmhsm.tpm import nv

        state = self.active(name)
        _one_replaced(state.roster, officers)
        with self._device.transaction() as chip:
            epoch = nv.read_counter(chip, state.group.counter_index) + 1
        return state, RosterDocument(state.group.id, epoch, (officers,))

    def put_in_force(
        self, group: GroupDocument, roster: RosterDocument, approvals: Sequence[Approvals]
    ) -> None:
        """Increment the epoch, then write the roster; each only if it is still to be done."""
        from tpmhsm.tpm import nv, policies

        with self._device.transaction() as chip:
            value = nv.read_counter(chip, group.counter_index)
            if value == roster.epoch - 1:
                policies.run_increment(chip, group, approvals[0], written=True)
            elif value != roster.epoch:
                raise RefusedError(
                    f"the epoch is {value}; this roster was approved for {roster.epoch}",
                    code="epoch-passed",
                    hint=f"tpmhsm group change {group.name} --officers … once more",
                )
            policies.run_roster_write(chip, group, roster, approvals[1], written=True)

    def certify(self, group: GroupDocument, qualifying: bytes) -> Certified:
        """What the chip holds now, signed by its attestation key over `qualifying` (32 bytes)."""
        from tpmhsm.tpm import nv
        from tpmhsm.tpm.objects import attestation_key

        with self._device.transaction() as chip:
            key = attestation_key(chip)
            counter = nv.certify(chip, key, group.counter_index, qualifying)
            roster = nv.certify(chip, key, group.roster_index, qualifying)
        return Certified((counter.attest, counter.signature), (roster.attest, roster.signature))

    def holds(self, group: GroupDocument, roster: RosterDocument) -> bool:
        """Whether the chip's roster index holds exactly this roster at this epoch."""
        from tpmhsm.tpm import nv

        with self._device.transaction() as chip:
            return nv.read_counter(chip, group.counter_index) == roster.epoch and nv.read(
                chip, group.roster_index
            ) == roster_content(group, roster)

    def _same_chip(self, chip: Chip, host: HostDevice) -> None:
        from tpmhsm.tpm.objects import attestation_key

        try:
            attestation_key(chip, host.ak_name)
        except NotFoundError as error:
            raise RefusedError(
                "this is another chip than the one this home was made for",
                code="other-chip",
                hint="--tpm names the chip; --home names the home",
            ) from error


def _ensure(chip: Chip, wanted: NvPublic) -> bool:
    """Make an index unless it is there; says whether it has been written."""
    from tpmhsm.tpm import nv

    try:
        found = nv.read_public(chip, wanted.nv_index).public
    except NotFoundError:
        nv.define(chip, wanted)
        return False
    if found not in (wanted, as_written(wanted)):
        raise RefusedError(
            f"NV index 0x{wanted.nv_index:08x} holds something else",
            code="index-taken",
            hint="tpm2_nvundefine removes it if nobody needs it; or found the group anew",
        )
    return found != wanted


def _rule(rule: Sequence[Threshold]) -> dict[str, Any]:
    return {
        "needed": sum(threshold.m for threshold in rule),
        "members": [member.name for member in members_of(tuple(rule))],
        "text": " and ".join(threshold.describe() for threshold in rule),
    }


def _one_replaced(roster: RosterDocument, officers: Threshold) -> None:
    (before,) = roster.officers
    if (before.m, before.n) != (officers.m, officers.n):
        raise UsageError(
            f"the group is {before.m} of {before.n}; other numbers: not in this version",
            code="not-in-this-version",
        )
    known = {key_identity(member.key) for member in before.members}
    kept = sum(key_identity(member.key) in known for member in officers.members)
    if officers.n - kept > 1:
        raise UsageError(
            "replace one officer at a time: more at once is not in this version",
            code="not-in-this-version",
        )
