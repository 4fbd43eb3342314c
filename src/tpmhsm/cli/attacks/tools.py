"""Approvals that the chip would take, and that no approver's tool makes."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.files import read_json
from tpmhsm.approval.live import Checked, check_answer, parse_answer
from tpmhsm.approval.request import Claims, parse_request
from tpmhsm.approval.statements import prove_possession
from tpmhsm.approval.verify import verify_approval
from tpmhsm.attest.statements import ChipState
from tpmhsm.cli.attacks.house import GROUP, NOW, Person
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import OTHER, signers, still_signs
from tpmhsm.policy.ahash import a_hash_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.documents import Fields, canonical
from tpmhsm.policy.people import Threshold
from tpmhsm.requests.certifying import certify_group
from tpmhsm.requests.memory import StoredMemory
from tpmhsm.wire.constants import ALG

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request

DAY = 86_400


def blank_cheque(scene: Scene) -> None:
    """An empty cpHash."""
    alice, loot = scene.house.people["alice"], scene.house.fresh
    ref = signers(loot)[0].policy_ref
    cp_hash = loot.plan.bound.cp_hash
    ticket = (-DAY).to_bytes(4, "big", signed=True) + cp_hash + ref
    scene.declined("alice's key is asked for an approval of nothing in particular",
                   "not-signable", lambda: alice.key.sign(bytes(4) + ref))  # fmt: skip
    scene.declined("alice's key is asked for a ticket for a day", "not-signable",
                   lambda: alice.key.sign(ticket))  # fmt: skip
    scene.declined("alice's key is asked to sign a digest", "not-signable",
                   lambda: alice.key.sign(OTHER))  # fmt: skip
    scene.honest("an approval of one command", lambda: alice.key.sign(
        a_hash_preimage(cp_hash, ref)
    ))  # fmt: skip


def challenge(scene: Scene) -> None:
    """A possession challenge that is the preimage of an approval."""
    alice, loot = scene.house.people["alice"], scene.house.fresh
    altered = replace(loot, digest=OTHER)
    wanted = a_hash_preimage(altered.plan.bound.cp_hash, signers(loot)[0].policy_ref)
    given = prove_possession(alice.key, wanted, "tpmhsm")
    signature = Fields(read_json(given, "proof of possession", len(given)), "").base64("signature")
    vote = tpmt_signature(alice.key.public_key, signature)
    shown = replace(altered, votes={**loot.votes, 0: vote})
    with scene.root() as root:
        scene.refused(
            "alice's answer to the challenge, as her approval", 0x5DB,
            lambda: root.try_sign(digest=OTHER, loot=shown),
        )  # fmt: skip
        still_signs(scene, root)


def sha1(scene: Scene) -> None:
    """A weaker hash for the same signature."""
    loot = scene.house.fresh
    vote = loot.votes[0]
    weak = vote[:2] + int(ALG.SHA1).to_bytes(2, "big") + vote[4:]
    renamed = replace(loot, votes={**loot.votes, 0: weak})
    with scene.root() as root:
        scene.refused("alice's approval, called one over SHA-1", 0x5DB,
                      lambda: root.try_sign(loot=renamed))  # fmt: skip
        still_signs(scene, root)
    (given, *_) = loot.request.approvals
    (signed, *more) = given.signatures
    shown = replace(given, signatures=(replace(signed, signature=weak), *more))
    scene.declined("the host takes it in", "bad-signature",
                   lambda: verify_approval(loot.request, shown))  # fmt: skip
    scene.honest("… and as it was given", lambda: verify_approval(loot.request, given))


def bare_digest(scene: Scene) -> None:
    """What is to be signed, in a shape that shows nobody what it is."""
    house, alice = scene.house, scene.house.people["alice"]
    tbs = house.past.request.content

    def draft(label: str, content: bytes) -> bytes:
        return house.app.desk.signer.draft(label, "data", content, Claims()).data

    for what, label, content, code in (
        ("the digest of a certificate, as a file", "papers", sha256(tbs).digest(), "bare-digest"),
        ("a to-be-signed certificate, as a file", "papers", tbs, "structure-as-data"),
        ("a file, by the key of the CA", "root", b"hello\n", "authority-key"),
    ):
        data = draft(label, content)
        scene.declined(f"alice is asked to approve {what}", code,
                       lambda d=data: alice.look(d))  # type: ignore[misc]  # fmt: skip
    harmless = draft("papers", b"hello\n")
    scene.honest("a file, by a key for files", lambda: alice.look(harmless))


def two_rosters(scene: Scene) -> None:
    """Two changes for one epoch, for two quorums of custodians."""
    house, alice = scene.house, scene.house.people["alice"]
    number, _ = house.stage.ask("group", "change", GROUP, "--officers", NOW)
    first = parse_request(house.app.desk.export(number))
    given = alice.approve(first.data)
    second = _with_others(scene, first)
    scene.declined("alice, who approved the first, is asked for the second", "two-rosters",
                   lambda: alice.look(second.data))  # fmt: skip
    scene.honest("carol, who has seen neither, looks at the first",
                 lambda: house.people["carol"].look(first.data))  # fmt: skip
    house.app.desk.take(given.data)
    house.settle(number, "carol")
    house.__dict__.pop("fresh", None)


def _with_others(scene: Scene, first: Request) -> Request:
    """Another roster for the same epoch, with what the chip certifies over it."""
    house = scene.house
    names = ("alice", "bob", "dave")
    members = tuple(house.people[name].card.member(contribution=False) for name in names)
    roster = replace(first.asked_roster, officers=(Threshold(2, members),))
    request = replace(first, content=roster.encoded)
    held = house.app.groups.certify(request.group, request.digest)
    return replace(request, state=ChipState(*held.counter, *held.roster))


def two_cards(scene: Scene) -> None:
    """Alice's key under bob's name, too."""
    house, alice = scene.house, scene.house.people["alice"]
    twin = parse_card(create_card("bob", alice.key))
    found = house.app.desk.request(house.asked("group").id)
    document = json.loads(replace(found, approvals=()).data)
    members = document["group"]["custodians"][0]["members"]
    members[1] = {**members[0], "name": "bob"}
    both = (alice.card.member(contribution=False), twin.member(contribution=False))
    scene.declined("a rule of two, of these two cards", "usage", lambda: Threshold(2, both))
    scene.declined("a group with them, shown to an approver's tool", "parse",
                   lambda: parse_request(canonical(document)))  # fmt: skip


def stale_nonce(scene: Scene) -> None:
    """An answer to an older challenge, and an older word under a newer nonce."""
    house, carol = scene.house, scene.house.people["carol"]

    def asked() -> bytes:
        with carol.app.own_store().transaction() as tx:
            return StoredMemory(tx).challenge()

    def answer(nonce: bytes) -> bytes:
        return certify_group(house.app.store, house.app.groups, GROUP, nonce.hex())

    old = answer(asked())
    _check(carol, old)
    house.change()
    nonce = asked()
    forged = replace(parse_answer(old), nonce=nonce).data
    scene.declined("carol is shown the answer of before the change", "stale-nonce",
                   lambda: _check(carol, old))  # fmt: skip
    scene.declined("… for a nonce that she never made", "stale-nonce",
                   lambda: _check(carol, answer(secrets.token_bytes(32))))  # fmt: skip
    scene.declined("… with her new nonce written into it", "state",
                   lambda: _check(carol, forged))  # fmt: skip
    scene.honest("an answer to her nonce", lambda: _check(carol, answer(nonce)))


def _check(person: Person, data: bytes) -> Checked:
    """As `tpmhsm trust check` does."""
    with person.app.own_store().transaction() as tx:
        memory = StoredMemory(tx)
        found = check_answer(parse_answer(data), memory)
        memory.keep(found.entries)
    return found


def withheld(scene: Scene) -> None:
    """An approval, a denial: root need not hand them on."""
    house = scene.house
    number = house.ask_csr("Urgent")
    house.people["alice"].approve(house.app.desk.export(number))
    scene.granted("alice's approval is thrown away, and the request cancelled",
                  lambda: house.app.desk.cancel(number))  # fmt: skip
