"""A group that exists in a chip: counter, roster, a key; and people who approve."""

from dataclasses import dataclass, replace

from tests.policy import makers

from tpmhsm.approval.further_acts import Opening
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.bound import bound_increment, bound_roster_write, bound_sign
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.plan import Opened
from tpmhsm.policy.tree import (
    SIGN,
    counter_nv,
    epoch_ladders,
    key_policy,
    roster_ladders,
    roster_nv,
)
from tpmhsm.policy.windows import WindowDocument
from tpmhsm.tpm import nv, objects, policies, windows
from tpmhsm.tpm.sessions import start_policy


def sign_for(bound, ladder, people, kind="p256"):
    """Each person's approval of one command: {index on the ladder: TPMT_SIGNATURE}.

    `people` maps the index on the ladder to the number of the person who signs.
    """
    message = a_hash_preimage(bound.cp_hash, ladder.policy_ref)
    return {i: makers.tpmt_sign(makers.key(p, kind), message) for i, p in people.items()}


@dataclass
class World:
    """One chip with one group on it. Custodians are people 0, 1, 2 (2 of 3)."""

    chip: object
    group: GroupDocument
    roster: RosterDocument | None = None
    officers: tuple[int, ...] = ()
    kind: str = "p256"

    @classmethod
    def make(cls, chip, m=2, officers=(0, 1, 2), kind="p256", **other):
        """Define the indices, walk the epoch, put the officers in force."""
        world = cls(chip, makers.group(**other), kind=kind)
        nv.define(chip, counter_nv(world.group))
        nv.define(chip, roster_nv(world.group))
        world.increment(written=False)
        world.put(m, officers, written=False, kind=kind)
        return world

    def custodians(self, bound, ladders, people=(0, 1)):
        return sign_for(bound, ladders(self.group)[0], {p: p for p in people})

    def increment(self, written=True, people=(0, 1)):
        bound = bound_increment(self.group, written=written)
        approvals = self.custodians(bound, epoch_ladders, people)
        policies.run_increment(self.chip, self.group, approvals, written=written)

    @property
    def epoch(self):
        return nv.read_counter(self.chip, self.group.counter_index)

    def roster_for(self, m, officers, epoch=None, kind="p256"):
        rule = makers.threshold(m, officers, kind=kind)
        return makers.roster(self.group, rule, epoch or self.epoch)

    def write(self, roster, written=True, people=(0, 1)):
        bound = bound_roster_write(self.group, roster, written=written)
        approvals = self.custodians(bound, roster_ladders, people)
        policies.run_roster_write(self.chip, self.group, roster, approvals, written=written)

    def put(self, m, officers, written=True, kind="p256"):
        roster = self.roster_for(m, officers, kind=kind)
        self.write(roster, written)
        self.roster, self.officers, self.kind = roster, tuple(officers), kind

    def key(self, algorithm="p256", policy=None):
        """Make a key of this group (or of another policy) and load it."""
        parent = objects.storage_parent(self.chip)
        policy = key_policy(self.group) if policy is None else policy
        created = objects.create_key(self.chip, parent, algorithm, policy)
        return objects.load_key(self.chip, parent, created.public, created.private)

    def approvals(self, key, digest, indices, roster=None):
        """Approvals of one signature by the officers with these indices."""
        roster = roster or self.roster
        ladder = SIGN.ladders(roster)[0]
        people = {i: self.officers[i] for i in indices}
        return sign_for(bound_sign(key.public, digest), ladder, people, self.kind)

    def open(self, key, indices=None, seconds=3600):
        """Have the custodians list the key, and officers open it: what stands for approvals."""
        if key.name not in self.roster.windows:
            self.increment()
            listed = replace(self.roster, epoch=self.epoch, windows=(key.name,))
            self.write(listed)
            self.roster = listed
        session, roster = start_policy(self.chip), self.roster
        window = WindowDocument(self.group.id, roster.epoch, key.name, session.nonce_tpm, seconds)
        threshold = roster.officers[0]
        message = Opening("open", window, 1, threshold).preimage
        votes = {
            i: makers.tpmt_sign(makers.key(self.officers[i], self.kind), message)
            for i in indices or range(threshold.m)
        }
        tickets = windows.open_window(self.chip, session, window, roster, votes)
        return Opened(self.group, roster, key.name, tickets)

    def sign(self, key, digest, approvals, roster=None):
        roster = roster or self.roster
        return policies.sign_with_quorum(self.chip, key, digest, self.group, roster, approvals)
