"""A key on a second chip: the way, and what root tries on the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.chips import Copying, Pair
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import check, declined, refused, rejected

from tpmhsm.approval.backup_file import BackupFile, parse_backup
from tpmhsm.approval.request import Claims, KeyPart
from tpmhsm.errors import (
    ChipRefusedError,
    ParseError,
    RefusedError,
    UsageError,
    VerificationError,
)
from tpmhsm.keys.loading import load_row
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.copying import copy_command
from tpmhsm.policy.plan import Officers, plan_use
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.steps import AuthorizeNv, CommandCode, Step
from tpmhsm.requests.joining import format_export, parse_export
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import duplicating, objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.imports import Foreign, import_key, imported_template
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import EMPTY_PASSWORD, start_policy
from tpmhsm.wire.cfb import cfb_decrypt, cfb_encrypt
from tpmhsm.wire.codec import TPM2B, decode, encode
from tpmhsm.wire.commands import (
    Certify,
    Duplicate,
    Import,
    LoadExternal,
    PolicyCommandCode,
    PolicyDuplicationSelect,
)
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.framing import encode_parameters
from tpmhsm.wire.kdf import kdf_a, kdf_e
from tpmhsm.wire.names import handle_name, name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.sealing import sealed_to
from tpmhsm.wire.structures import AES128_CFB, NULL_SCHEME, NULL_SYM, EccPoint, Sensitive


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, BackupFile]:
    """Both chips hold the group at one epoch; "root" and "other" may be copied, "stays" may not.
    Alice and bob approved a copy of "root" for the second chip, and root has the file.
    """
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    pair = Pair.build(tmp_path_factory.mktemp("pair") / "original")
    with checked(pair.first), checked(pair.second):
        for label in ("root", "other"):
            pair.key(label)
        pair.first.key("stays")
        pair.first.change()  # carol's home knows the group, too
        pair.join()
        file = pair.backup()
        pair.answer("carol")
    return pair, file


@pytest.fixture
def pair(built: tuple[Pair, BackupFile], tmp_path: Path) -> Iterator[Pair]:
    """A pair of one's own."""
    found = built[0].copy(tmp_path / "pair")
    with checked(found.first), checked(found.second):
        yield found


@pytest.fixture
def file(built: tuple[Pair, BackupFile]) -> BackupFile:
    """The copy of "root" for the second chip."""
    return built[1]


@contextmanager
def loaded(house: House, label: str = "root") -> Iterator[tuple[Chip, Any, KeyRow]]:
    """Root at a chip, with a key. Must leave as it came."""
    row = house.app.keyring.get(label)
    with house.app.device.transaction() as chip:
        yield chip, load_row(chip, objects.storage_parent(chip), row), row
        chip.flush_all()


def external(chip: Chip, public: bytes) -> int:
    return chip.send(LoadExternal(None, decode(Public, public), RH.NULL)).object_handle


def walk(chip: Chip, copying: Copying, steps: tuple[Step, ...] | None = None) -> Any:
    session = start_policy(chip)
    for step in copying.plan.steps if steps is None else steps:
        policies.run_step(chip, session, copying.plan, step)
    return session


def signs(house: House, loot: Any, row: KeyRow | None = None) -> None:
    """A key signs by these approvals, on this chip."""
    row = row or house.app.keyring.get("root")
    with house.app.device.transaction() as chip:
        key = load_row(chip, objects.storage_parent(chip), row)
        plan = copied_plan(row, loot)
        answer = policies.execute(chip, plan, objects.sign_command(key, loot.digest))
        chip.flush(key.handle)
    check(row, loot.digest, objects.plain_signature(answer.signature))


def copied_plan(row: KeyRow, loot: Any) -> Any:
    policy = read_policy(row.policy_document)
    officers = Officers(loot.group, loot.roster, loot.votes)
    return plan_use(policy, policy.alternatives[0], row.public, loot.digest, officers)


# ── the way ──────────────────────────────────────────────────────────────────────────────────


def test_the_same_approvals_sign_on_both_chips(pair: Pair, file: BackupFile) -> None:
    """By one officers' approval of one CSR both chips sign; twice restored is once restored."""
    key = pair.first.app.keyring.get("root")
    taken = pair.second.app.desk.copies.restore(file)
    again = pair.second.app.desk.copies.restore(file)
    assert (taken.name, taken.policy, again.id) == (key.name, key.policy, taken.id)
    loot = pair.first.steal_fresh()
    signs(pair.first, loot)
    signs(pair.second, loot)
    signs(pair.second, loot, taken)


# ── who approves what ────────────────────────────────────────────────────────────────────────


def test_one_custodian_of_two(pair: Pair) -> None:
    """M-1 approvals lead no ladder to its end, and the rest of the way is closed without it."""
    copying = pair.stolen(encode(pair.target.public))
    one = {0: copying.votes[0]}
    steps = tuple(s for s in copying.plan.steps if s != copying.plan.steps[2])
    with loaded(pair.first) as (chip, _, _), refused(0x1C4, "PolicyOR"):
        walk(chip, copying, steps)
    with loaded(pair.first) as (chip, key, _):
        parent = external(chip, copying.document.parent) if copying.document else 0
        session = walk(chip, copying, copying.plan.steps[:1])
        chip.send(PolicyCommandCode(session.handle, CC.Duplicate))
        with refused(0x99D, "Duplicate"):
            chip.send(copy_command(key.handle, parent), session)
    with pytest.raises(UsageError, match="1 of the 2 approvals"):
        pair.first.app.keyring.backups.copy(copying.key, copying.document, one)


def test_another_parent_than_was_approved(pair: Pair, file: BackupFile) -> None:
    """Approvals for the second chip's storage key are for no other: not for the SRK beside it."""
    copying = pair.stolen(file.copy.parent)
    with pair.second.app.device.transaction() as chip:
        srk = objects.storage_parent(chip)
    with loaded(pair.first) as (chip, key, _):
        session = walk(chip, copying)
        with refused(0x99D, "Duplicate"):
            chip.send(copy_command(key.handle, external(chip, encode(srk.public))), session)
        chip.flush_all()
        other = pair.stolen(encode(srk.public))
        with refused(0x5DB, "PolicySigned"):
            walk(chip, replace(copying, bound=other.bound))


def test_another_key_than_was_approved(pair: Pair, file: BackupFile) -> None:
    """The key's Name is in the cpHash: the same approvals copy no other key of the group."""
    copying = pair.stolen(file.copy.parent)
    with loaded(pair.first, "other") as (chip, key, _):
        session = walk(chip, copying)
        with refused(0x99D, "Duplicate"):
            chip.send(copy_command(key.handle, external(chip, file.copy.parent)), session)


def test_officers_in_the_place_of_custodians(pair: Pair, file: BackupFile) -> None:
    """An officer who is no custodian signs the copy: the ladder ends elsewhere. And approvals that
    officers gave for signatures are for TPM2_Sign.
    """
    pair.first.change("2:alice,bob,dave")
    loot = pair.first.steal_fresh(people=("alice", "dave"))
    copying = pair.stolen(file.copy.parent)
    plan = copied_plan(copying.key, loot)
    with loaded(pair.first) as (chip, key, _):
        session = start_policy(chip)
        for step in plan.steps:
            policies.run_step(chip, session, plan, step)
        with refused(0x9A4, "Duplicate"):
            chip.send(copy_command(key.handle, external(chip, file.copy.parent)), session)
        chip.flush_all()
        with refused(0x5DB, "PolicySigned"):  # alice's approval of a signature, of an officer
            walk(chip, replace(copying, votes={**copying.votes, 0: loot.votes[0]}))
        chip.flush_all()


def test_no_parent_and_no_inner_wrapper(pair: Pair, file: BackupFile) -> None:
    """TPM_RH_NULL as the parent, or no inner cipher: in the clear, or half of it. Approvals do not
    cover that; had custodians signed it, the chip would refuse what encryptedDuplication forbids.
    """
    copying = pair.stolen(file.copy.parent)
    naked = Duplicate(0, RH.NULL, b"", AES128_CFB)
    bare = Duplicate(0, 0, b"", NULL_SYM)
    row = copying.key
    null = BoundCommand(
        CC.Duplicate, (bytes.fromhex(row.name), handle_name(RH.NULL)), encode_parameters(naked)
    )
    plain = replace(copying.bound, parameters=encode_parameters(bare))
    with loaded(pair.first) as (chip, key, _):
        parent = external(chip, file.copy.parent)
        with refused(0x99D, "Duplicate"):
            chip.send(Duplicate(key.handle, RH.NULL, b"", AES128_CFB), walk(chip, copying))
        chip.flush_all()
    with loaded(pair.first) as (chip, key, _):
        session = walk(chip, pair.sign(null))
        with refused(0x285, "Duplicate"):
            chip.send(Duplicate(key.handle, RH.NULL, b"", AES128_CFB), session)
    with loaded(pair.first) as (chip, key, _):
        parent = external(chip, file.copy.parent)
        session = walk(chip, pair.sign(plain))
        with refused(0x2D6, "Duplicate"):
            chip.send(Duplicate(key.handle, parent, b"", NULL_SYM), session)


def test_another_way_to_name_the_parent(pair: Pair) -> None:
    """PolicyDuplicationSelect sets the command and the parent by itself: alone, and behind the
    custodians' approvals, which already name theirs.
    """
    target = pair.target
    copying = pair.stolen(encode(target.public))
    ladder = copying.plan.steps[: -len(copying.policy.copy_way())]
    with loaded(pair.first) as (chip, key, _):
        parent = external(chip, encode(target.public))
        session = start_policy(chip)
        chip.send(PolicyDuplicationSelect(session.handle, key.name, target.name, 0))
        with refused(0x99D, "Duplicate"):
            chip.send(copy_command(key.handle, parent), session)
        session = walk(chip, copying, ladder)
        with refused(0x151, "PolicyDuplicationSelect"):
            chip.send(PolicyDuplicationSelect(session.handle, key.name, target.name, 0))


def test_a_key_that_stays(pair: Pair, file: BackupFile) -> None:
    """A fixedTPM key has no way to a copy; nor with a policy that root makes."""
    with pytest.raises(UsageError) as caught:
        pair.first.app.desk.copies.backup("stays", pair.answer("alice"))
    assert caught.value.code == "not-to-be-copied"
    copying = pair.stolen(file.copy.parent)
    with loaded(pair.first, "stays") as (chip, key, _):
        session = walk(chip, copying)
        with refused(0x99D, "Duplicate"):
            chip.send(copy_command(key.handle, external(chip, file.copy.parent)), session)
        chip.flush_all()
        policy = CommandCode(CC.Duplicate).extend(bytes(32))
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", policy)
        fixed = objects.load_key(chip, parent, made.public, made.private)
        session = start_policy(chip)
        chip.send(PolicyCommandCode(session.handle, CC.Duplicate))
        with refused(0x182, "Duplicate"):
            chip.send(copy_command(fixed.handle, external(chip, file.copy.parent)), session)


# ── which chip ───────────────────────────────────────────────────────────────────────────────


def test_a_chip_that_this_home_never_asked(pair: Pair, tmp_path: Path) -> None:
    """A third chip that answered another custodian: who did not ask it himself does not approve."""
    with checked(House.build(tmp_path / "three")) as third:
        pair.join(third)
        number = pair.ask("root", pair.answer("carol", third))
        data = pair.first.app.desk.export(number)
        with declined("unknown-parent"):
            pair.first.machines["alice"].look(data)
        pair.first.machines["carol"].look(data)


def test_another_storage_key_of_the_chip(pair: Pair) -> None:
    """The chip was asked; root names its SRK instead, out of which a copy can be taken."""
    app = pair.first.app
    with pair.second.app.device.transaction() as chip:
        srk = encode(objects.storage_parent(chip).public)
    copy = replace(pair.backup("other").copy, parent=srk)
    row = app.keyring.get("other")
    draft = app.desk.drafts.of_grant("backup", row, "officers", copy.encoded, Claims())
    with declined("other-parent"):
        pair.first.machines["alice"].look(draft.data)


def test_what_approvals_without_a_look_are_worth(pair: Pair) -> None:
    """Nobody but people keeps a key from a parent that is software: were they to sign for one, the
    private key is out. The inner wrapper's key comes with it and protects nothing.
    """
    private = ec.derive_private_key(7, ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    unique = EccPoint(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    soft = encode(objects.STORAGE_PARENT_TEMPLATE.replace(unique=unique))
    copying = pair.stolen(soft)
    with loaded(pair.first) as (chip, key, row):
        parent = objects.storage_parent(chip)
        salt = SaltKey(parent.handle, parent.public, parent.name)
        wrapped = duplicating.duplicate(chip, copying.plan, key, soft, salt)
    secret = unwrap(private, row, wrapped)
    found = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
    area = decode(Public, row.public).unique
    assert isinstance(area, EccPoint)
    assert found.public_key().public_numbers().x == int.from_bytes(area.x, "big")


def unwrap(private: ec.EllipticCurvePrivateKey, row: KeyRow, wrapped: Any) -> bytes:
    """What the owner of a software parent does (Part 1 §23.3): the private scalar."""
    point = decode(EccPoint, wrapped.seed)
    other = ec.EllipticCurvePublicNumbers(
        int.from_bytes(point.x, "big"), int.from_bytes(point.y, "big"), ec.SECP256R1()
    ).public_key()
    own = private.public_key().public_numbers().x.to_bytes(32, "big")
    z = private.exchange(ec.ECDH(), other)
    seed = kdf_e(ALG.SHA256, z, b"DUPLICATE", point.x, own, bits=256)
    name = bytes.fromhex(row.name)
    outer = kdf_a(ALG.SHA256, seed, b"STORAGE", name, b"", bits=128)
    inner = cfb_decrypt(outer, bytes(16), wrapped.duplicate[34:])
    opened = cfb_decrypt(wrapped.inner, bytes(16), inner)
    size = int.from_bytes(opened[34:36], "big")
    return decode(Sensitive, opened[36 : 36 + size]).sensitive


def test_a_third_chip(pair: Pair, file: BackupFile, tmp_path: Path) -> None:
    """The file is for one chip: another does not take it in, nor does the first."""
    with checked(House.build(tmp_path / "three")) as third:
        pair.join(third)
        pair.answer("carol", third)
        for house in (third, pair.first):
            with pytest.raises(RefusedError) as caught:
                house.app.desk.copies.restore(file)
            assert caught.value.code == "other-chip"
            with house.app.device.transaction() as chip:
                parent = objects.receiving_parent(chip)
                with refused(0x3DF, "Import"):
                    part = file.request.key
                    wrapped = duplicating.Wrapped(**file.wrapped)
                    duplicating.take(chip, parent, part.public if part else b"", wrapped)


# ── officers who were removed ────────────────────────────────────────────────────────────────


def test_a_chip_whose_counter_is_behind(pair: Pair) -> None:
    """Custodians' tools refuse a chip that is behind what they approved, also when it was not when
    they asked; and do not take its answer.
    """
    number = pair.ask("other", pair.answer("alice"))
    pair.first.change("2:alice,bob")
    row = pair.first.app.desk.get(number)
    assert row.state == "cancelled"
    with declined("counter-behind"):
        pair.answer("alice")
    pair.join()
    pair.answer("alice")


def test_a_removed_officer_lives_on_where_the_change_is_not(pair: Pair, file: BackupFile) -> None:
    """Why a copy is for a chip that is not behind: carol, removed on the first chip, signs on a
    second one in which the old roster is in force. Once it has joined again she does not.
    """
    pair.second.app.desk.copies.restore(file)
    loot = pair.first.steal_fresh(people=("bob", "carol"))
    pair.first.change("2:alice,bob,dave", people=("alice", "bob"))
    with refused(0x126, "PolicyNV"):
        signs(pair.first, loot, pair.first.app.keyring.get("root"))
    signs(pair.second, loot)
    pair.join()
    with refused(0x126, "PolicyNV"):
        signs(pair.second, loot)


def test_a_join_that_nobody_approved(pair: Pair, tmp_path: Path) -> None:
    """A file in which approvals are missing, or are other people's; and an older one."""
    before = pair.first.app.desk.joining.export("officers")
    history = parse_export(before)
    short = replace(history.founding, approvals=history.founding.approvals[:1])
    with checked(House.build(tmp_path / "three")) as third:
        with rejected("not-approved"):
            third.app.desk.joining.join(replace(history, founding=short))
        swapped = replace(
            history.founding,
            approvals=tuple(
                replace(one, signatures=history.founding.approvals[1].signatures)
                for one in history.founding.approvals
            ),
        )
        with rejected("bad-signature"):
            third.app.desk.joining.join(replace(history, founding=swapped))
    pair.first.change("2:alice,bob")
    pair.join()
    with pytest.raises(UsageError) as caught:
        pair.second.app.desk.joining.join(parse_export(before))
    assert caught.value.code == "older-roster"
    assert format_export(history) == before


# ── the file, and keys that only look like it ────────────────────────────────────────────────


def test_an_altered_backup(pair: Pair, file: BackupFile) -> None:
    """What is wrapped, the chip covers; what the file says besides is recomputed."""
    desk = pair.second.app.desk
    wrapped = dict(file.wrapped)
    flipped = bytes([wrapped["duplicate"][-1] ^ 1])
    odd = {**wrapped, "duplicate": wrapped["duplicate"][:-1] + flipped}
    with pytest.raises(ChipRefusedError) as caught:
        desk.copies.restore(replace(file, wrapped=odd))
    assert (caught.value.code, f"0x{caught.value.rc:03x}") == ("backup-altered", "0x3df")
    part = file.request.key
    assert part is not None
    other = pair.first.app.keyring.get("other")
    twins = [
        replace(file, key={**file.key, "document": other.policy_document + "\n"}),
        replace(file, key={**file.key, "hash": "sha384"}),
        replace(file, request=replace(file.request, key=replace(part, policy="open"))),
        replace(file, request=replace(file.request, key=replace(part, public=other.public))),
    ]
    for one in twins:
        with pytest.raises((VerificationError, ParseError)):
            desk.copies.restore(one)
    assert desk.copies.restore(file, "another").label == "another"


def test_a_twin_that_was_imported(pair: Pair) -> None:
    """A key that root made elsewhere, of the same policy and attributes: sensitiveDataOrigin can be
    set on what is imported. Its birth is certified by nobody.
    """
    app = pair.first.app
    root = app.keyring.get("root")
    secret = Foreign.of(ec.generate_private_key(ec.SECP256R1()))
    public = imported_template(decode(Public, root.public), secret)
    public = public.replace(attributes=decode(Public, root.public).attributes)
    with app.device.transaction() as chip:
        parent = objects.storage_parent(chip)
        with refused(0x1C2, "Import"):  # encryptedDuplication wants an inner wrapper
            import_key(chip, parent, public, secret.secret, algorithm="p256")
        private = import_wrapped(chip, parent, public, secret.secret)
        chip.flush(objects.load_key(chip, parent, encode(public), private).handle)
    twin = KeyPart("root", encode(public), root.policy_document, root.creation_attest,
                   root.creation_signature)  # fmt: skip
    honest = pair.first.draft("data", b"a file", label="other")
    with declined("key-evidence"):
        pair.first.machines["carol"].look(replace(honest, key=twin).data)
    pair.first.machines["carol"].look(honest.data)


def import_wrapped(chip: Chip, parent: Any, public: Public, secret: bytes) -> bytes:
    """TPM2_Import with an inner wrapper, as root makes one (Part 1 §23.3.2.2)."""
    name, key = name_of_public(public), bytes(16)
    sensitive = TPM2B.pack(encode(Sensitive(public.type, b"", b"", secret)))
    integrity = TPM2B.pack(sha256(sensitive + name).digest())
    inner = cfb_encrypt(key, bytes(16), integrity + sensitive)
    duplicate, seed = sealed_to(parent.public, b"DUPLICATE", inner, name)
    return chip.send(Import(parent.handle, key, public, duplicate, seed, AES128_CFB)).out_private


def test_certify_by_a_key_that_may_be_copied(pair: Pair) -> None:
    """The alternative for TPM2_Certify is closed: no branch of the roster leads to it, so the CA's
    key certifies nothing of root's choice, neither as the signer nor as what is certified.
    """
    loot = pair.first.steal_fresh()
    row = pair.first.app.keyring.get("root")
    plan = copied_plan(row, loot)
    until = next(i for i, step in enumerate(plan.steps) if isinstance(step, AuthorizeNv))
    with loaded(pair.first) as (chip, key, _):
        ak = objects.attestation_key(chip)
        session = start_policy(chip)
        for step in plan.steps[: until + 1]:
            policies.run_step(chip, session, plan, step)
        with refused(0x1C4, "PolicyCommandCode"):
            chip.send(PolicyCommandCode(session.handle, CC.Certify))
        chip.flush_all()
    for which, code in (("signer", 0xAA4), ("object", 0x9A4)):
        with loaded(pair.first) as (chip, key, _):
            ak = objects.attestation_key(chip)
            session = start_policy(chip)
            for step in plan.steps:
                policies.run_step(chip, session, plan, step)
            with refused(code, "Certify"):
                if which == "object":
                    chip.send(Certify(key.handle, ak.handle, bytes(32), NULL_SCHEME), session)
                else:
                    command = Certify(ak.handle, key.handle, bytes(32), NULL_SCHEME)
                    chip.send(command, EMPTY_PASSWORD, session)


def test_nothing_of_the_inner_wrapper_is_kept(pair: Pair) -> None:
    """Neither the database nor the log has the key of the inner wrapper, or what is wrapped."""
    file = pair.backup("other")
    home = pair.first.app.home
    written = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())
    for name in ("inner", "duplicate"):
        secret = file.wrapped[name]
        assert secret not in written and secret.hex().encode() not in written
    assert parse_backup(file.data) == file
