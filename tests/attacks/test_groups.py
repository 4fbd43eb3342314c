"""The same people, another group; the same group, another chip.

Nothing in an NV Name says which chip it is on, and people approve for several groups with one key.
What keeps approvals apart is the group's id in each policyRef, and the key's Name in each cpHash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import declined, refused, rejected
from tests.attacks.test_indices import increment, kept, write

from tpmhsm.approval.request import KeyPart
from tpmhsm.approval.verify import verify_approval
from tpmhsm.keys.host import load_host
from tpmhsm.policy.tree import counter_nv, key_policy, roster_nv
from tpmhsm.requests.drafts import device_card
from tpmhsm.tpm import nv, objects


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A second chip in a second house, which the same people know nothing of yet."""
    house = House.build(tmp_path_factory.mktemp("second") / "original")
    with checked(house):
        pass
    return house


@pytest.fixture
def second(empty: House, tmp_path: Path) -> Iterator[House]:
    """A copy of it."""
    with checked(empty.copy(tmp_path / "second")) as house:
        yield house


def test_approvals_for_one_group_in_another(house: House) -> None:
    """A second group of the same people on the same chip, and a key of it."""
    house.found("others")
    house.key("theirs", group="others")
    theirs = house.steal(house.propose("theirs", "CN=Theirs"))
    ours = house.loot
    with house.root() as root:
        for key, votes in ((theirs, ours.votes), (ours, theirs.votes)):
            with refused(0x5DB, "PolicySigned"):
                root.try_sign(loot=replace(key, votes=votes), key=key.key)
        with refused(0x99D, "Sign"):  # our quorum, their key
            root.try_sign(key=theirs.key)
        root.honest(theirs)
        root.honest()
    for approval in theirs.request.approvals:
        with rejected("other-group"):
            verify_approval(ours.request, approval)
        lying = replace(
            approval,
            group=ours.group.id,
            digest=ours.request.digest,
            key_name=ours.request.approvals[0].key_name,
            epoch=ours.roster.epoch,
        )
        with rejected("other-act"):
            verify_approval(ours.request, lying)
        stated = ours.request.approvals[0].signatures[0]
        renamed = replace(
            approval.signatures[0], policy_ref=stated.policy_ref, cp_hash=stated.cp_hash
        )
        with rejected("bad-signature"):
            verify_approval(ours.request, replace(lying, signatures=(renamed,)))
        verify_approval(theirs.request, approval)


def test_a_key_of_another_group_in_a_request(house: House) -> None:
    """The others' key, evidence and all, in a request to our officers."""
    house.found("others")
    house.key("theirs", group="others")
    theirs = house.steal(house.propose("theirs", "CN=Theirs")).request
    mixed = replace(house.loot.request, key=theirs.key, approvals=())
    alice = house.machines["alice"]
    with declined("key-evidence"):
        alice.look(mixed.data)
    assert alice.look(theirs.data).acts
    assert alice.look(house.loot.request.data).acts


def test_approvals_on_a_second_chip(house: House, second: House) -> None:
    """The same people found a group with the same name there: its id is another."""
    second.found()
    second.key("root")
    theirs = second.steal(second.propose("root", "CN=Example root,O=Example"))
    ours = house.loot
    assert theirs.group.counter_index == ours.group.counter_index
    assert theirs.group.id != ours.group.id
    second.loots["root"] = theirs
    with second.root() as root:
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=replace(theirs, votes=ours.votes))
        with refused(0x1DF, "Load"):
            root.try_sign(key=ours.key)
        root.honest()


def test_a_group_copied_to_a_second_chip(house: House, second: House) -> None:
    """Root makes our group's indices on another chip, and its approvals are good there too: a Name
    does not say which chip. What is missing there is the key.
    """
    founding = kept(house)
    ours = house.loot
    second.loots["root"] = ours
    with second.root() as root:
        nv.define(root.chip, counter_nv(ours.group))
        nv.define(root.chip, roster_nv(ours.group))
        increment(root, founding[0], written=False)
        while nv.read_counter(root.chip, ours.group.counter_index) < ours.roster.epoch:
            increment(root, founding[1])
        write(root, ours.roster, founding[2], written=False)
        with refused(0x1DF, "Load"):
            root.load()
        parent = objects.storage_parent(root.chip)
        made = objects.create_key(root.chip, parent, "p256", key_policy(ours.group))
        twin = replace(ours.key, public=made.public, private=made.private)
        with refused(0x99D, "Sign"):
            root.try_sign(key=twin)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(key=twin, loot=replace(ours, key=twin))
        ak = objects.attestation_key(root.chip)
        loaded = root.load(twin)
        born = objects.certify_creation(root.chip, ak, loaded, made, bytes(32))
        root.chip.flush_all()
    part = KeyPart("root", made.public, "quorum(officers)", born.attest, born.signature)
    request = replace(ours.request, approvals=(), key=part)
    alice = house.machines["alice"]
    with declined("key-evidence"):  # by the AK of another chip
        alice.look(request.data)
    relayed = replace(request, device=device_card(load_host(second.app.store)))
    with declined("other-device"):
        alice.look(relayed.data)
    with house.root() as root:
        root.honest()
