"""A key copied to a second chip: raw, by the library, with tpm2-tools' opinion of what is made."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.policy import makers
from tests.support.oracle import recording_esys
from tests.support.swtpm import bare_swtpm
from tests.tpm.conftest import end
from tests.tpm.quorums import World, sign_for

from tpmhsm.attest.statements import signing_key
from tpmhsm.errors import ChipRefusedError
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.copying import CopyDocument, copy_ladders
from tpmhsm.policy.plan import Officers, plan_copy, plan_use, quorum_policy
from tpmhsm.policy.steps import digest_of
from tpmhsm.tpm import duplicating, nv, objects, policies, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import Device, open_device
from tpmhsm.tpm.receiving import load_copy
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.constants import RC
from tpmhsm.wire.public import Public
from tpmhsm.wire.rc import base_code

DIGEST = hashlib.sha256(b"bytes").digest()


@pytest.fixture(scope="session")
def manufactured_second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another chip, with seeds of its own."""
    home = tmp_path_factory.mktemp("second")
    assert software.manufacture(software.directory_of(home))
    return home


@pytest.fixture
def second(manufactured_second: Path, tmp_path: Path) -> Iterator[Chip]:
    """A conversation with the second chip."""
    home = tmp_path / "second"
    directory = software.directory_of(home)
    directory.mkdir(parents=True)
    shutil.copytree(software.directory_of(manufactured_second) / "chip", directory / "chip")
    device: Device = open_device("software", home)
    try:
        with device.transaction() as chip:
            yield chip
    finally:
        end(directory)


def copied_policy(world: World) -> KeyPolicy:
    return quorum_policy(world.group).copied_by(world.group)


def make(world: World):
    """A key that may be copied, loaded, and what is kept of it."""
    chip, policy = world.chip, copied_policy(world)
    parent = objects.storage_parent(chip)
    template = objects.signing_template("p256", policy.digest, copied=True)
    made = objects.create_from(chip, parent, template, "p256")
    return made, objects.load_key(chip, parent, made.public, made.private)


def votes(world: World, document: CopyDocument, people=(0, 1)):
    return sign_for(document.bound, copy_ladders(world.group)[0], {p: p for p in people})


def document(world: World, key, parent) -> CopyDocument:
    return CopyDocument(world.group.id, key.name, encode(parent.public), bytes(32), bytes(34))


def wrap(world: World, key, parent, people=(0, 1)):
    """Have the first chip make a copy."""
    asked = document(world, key, parent)
    plan = plan_copy(world.group, copied_policy(world), asked, votes(world, asked, people))
    own = objects.storage_parent(world.chip)
    salt = SaltKey(own.handle, own.public, own.name)
    before = world.chip.commands
    wrapped = duplicating.duplicate(world.chip, plan, key, asked.parent, salt)
    assert world.chip.commands - before == plan.commands + 2  # the new parent: load, flush
    return wrapped


def join(world: World, chip) -> World:
    """The same group on another chip, by the approvals of then."""
    return replace(world, chip=chip)


def test_a_copy_signs_by_the_same_approvals(chip, second):
    world = World.make(chip)
    made, key = make(world)
    assert signing_key(made.public).name == key.name
    wrapped = wrap(world, key, objects.receiving_parent(second))

    elsewhere = World.make(second)
    while elsewhere.epoch < world.epoch:
        elsewhere.increment()
    elsewhere.write(world.roster)
    parent = objects.receiving_parent(second)
    private = duplicating.take(second, parent, made.public, wrapped)
    before = second.commands
    copy = load_copy(second, parent, made.public, private)
    assert second.commands - before == 4  # a session, CommandCode, PolicyOR, Load
    assert copy.name == key.name

    policy = copied_policy(world)
    approvals = world.approvals(key, DIGEST, (0, 1))
    officers = Officers(world.group, world.roster, approvals)
    plan = plan_use(policy, policy.alternatives[0], made.public, DIGEST, officers)
    public = decode(Public, made.public)
    for where, loaded in ((chip, key), (second, copy)):
        before = where.commands
        signature = policies.execute(where, plan, objects.sign_command(loaded, DIGEST))
        assert where.commands - before == plan.commands
        assert objects.plain_signature(signature.signature)
        where.flush(loaded.handle)
    assert public == copy.public
    assert nv.read_counter(second, world.group.counter_index) == world.epoch


def test_one_custodian_is_not_enough(chip, second):
    world = World.make(chip)
    _, key = make(world)
    with pytest.raises(Exception, match="1 of the 2"):
        wrap(world, key, objects.receiving_parent(second), (0,))
    chip.flush(key.handle)


def test_for_one_chip_alone(chip, second):
    """A changed byte anywhere, or another chip: TPM_RC_INTEGRITY, or the seed cannot be opened."""
    world = World.make(chip)
    made, key = make(world)
    wrapped = wrap(world, key, objects.receiving_parent(second))
    chip.flush(key.handle)
    flipped = bytes([wrapped.duplicate[-1] ^ 1])
    found = []
    for where, odd in (
        (second, replace(wrapped, duplicate=wrapped.duplicate[:-1] + flipped)),
        (second, replace(wrapped, inner=bytes(16))),
        (chip, wrapped),
    ):
        with pytest.raises(ChipRefusedError) as caught:
            duplicating.take(where, objects.receiving_parent(where), made.public, odd)
        found.append(base_code(caught.value.rc))
    assert found[0] == found[2] == RC.INTEGRITY
    assert found[1] in (RC.SIZE, RC.INTEGRITY)  # what is inside is read only after the outer HMAC


def test_tpm2_tss_comes_to_the_same_policy():
    """The second opinion: a trial session of tpm2-pytss walks the custodians' ladder."""
    tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")
    custodians = makers.threshold(2, (0, 1), founding=True)
    group = makers.group(custodians)
    policy = quorum_policy(group).copied_by(group)
    (ladder,) = copy_ladders(group)
    null = tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL)
    none, nothing = tss.ESYS_TR.NONE, tss.TPMT_SIGNATURE(sigAlg=tss.TPM2_ALG.ECDSA)
    nothing.signature.ecdsa.hash = tss.TPM2_ALG.SHA256
    with bare_swtpm() as path, recording_esys(path) as (api, _):
        kind, sha256 = tss.TPM2_SE.TRIAL, tss.TPM2_ALG.SHA256
        session = api.start_auth_session(none, none, kind, null, sha256)
        for member in custodians.members:
            area, _ = tss.TPMT_PUBLIC.unmarshal(encode(member.public))
            loaded = api.load_external(tss.TPM2B_PUBLIC(area), hierarchy=tss.ESYS_TR.NULL)
            api.policy_signed(
                loaded,
                session,
                nonce_tpm=b"",
                cp_hash_a=b"",
                policy_ref=ladder.policy_ref,
                expiration=0,
                auth=nothing,
            )
            api.flush_context(loaded)
        api.policy_command_code(session, tss.TPM2_CC.Duplicate)
        branches = [digest_of(way) for way in (policy.steps_of(policy.alternatives[0]),
                                               *policy.copying)]  # fmt: skip
        assert bytes(api.policy_get_digest(session)) == branches[1]
        api.policy_or(session, tss.TPML_DIGEST([tss.TPM2B_DIGEST(b) for b in branches]))
        assert bytes(api.policy_get_digest(session)) == policy.digest
        api.flush_context(session)


def test_no_secret_is_shown():
    shown = repr(duplicating.Wrapped(b"\1" * 8, b"\2" * 8, b"\3" * 16))
    assert "inner" not in shown and "duplicate" not in shown
