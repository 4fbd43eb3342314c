"""Approvals that the chip would take, and that no approver's tool makes or believes.

The chip cannot forbid a blank cheque, a ticket, or SHA-1: here it obeys each of them, made by
people who sign with another program. The defence is what an approver's key is made to sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import SoftIdentity, identity
from tests.attacks.house import House
from tests.attacks.root import Loot, Root, declined, refused, rejected

from tpmhsm.approval.approve import make_denial
from tpmhsm.approval.cards import create_card
from tpmhsm.approval.filekey import create_file_key
from tpmhsm.approval.identity import Identity
from tpmhsm.approval.statements import prove_possession
from tpmhsm.approval.verify import verify_approval
from tpmhsm.approval.votes import parse_approval
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.steps import Signed
from tpmhsm.policy.tree import SIGN
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import LoadExternal, PolicySigned, PolicyTicket
from tpmhsm.wire.constants import ALG, RH
from tpmhsm.wire.structures import Signature

OTHER = sha256(b"a certificate for root").digest()
FOREVER = -(1 << 31)


@pytest.fixture(scope="module")
def file_key(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The key of an approver as the product keeps it."""
    return create_file_key(tmp_path_factory.mktemp("key") / "alice.key", b"correct horse")


def other_program(name: str, message: bytes, algorithm: Any = None) -> bytes:
    """A TPMT_SIGNATURE by somebody's key over anything, as no tool of ours makes it."""
    person = identity(name)
    assert isinstance(person.private, ec.EllipticCurvePrivateKey)
    raw = person.private.sign(message, ec.ECDSA(algorithm or hashes.SHA256()))
    made = tpmt_signature(person.public_key, raw)
    return made if algorithm is None else made[:2] + ALG.SHA1.to_bytes(2, "big") + made[4:]


def ref_of(loot: Loot) -> bytes:
    (ladder,) = SIGN.ladders(loot.roster)
    return ladder.policy_ref


def walk(
    root: Root, message: bytes, cp_hash: bytes, expiration: int = 0, algorithm: Any = None
) -> tuple[PolicySession, list[Any]]:
    """The honest policy, its approvals made over `message` and shown with these parameters."""
    chip, plan, loot = root.chip, root.loot.plan, root.loot
    session, answers = start_policy(chip), []
    for step in plan.steps:
        if not isinstance(step, Signed):
            policies.run_step(chip, session, plan, step)
            continue
        member = plan.given[step.approver].member
        auth = decode(Signature, other_program(member.name, message, algorithm))
        loaded = chip.send(LoadExternal(None, member.public, RH.NULL)).object_handle
        command = PolicySigned(loaded, session.handle, b"", cp_hash, ref_of(loot), expiration, auth)
        answers.append(chip.send(command))
        chip.flush(loaded)
    return session, answers


def test_a_blank_cheque(still: House, file_key: Identity) -> None:
    """An empty cpHash: the chip signs any digest with it, so nobody can be asked for one."""
    loot, ref = still.loot, ref_of(still.loot)
    blank = bytes(4) + ref
    with still.root() as root:
        session, _ = walk(root, blank, b"")
        root.chip.send(objects.sign_command(root.load(), OTHER), session)
        root.chip.flush_all()
        root.honest()
    for key in (file_key, identity("alice")):
        with declined("not-signable"):
            key.sign(blank)
        key.sign(a_hash_preimage(loot.plan.bound.cp_hash, ref))
    with pytest.raises(UsageError, match="cpHash"):
        a_hash_preimage(b"", ref)
    document = loot.request.approvals[0].document()
    document["signatures"][0]["cp_hash"] = ""
    with pytest.raises(ParseError, match="cp_hash"):
        parse_approval(encoded(document))


def encoded(document: dict[str, Any]) -> bytes:
    from tpmhsm.policy.documents import canonical

    return canonical(document)


def test_a_window_that_nobody_opened(still: House, file_key: Identity) -> None:
    """A negative expiration: the chip gives tickets that replace the people for 68 years."""
    loot, ref = still.loot, ref_of(still.loot)
    cp_hash = loot.plan.bound.cp_hash
    message = FOREVER.to_bytes(4, "big", signed=True) + cp_hash + ref
    with still.root() as root:
        session, answers = walk(root, message, cp_hash, FOREVER)
        assert all(answer.policy_ticket.digest for answer in answers)
        root.chip.send(objects.sign_command(root.load(), loot.digest), session)
        again = start_policy(root.chip)
        name = next(step for step in loot.plan.steps if isinstance(step, Signed)).approver
        one = answers[0]
        root.chip.send(
            PolicyTicket(again.handle, one.timeout, cp_hash, ref, name, one.policy_ticket)
        )
        root.chip.flush_all()
        root.honest()
    for key in (file_key, identity("alice")):
        with declined("not-signable"):
            key.sign(message)


@pytest.mark.parametrize(
    "shape",
    [
        lambda nonce, ref: nonce + bytes(4) + ref,
        lambda nonce, ref: nonce + bytes(3) + b"\x01" + OTHER + ref,
        lambda nonce, ref: nonce + bytes(4) + OTHER,
        lambda nonce, ref: b"",
        lambda nonce, ref: OTHER,
        lambda nonce, ref: b"\x01" + bytes(3) + OTHER + ref,
        lambda nonce, ref: bytes(4) + OTHER + ref + b"\x00",
        lambda nonce, ref: b"tpmhsm/card/1\0" + ref,
        lambda nonce, ref: bytes(4) + OTHER + ref + bytes(100),
    ],
    ids=[
        "live, blank",
        "live, expires",
        "no ref",
        "nothing",
        "digest",
        "expires",
        "longer",
        "card",
        "long",
    ],
)
def test_other_shapes_are_not_signed(
    still: House, file_key: Identity, shape: Callable[[bytes, bytes], bytes]
) -> None:
    """An approver's key signs aHash preimages, windows and statements. Nothing else."""
    message = shape(bytes(range(16)), ref_of(still.loot))
    for key in (file_key, identity("alice")):
        with declined("not-signable"):
            key.sign(message)
        key.sign(still.loot.plan.bound.cp_hash.rjust(36, b"\0") + ref_of(still.loot))


def test_sha1(still: House) -> None:
    """The chip takes approvals over SHA-1 digests. No tool makes them, and the host takes none."""
    loot = still.loot
    cp_hash, ref = loot.plan.bound.cp_hash, ref_of(loot)
    message = a_hash_preimage(cp_hash, ref)
    with still.root() as root:
        session, _ = walk(root, message, cp_hash, algorithm=hashes.SHA1())
        root.chip.send(objects.sign_command(root.load(), loot.digest), session)
        root.chip.flush_all()
        root.honest()
    honest = loot.request.approvals[0]
    verify_approval(loot.request, honest)
    (signed,) = honest.signatures
    assert decode(Signature, signed.signature).signature.hash_alg == ALG.SHA256
    renamed = signed.signature[:2] + ALG.SHA1.to_bytes(2, "big") + signed.signature[4:]
    for weak in (other_program("alice", message, hashes.SHA1()), renamed):
        with rejected("bad-signature"):
            changed = replace(honest, signatures=(replace(signed, signature=weak),))
            verify_approval(loot.request, changed)


def statements_of(person: SoftIdentity, chosen: bytes, loot: Loot) -> None:
    """Everything beside approvals that an approver can be brought to sign, with root's words."""
    prove_possession(person, chosen, "tpmhsm")
    prove_possession(person, chosen, chosen.hex())
    create_card(chosen.hex()[:40], person)
    make_denial(loot.request, person, "alice", chosen.decode("latin-1"))


def test_a_challenge_shaped_as_an_approval(still: House) -> None:
    """Root's challenge is the preimage that it wants signed. It enters hashed, in a statement that
    no preimage is as long as; what is signed is no approval for the chip.
    """
    loot = still.loot
    altered = replace(loot, digest=OTHER)
    wanted = a_hash_preimage(altered.plan.bound.cp_hash, ref_of(loot))
    person = SoftIdentity(identity("alice").private)
    statements_of(person, wanted, loot)
    signed = tuple(person.signed)
    assert len(signed) == 4
    assert all(len(message) > 128 and message.startswith(b"tpmhsm/") for message in signed)
    assert not any(wanted in message for message in signed)
    with still.root() as root:
        for message in signed:
            vote = tpmt_signature(person.public_key, person.sign(message))
            with refused(0x5DB, "PolicySigned"):
                root.try_sign(digest=OTHER, loot=replace(altered, votes={**loot.votes, 0: vote}))
        root.honest()


def test_an_approval_in_anothers_name(still: House) -> None:
    """Bob's place on the ladder, filled with alice's second approval."""
    loot = still.loot
    by_alice = loot.request.approvals[0]
    with pytest.raises(VerificationError, match="says bob, but the key is alice's"):
        verify_approval(loot.request, replace(by_alice, approver="bob"))
    bobs = loot.request.approvals[1]
    with rejected("bad-signature"):
        verify_approval(loot.request, replace(bobs, signatures=by_alice.signatures))
    votes = {0: loot.votes[0], 1: loot.votes[0]}
    with still.root() as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=replace(loot, votes=votes))
        root.honest()
