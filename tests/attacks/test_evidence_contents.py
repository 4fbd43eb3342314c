"""Evidence that root wrote of keys and people: twins, other policies, other rosters, old epochs.

The auditor is that of `test_evidence_files`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.approval.doubles import Chip as ForgingChip
from tests.approval.doubles import card, ecc_public
from tests.attacks.auditor import (
    TWIN,
    Auditor,
    collecting,
    of_root,
    sealed,
    with_group,
    with_key,
)
from tests.attacks.house import House
from tests.attest.collecting import (
    collect,
)

from tpmhsm.approval.cards import create_card
from tpmhsm.attest.format import (
    CreationPart,
)
from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.attest.statements import QUORUM_KEY_ATTRIBUTES
from tpmhsm.policy.documents import encode_json, parse_json
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import COUNTER_SIZE, counter_nv, key_policy
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects
from tpmhsm.wire.attest import CreationInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import (
    NV_DefineSpace,
    NV_UndefineSpace,
    NV_Write,
)
from tpmhsm.wire.constants import ALG, RH, ST, NvAttributes, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import EccPoint, NvPublic

A = ObjectAttributes


# ── keys ─────────────────────────────────────────────────────────────────────


def test_an_imported_twin_in_a_file(auditor: Auditor) -> None:
    """A software key with equal attributes, with no, another's, and a forged word of its birth."""
    group = auditor.house.loot.group
    twin = ecc_public(TWIN.public_key(), QUORUM_KEY_ATTRIBUTES, key_policy(group))
    true = auditor.honest.keys[0].creation
    assert true is not None
    without = sealed(auditor.house, with_key(auditor.honest, public=twin, creation=None))
    judged = auditor.lacks(without, "born", "no-creation")
    assert judged.verdict("leave").code == "birth-not-proven"
    assert judged.verdict("agree").answer == "not-proven"
    auditor.refutes(with_key(auditor.honest, public=twin), "born", "other-qualifying")
    over = auditor.honest.qualifying("creation", name_of_public(twin))
    info = CreationInfo(name_of_public(twin), sha256(true.data).digest())
    attest, signature = ForgingChip().attest(ST.ATTEST_CREATION, info, over)
    for by in (signature, true.signature):
        forged = with_key(auditor.honest, public=twin, creation=CreationPart(attest, by, true.data))
        auditor.refutes(forged, "born", "bad-signature")
    honest_twin = ecc_public(
        TWIN.public_key(),
        QUORUM_KEY_ATTRIBUTES & ~A.FIXED_TPM & ~A.FIXED_PARENT & ~A.SENSITIVE_DATA_ORIGIN,
        key_policy(group),
    )
    imported = sealed(auditor.house, with_key(auditor.honest, public=honest_twin, creation=None))
    auditor.refutes(imported, "born", "imported")
    auditor.refutes(imported, "leave", "can-leave")
    assert auditor.judge(imported).verdict("agree").answer == "not-proven"


def test_a_key_with_another_policy_or_attributes_in_a_file(auditor: Auditor) -> None:
    """Born in the chip, certified, and root's: documents do not lead to what it demands."""
    house = auditor.house
    policy = key_policy(house.loot.group)
    for template, code in (
        ({"auth_policy": sha256(b"root").digest()}, "policy-differs"),
        ({"attributes": QUORUM_KEY_ATTRIBUTES | A.USER_WITH_AUTH}, "key-attributes"),
    ):
        with of_root(house) as chip:
            row = born(chip, {"auth_policy": policy, **template})
            key = collecting(chip).key(row)
            chip.flush_all()
        forged = sealed(house, replace(auditor.honest, keys=(key,)))
        judged = auditor.refutes(forged, "agree", code)
        assert judged.verdict("born").answer == "proven"


def born(chip: Any, template: dict[str, Any]) -> KeyRow:
    """A key that the chip makes for root."""
    base = decode(Public, ecc_public(TWIN.public_key(), QUORUM_KEY_ATTRIBUTES))
    wanted = base.replace(unique=EccPoint(b"", b""), **template)
    made = objects.create_from(chip, objects.storage_parent(chip), wanted, "p256")
    return KeyRow(
        "root", "p256", "sha256", "sign", "quorum(officers)", made.public, made.private,
        made.name.hex(), b"", None, made.creation_data, made.creation_hash, made.creation_ticket,
    )  # fmt: skip


def test_a_policy_document_that_does_not_hash_to_the_key(auditor: Auditor) -> None:
    """Another text, a document beside it, another group's roster in the document."""
    key = auditor.honest.keys[0]
    index = key_policy_index(auditor)
    document = 'format = "tpmhsm/policy/1"\n\n[[any]]\nquorum = "officers"\n'
    document += f'\n[roster]\nofficers = "{index}"\n'
    taken = sealed(auditor.house, with_key(auditor.honest, document=document))
    assert auditor.judge(taken).verdict("agree").answer == "proven"
    for changes, code in (
        ({"policy": "open"}, "policy-differs"),
        ({"policy": "any(pin, quorum(officers))"}, "policy-differs"),
        ({"document": document.replace("quorum", "pin = true\nquorum")}, "policy-text-differs"),
        ({"document": document.replace(index, "000b" + "00" * 32)}, "policy-differs"),
    ):
        forged = sealed(
            auditor.house, with_key(auditor.honest, **{"policy": key.policy, **changes})
        )
        auditor.refutes(forged, "agree", code)
    unknown = sealed(auditor.house, with_key(auditor.honest, policy="quorum(others)"))
    assert auditor.judge(unknown).verdict("agree").answer != "proven"


def key_policy_index(auditor: Auditor) -> str:
    from tpmhsm.policy.tree import roster_name

    return roster_name(auditor.house.loot.group).hex()


def test_a_certificate_of_another_key_in_a_file(auditor: Auditor) -> None:
    """A certificate for root's key; one for the true key that nobody signed."""
    mine = self_signed(TWIN, TWIN.public_key())
    key = public_key_of(auditor.honest.keys[0].public)
    for der, code in (
        (mine, "certificate-of-another-key"),
        (self_signed(TWIN, key), "certificate-signature"),
        (b"not a certificate", "parse"),
    ):
        forged = sealed(auditor.house, with_key(auditor.honest, certificates=(der,)))
        auditor.refutes(forged, "born", code)


def self_signed(by: Any, key: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Root")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key)
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(begin + timedelta(9))
    return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.DER)


# ── people ───────────────────────────────────────────────────────────────────


def test_another_roster_in_a_file(auditor: Auditor) -> None:
    """Officers whom root made up, for the epoch in force: the chip holds another list."""
    officers = (Threshold(1, (card("dave").member(contribution=False),)),)
    true = auditor.house.app.groups.active("officers").roster
    forged = RosterDocument(true.group, true.epoch, officers)
    document = sealed(auditor.house, with_group(auditor.honest, roster=forged.encoded))
    judged = auditor.refutes(document, "roster", "other-roster")
    assert judged.verdict("agree").answer == "not-proven"


def test_an_old_epoch_in_a_file(house: House) -> None:
    """The list that was in force before the officers changed; its true statements of then."""
    old = collect(house)
    house.change("2:alice,bob,dave")
    fresh = collect(house)
    auditor = Auditor(house, fresh)
    assert auditor.judge(fresh).verdict("roster").answer == "proven"
    stale = with_group(fresh, roster=old.groups[0].roster)
    auditor.refutes(sealed(house, stale), "roster", "old-epoch")
    mixed = with_group(fresh, roster=old.groups[0].roster, counter=old.groups[0].counter)
    auditor.refutes(sealed(house, mixed), "roster", "old-epoch")
    group = house.loot.group
    ahead = RosterDocument(
        group.id, house.app.groups.active("officers").roster.epoch + 1, group.custodians
    )
    early = with_group(fresh, roster=without_contributions(ahead).encoded)
    auditor.refutes(sealed(house, early), "roster", "future-epoch")


def without_contributions(roster: RosterDocument) -> RosterDocument:
    officers = tuple(
        replace(one, members=tuple(replace(m, contribution=b"") for m in one.members))
        for one in roster.officers
    )
    return replace(roster, officers=officers)


def test_an_ordinary_index_in_a_file_as_the_counter(house: House) -> None:
    """Root writes what it likes into an index at the counter's place; the chip certifies it, under
    another Name.
    """
    honest = collect(house)
    auditor = Auditor(house, honest)
    group = house.loot.group
    epoch = house.app.groups.active("officers").roster.epoch
    true = counter_nv(group)
    posing = NvPublic(
        nv_index=true.nv_index,
        name_alg=ALG.SHA256,
        attributes=NvAttributes.OWNERWRITE
        | NvAttributes.OWNERREAD
        | NvAttributes.AUTHREAD
        | NvAttributes.NO_DA,
        auth_policy=true.auth_policy,
        data_size=COUNTER_SIZE,
    )
    with of_root(house) as chip:
        chip.send(NV_UndefineSpace(RH.OWNER, true.nv_index))
        chip.send(NV_DefineSpace(RH.OWNER, b"", posing))
        chip.send(NV_Write(RH.OWNER, true.nv_index, epoch.to_bytes(8, "big"), 0))
        theirs = collecting(chip)
        said = theirs.index("counter", group.id, true.nv_index)
        forged = theirs.sealed(with_group(honest, counter=said))
    auditor.refutes(forged, "roster", "other-index")


def test_people_of_another_group_in_a_file(auditor: Auditor) -> None:
    """Documents left out, a card of somebody else under a member's name, cards left out."""
    with of_root(auditor.house) as chip:
        nothing = collecting(chip)
        forged = nothing.sealed(replace(auditor.honest, groups=()))
    auditor.lacks(forged, "agree", "policy-unknown-group")
    own = parse_json(create_card("alice", _identity("mallory")), "card")
    cards = (encode_json(own), *auditor.honest.groups[0].cards[1:])
    changed = sealed(auditor.house, with_group(auditor.honest, cards=cards))
    auditor.refutes(changed, "agree", "card-differs")
    bare = sealed(auditor.house, with_group(auditor.honest, cards=()))
    auditor.lacks(bare, "agree", "cards-missing")


def _identity(name: str) -> Any:
    from tests.approval.doubles import identity

    return identity(name)


def test_a_budget_in_a_file(house: House) -> None:
    """Units that nobody granted: another index, what the chip said of another key's, an old one."""
    for label in ("busy", "idle"):
        house.app.keyring.create(label, "p256", policy="budget(officers)")
        house.settle(house.app.desk.grants.propose(label, 5).request)
    rows = [house.app.keyring.get(label) for label in ("busy", "idle")]
    busy, idle = (_index(row) for row in rows)
    plain = collect(house, ("busy", "idle"))
    with of_root(house) as chip:
        told = collecting(chip)
        true = told.budget(rows[0], "officers", busy)
        other = told.budget(rows[0], "officers", idle)
        honest = told.sealed(replace(plain, budgets=(true,)))
    auditor = Auditor(house, honest)
    assert auditor.judge(honest).keys[0].budgets == (("officers", 0, 5),)
    for part, code in (
        (other, "other-index"),
        (replace(other, index=true.index), "other-index"),
        (replace(true, key="idle"), "other-index"),
        (replace(true, index=other.index), "other-index"),
    ):
        forged = sealed(house, replace(honest, budgets=(part,)))
        auditor.refutes(forged, "agree", code)
    without = sealed(house, replace(honest, budgets=()))
    auditor.lacks(without, "agree", "budget-not-certified")


def _index(row: KeyRow) -> int:
    return next(iter(read_policy(row.policy_document).budgets.values()))
