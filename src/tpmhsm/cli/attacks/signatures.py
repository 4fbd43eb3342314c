"""Root wants a signature of the root's key that the officers did not approve."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from tpmhsm.cli.attacks.root import Loot, Root
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.policy.steps import AuthorizeNv, Signed
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import LoadExternal, PolicySigned
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import Signature

OTHER = sha256(b"a certificate for root").digest()


def signers(loot: Loot) -> list[Signed]:
    """The steps that show an approval."""
    return [step for step in loot.plan.steps if isinstance(step, Signed)]


def parts(loot: Loot) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """The honest steps: what stands before the ladder, the ladder, the key's own."""
    steps = loot.plan.steps
    first = steps.index(signers(loot)[0])
    own = next(i for i, step in enumerate(steps) if isinstance(step, AuthorizeNv))
    return steps[:first], steps[first:own], steps[own:]


def still_signs(scene: Scene, root: Root) -> None:
    """The same approvals, for what they were given for."""
    scene.honest("the same approvals, for the very bytes that were approved", root.try_sign)


def too_few(scene: Scene) -> None:
    """M-1."""
    with scene.root() as root:
        loot = root.loot
        steps, (_, _, end) = loot.plan.steps, parts(loot)
        for missing in signers(loot):
            who = loot.plan.given[missing.approver].member.name
            fewer = [step for step in steps if step is not missing]
            scene.refused(f"without {who}'s approval", 0x1C4, lambda f=fewer: root.try_sign(f))  # type: ignore[misc]
        upto = steps[: steps.index(signers(loot)[0]) + 1]
        scene.refused(
            "one approval, and on without the ladder's end", 0x084,
            lambda: root.try_sign((*upto, *end)),
        )  # fmt: skip
        scene.refused(
            "one approval, and straight to the signature", 0x99D, lambda: root.try_sign(upto)
        )
        still_signs(scene, root)


def other_bytes(scene: Scene) -> None:
    """Two approvals, for another digest."""
    with scene.root() as root:
        altered = replace(root.loot, digest=OTHER)
        scene.refused(
            "the approved cpHash, and then another digest", 0x99D,
            lambda: root.try_sign(digest=OTHER),
        )  # fmt: skip
        scene.refused(
            "the cpHash of the other digest, with these approvals", 0x5DB,
            lambda: root.try_sign(digest=OTHER, loot=altered),
        )  # fmt: skip
        still_signs(scene, root)


def other_key(scene: Scene) -> None:
    """Another key of the same group, whose policy is the very same."""
    other = scene.house.row("papers")
    with scene.root() as root:
        scene.refused(
            'the approvals for "root", and the key "papers"', 0x99D,
            lambda: root.try_sign(key=other),
        )  # fmt: skip
        scene.refused(
            'the cpHash for "papers", with these approvals', 0x5DB,
            lambda: root.try_sign(key=other, loot=replace(root.loot, key=other)),
        )  # fmt: skip
        still_signs(scene, root)


def wrong_prefix(scene: Scene) -> None:
    """The ladder, entered from elsewhere."""
    with scene.root() as root:
        prefix, climb, end = parts(root.loot)
        for what, start in (
            ("without epoch and command", ()),
            ("without the command", prefix[:1]),
            ("without the epoch", prefix[1:]),
            ("in another order", prefix[::-1]),
        ):
            scene.refused(
                f"the ladder {what}", 0x1C4,
                lambda s=start: root.try_sign((*s, *climb, *end)),  # type: ignore[misc]
            )  # fmt: skip
        still_signs(scene, root)


def twice(scene: Scene) -> None:
    """One person's approval, shown twice."""

    def climb(root: Root) -> PolicySession:
        plan = root.loot.plan
        first, second = signers(root.loot)
        session = root.session(plan.steps[: plan.steps.index(second)])
        policies.run_step(root.chip, session, plan, first)
        policies.run_step(root.chip, session, plan, plan.steps[plan.steps.index(second) + 1])
        return session

    with scene.root() as root:
        who = root.loot.plan.given[signers(root.loot)[0].approver].member.name
        scene.refused(f"{who}'s approval in both places", 0x1C4, lambda: climb(root))
        root.chip.flush_all()
        still_signs(scene, root)


def no_cp_hash(scene: Scene) -> None:
    """What was approved for one command, shown as if for every command."""

    def show(root: Root, cp_hash: bytes, expiration: int = 0) -> None:
        first, chip = signers(root.loot)[0], root.chip
        given = root.loot.plan.given[first.approver]
        auth = decode(Signature, root.loot.votes[min(root.loot.votes)])
        loaded = chip.send(LoadExternal(None, given.member.public, RH.NULL)).object_handle
        session = start_policy(chip).handle
        try:
            chip.send(PolicySigned(loaded, session, b"", cp_hash, first.policy_ref, expiration,
                                   auth))  # fmt: skip
        finally:
            chip.flush_all()

    with scene.root() as root:
        true = root.loot.plan.bound.cp_hash
        scene.refused("the approval without its cpHash", 0x5DB, lambda: show(root, b""))
        scene.refused("the approval as a ticket for a day", 0x5DB,
                      lambda: show(root, true, -86400))  # fmt: skip
        scene.honest("the approval as it was given", lambda: show(root, true))


def old_epoch(scene: Scene) -> None:
    """Approvals of alice and bob, of before bob was removed."""
    with scene.root(scene.house.past) as root:
        scene.refused("alice's and bob's approvals of the first epoch", 0x126, root.try_sign)
        scene.refused("the same without asking for the epoch", 0x1C4,
                      lambda: root.try_sign(root.loot.plan.steps[1:]))  # fmt: skip
    with scene.root() as root:
        scene.honest("approvals of the epoch that is in force", root.try_sign)


def same_bytes(scene: Scene) -> None:
    """Approvals have no nonce."""
    with scene.root() as root:
        for _ in range(2):
            scene.granted("the approved bytes, signed once more", root.try_sign)


def sign_open(scene: Scene) -> None:
    """A key without people: the certificate's own key."""
    with scene.root() as root:
        key = root.load(scene.house.row("www.example.com"))
        command = objects.sign_command(key, OTHER)
        scene.granted("any digest, by the open key of the web server",
                      lambda: root.chip.send(command))  # fmt: skip
