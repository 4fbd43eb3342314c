"""What a roster demands besides people, and what it no longer allows: PCRs that custodians approve
again, keys that may be opened no more, purposes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import identity
from tests.attacks.house import House
from tests.attacks.root import Root, check, refused
from tests.attacks.test_indices import last_change, write
from tests.attacks.test_pins_and_pcrs import boot, extend

from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import members_of
from tpmhsm.policy.plan import Officers, Plan, climb_branch, plan_officers
from tpmhsm.policy.steps import CommandCode, NameHash, Pcr, Signed, Step
from tpmhsm.policy.tree import BUDGET, SIGN, Branch, window
from tpmhsm.requests.drafts import Edits
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import LoadExternal, PolicySigned
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import Signature

ANY = sha256(b"whatever root likes").digest()
PEOPLE = ("alice", "bob")
ECDSA = ec.ECDSA(hashes.SHA256())


def change(house: House, edits: Edits) -> RosterDocument:
    """The custodians approve a change; gives the roster in force."""
    asked = house.app.desk.propose_roster("officers", edits)
    assert house.settle(asked.request, ("alice", "carol")).state == "executed"
    return house.app.groups.active("officers").roster


def measured(house: House) -> RosterDocument:
    with house.app.device.transaction() as chip:
        boot(chip)
    return change(house, Edits(pcrs=("sha256:0,7",)))


# ── PCRs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_pcr_of_the_roster_moved_between_policy_and_signature(house: House) -> None:
    """The comparison was true when it was made: the chip remembers that a PCR moved since."""
    measured(house)
    loot = house.steal_fresh()
    with house.root() as root:
        root.honest(loot)
        key, session = root.load(loot.key), root.session(loot=loot)
        extend(root.chip, 16, b"any PCR that the chip counts")
        extend(root.chip, 7, b"an update")
        with refused(0x128, "Sign"):
            root.chip.send(objects.sign_command(key, loot.digest), session)
        root.chip.flush_all()


def test_a_pcr_of_the_roster_moved_and_then_approved_again(house: House) -> None:
    """Another firmware: no signature, with or without the comparison, until custodians approve the
    state. The key stays; approvals of before do not count.
    """
    measured(house)
    before = house.steal_fresh()
    with house.root() as root:
        root.honest(before)
        extend(root.chip, 7, b"an update")
        with refused(0x1C4, "PolicyPCR"):
            root.try_sign(loot=before)
        steps = before.plan.steps
        with refused(0x1C4, "PolicyOR"):
            root.try_sign([s for s in steps if not isinstance(s, Pcr)], loot=before)
        now = [replace(s, digest=b"") if isinstance(s, Pcr) else s for s in steps]
        with refused(0x1C4, "PolicyOR"):  # an empty digest: "as they are now"
            root.try_sign(now, loot=before)
    change(house, Edits(pcrs=("sha256:0,7",)))
    after = house.steal_fresh("CN=After")
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            root.try_sign(loot=before)
        root.honest(after)


def test_a_roster_without_its_pcrs_replayed(house: House) -> None:
    """The roster of before, which demanded nothing of the machine, is written again."""
    change(house, Edits(officers="2:alice,bob,carol"))
    past, old = last_change(house), house.steal_fresh("CN=Before")
    measured(house)
    current, fresh = last_change(house), house.steal_fresh()
    with house.root() as root:
        extend(root.chip, 0, b"root's own firmware")
        write(root, *past)
        with refused(0x126, "PolicyNV"):
            root.try_sign(loot=old)
        with refused(0x1C4, "PolicyPCR"):
            root.try_sign(loot=fresh)
        write(root, *current)


# ── windows ──────────────────────────────────────────────────────────────────────────────────


def blank(roster: RosterDocument, branch: Branch) -> dict[int, bytes]:
    """What officers who are with root can sign: approvals without nonce and cpHash, which their own
    tools never make, for a branch of the roster.
    """
    (ladder,) = branch.ladders(roster)
    places = {member.name: i for i, member in enumerate(members_of(roster.officers))}
    message = bytes(4) + ladder.policy_ref
    found = {}
    for name in PEOPLE:
        person = identity(name)
        found[places[name]] = tpmt_signature(person.public_key, person.private.sign(message, ECDSA))
    return found


def through(house: House, roster: RosterDocument, branch: Branch, key: KeyRow) -> Plan:
    """The plan of one signature of `ANY` through a branch."""
    votes = blank(roster, branch)
    officers = Officers(house.loot.group, roster, votes)
    honest = house.loot.plan
    return plan_officers("attack", officers, branch, honest.steps[-2:], honest.bound, honest.policy)


def walk(root: Root, plan: Plan, steps: Iterable[Step], key: KeyRow) -> bytes:
    """Steps with those blank approvals, then TPM2_Sign of `ANY`."""
    loaded, session = root.load(key), start_policy(root.chip)
    try:
        for step in steps:
            if not isinstance(step, Signed):
                policies.run_step(root.chip, session, plan, step)
                continue
            given = plan.given[step.approver]
            person = root.chip.send(LoadExternal(None, given.member.public, RH.NULL)).object_handle
            vote = decode(Signature, given.signature)
            root.chip.send(PolicySigned(person, session.handle, b"", b"", step.policy_ref, 0, vote))
            root.chip.flush(person)
        answer = root.chip.send(objects.sign_command(loaded, ANY), session)
        return objects.plain_signature(answer.signature)
    finally:
        root.chip.flush_all()


def test_a_key_that_was_closed(house: House) -> None:
    """Two officers are with root, and their keys sign anything. While the custodians allow it, that
    opens the key; from the next epoch on no branch of the roster leads there.
    """
    key = house.app.keyring.get("papers")
    name = window(bytes.fromhex(key.name))
    opened = change(house, Edits(opened=("papers",)))
    plan = through(house, opened, name, key)
    with house.root() as root:
        check(key, ANY, walk(root, plan, plan.steps, key))
    closed = change(house, Edits(closed=("papers",)))
    assert closed.windows == ()
    pretended = replace(closed, windows=opened.windows)
    forged = through(house, pretended, name, key)
    with house.root() as root:
        with refused(0x126, "PolicyNV"):
            walk(root, plan, plan.steps, key)
        with refused(0x084, "PolicyAuthorizeNV"):
            walk(root, forged, forged.steps, key)


def test_another_key_than_the_one_that_may_be_opened(house: House) -> None:
    """PolicyNameHash holds the chip to one key; without it the ladder leads nowhere."""
    papers, other = house.app.keyring.get("papers"), house.app.keyring.get("root")
    opened = change(house, Edits(opened=("papers",)))
    plan = through(house, opened, window(bytes.fromhex(papers.name)), papers)
    theirs = NameHash.of(bytes.fromhex(other.name))
    swapped = [theirs if isinstance(step, NameHash) else step for step in plan.steps]
    bare = [step for step in plan.steps if not isinstance(step, NameHash)]
    with house.root() as root:
        with refused(0x99D, "Sign"):
            walk(root, plan, plan.steps, other)
        for steps in (swapped, bare):
            with refused(0x1C4, "PolicyOR"):
                walk(root, plan, steps, other)
        check(papers, ANY, walk(root, plan, plan.steps, papers))


def test_an_old_roster_with_an_open_key_replayed(house: House) -> None:
    """The chip writes again what custodians once approved. Its epoch is over."""
    key = house.app.keyring.get("papers")
    opened = change(house, Edits(opened=("papers",)))
    past = last_change(house)
    plan = through(house, opened, window(bytes.fromhex(key.name)), key)
    closed = change(house, Edits(closed=("papers",)))
    current = last_change(house)
    later = through(house, replace(closed, windows=opened.windows), plan_branch(key), key)
    with house.root() as root:
        write(root, *past)
        with refused(0x126, "PolicyNV"):
            walk(root, plan, plan.steps, key)
        with refused(0x084, "PolicyAuthorizeNV"):
            walk(root, later, later.steps, key)
        write(root, *current)


def plan_branch(key: KeyRow) -> Branch:
    return window(bytes.fromhex(key.name))


# ── purposes ─────────────────────────────────────────────────────────────────────────────────


def test_approvals_of_one_purpose_in_the_branch_of_another(house: House) -> None:
    """Blank approvals for budgets, under which root would sign; and the command code swapped."""
    key = house.app.keyring.get("papers")
    roster = house.app.groups.active("officers").roster
    plan = through(house, roster, BUDGET, key)
    votes = Officers(house.loot.group, roster, dict.fromkeys(range(2), b""))
    sign = climb_branch(votes, SIGN)
    with house.root() as root:
        with refused(0x1C4, "PolicyCommandCode"):  # one session, one command
            walk(root, plan, plan.steps, key)
        with refused(0x99D, "Sign"):
            walk(root, plan, plan.steps[:-1], key)
        with refused(0x5DB, "PolicySigned"):
            walk(root, plan, (*sign, *plan.steps[-2:]), key)
        code = next(s for s in sign if isinstance(s, CommandCode))
        mixed = [code if isinstance(s, CommandCode) else s for s in plan.steps]
        with refused(0x1C4, "PolicyOR"):
            walk(root, plan, mixed, key)


def test_a_use_that_the_roster_has_not(house: House) -> None:
    """Officers are with root for a purpose that the custodians took out of the roster."""
    key = house.app.keyring.get("papers")
    narrow = change(house, Edits(uses="sign"))
    plan = through(house, replace(narrow, uses=("sign", "budget")), BUDGET, key)
    with house.root() as root, refused(0x084, "PolicyAuthorizeNV"):
        walk(root, plan, plan.steps, key)
    fresh = house.steal_fresh()
    with house.root() as root:
        root.honest(fresh)
