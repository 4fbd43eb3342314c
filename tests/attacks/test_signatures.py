"""Root wants a signature that the officers did not approve, and asks the chip itself.

The approvals are honest ones, stolen before they were used. Each attack ends with the signature
that they were given for, in the same chip: it is the attack that is refused, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tests.approval.doubles import card, identity
from tests.attacks.house import House
from tests.attacks.root import Loot, Root, refused

from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.bound import bound_sign
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.steps import AuthorizeNv, Nv, Signed, digest_of
from tpmhsm.policy.tree import SIGN, epoch_ladders
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.sessions import Password, start_hmac, start_policy, start_trial
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import (
    LoadExternal,
    PolicyAuthValue,
    PolicyPassword,
    PolicySigned,
    Sign,
    StartAuthSession,
)
from tpmhsm.wire.constants import ALG, RH, SE, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.structures import NULL_HASHCHECK, NULL_SYM, SchemeHash, Signature, SigScheme

OTHER = sha256(b"a certificate for root").digest()


def parts(loot: Loot) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """The honest steps: epoch and command code, the ladder, the key's own."""
    steps = loot.plan.steps
    assert isinstance(steps[0], Nv) and isinstance(steps[-2], AuthorizeNv)
    return steps[:2], steps[2:-2], steps[-2:]


def signers(loot: Loot) -> list[Signed]:
    return [step for step in loot.plan.steps if isinstance(step, Signed)]


# ── how many ─────────────────────────────────────────────────────────────────────────────────────


def test_one_approval_of_two(still: House) -> None:
    """M-1: the ladder's last PolicyOR refuses; leave that out, and the roster does; leave that out
    too, and the key's own policy does.
    """
    _, _, end = parts(still.loot)
    steps = still.loot.plan.steps
    with still.root() as root:
        for missing in signers(still.loot):
            fewer = [step for step in steps if step is not missing]
            with refused(0x1C4, "PolicyOR"):
                root.try_sign(fewer)
        upto = steps[: steps.index(signers(still.loot)[0]) + 1]
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign((*upto, *end))
        with refused(0x99D, "Sign"):
            root.try_sign(upto)
        root.honest()


def test_one_approver_twice(still: House) -> None:
    """The same approval again; and the other form (r, n-s) of the same ECDSA signature."""
    loot = still.loot
    first, second = signers(loot)
    steps = list(loot.plan.steps)
    at = steps.index(second)
    given = loot.plan.given[first.approver]
    other = replace(given, signature=mirrored(given.signature))
    mirror = replace(loot.plan, given={first.approver: other})
    with still.root() as root:
        for plan in (loot.plan, mirror):
            session = root.session(steps[:at])
            policies.run_step(root.chip, session, plan, first)  # the chip takes it
            with refused(0x1C4, "PolicyOR"):
                policies.run_step(root.chip, session, plan, steps[at + 1])
            root.chip.flush_all()
        root.honest()


def mirrored(signature: bytes) -> bytes:
    """Where (r, s) holds, (r, n - s) holds too."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    inner = decode(Signature, signature).signature
    r, s = (int.from_bytes(v, "big") for v in (inner.r, inner.s))
    return tpmt_signature(identity("alice").public_key, encode_dss_signature(r, order - s))


def test_without_any_approval(still: House) -> None:
    """The empty password, an HMAC session, a policy session with nothing in it or with the
    password in it, a trial session that has walked the whole policy.
    """
    with still.root() as root:
        command = objects.sign_command(root.load(), still.loot.digest)
        for session in (Password(), start_hmac(root.chip)):
            with refused(0x12F, "Sign"):
                root.chip.send(command, session)
        for step in (PolicyAuthValue, PolicyPassword):
            policy = start_policy(root.chip)
            with refused(0x99D, "Sign"):
                root.chip.send(command, policy)
            root.chip.send(step(policy.handle))
            with refused(0x99D, "Sign"):
                root.chip.send(command, policy)
            root.chip.flush(policy.handle)
        trial = start_trial(root.chip)
        for one in still.loot.plan.steps:
            policies.run_step(root.chip, trial, still.loot.plan, one)
        with refused(0x982, "Sign"):
            root.chip.send(command, trial)
        root.chip.flush_all()
        root.honest()


# ── of what ──────────────────────────────────────────────────────────────────────────────────────


def test_other_bytes(still: House) -> None:
    """With the approved cpHash the command is refused, with the other's the approvals are."""
    loot = still.loot
    altered = replace(loot, digest=OTHER)
    with still.root() as root:
        with refused(0x99D, "Sign"):
            root.try_sign(digest=OTHER)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(digest=OTHER, loot=altered)
        root.honest()


def test_approvals_of_two_requests_do_not_add_up(house: House) -> None:
    """Alice approved these bytes, bob approved those."""
    first, second = house.loot, house.steal(house.propose_csr("root", "CN=Second"))
    mixed = replace(first, votes={0: first.votes[0], 1: second.votes[1]})
    with house.root() as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=mixed)
        root.honest(second)
        root.honest()


def test_other_key(still: House) -> None:
    """The other key has the same policy; the approvals name a key by its Name."""
    loot, other = still.loot, still.app.keyring.get("rsa")
    with still.root() as root:
        with refused(0x99D, "Sign"):
            root.try_sign(key=other)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(key=other, loot=replace(loot, key=other))
        root.honest()


def test_another_scheme_or_hash(still: House) -> None:
    """The scheme stands in the approved command and in the key, both."""
    loot = still.loots["rsa"]
    pss = SigScheme(ALG.RSAPSS, SchemeHash(ALG.SHA256))
    sha384 = SigScheme(ALG.RSASSA, SchemeHash(ALG.SHA384))
    for digest, scheme in ((loot.digest, pss), (sha256(b"").digest() + bytes(16), sha384)):
        with still.root("rsa") as root:
            key = root.load()
            with refused(0x99D, "Sign"):
                root.send(Sign(key.handle, digest, scheme, NULL_HASHCHECK))
            root.chip.flush_all()
            root.honest()


# ── for what ─────────────────────────────────────────────────────────────────────────────────────


def test_a_ladder_entered_with_a_wrong_prefix(still: House) -> None:
    """Without the epoch, without the command code, in another order, or with another code."""
    prefix, climb, end = parts(still.loot)
    wrong = [(), prefix[:1], prefix[1:], prefix[::-1], (*prefix, prefix[0])]
    with still.root() as root:
        for start in wrong:
            with refused(0x1C4, "PolicyOR"):
                root.try_sign((*start, *climb, *end))
        (ladder,) = SIGN.ladders(still.loot.roster)
        for start in wrong:  # a ladder of one's own, honest but for where it begins
            own = ladder.plan((0, 1), digest_of(start))
            with refused(0x084, "PolicyAuthorizeNV"):
                root.try_sign((*start, *own, *end))
        root.honest()


def test_the_keys_policy_without_the_roster(still: House) -> None:
    """The ladder's end is not the key's policy; the roster read twice is not either."""
    prefix, climb, end = parts(still.loot)
    with still.root() as root:
        with refused(0x99D, "Sign"):
            root.try_sign((*prefix, *climb))
        with refused(0x99D, "Sign"):
            root.try_sign((*prefix, *climb, end[0]))
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign((*prefix, *climb, end[0], end[0]))
        with refused(0x084, "PolicyAuthorizeNV"):
            root.try_sign(end)
        root.honest()


def test_custodians_approvals_are_no_officers_approvals(still: House) -> None:
    """The same people, the same command, another purpose in the policyRef."""
    loot = still.loot
    (ladder,) = epoch_ladders(loot.group)
    votes = votes_over(loot, ladder.policy_ref)
    with still.root() as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=replace(loot, votes=votes))
        with refused(0x1C4, "PolicyOR"):  # with the policyRef they were made for
            root.try_sign(renamed(loot, ladder.policy_ref), loot=replace(loot, votes=votes))
        root.honest()


def votes_over(loot: Loot, ref: bytes) -> dict[int, bytes]:
    """Approvals by alice and bob of the command in the loot, for another policyRef."""
    message = a_hash_preimage(loot.plan.bound.cp_hash, ref)
    return {place: approve_as(name, message) for place, name in enumerate(("alice", "bob"))}


def approve_as(name: str, message: bytes) -> bytes:
    """A TPMT_SIGNATURE by somebody's key."""
    person = identity(name)
    return tpmt_signature(person.public_key, person.sign(message))


def renamed(loot: Loot, ref: bytes) -> list[Any]:
    """The honest steps with another policyRef."""
    steps = loot.plan.steps
    return [replace(s, policy_ref=ref) if isinstance(s, Signed) else s for s in steps]


@pytest.mark.parametrize("field", ["group", "epoch", "ladder", "purpose"])
def test_approvals_for_another_policy_ref(still: House, field: str) -> None:
    """Whatever differs in the policyRef: the approval does not hold for this ladder."""
    loot = still.loot
    group, epoch = loot.group.id, loot.roster.epoch
    other = {
        "group": policy_ref("sign", sha256(b"another group").digest(), epoch, 1),
        "epoch": policy_ref("sign", group, epoch + 1, 1),
        "ladder": policy_ref("sign", group, epoch, 2),
        "purpose": policy_ref("budget", group, epoch, 1),
    }[field]
    votes = votes_over(loot, other)
    with still.root() as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=replace(loot, votes=votes))
        with refused(0x1C4, "PolicyOR"):
            root.try_sign(renamed(loot, other), loot=replace(loot, votes=votes))
        root.try_sign(loot=replace(loot, votes=votes_over(loot, policy_ref("sign", group, epoch))))
        root.honest()


# ── the shapes of an approval ────────────────────────────────────────────────────────────────────


def show(root: Root, signature: bytes, message: tuple[bytes, int, bytes, bytes], nonce: int) -> Any:
    """PolicySigned by alice with these parts: nonceTPM, expiration, cpHash, policyRef."""
    member = root.loot.roster.officers[0].members[0]
    chip = root.chip
    loaded = chip.send(LoadExternal(None, member.public, RH.NULL)).object_handle
    made = chip.send(
        StartAuthSession(RH.NULL, RH.NULL, bytes(nonce), b"", SE.POLICY, NULL_SYM, ALG.SHA256)
    )
    given, expiration, cp_hash, ref = message
    auth = decode(Signature, signature)
    try:
        return chip.send(
            PolicySigned(loaded, made.session_handle, given, cp_hash, ref, expiration, auth)
        )
    finally:
        chip.flush_all()


def test_an_approval_read_with_a_nonce(still: House) -> None:
    """aHash has no lengths inside: nonce ‖ expiration ‖ policyRef with a 32-byte nonce is as long
    as expiration ‖ cpHash ‖ policyRef. The chip takes no nonce but the one it gave.
    """
    loot = still.loot
    (ladder,) = SIGN.ladders(loot.roster)
    cp_hash, ref = loot.plan.bound.cp_hash, ladder.policy_ref
    shifted = (bytes(4) + cp_hash[:28], int.from_bytes(cp_hash[28:], "big", signed=True), b"", ref)
    with still.root() as root:
        for size in (16, 32):
            with refused(0x1CF, "PolicySigned"):
                show(root, loot.votes[0], shifted, size)
        show(root, loot.votes[0], (b"", 0, cp_hash, ref), 16)
        root.honest()


def test_an_approval_with_another_expiration(still: House) -> None:
    """A negative one would turn the approval into a ticket."""
    loot = still.loot
    (ladder,) = SIGN.ladders(loot.roster)
    cp_hash, ref = loot.plan.bound.cp_hash, ladder.policy_ref
    with still.root() as root:
        for expiration in (-86400, -(1 << 31), (1 << 31) - 1):  # none is over when it is shown
            with refused(0x5DB, "PolicySigned"):
                show(root, loot.votes[0], (b"", expiration, cp_hash, ref), 16)
        answer = show(root, loot.votes[0], (b"", 0, cp_hash, ref), 16)
        assert answer.timeout == b"" and answer.policy_ticket.digest == b""
        root.honest()


def test_an_approval_without_its_cp_hash(still: House) -> None:
    """What was approved for one command is not good for every command."""
    loot = still.loot
    (ladder,) = SIGN.ladders(loot.roster)
    with still.root() as root:
        with refused(0x5DB, "PolicySigned"):
            show(root, loot.votes[0], (b"", 0, b"", ladder.policy_ref), 16)
        root.honest()


# ── one person, two Names ────────────────────────────────────────────────────────────────────────


def test_one_key_under_two_names_counts_twice_for_the_chip(still: House) -> None:
    """Why members' keys must differ as keys: one point with two attribute sets has two Names, and
    its owner alone walks a 2-of-2 ladder. `GroupDocument` and `Threshold` refuse such people
    (test_one_key_on_two_cards).
    """
    member = card("alice").member(contribution=False)
    area, ref = member.public, bytes(32)
    twin = area.replace(attributes=area.attributes & ~ObjectAttributes.USER_WITH_AUTH)
    ladder = Ladder(2, (member.chip_name, name_of_public(twin)), ref)
    with still.root() as root:
        parent = objects.storage_parent(root.chip)
        made = objects.create_key(root.chip, parent, "p256", ladder.digest())
        key = objects.load_key(root.chip, parent, made.public, made.private)
        cp_hash = bound_sign(made.public, OTHER).cp_hash
        vote = approve_as("alice", a_hash_preimage(cp_hash, ref))
        session = start_policy(root.chip)
        for who in (area, twin):
            loaded = root.chip.send(LoadExternal(None, who, RH.NULL)).object_handle
            auth = decode(Signature, vote)
            root.chip.send(PolicySigned(loaded, session.handle, b"", cp_hash, ref, 0, auth))
            root.chip.flush(loaded)
        root.chip.send(objects.sign_command(key, OTHER), session)
        root.chip.flush_all()
        root.honest()
