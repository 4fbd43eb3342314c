"""Copies of keys: root has one made for a key of his own, takes one out of its new parent, shows an
imported twin or a copy without an original; custodians ask, auditors judge, the chip refuses.

Root runs both machines, with owner authorisation. The custodians' homes are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.auditor import another_ak, sealed
from tests.attacks.house import House
from tests.attacks.root import refused as chip_refuses
from tests.attest.collecting import NONCE, Collector
from tests.attest.second import (
    Custodian,
    approved,
    document_of,
    evidence_of,
    prove,
    second_machine,
    with_copies,
)
from tests.attest.test_copies import Pair, codes

from tpmhsm.approval.memory import Epoch
from tpmhsm.approval.second_chips import must_know_parent
from tpmhsm.attest.format import Evidence, GroupEvidence, KeyEvidence
from tpmhsm.attest.parents import ParentProof, check_receiving_parent, parent_qualifying
from tpmhsm.errors import ApprovalRefusedError, RefusedError, VerificationError
from tpmhsm.policy.copying import bound_copy
from tpmhsm.policy.group import static_roster
from tpmhsm.policy.steps import CommandCode
from tpmhsm.tpm import audit, imports, objects, receiving
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    CreatePrimary,
    Duplicate,
    LoadExternal,
    ObjectChangeAuth,
    PolicyCommandCode,
    Rewrap,
)
from tpmhsm.wire.constants import CC, RH
from tpmhsm.wire.constants import ObjectAttributes as A
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import AES128_CFB, EccPoint, SensitiveCreate

MINE = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def pair(still: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two machines of root's, and a key that custodians may have copied from one to the other."""
    with second_machine(still, tmp_path_factory.mktemp("second") / "home") as second:
        create = still.app.keyring.create
        row = create("twice", "p256", policy="quorum(officers)", backup_to="officers")
        copy = document_of(second, bytes.fromhex(row.name))
        voted = approved(copy, second.group, ("alice", "carol"))
        first = with_copies(still, voted, labels=("twice",))
        yield Pair(still, second, row, first, evidence_of(second, row))


@pytest.fixture
def bob(pair: Pair) -> Custodian:
    """A custodian's home."""
    return Custodian.of(pair.house.machines["bob"], pair.second.card)


def declines(code: str, words: str = "") -> pytest.RaisesExc[ApprovalRefusedError]:
    """The custodian's tool refuses, for this reason."""
    return pytest.RaisesExc(
        ApprovalRefusedError, check=lambda e: e.code == code and words in e.message
    )


def of_software(template: Public) -> Public:
    """A public area with a key in it whose other half root has in a file."""
    n = MINE.public_key().public_numbers()
    return template.replace(unique=EccPoint(n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big")))


# ── the new parent ───────────────────────────────────────────────────────────


def a_copy(chip: Chip, parent: Loaded) -> tuple[Loaded, bytes, bytes]:
    """A key that root himself may have copied, wrapped for a parent: what root has on the second
    host of a copy that custodians approved.
    """
    policy = CommandCode(CC.Duplicate).extend(bytes(32))
    attributes = A.SENSITIVE_DATA_ORIGIN | A.ADMIN_WITH_POLICY | A.SIGN | A.NO_DA
    template = objects.signing_template("p256", policy).replace(
        attributes=attributes | A.ENCRYPTED_DUPLICATION
    )
    under = objects.storage_parent(chip)
    made = objects.create_from(chip, under, template, "p256")
    key = objects.load_key(chip, under, made.public, made.private)
    session = start_policy(chip)
    chip.send(PolicyCommandCode(session.handle, CC.Duplicate))
    session.last = True
    out = chip.send(Duplicate(key.handle, parent.handle, b"", AES128_CFB), session)
    return key, out.duplicate, out.out_sym_seed


def rewrap(chip: Chip, parent: Loaded, copy: tuple[Loaded, bytes, bytes]) -> Rewrap:
    """Root has the chip open a copy and close it for a key of his own."""
    key, duplicate, seed = copy
    mine = of_software(objects.STORAGE_PARENT_TEMPLATE)
    target = chip.send(LoadExternal(None, mine, RH.NULL))
    return Rewrap(parent.handle, target.object_handle, duplicate, key.name, seed)


def test_a_copy_leaves_a_parent_with_an_empty_password(pair: Pair) -> None:
    """TPM2_Rewrap asks the old parent's password and no more: so an SRK is refused as a parent."""
    with pair.second.device.transaction() as chip:
        usual = objects.storage_parent(chip)
        made = chip.send(rewrap(chip, usual, a_copy(chip, usual)))
        assert made.out_duplicate and made.out_sym_seed  # sealed to MINE, who opens it
        chip.flush_all()
    with pytest.RaisesExc(VerificationError, check=lambda e: e.code == "parent-attributes"):
        check_receiving_parent(encode(usual.public))


def test_a_copy_stays_under_the_parent_for_copies(pair: Pair) -> None:
    """No password, and no policy that lets TPM2_Rewrap: 0x12f, 0x99d."""
    with pair.second.device.transaction() as chip:
        parent = objects.receiving_parent(chip)
        command = rewrap(chip, parent, a_copy(chip, parent))
        with chip_refuses(0x12F, "Rewrap"):
            chip.send(command)
        session = start_policy(chip)
        chip.send(PolicyCommandCode(session.handle, CC.Rewrap))
        with chip_refuses(0x99D, "Rewrap"):
            chip.send(command, session)
        chip.flush(session.handle)
        with chip_refuses(0x9A4, "Rewrap"):  # a session for one of the three others
            receiving.by_permission(chip, command, CC.Load)
        chip.flush_all()
        with chip_refuses(0x124, "ObjectChangeAuth"):
            chip.send(ObjectChangeAuth(parent.handle, parent.handle, b"mine"))
        chip.flush_all()


@pytest.mark.parametrize("hierarchy", [RH.OWNER, RH.ENDORSEMENT, RH.NULL])
def test_a_software_parent_is_certified_by_no_chip(pair: Pair, hierarchy: RH) -> None:
    """Root loads the public half of a key in a file, with the right attributes and policy."""
    public = of_software(objects.RECEIVING_PARENT_TEMPLATE)
    check_receiving_parent(encode(public))
    with pair.second.device.transaction() as chip:
        ak = objects.attestation_key(chip)
        made = chip.send(LoadExternal(None, public, hierarchy))
        shown = Loaded(made.object_handle, public, made.name)
        with chip_refuses(0x12F, "Certify"):
            receiving.certify_parent(chip, ak, shown, bytes(32))
        chip.flush_all()


def test_a_software_parent_is_not_imported_as_a_fixed_one(pair: Pair) -> None:
    """TPM2_Import takes no fixedTPM (0x2c2); without it the tool sees the attributes."""
    public = of_software(objects.RECEIVING_PARENT_TEMPLATE)
    secret = MINE.private_numbers().private_value.to_bytes(32, "big")
    with pair.second.device.transaction() as chip:
        under = objects.storage_parent(chip)
        with chip_refuses(0x2C2, "Import"):
            imports.import_key(chip, under, public, secret, algorithm="p256")
        chip.flush_all()
    loose = public.replace(attributes=public.attributes & ~(A.FIXED_TPM | A.FIXED_PARENT))
    with pytest.RaisesExc(VerificationError, check=lambda e: e.code == "parent-attributes"):
        check_receiving_parent(encode(loose))


# ── what the custodian asks ──────────────────────────────────────────────────


def test_a_plain_nonce_proves_no_chip(pair: Pair, bob: Custodian) -> None:
    kept = bob.ask(pair.second.card)
    honest = pair.second.answer(kept)
    with declines("not-activated"):
        bob.check(replace(honest, response=None), None)


def test_a_stale_answer(pair: Pair, bob: Custodian) -> None:
    """Each challenge is answered once, and another one's answer is none."""
    kept = bob.ask(pair.second.card)
    honest = pair.second.answer(kept)
    bob.check(honest, kept)
    with declines("stale-nonce"):
        bob.check(honest, kept)
    again = bob.ask(pair.second.card)
    with declines("stale-nonce"):
        bob.check(honest, again)
    with declines("state"):
        bob.check(replace(pair.second.answer(again), state=honest.state), again)
    with declines("parent"):
        bob.check(replace(pair.second.answer(again), parent=honest.parent), again)
    with declines("not-activated"):
        bob.check(replace(pair.second.answer(again), response=honest.response), again)


def test_a_device_nobody_vouched_for(pair: Pair) -> None:
    """Its card came through the host, or not at all."""
    stranger = Custodian(pair.house.machines["bob"].copy().memory)
    kept = stranger.ask(pair.second.card)
    with declines("card-missing"):
        stranger.check(pair.second.answer(kept), kept)


def test_a_device_under_another_name(pair: Pair, bob: Custodian) -> None:
    """Its host calls it as another one is called; it keeps the name on its owner's card."""
    kept = bob.ask(pair.second.card)
    answer = pair.second.answer(kept)
    called = replace(answer.device, label="vault", kind="hardware")
    found = bob.check(replace(answer, device=called), kept).second
    assert found is not None and found.card == pair.second.card


def test_a_home_that_does_not_know_the_group(pair: Pair) -> None:
    kept = (dave := Custodian.of(pair.house.machines["dave"], pair.second.card)).ask(
        pair.second.card
    )
    with declines("unknown-group"):
        dave.check(pair.second.answer(kept), kept)


def test_an_attestation_key_in_software(pair: Pair, bob: Custodian) -> None:
    """Root's AK is not in the chip with that EK: the chip does not open the challenge (0x1df)."""
    public = of_software(objects.ATTESTATION_KEY_TEMPLATE)
    card = replace(pair.second.card, ak_public=encode(public))
    bob.memory.devices.append(card)
    kept = bob.ask(card)
    with pair.second.device.transaction() as chip:
        ak = objects.attestation_key(chip)
    with pytest.RaisesExc(RefusedError, check=lambda e: e.details.get("rc") == "0x1df"):
        pair.second.answer(kept, ak=ak)


def test_an_unrestricted_attestation_key(pair: Pair) -> None:
    """It signs whatever root writes; no challenge is made for it, no card read."""
    template = objects.ATTESTATION_KEY_TEMPLATE
    loose = template.replace(attributes=template.attributes & ~A.RESTRICTED)
    with pair.second.device.transaction() as chip:
        ak = another_ak(chip, loose)
        chip.flush_all()
    from tpmhsm.attest.credential import make_challenge
    from tpmhsm.errors import ParseError
    from tpmhsm.policy import moments

    with pytest.raises(ParseError, match="not a restricted signing key"):
        make_challenge(pair.second.host.ek_public, encode(ak.public), moments.now())


def test_the_parent_of_another_chip(pair: Pair, bob: Custodian) -> None:
    """Of the first chip, certified there over the right nonce."""
    kept = bob.ask(pair.second.card)
    over = parent_qualifying(kept.challenge.digest)
    with pair.house.app.device.transaction() as chip:
        other = prove(chip, objects.attestation_key(chip), over)
    with declines("parent", "not signed"):
        bob.check(pair.second.answer(kept, parent=other), kept)
    own = pair.second.answer(kept)
    assert own.parent is not None
    with declines("parent", "another key"):
        bob.check(replace(own, parent=replace(own.parent, public=other.public)), kept)


@pytest.mark.parametrize("template", ["usual", "loose policy", "other seed"])
def test_a_parent_that_lets_copies_out(pair: Pair, bob: Custodian, template: str) -> None:
    """True storage keys of the chip, truly certified: the SRK, and one with Rewrap in its policy.
    One of the same policy and another `unique` is as good.
    """
    kept = bob.ask(pair.second.card)
    over = parent_qualifying(kept.challenge.digest)
    with pair.second.device.transaction() as chip:
        ak = objects.attestation_key(chip)
        if template == "usual":
            key = objects.storage_parent(chip)
            said = audit.certify(chip, ak, key, over)
        else:
            area = objects.RECEIVING_PARENT_TEMPLATE.replace(unique=EccPoint(b"\1" * 32, bytes(32)))
            if template == "loose policy":
                area = area.replace(auth_policy=CommandCode(CC.Certify).extend(bytes(32)))
            made = chip.send(CreatePrimary(RH.OWNER, SensitiveCreate(), area, b"", ()))
            key = Loaded(made.object_handle, made.out_public, made.name)
            if template == "loose policy":
                from tpmhsm.wire.commands import Certify
                from tpmhsm.wire.structures import NULL_SCHEME

                session = start_policy(chip)
                chip.send(PolicyCommandCode(session.handle, CC.Certify))
                session.last = True
                told = chip.send(Certify(key.handle, ak.handle, over, NULL_SCHEME), session)
                said = objects.Attestation(told.certify_info, encode(told.signature))
            else:
                said = receiving.certify_parent(chip, ak, key, over)
        chip.flush_all()
    shown = ParentProof(encode(key.public), said.attest, said.signature)
    answer = pair.second.answer(kept, parent=shown)
    if template == "other seed":
        assert bob.check(answer, kept).second
        return
    with declines("parent", "attributes" if template == "usual" else "Rewrap"):
        bob.check(answer, kept)


def test_a_parent_under_another_key(pair: Pair, bob: Custodian) -> None:
    """Made under the SRK with the same public area: no primary, so another could be imported."""
    kept = bob.ask(pair.second.card)
    over = parent_qualifying(kept.challenge.digest)
    with pair.second.device.transaction() as chip:
        ak, under = objects.attestation_key(chip), objects.storage_parent(chip)
        made = objects.create_from(chip, under, objects.RECEIVING_PARENT_TEMPLATE, "p256")
        key = objects.load_key(chip, under, made.public, made.private)
        said = receiving.certify_parent(chip, ak, key, over)
        chip.flush_all()
    shown = ParentProof(made.public, said.attest, said.signature)
    with declines("parent", "no primary"):
        bob.check(pair.second.answer(kept, parent=shown), kept)


def test_a_counter_behind(pair: Pair, bob: Custodian) -> None:
    """A removed officer lives on where the counter is lower than what was approved."""
    epoch = pair.second.roster.epoch
    bob.memory.rosters[pair.second.group.id][epoch + 1] = b"\7" * 32
    kept = bob.ask(pair.second.card)
    with declines("counter-behind", f"at {epoch}"):
        bob.check(pair.second.answer(kept), kept)


def test_an_epoch_that_was_approved_after_the_answer(pair: Pair, bob: Custodian) -> None:
    kept = bob.ask(pair.second.card)
    entries = bob.check(pair.second.answer(kept), kept)
    copy = document_of(pair.second, pair.name)
    assert must_know_parent(copy, bob.memory) == entries.second
    later = Epoch(pair.second.group.id, pair.second.roster.epoch + 1, b"\7" * 32)
    bob.memory.rosters[later.group_id][later.epoch] = later.roster_digest
    with declines("counter-behind"):
        must_know_parent(copy, bob.memory)


def test_another_roster_of_the_same_epoch(pair: Pair, bob: Custodian) -> None:
    group = pair.second.group.id
    bob.memory.rosters[group][pair.second.roster.epoch] = b"\7" * 32
    kept = bob.ask(pair.second.card)
    with declines("two-rosters"):
        bob.check(pair.second.answer(kept), kept)


def test_a_copy_for_a_chip_that_was_never_asked(pair: Pair, bob: Custodian) -> None:
    copy = document_of(pair.second, pair.name)
    with declines("unknown-parent"):
        must_know_parent(copy, bob.memory)
    kept = bob.ask(pair.second.card)
    bob.check(pair.second.answer(kept), kept)
    mine = encode(of_software(objects.RECEIVING_PARENT_TEMPLATE))
    with declines("other-parent"):
        must_know_parent(document_of(pair.second, pair.name, mine), bob.memory)
    with declines("unknown-parent"):
        must_know_parent(replace(copy, device_ek=bytes(32)), bob.memory)


def test_a_home_that_lost_its_memory(pair: Pair, bob: Custodian) -> None:
    """It cannot know which epochs it approved, so it says nothing of counters."""
    bob.memory.rosters[pair.second.group.id].pop(0, None)
    bob.memory.own.clear()
    kept = bob.ask(pair.second.card)
    with declines("memory-lost"):
        bob.check(pair.second.answer(kept), kept)


# ── what the auditor is shown ────────────────────────────────────────────────


def twin(pair: Pair) -> KeyEvidence:
    """A key in a file with the attributes and the policy of the true one, truly imported."""
    area = of_software(decode(Public, pair.row.public))
    with pair.second.device.transaction() as chip:
        secret = MINE.private_numbers().private_value.to_bytes(32, "big")
        under = objects.storage_parent(chip)
        loose = area.replace(attributes=area.attributes & ~A.ENCRYPTED_DUPLICATION)
        made = imports.import_key(chip, under, loose, secret, algorithm="p256")
        assert objects.load_key(chip, under, made.public, made.private).name
        chip.flush_all()
    row = pair.row
    return KeyEvidence("twice", row.use, encode(area), row.policy, row.policy_document)


def of_second(pair: Pair, key: KeyEvidence) -> Evidence:
    with pair.second.device.transaction() as chip:
        collector = Collector(chip, objects.attestation_key(chip), NONCE)
        return collector.sealed(replace(pair.second_file, keys=(key,), time=None))


def test_an_imported_twin(pair: Pair) -> None:
    """Attributes, policy and label are the true key's; no chip made it."""
    shown = of_second(pair, twin(pair))
    judged = pair.judge(shown, pair.first_file)
    assert codes(judged, "born", "not-proven") == {"could-be-imported"}
    assert [one.origin for one in judged.keys] == ["unproven"]
    assert judged.verdict("agree").answer == "not-proven"


def test_an_imported_twin_with_the_birth_of_the_true_key(pair: Pair) -> None:
    (true,) = pair.first_file.keys
    judged = pair.judge(of_second(pair, replace(twin(pair), creation=true.creation)))
    assert codes(judged, "born", "refuted") == {"bad-signature"}


def test_a_copy_without_its_original(pair: Pair) -> None:
    judged = pair.judge(pair.second_file)
    assert codes(judged, "born", "not-proven") == {"could-be-imported"}


def test_an_original_whose_chip_is_not_known(pair: Pair) -> None:
    """A file of root's own AK says that it made the key."""
    from tpmhsm.attest.copies import Elsewhere
    from tpmhsm.attest.verify import verify_evidence

    trusted = replace(pair.trusted(pair.first_file), bond=None)
    other = Elsewhere("f", pair.first_file, verify_evidence(pair.first_file, trusted, NONCE))
    own = pair.trusted(pair.second_file)
    judged = verify_evidence(pair.second_file, own, NONCE, (other,))
    assert codes(judged, "born", "not-proven") == {"could-be-imported"}


def first_with(pair: Pair, *copies: object) -> Evidence:
    return with_copies(pair.house, *copies, labels=("twice",))  # type: ignore[arg-type]


def test_a_copy_that_nobody_approved(pair: Pair) -> None:
    """The key was made in the first chip; root shows it in the second, or for another parent."""
    judged = pair.judge(pair.second_file, first_with(pair))
    assert codes(judged, "born", "not-proven") == {"copy-not-approved"}
    mine = encode(of_software(objects.RECEIVING_PARENT_TEMPLATE))
    elsewhere = document_of(pair.second, pair.name, mine)
    other = first_with(pair, approved(elsewhere, pair.second.group, ("alice", "bob")))
    judged = pair.judge(pair.second_file, other)
    assert codes(judged, "born", "not-proven") == {"copy-not-approved"}


@pytest.mark.parametrize("people", [(), ("alice",), ("alice", "alice"), ("alice", "dave")])
def test_approvals_of_a_copy_that_are_not_enough(pair: Pair, people: tuple[str, ...]) -> None:
    copy = document_of(pair.second, pair.name)
    shown = first_with(pair, approved(copy, pair.second.group, people))
    judged = pair.judge(shown)
    assert codes(judged, "leave", "refuted") == {"copy-not-approved"}


def test_approvals_of_another_copy(pair: Pair) -> None:
    """Signatures for one parent under a document that names another."""
    mine = encode(of_software(objects.RECEIVING_PARENT_TEMPLATE))
    copy = document_of(pair.second, pair.name)
    voted = approved(copy, pair.second.group, ("alice", "bob"))
    other = document_of(pair.second, pair.name, mine)
    assert (
        copy.bound.cp_hash
        != other.bound.cp_hash
        == bound_copy(pair.name, name_of_public(mine)).cp_hash
    )
    judged = pair.judge(first_with(pair, replace(voted, document=other.encoded)))
    assert codes(judged, "leave", "refuted") == {"copy-not-approved"}


def test_a_copy_approved_by_a_group_of_roots(pair: Pair) -> None:
    """One dishonest custodian is a static group, alone, and approves in it for a storage key that
    its chip has: of use to no chip, and the file has documents and signatures that fit.
    """
    (rule,) = pair.second.group.custodians
    (alice,) = (one for one in rule.members if one.name == "alice")
    alone = replace(
        pair.second.group,
        name="mine",
        counter_index=0,
        roster_index=0,
        custodians=(replace(rule, m=1, members=(alice,)),),
        founders=(alice.contribution,),
    )
    group = GroupEvidence(alone.encoded, static_roster(alone).encoded)
    copy = replace(document_of(pair.second, pair.name), group=alone.id)
    voted = approved(copy, alone, ("alice",))
    honest = first_with(pair)
    for keys in (honest.keys, ()):  # left out, nothing in the file says whose custodians count
        first = replace(honest, keys=keys, groups=(*honest.groups, group), copies=(voted,))
        first = sealed(pair.house, first)
        both = (first,) if keys else (first, honest)
        judged = pair.judge(pair.second_file, *both)
        assert codes(judged, "born", "not-proven") == {"copy-not-approved"}
        assert [one.origin for one in judged.keys] == ["unproven"]
    first = sealed(pair.house, replace(first, keys=honest.keys))
    assert codes(pair.judge(first), "leave", "refuted") == {"copy-of-another-group"}
    told = pair.judge(honest, replace(first, keys=())).verdict("leave").words
    assert "Approved by" not in told


def test_a_parent_in_the_file_that_is_not_the_chips(pair: Pair) -> None:
    part = pair.second_file.parent
    assert part is not None
    mine = encode(of_software(objects.RECEIVING_PARENT_TEMPLATE))
    with pair.second.device.transaction() as chip:
        collector = Collector(chip, objects.attestation_key(chip), NONCE)
        shown = replace(pair.second_file, parent=replace(part, public=mine), time=None)
        shown = collector.sealed(shown)
    judged = pair.judge(shown, pair.first_file)
    assert codes(judged, "chip", "refuted") == {"other-qualifying"}
    assert [one.origin for one in judged.keys] == ["unproven"]


def test_a_second_chip_called_another(pair: Pair) -> None:
    """Custodians signed for a storage key. Root writes that it is in the first chip, or in one that
    is shown, and brings a removed officer back where it is.
    """
    copy = document_of(pair.second, pair.name)
    voted = approved(copy, pair.second.group, ("alice", "carol"))
    first_ak = pair.second.group.device_ak
    shown = first_with(pair, replace(voted, document=replace(copy, device_ak=first_ak).encoded))
    assert codes(pair.judge(shown), "roster", "not-proven") == {"copy-not-shown"}
    elsewhere = document_of(pair.second, pair.name, encode(moved(copy.parent)))
    voted = approved(elsewhere, pair.second.group, ("alice", "carol"))
    judged = pair.judge(first_with(pair, voted), pair.second_file)
    assert "copy-not-shown" in codes(judged, "roster", "not-proven")


def moved(parent: bytes) -> Public:
    """The same storage key in a third chip."""
    return decode(Public, parent).replace(unique=EccPoint(b"\1" * 32, b"\2" * 32))


def test_a_second_chip_that_is_left_out(pair: Pair) -> None:
    """Evidence of the first alone does not say that a removal is in force."""
    judged = pair.judge(pair.first_file)
    assert codes(judged, "roster", "not-proven") == {"copy-not-shown"}
