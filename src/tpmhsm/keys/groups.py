"""Groups on this host: founded, changed, read back from the chip.

The documents say what a group is; the chip says what is in force. Every act here can be run again
after a power failure: it looks at what the chip holds and does what is missing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import RefusedError, StoreError, UsageError
from tpmhsm.keys import founding
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.policy.explain import explain_group, standing
from tpmhsm.policy.fingerprint import fingerprint
from tpmhsm.policy.group import (
    GroupDocument,
    RosterDocument,
    check_pair,
    founders_of,
    parse_group,
    parse_roster,
)
from tpmhsm.policy.model import Pcr, Policy, groups_of
from tpmhsm.policy.pcrs import demanded
from tpmhsm.policy.people import Thresholds, describe_rule, members_of, needed
from tpmhsm.policy.plan import Approvals
from tpmhsm.policy.rosters import explain_roster, short_name, state_in_words
from tpmhsm.policy.tree import must_change
from tpmhsm.policy.words import explain_policy

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.store.groups import GroupRow
    from tpmhsm.tpm.device import Device


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


@dataclass(frozen=True)
class Wanted:
    """What a new roster is to say; None leaves it as it is. `opened` and `closed`: Names of keys.

    `pcrs`: the PCRs whose values now every approval is to demand; () for none.
    """

    officers: Thresholds | None = None
    opened: tuple[bytes, ...] = ()
    closed: tuple[bytes, ...] = ()
    pcrs: tuple[Pcr, ...] | None = None
    uses: tuple[str, ...] | None = None


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
        if not rosters:
            raise StoreError(f"the rosters of group {name!r} are gone", code="corrupt")
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
            "uses": list(found.roster.uses),
            "windows": [self.key_label(key) for key in found.roster.windows],
            "pcrs": state_in_words(found.roster.measured),
            "custodians": _rule(custodians),
            "static": found.group.static,
            "counter_index": _index(found.row.counter_index),
            "roster_index": _index(found.row.roster_index),
            "fingerprint": found.row.fingerprint,
        }

    def explain(self, name: str, without: Sequence[str] = ()) -> str:
        """In words: who can sign, who can replace whom; and if these people are lost."""
        found = self.state(name)
        lines = explain_group(found.group, found.roster, without)
        if not (without or found.group.static):
            lines += explain_roster(found.roster, self.key_label)
        return "\n".join(lines)

    def key_label(self, key_name: bytes) -> str:
        """What the key of this Name is called here, or the beginning of the Name."""
        with self._store.reading() as tx:
            row = tx.keys.find_by_name(key_name.hex())
        return row.label if row else short_name(key_name)

    def explain_policy(self, policy: Policy) -> str:
        """In words: what a policy demands, and what it does not protect."""
        states = {name: self.state(name) for name in groups_of(policy)}
        documents = {name: (found.group, found.roster) for name, found in states.items()}
        return "\n".join(explain_policy(policy, documents))

    # ── founding ─────────────────────────────────────────────────────────────

    def plan_founding(
        self,
        name: str,
        officers: Thresholds,
        custodians: Thresholds,
        contributions: Iterable[bytes],
    ) -> tuple[GroupDocument, RosterDocument, str]:
        """Documents of a new group and its fingerprint; nothing is changed, in chip or database.

        Groups that are being founded reserve their indices and the epochs they begin at.
        Raises UsageError for rules that cannot be, RefusedError for another chip.
        """
        host = load_host(self._store)
        rows = self.all()
        with self._device.transaction() as chip:
            must_be(chip, host)
            if self._device.exclusive:
                founding.sweep_probes(chip)
            place = founding.find_place(
                chip,
                after=max((i for r in rows for i in (r.counter_index, r.roster_index)), default=0),
                pending=sum(row.state == "founding" for row in rows),
            )
        document = GroupDocument(
            name=name,
            device_ek=host.ek_digest,
            device_ak=host.ak_name,
            nonce=secrets.token_bytes(32),
            counter_index=place.counter,
            roster_index=place.roster,
            custodians=custodians,
            founders=founders_of(contributions),
        )
        first = RosterDocument(document.id, place.epoch, officers)
        check_pair(document, first)
        words = fingerprint(document, host.ek_evidence)
        return document, first, " ".join(words)

    def found(
        self, group: GroupDocument, roster: RosterDocument, approvals: Sequence[Approvals]
    ) -> None:
        """Have the chip found a group, or do what is left of it; see `founding.found`."""
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            founding.found(chip, group, roster, approvals)

    def unmake(self, group: GroupDocument) -> None:
        """Remove the indices of a group that is not founded after all."""
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            founding.unmake(chip, group)

    # ── change ───────────────────────────────────────────────────────────────

    def plan_roster(self, name: str, wanted: Wanted) -> tuple[GroupState, RosterDocument]:
        """The roster that takes the place of the one in force, of the epoch after the chip's. With
        nothing wanted it only moves the epoch. Raises UsageError.
        """
        from tpmhsm.tpm import nv
        from tpmhsm.tpm.pcrs import measure_at_birth

        state = self.active(name)
        must_change(state.group)
        old = state.roster
        with self._device.transaction() as chip:
            epoch = nv.read_counter(chip, state.group.counter_index) + 1
            measured = measure_at_birth(chip, wanted.pcrs) if wanted.pcrs else {}
        windows = {*old.windows, *wanted.opened} - {*wanted.closed}
        roster = RosterDocument(
            state.group.id,
            epoch,
            old.officers if wanted.officers is None else wanted.officers,
            old.uses if wanted.uses is None else wanted.uses,
            tuple(sorted(windows)),
            old.measured if wanted.pcrs is None else measured,
        )
        check_pair(state.group, roster)
        return state, roster

    def put_in_force(
        self, group: GroupDocument, roster: RosterDocument, approvals: Sequence[Approvals]
    ) -> None:
        """Increment the epoch, then write the roster; each only if it is still to be done."""
        from tpmhsm.tpm import nv, policies

        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
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

    def stands(self, group: GroupDocument, roster: RosterDocument) -> bool:
        """Whether both indices are as they were made, and this roster stands in its own."""
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            return founding.stands(chip, group, roster)

    def join(self, group: GroupDocument, origin: founding.Origin) -> None:
        """Bring a group of another chip into force in this one; see `founding.join`."""
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            founding.join(chip, group, origin)

    def restore(self, group: GroupDocument, origin: founding.Origin) -> None:
        """Put back what the chip's owner removed or replayed; see `founding.restore`."""
        with self._device.transaction() as chip:
            must_be(chip, load_host(self._store))
            founding.restore(chip, group, origin)

    def certify(self, group: GroupDocument, qualifying: bytes) -> Certified:
        """What the chip holds now, signed by its attestation key over `qualifying` (32 bytes).

        UsageError for a static group, of which it holds nothing.
        """
        from tpmhsm.tpm import nv
        from tpmhsm.tpm.objects import attestation_key

        must_change(group)
        with self._device.transaction() as chip:
            key = attestation_key(chip)
            counter = nv.certify(chip, key, group.counter_index, qualifying)
            roster = nv.certify(chip, key, group.roster_index, qualifying)
        return Certified((counter.attest, counter.signature), (roster.attest, roster.signature))

    def must_be_measured(self, state: GroupState) -> None:
        """Raise RefusedError `policy-pcrs-moved` while the PCRs that the roster demands have other
        values: nobody need be asked for what the chip refuses. Reads none where none is demanded.
        """
        from tpmhsm.tpm.pcrs import measure

        wanted = demanded(state.roster.measured)
        if not wanted:
            return
        with self._device.transaction() as chip:
            now = measure(chip, wanted)
        if now != state.roster.measured:
            name, pcrs = state.row.name, state_in_words(state.roster.measured)
            raise RefusedError(
                f"the roster of {name!r} demands {pcrs}, and they have other values now",
                code="policy-pcrs-moved",
                hint=f"after an update: tpmhsm group change {name} --pcr BANK:N,… asks the "
                "custodians; else start the machine as it was",
            )

    def holds(self, group: GroupDocument, roster: RosterDocument) -> bool:
        """Whether the chip's roster index holds exactly this roster at this epoch."""
        with self._device.transaction() as chip:
            return founding.holds(chip, group, roster)


def _index(index: int) -> str | None:
    return f"0x{index:08x}" if index else None


def _rule(rule: Thresholds) -> dict[str, Any]:
    return {
        "needed": needed(rule),
        "members": [member.name for member in members_of(rule)],
        "ladders": [
            {"needed": one.m, "members": [member.name for member in one.members]} for one in rule
        ],
        "spare": standing(rule).spare,
        "text": describe_rule(rule),
    }
