"""Budgets: root, with the owner's authorisation and every approval that was ever given, gets no
signature more than officers granted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product

import pytest
from tests.attacks.house import House
from tests.attacks.root import check, declined, refused, votes_of

from tpmhsm.approval.request import Claims, Request
from tpmhsm.errors import ChipRefusedError, UsageError, WaitingError
from tpmhsm.keys.births import Wanted, key_row
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.policy.budgets import SIZE, Counted, Grant, budget_auth, budget_nv, parse_grant
from tpmhsm.policy.plan import Officers, Plan, Spend, plan_grant, plan_use
from tpmhsm.policy.steps import CommandCode, Secret, Signed
from tpmhsm.policy.tree import roster_name
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import budgets, live, objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.sessions import Password, start_policy
from tpmhsm.wire.commands import (
    NV_ChangeAuth,
    NV_DefineSpace,
    NV_Increment,
    NV_Read,
    NV_UndefineSpace,
    NV_Write,
    PolicySecret,
    PolicyTicket,
)
from tpmhsm.wire.constants import NT, RH, ST, NvAttributes
from tpmhsm.wire.structures import Ticket

DIGEST = bytes(range(32))
A = NvAttributes


@dataclass
class Stolen:
    """A grant with the approvals that officers gave for it, in the hands of root."""

    request: Request

    @property
    def grant(self) -> Grant:
        return parse_grant(self.request.content)

    @property
    def officers(self) -> Officers:
        (votes,) = votes_of(self.request)
        assert self.request.roster is not None
        return Officers(self.request.group, self.request.roster, votes)


@dataclass
class Till:
    """A key with a budget, and every grant that it was ever given."""

    house: House
    label: str = "issuing"
    policy: str = "budget(officers)"

    def __post_init__(self) -> None:
        self.house.app.keyring.create(self.label, "p256", policy=self.policy)

    @property
    def row(self) -> KeyRow:
        return self.house.app.keyring.get(self.label)

    @property
    def index(self) -> int:
        return policy_of_row(self.row, self.house.app.groups).budgets["officers"]

    @property
    def roster(self) -> bytes:
        return roster_name(self.house.app.groups.active("officers").group)

    def granted(self, units: int, people: tuple[str, ...] = ("alice", "bob")) -> Stolen:
        """Officers grant, honestly; root keeps what they signed."""
        number = self.house.app.desk.grants.propose(self.label, units).request
        approvals = tuple(self.house.approve(number, name) for name in people)
        request = replace(self.house.app.desk.request(number), approvals=approvals)
        for approval in approvals:
            self.house.app.desk.take(approval.data)
        assert self.house.app.desk.get(number).state == "executed"
        return Stolen(request)

    def plan(self, digest: bytes = DIGEST) -> Plan:
        policy = policy_of_row(self.row, self.house.app.groups)
        spend = Spend(budget_auth(self.row.private))
        return plan_use(policy, policy.alternatives[0], self.row.public, digest, None, spend)

    def sign(self, chip: Chip, plan: Plan | None = None) -> None:
        """A signature, by whatever root does instead of the honest steps."""
        key = self.load(chip)
        try:
            answer = policies.execute(chip, plan or self.plan(), objects.sign_command(key, DIGEST))
            check(self.row, DIGEST, objects.plain_signature(answer.signature))
        finally:
            chip.flush(key.handle)

    def load(self, chip: Chip) -> Loaded:
        parent = objects.storage_parent(chip)
        return objects.load_key(chip, parent, self.row.public, self.row.private)

    def spend_all(self, chip: Chip) -> int:
        """How many signatures root gets until the chip refuses."""
        count = 0
        while True:
            try:
                self.sign(chip)
            except ChipRefusedError as error:
                assert f"0x{error.rc:03x}" == "0x12f"
                return count
            count += 1
            assert count < 40

    def counted(self, chip: Chip) -> Counted | None:
        return budgets.count(chip, self.index, self.roster)

    def remake(self, chip: Chip) -> None:
        """The owner removes the index and makes an identical one."""
        chip.send(NV_UndefineSpace(RH.OWNER, self.index))
        self.define(chip)

    def define(
        self, chip: Chip, more: int = 0, kind: int = NT.PIN_PASS, policy: bytes = b""
    ) -> None:
        wanted = budget_nv(self.index, self.roster)
        attributes = (wanted.attributes & ~0xF0) | kind << 4 | more
        public = wanted.replace(attributes=attributes, auth_policy=policy or wanted.auth_policy)
        chip.send(NV_DefineSpace(RH.OWNER, budget_auth(self.row.private), public))


@contextmanager
def at_chip(house: House) -> Iterator[Chip]:
    with house.app.device.transaction() as chip:
        yield chip
        chip.flush_all()
        assert chip.leaks() == []


def replay(chip: Chip, stolen: Stolen) -> None:
    """The very same write with the very same approvals, in a session of root's own."""
    policies.execute(chip, plan_grant(stolen.officers, stolen.grant), stolen.grant.command())


def without_one(chip: Chip, plan: Plan, rc: int) -> None:
    """Every approval of a plan left out in turn."""
    for missing in (step for step in plan.steps if isinstance(step, Signed)):
        session = start_policy(chip)
        with refused(rc, "PolicyOR"):
            for step in plan.steps:
                if step != missing:
                    policies.run_step(chip, session, plan, step)
        chip.flush(session.handle)


def ask(house: House, till: Till, grant: Grant) -> Request:
    """A request of root's for any grant."""
    return house.app.desk.drafts.of_grant("budget", till.row, "officers", grant.encoded, Claims())


def test_a_sixth_signature(house: House) -> None:
    till = Till(house)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 0
    till.granted(5)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 5
        with refused(0x12F, "PolicySecret"):
            till.sign(chip)


def test_a_refill_by_undefining_and_replaying(house: House) -> None:
    till = Till(house)
    first = till.granted(3)
    later = till.granted(5)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 8
        till.remake(chip)
        assert till.counted(chip) is None
        with refused(0x12F, "PolicySecret"):
            till.sign(chip)  # unwritten
        with refused(0x1CF, "PolicySigned"):
            replay(chip, first)  # over a nonce that is gone
        with refused(0x99D, "NV_Write"):
            replay(chip, later)  # approved for the written Name
        assert till.spend_all(chip) == 0


def test_a_live_session_used_twice(house: House) -> None:
    """Root keeps the session whose nonce people signed: after the write it has another nonce."""
    till = Till(house)
    number = house.app.desk.grants.propose("issuing", 3).request
    approvals = tuple(house.approve(number, name) for name in ("alice", "bob"))
    stolen = Stolen(replace(house.app.desk.request(number), approvals=approvals))
    with at_chip(house) as chip:
        plan = plan_grant(stolen.officers, stolen.grant)
        session = live.resume(chip, stolen.grant.nonce)
        for step in plan.steps:
            policies.run_step(chip, session, plan, step)
        chip.send(stolen.grant.command(), session)
        assert till.spend_all(chip) == 3
        till.remake(chip)
        with refused(0x1CF, "PolicySigned"):
            for step in plan.steps:
                policies.run_step(chip, session, plan, step)


def test_a_first_grant_approved_again(house: House) -> None:
    """What a second first write gives is new, and officers are told: with all that was granted."""
    till = Till(house)
    till.granted(3)
    till.granted(5)
    with at_chip(house) as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, till.index))
    asked = house.app.desk.grants.propose("issuing", 2)

    def warned(name: str) -> list[str]:
        flags = house.machines[name].look(house.ask(asked)).content.flags
        return [flag.text for flag in flags if flag.head == "AGAIN"]

    (again,) = warned("alice")
    assert "16 signatures in all" in again  # 8 twice: the older grants can be replayed
    assert not warned("carol")  # who never granted this budget cannot know
    house.settle(asked.request, ("alice", "carol"))
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 2


def test_the_owner_writes_no_budget(house: House) -> None:
    till = Till(house)
    till.granted(2)
    more = (100).to_bytes(4, "big")
    with at_chip(house) as chip:
        with refused(0x149, "NV_Write"):
            chip.send(NV_Write(RH.OWNER, till.index, more, 4))
        secret = Password(budget_auth(till.row.private))
        for auth in (Password(), secret):
            with refused(0x12F, "NV_Write"):
                chip.send(NV_Write(till.index, till.index, more, 4), auth)
        with refused(0x9A2, "NV_Read"):
            chip.send(NV_Read(till.index, till.index, SIZE, 0), Password())
        # who knows the password may read by it, AUTHREAD or not: that uses a unit up
        assert chip.send(NV_Read(till.index, till.index, SIZE, 0), secret).data
        with refused(0x185, "NV_Write"):
            chip.send(NV_Write(RH.PLATFORM, till.index, more, 4))
        with refused(0x124, "NV_ChangeAuth"):
            chip.send(NV_ChangeAuth(till.index, b""))
        assert till.counted(chip) == Counted(1, 2)


def test_the_count_written(house: House) -> None:
    """Approvals of a limit, for a command that sets the count back, or writes elsewhere."""
    till = Till(house)
    till.granted(2)
    later = till.granted(3)
    index = till.index
    plan = plan_grant(later.officers, later.grant)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 5
        for data, offset in (
            (bytes(4), 0),
            (bytes(4) + (5).to_bytes(4, "big"), 0),
            ((5).to_bytes(4, "big"), 0),
            ((6).to_bytes(4, "big"), 4),
        ):
            with refused(0x99D, "NV_Write"):
                policies.execute(chip, plan, NV_Write(index, index, data, offset))
        assert till.counted(chip) == Counted(5, 5)
        replay(chip, later)
        assert till.spend_all(chip) == 0


def test_an_older_grant_replayed(house: House) -> None:
    """It lowers the limit: service stops, and nothing is signed twice. The newer one goes on."""
    till = Till(house)
    till.granted(2)
    older = till.granted(2)
    newer = till.granted(3)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 7
        replay(chip, older)
        assert till.counted(chip) == Counted(7, 4)
        assert till.spend_all(chip) == 0
        replay(chip, newer)
        assert till.spend_all(chip) == 0
    with declined("lower-total"):
        lower = Grant(house.loot.group.id, bytes.fromhex(till.row.name), till.index, 6)
        house.machines["alice"].look(ask(house, till, lower).data)


def test_an_index_of_another_kind(house: House) -> None:
    """An ordinary index, a counter, other attributes, another policy: another Name each."""
    till = Till(house)
    till.granted(2)
    with at_chip(house) as chip:
        for kind, more in (
            (NT.ORDINARY, A.AUTHREAD | A.OWNERWRITE),
            (NT.COUNTER, A.AUTHREAD | A.OWNERWRITE),
            (NT.PIN_PASS, A.OWNERWRITE),
            (NT.PIN_PASS, A.OWNERWRITE | A.ORDERLY),
            (NT.PIN_FAIL, A.OWNERWRITE),
        ):
            chip.send(NV_UndefineSpace(RH.OWNER, till.index))
            till.define(chip, more, kind)
            if kind == NT.COUNTER:
                chip.send(NV_Increment(RH.OWNER, till.index))
            else:
                chip.send(NV_Write(RH.OWNER, till.index, bytes(4) + (9).to_bytes(4, "big"), 0))
            with refused(0x99D, "Sign"):
                till.sign(chip)
        chip.send(NV_UndefineSpace(RH.OWNER, till.index))
        till.define(chip, A.OWNERWRITE, policy=bytes(32))
        chip.send(NV_Write(RH.OWNER, till.index, bytes(4) + (9).to_bytes(4, "big"), 0))
        with refused(0x99D, "Sign"):
            till.sign(chip)


def test_an_orderly_twin_reset(house: House) -> None:
    """ORDERLY would be unwritten after a reset, and could be granted anew: no key names one."""
    till = Till(house)
    first, later = till.granted(3), till.granted(3)
    with at_chip(house) as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, till.index))
        till.define(chip, A.ORDERLY)
        with refused(0x1CF, "PolicySigned"):
            replay(chip, first)
        with refused(0x99D, "NV_Write"):
            replay(chip, later)
        with refused(0x12F, "PolicySecret"):
            till.sign(chip)


def test_the_budget_of_another_key(house: House) -> None:
    """Its index and its units, in a session for this key; its grants, on this key's index."""
    till, other = Till(house), Till(house, "other")
    till.granted(1)
    later, rich = till.granted(1), other.granted(9)
    assert (till.index, till.roster) != (other.index, other.roster)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 2
        honest, theirs = till.plan(), other.plan()
        swapped = replace(
            honest,
            indices=dict.fromkeys(honest.indices, other.index),
            spend=theirs.spend,
        )
        with refused(0x99D, "Sign"):
            till.sign(chip, swapped)
        assert other.counted(chip) == Counted(1, 9)  # a unit of theirs is burned
        plan = plan_grant(later.officers, later.grant)
        with refused(0x99D, "NV_Write"):
            command = NV_Write(other.index, other.index, (2).to_bytes(4, "big"), 4)
            policies.execute(chip, plan, command)
        with refused(0x1CF, "PolicySigned"):
            replay(chip, rich)
        assert till.spend_all(chip) == 0


def test_a_ticket_for_a_unit(house: House) -> None:
    """PolicySecret with a negative expiration: over such an index the chip gives no ticket."""
    till = Till(house)
    till.granted(3)
    secret = Password(budget_auth(till.row.private))
    with at_chip(house) as chip:
        session = start_policy(chip)
        answer = chip.send(
            PolicySecret(till.index, session.handle, session.nonce_tpm, b"", b"", -1000), secret
        )
        assert answer.policy_ticket.digest == b""
        name = next(iter(till.plan().indices))
        for tag in (ST.AUTH_SECRET, ST.AUTH_SIGNED):
            forged = Ticket(tag, RH.OWNER, bytes(32))
            with refused(0x5E0, "PolicyTicket"):
                chip.send(PolicyTicket(session.handle, bytes(8), b"", b"", name, forged))
        chip.flush(session.handle)
        assert till.spend_all(chip) == 2


def test_a_session_primed_with_one_unit(house: House) -> None:
    """One unit is one command: a session that goes on has forgotten it."""
    till = Till(house)
    till.granted(2)
    with at_chip(house) as chip:
        key = till.load(chip)
        plan, session = till.plan(), start_policy(chip)
        for step in plan.steps:
            policies.run_step(chip, session, plan, step)
        chip.send(objects.sign_command(key, DIGEST), session)
        with refused(0x99D, "Sign"):
            chip.send(objects.sign_command(key, DIGEST), session)
        assert till.counted(chip) == Counted(1, 2)


def test_a_grant_of_another_epoch(house: House) -> None:
    till = Till(house)
    till.granted(1)
    number = house.app.desk.grants.propose("issuing", 50).request
    approvals = tuple(house.approve(number, name) for name in ("alice", "bob"))
    old = Stolen(replace(house.app.desk.request(number), approvals=approvals))
    house.change()
    with at_chip(house) as chip:
        with refused(0x126, "PolicyNV"):
            replay(chip, old)
        assert till.spend_all(chip) == 1


def test_one_approval_of_two_grants_nothing(house: House) -> None:
    till = Till(house)
    till.granted(1)
    later = till.granted(1)
    plan = plan_grant(later.officers, later.grant)
    with at_chip(house) as chip:
        without_one(chip, plan, 0x1C4)
        assert till.counted(chip) == Counted(0, 2)
        replay(chip, later)


def test_approvals_of_a_signature_grant_nothing(house: House) -> None:
    """And grants sign nothing: each purpose has its policyRef, each branch its command."""
    till = Till(house)
    till.granted(1)
    later = till.granted(1)
    loot = house.loot
    with at_chip(house) as chip:
        forged = replace(later.officers, approvals=loot.votes)
        with refused(0x5DB, "PolicySigned"):
            plan = plan_grant(forged, later.grant)
            policies.execute(chip, plan, later.grant.command())
        key = objects.load_key(
            chip, objects.storage_parent(chip), loot.key.public, loot.key.private
        )
        plan = plan_grant(later.officers, later.grant)
        with refused(0x99D, "Sign"):
            policies.execute(chip, plan, objects.sign_command(key, loot.digest))


def test_a_short_quorum_burns_no_unit(house: House) -> None:
    """The budget is asked after the roster: what fails before it costs nothing."""
    till = Till(house, policy="all(quorum(officers), budget(officers))")
    till.granted(2)
    with pytest.raises(WaitingError) as waiting:
        house.app.desk.sign_file(till.label, b"a file\n", name="file")
    number = waiting.value.request
    votes = house.steal(number).votes
    policy = policy_of_row(till.row, house.app.groups)
    state = house.app.groups.active("officers")
    row, digest = till.row, house.app.desk.request(number).digest
    spend = Spend(budget_auth(row.private))
    officers = Officers(state.group, state.roster, votes)
    plan = plan_use(policy, policy.alternatives[0], row.public, digest, officers, spend)
    one_of_two = Officers(state.group, state.roster, dict(list(votes.items())[:1]))
    with pytest.raises(UsageError):
        plan_use(policy, policy.alternatives[0], row.public, digest, one_of_two, spend)
    with at_chip(house) as chip:
        without_one(chip, plan, 0x1C4)
        assert till.counted(chip) == Counted(0, 2)
        key = till.load(chip)
        unit_alone = [step for step in plan.steps if isinstance(step, Secret | CommandCode)][1:]
        session = start_policy(chip)
        for step in unit_alone:
            policies.run_step(chip, session, plan, step)
        with refused(0x99D, "Sign"):
            chip.send(objects.sign_command(key, digest), session)
        assert till.counted(chip) == Counted(1, 2)  # root burns a unit, and signs nothing
        chip.flush_all()


def test_the_password_of_an_index_guessed(house: House) -> None:
    """Who may talk to the chip but not read the database burns no units."""
    till = Till(house)
    till.granted(3)
    with at_chip(house) as chip:
        session = start_policy(chip)
        for guess in (b"", b"0", till.row.private[:32], bytes.fromhex(till.row.name)[:32]):
            with refused(0x9A2, "PolicySecret"):
                command = PolicySecret(till.index, session.handle, b"", b"", b"", 0)
                chip.send(command, Password(guess))
        chip.flush(session.handle)
        assert till.counted(chip) == Counted(0, 3)


def test_budgets_by_trying_every_way(house: House) -> None:
    """All alternatives of a policy, all orders of its steps: only the honest one signs."""
    till = Till(house)
    till.granted(30)
    plan = till.plan()
    with at_chip(house) as chip:
        key = till.load(chip)
        signed = 0
        for length in range(4):
            for steps in product(plan.steps, repeat=length):
                session = start_policy(chip)
                with suppress(ChipRefusedError):
                    for step in steps:
                        policies.run_step(chip, session, plan, step)
                    session.last = True
                    chip.send(objects.sign_command(key, DIGEST), session)
                    assert steps == plan.steps
                    signed += 1
                if not session.ended:
                    chip.flush(session.handle)
        assert signed == 1


def test_a_grant_at_another_index_is_declined(house: House) -> None:
    """Root asks officers for a budget at another key's index, or for what the chip did not say."""
    till, other = Till(house), Till(house, "other")
    till.granted(3)
    machine, group = house.machines["carol"], house.loot.group.id
    name, nonce = bytes.fromhex(till.row.name), bytes(range(16))
    for index in (other.index, other.index + 7):
        with declined("other-budget"):
            machine.look(ask(house, till, Grant(group, name, index, 5, nonce)).data)
    honest = ask(house, till, Grant(group, name, till.index, 5))
    assert machine.look(honest.data).content.granted
    with declined("state"):
        machine.look(replace(honest, budget=None).data)
    older = ask(house, till, Grant(group, name, till.index, 4))
    with declined("state"):
        machine.look(replace(honest, budget=older.budget).data)  # certified over other bytes


def twin(house: House, till: Till, label: str) -> Till:
    """A key of root's whose policy names the index of another key: the chip makes any."""
    with house.app.device.transaction() as chip:
        parent = objects.storage_parent(chip)
        policy = policy_of_row(till.row, house.app.groups)
        made = objects.create_key(chip, parent, "p256", policy.digest)
        loaded = objects.load_key(chip, parent, made.public, made.private)
        ak = objects.attestation_key(chip)
        born = objects.certify_creation(chip, ak, loaded, made, bytes(32))
    row = replace(
        key_row(Wanted(label, "p256"), policy, made, till.row.group_id, born),
        private=till.row.private,  # of which the index's password is made
    )
    with house.app.store.transaction() as tx:
        tx.keys.add(row)
    other = object.__new__(Till)
    other.house, other.label = house, label
    return other


def test_a_budget_that_two_keys_share(house: House) -> None:
    """Approvals name an index, and no key: root asks for a harmless key that counts on the index
    of another. Tools that know the other key refuse; for one that does not, it is a new key.
    """
    till = Till(house)
    till.granted(1)  # by alice and bob
    decoy = twin(house, till, "harmless")
    group, name = house.loot.group.id, bytes.fromhex(decoy.row.name)
    asked = ask(house, decoy, Grant(group, name, till.index, 100)).data
    for person in ("alice", "bob"):  # who granted it for the other key
        with declined("shared-budget"):
            house.machines[person].look(asked)
    carol = house.machines["carol"]
    seen = carol.look(asked).content
    assert [flag.head for flag in seen.flags if flag.head == "NEW KEY"]
    carol.memory.keep(carol.look(ask(house, till, honest(till, 2)).data).entries)  # she pins it
    with declined("shared-budget"):
        carol.look(asked)


def honest(till: Till, total: int) -> Grant:
    group = till.house.loot.group.id
    return Grant(group, bytes.fromhex(till.row.name), till.index, total)
