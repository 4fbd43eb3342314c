"""Where two rules meet: budgets in open keys, grants across a change of officers, and keys that
pretend to share nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.attacks.house import House
from tests.attacks.root import declined, refused, votes_of
from tests.attacks.test_budgets import DIGEST, Stolen, Till, ask, at_chip, replay
from tests.attacks.test_decryption import SECRET, closed
from tests.attacks.test_pins_and_pcrs import extend
from tests.attacks.test_roster_demands import change, measured
from tests.attacks.test_windows import Sash

from tpmhsm.approval.display import render
from tpmhsm.cli.approve import confirm
from tpmhsm.errors import RefusedError
from tpmhsm.keys.births import Wanted, key_row
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.policy.budgets import Counted, Grant, budget_auth
from tpmhsm.policy.plan import Spend, plan_grant, plan_use
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.steps import CommandCode, Secret
from tpmhsm.policy.tree import counter_nv, roster_nv
from tpmhsm.policy.windows import parse_window
from tpmhsm.requests.drafts import Edits
from tpmhsm.tpm import live, objects, policies, windows
from tpmhsm.tpm.sessions import Password, PolicySession, start_policy
from tpmhsm.wire.commands import (
    Certify,
    ContextLoad,
    ContextSave,
    NV_DefineSpace,
    NV_Extend,
    NV_Increment,
    NV_ReadLock,
    NV_SetBits,
    NV_UndefineSpace,
    NV_WriteLock,
    ObjectChangeAuth,
    PolicyRestart,
    Quote,
)
from tpmhsm.wire.constants import ALG, RH, NvAttributes
from tpmhsm.wire.structures import NULL_SCHEME, pcr_selection

A = NvAttributes


def decoy(house: House, till: Till, label: str, text: str) -> Till:
    """A key of root's with another policy, which counts on the index of a key that exists."""
    with house.app.device.transaction() as chip:
        parent = objects.storage_parent(chip)
        true = policy_of_row(till.row, house.app.groups)
        policy = replace(read_policy(text), indices=true.indices, budgets=true.budgets)
        made = objects.create_key(chip, parent, "p256", policy.digest)
        loaded = objects.load_key(chip, parent, made.public, made.private)
        born = objects.certify_creation(
            chip, objects.attestation_key(chip), loaded, made, bytes(32)
        )
    row = replace(
        key_row(Wanted(label, "p256"), policy, made, till.row.group_id, born),
        private=till.row.private,  # of which the index's password is made
    )
    with house.app.store.transaction() as tx:
        tx.keys.add(row)
    other = object.__new__(Till)
    other.house, other.label = house, label
    return other


def grant_for(house: House, till: Till, index: int, total: int, nonce: bytes = b"") -> bytes:
    """A request for a grant to the key of `till`, at any index."""
    grant = Grant(house.loot.group.id, bytes.fromhex(till.row.name), index, total, nonce)
    return ask(house, till, grant).data


def test_a_decoy_with_another_policy(house: House) -> None:
    """Who approved but a signature by a key refuses a budget, and a signature, for any other key
    that counts on the same index, whatever else its policy says.
    """
    till = Till(house, "ca", "any(quorum(officers),budget(officers))")
    house.settle(house.propose("ca", "CN=Big CA"), ("alice", "carol"))
    alone = decoy(house, till, "harmless", "budget(officers)")
    signs = decoy(house, till, "papers-too", "all(quorum(officers),budget(officers))")
    carol, bob = house.machines["carol"], house.machines["bob"]
    with declined("shared-budget"):
        carol.look(grant_for(house, alone, till.index, 100, bytes(range(16))))
    asked = house.draft("data", b"a file\n", "papers-too").data
    with declined("shared-budget"):
        carol.look(asked)
    bob.memory.keep(bob.look(asked).entries)  # who knows neither takes the first for the true one
    with declined("shared-budget"):
        bob.look(house.app.desk.export(house.propose_csr("ca", "CN=Big CA")))
    assert till.index == alone.index == signs.index


def test_units_for_a_harmless_key(house: House) -> None:
    """What nobody refuses: officers who never approved anything for the true key grant its budget
    by granting that of a decoy. The true key signs; who approved for it before refuses.
    """
    till = Till(house, "ca")
    alone = decoy(house, till, "harmless", "budget(officers)")
    other = alone.granted(2, ("bob", "carol"))
    assert other.grant.index == till.index
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 2
    later = house.app.desk.grants.propose("ca", 3)
    with declined("shared-budget"):
        house.machines["bob"].look(house.ask(later))
    assert house.machines["alice"].look(house.ask(later)).content.granted


def test_a_budget_in_a_window(house: House) -> None:
    """A key that wants approvals and a unit signs with units alone while it is open: the grant's
    screen says so. Neither the window nor the unit suffices.
    """
    till = Till(house, "both", "all(quorum(officers),budget(officers))")
    change(house, Edits(opened=("both",)))
    asked = house.app.desk.grants.propose("both", 2)
    seen = " ".join(render(house.machines["carol"].look(house.ask(asked))).split())
    assert 'each takes approvals by "officers", or none while it is open' in seen
    house.settle(asked.request)
    window = house.app.desk.openings.propose("both", 600)
    house.settle(window.request)
    opened = house.app.keyring.windows.current(till.row, "officers")
    policy = policy_of_row(till.row, house.app.groups)
    spend = Spend(budget_auth(till.row.private))
    plan = plan_use(policy, policy.alternatives[0], till.row.public, DIGEST, opened, spend)
    assert opened is not None
    with at_chip(house) as chip:
        key = till.load(chip)
        session = start_policy(chip)
        for step in (step for step in plan.steps if not isinstance(step, Secret)):
            policies.run_step(chip, session, plan, step)
        with refused(0x99D, "Sign"):
            chip.send(objects.sign_command(key, DIGEST), session)
        chip.flush_all()
        for _ in range(2):
            till.sign(chip, plan)
        with refused(0x12F, "PolicySecret"):
            till.sign(chip, plan)


def waiting_grant(house: House, units: int = 5) -> Stolen:
    """A first grant that two officers approved, in the hands of root; its session waits."""
    number = house.app.desk.grants.propose("issuing", units).request
    approvals = tuple(house.approve(number, name) for name in ("alice", "bob"))
    return Stolen(replace(house.app.desk.request(number), approvals=approvals))


def test_a_first_grant_across_a_change(house: House) -> None:
    """The officers change while the session waits: their approvals are of the old epoch."""
    till = Till(house)
    stolen = waiting_grant(house)
    house.change()
    with at_chip(house) as chip:
        session = live.resume(chip, stolen.grant.nonce)
        plan = plan_grant(stolen.officers, stolen.grant)
        with refused(0x126, "PolicyNV"):
            for step in plan.steps:
                policies.run_step(chip, session, plan, step)
        chip.flush(session.handle)
        assert till.counted(chip) is None


def test_a_grant_primed_before_a_change(house: House) -> None:
    """What was approved stays granted: a session that root filled before the officers changed
    writes their total even after it, on top of a budget that was made anew.
    """
    till = Till(house)
    till.granted(1)
    number = house.app.desk.grants.propose("issuing", 9).request
    approvals = tuple(house.approve(number, name) for name in ("alice", "bob"))
    later = Stolen(replace(house.app.desk.request(number), approvals=approvals))
    with house.app.device.transaction() as chip:
        session = start_policy(chip)
        for step in plan_grant(later.officers, later.grant).steps:
            policies.run_step(chip, session, plan_grant(later.officers, later.grant), step)
        kept = chip.send(ContextSave(session.handle)).context
        chip.forget(session.handle)
        assert till.spend_all(chip) == 1
    house.app.desk.cancel(number)
    house.change()
    with house.app.device.transaction() as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, till.index))
    till.granted(2, ("carol", "bob"))  # who are told that earlier grants come on top
    with at_chip(house) as chip:
        handle = chip.send(ContextLoad(kept)).loaded_handle
        old = PolicySession(handle, session.nonce_tpm, b"", encrypts=False, bound_name=b"")
        chip.send(later.grant.command(), old)
        assert till.counted(chip) == Counted(0, 10)
        assert till.spend_all(chip) == 10


def test_a_count_certified_before(house: House) -> None:
    """What the chip certifies of a budget was true once: root keeps it, and shows it later. The
    screen then promises more than is left, never less.
    """
    till = Till(house)
    till.granted(3)
    early = Grant(house.loot.group.id, bytes.fromhex(till.row.name), till.index, 5)
    request = ask(house, till, early)
    with at_chip(house) as chip:
        assert till.spend_all(chip) == 3
    seen = " ".join(render(house.machines["carol"].look(request.data)).split())
    assert "3 granted, 0 used" in seen and "may sign 5 more" in seen


def test_an_index_that_claims_to_be_written(house: House) -> None:
    """The owner cannot define an index as written, which would give it the Name that keys know."""
    till = Till(house)
    group = house.loot.group
    with at_chip(house) as chip:
        with refused(0x2C2, "NV_DefineSpace"):
            till.define(chip, A.WRITTEN)
        for index in (counter_nv(group, written=True), roster_nv(group, written=True)):
            with refused(0x2C2, "NV_DefineSpace"):
                chip.send(NV_DefineSpace(RH.OWNER, b"", index))


# ── the host ─────────────────────────────────────────────────────────────────────────────────


def test_people_are_not_asked_in_vain(house: House) -> None:
    """PCRs that the roster demands have moved: the host says so before anybody is asked. It is of
    no weight against root, whom the chip refuses (0x1c4).
    """
    measured(house)
    house.app.keyring.create("issuing", "p256", policy="budget(officers)")
    loot = house.steal_fresh()
    with house.root() as root:
        extend(root.chip, 7, b"an update")
        with refused(0x1C4, "PolicyPCR"):
            root.try_sign(loot=loot)
    for asks in (
        lambda: house.propose_csr("root", "CN=In vain"),
        lambda: house.app.desk.grants.propose("issuing", 5),
    ):
        with pytest.raises(RefusedError) as caught:
            asks()
        assert caught.value.code == "policy-pcrs-moved"
        assert "tpmhsm group change officers --pcr" in caught.value.hint
    change(house, Edits(pcrs=("sha256:0,7",)))
    house.propose_csr("root", "CN=Not in vain")


# ── scripts ──────────────────────────────────────────────────────────────────────────────────


def test_a_digest_approved_as_something_else(house: House) -> None:
    """A script that approves files by their digests (`--expect`), and a file that is a ciphertext:
    to decrypt it the script has to say so.
    """
    house.app.keyring.create("box", "rsa2048", policy="quorum(officers)", use="decrypt")
    content = closed(house, "box", SECRET)
    file = house.machines["carol"].look(house.draft("data", content, "papers").data)
    opening = house.machines["carol"].look(house.draft("decrypt", content, "box").data)
    digest = file.request.digest.hex()
    assert digest == opening.request.digest.hex()
    confirm(house.app, file, digest)
    confirm(house.app, file, f"data:{digest}")
    for expected, found in (
        (digest, opening),
        (f"data:{digest}", opening),
        (f"csr:{digest}", file),
    ):
        with declined("other-kind"):
            confirm(house.app, found, expected)
    confirm(house.app, opening, f"decrypt:{digest}")


# ── commands and labels ──────────────────────────────────────────────────────────────────────


def test_another_command_with_a_unit(house: House) -> None:
    """A unit is for TPM2_Sign: with its CommandCode the chip wants that command (0x9a4), without
    it the policy is another (0x99d). Units are used up all the same.
    """
    till = Till(house)
    till.granted(9)
    with at_chip(house) as chip:
        key, ak = till.load(chip), objects.attestation_key(chip).handle
        plan = till.plan()
        attempts = (
            Quote(key.handle, b"root", NULL_SCHEME, (pcr_selection(ALG.SHA256, (0,)),)),
            Certify(key.handle, ak, b"root", NULL_SCHEME),
            ObjectChangeAuth(key.handle, objects.storage_parent(chip).handle, b"known to root"),
        )
        for command in attempts:
            for steps, rc in (
                (plan.steps, 0x9A4),
                ([one for one in plan.steps if not isinstance(one, CommandCode)], 0x99D),
            ):
                session = start_policy(chip)
                for step in steps:
                    policies.run_step(chip, session, plan, step)
                with refused(rc, type(command).__name__):
                    chip.send(command, session)
                chip.flush(session.handle)
        assert till.counted(chip) == Counted(6, 9)
        assert till.spend_all(chip) == 3


def test_other_nv_commands_on_a_budget(house: House) -> None:
    """No other command changes what it holds; a read by its password burns a unit."""
    till = Till(house)
    till.granted(3)
    index, secret = till.index, Password(budget_auth(till.row.private))
    writing = (
        lambda by: NV_SetBits(by, index, 1),
        lambda by: NV_Extend(by, index, b"more"),
        lambda by: NV_Increment(by, index),
        lambda by: NV_WriteLock(by, index),
    )
    hands = (
        (RH.OWNER, Password()),
        (index, secret),
        (index, Password()),
        (RH.PLATFORM, Password()),
    )
    with at_chip(house) as chip:
        for command in writing:
            for (by, auth), rc in zip(hands, (0x149, 0x12F, 0x12F, 0x185), strict=True):
                with refused(rc, type(command(by)).__name__):
                    chip.send(command(by), auth)
        for (by, auth), rc in zip(hands, (0x282, 0x282, 0x9A2, 0x185), strict=True):
            with refused(rc, "NV_ReadLock"):
                chip.send(NV_ReadLock(by, index), auth)
        assert till.counted(chip) == Counted(1, 3)
        assert till.spend_all(chip) == 2


def test_a_windows_session_restarted(house: House) -> None:
    """PolicyRestart leaves nonce and start: the window is still over when it was to end."""
    sash = Sash(house)
    request = sash.asked(seconds=3)
    window = parse_window(request.content)
    (votes,) = votes_of(request)
    assert request.roster is not None
    with sash.root() as chip:
        session = live.resume(chip, window.nonce)
        time.sleep(3.1)
        chip.send(PolicyRestart(session.handle))
        with refused(0x4E3, "PolicySigned"):
            windows.open_window(chip, session, window, request.roster, votes)
        chip.flush_all()


def test_a_label_that_looks_like_another(house: House) -> None:
    """Root calls a new key `рареrs`, with Cyrillic letters, beside the `papers` that all know."""
    house.key("рареrs")
    asked = house.draft("data", b"a file\n", "рареrs")
    flags = house.machines["carol"].look(asked.data).flags
    assert [flag.text for flag in flags if flag.head == "LOOK-ALIKE"] == [
        "рареrs: 'рареrs' mixes CYRILLIC and LATIN letters"
    ]
    known = house.machines["carol"].look(house.draft("data", b"a file\n", "papers").data)
    assert not [flag for flag in known.flags if flag.head == "LOOK-ALIKE"]


def test_units_outlast_the_roster(house: House) -> None:
    """What nobody refuses: units that were granted need no roster. They sign after the custodians
    took budgets out of it, demanded PCRs, and these moved. An older grant adds none (0x126).
    """
    till = Till(house)
    till.granted(2)
    later = till.granted(1)
    measured(house)
    change(house, Edits(uses="sign"))
    with at_chip(house) as chip:
        extend(chip, 7, b"root's own firmware")
        till.sign(chip)
        with refused(0x126, "PolicyNV"):
            replay(chip, later)
        assert till.spend_all(chip) == 2
