"""The file of a ceremony, altered on its way; and what its approvals are worth by themselves.

Alice, bob and carol are to be officers, bob, carol and dave custodians. Root draws up the file, and
may change it as it likes: the approvers know nothing but the file, and cards from outside.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.approval.doubles import card, identity
from tests.attacks.conftest import checked
from tests.attacks.house import House, Machine
from tests.attacks.root import Loot, Root, declined, refused, rejected, votes_of

from tpmhsm.approval.ceremony import Ceremony
from tpmhsm.approval.display import render
from tpmhsm.approval.request import Claims, KeyPart, Request
from tpmhsm.approval.sitting import Sitting, review_ceremony
from tpmhsm.errors import RefusedError, WaitingError
from tpmhsm.keys.auditing import Auditing
from tpmhsm.policy import moments
from tpmhsm.policy.budgets import parse_grant
from tpmhsm.policy.people import Thresholds
from tpmhsm.policy.tree import counter_nv, roster_nv
from tpmhsm.requests.ceremony import Ceremonies, Founding
from tpmhsm.tpm import nv

WANTED = Founding(
    group="officers",
    officers="2:alice,bob,carol",
    custodians="2:bob,carol,dave",
    root="CN=Example Root,O=Example",
    issuer="CN=Example Issuing,O=Example",
    budget=5,
)


def ceremonies(house: House) -> Ceremonies:
    app = house.app
    return Ceremonies(app.store, app.keyring, app.groups, app.authorities, app.desk)


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house in which everything is drawn up, and nobody has approved anything."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    house = House.build(tmp_path_factory.mktemp("ceremony") / "home")
    with checked(house):
        Auditing(house.app.store, house.app.device).start()
        ceremonies(house).begin(WANTED)
        ceremonies(house).prepare()
        yield house
        if ceremonies(house).find():
            ceremonies(house).cancel()


@pytest.fixture(scope="module")
def file(laid: House) -> Ceremony:
    return ceremonies(laid).file()


def sit(file: Ceremony, name: str = "bob") -> Sitting:
    """One person looks at it, on a machine that has the cards of the others."""
    machine = Machine.of(name)
    return review_ceremony(file, machine.memory, machine.identity, name, moments.now())


def altered(file: Ceremony, place: int, **changes: object) -> Ceremony:
    acts = list(file.requests)
    acts[place] = replace(acts[place], **changes)  # type: ignore[arg-type]
    return Ceremony(tuple(acts))


def renamed(request: Request) -> dict[str, bytes]:
    """The same bytes with another name in them."""
    return {"content": request.content.replace(b"Example Root", b"Evil    Root")}


def test_an_act_added_to_the_file(file: Ceremony) -> None:
    """Another founding act is shown with all the others, under another digest; and an act that
    founds nothing is refused.
    """
    second = replace(file.requests[2], id=99, **renamed(file.requests[2]))
    spki = b"no key of theirs"
    assert spki not in second.content
    with declined("ceremony-order"):  # by an issuer that no act makes
        sit(Ceremony((*file.requests, second)))
    grant = file.requests[3]
    more = replace(grant, id=99, content=replace(parse_grant(grant.content), total=50_000).encoded)
    shown = sit(wider := Ceremony((*file.requests, more)))
    assert wider.digest != file.digest
    assert "50,000" in render(shown.reviews[-1])
    data = replace(file.requests[1], id=99, kind="data", content=b"x", claims=Claims())
    with declined("ceremony-act"):
        sit(Ceremony((*file.requests, data)))


def test_another_order_of_the_file(file: Ceremony) -> None:
    group, root, issuer, grant = file.requests
    for acts in (
        (root, group, issuer, grant),
        (group, issuer, root, grant),
        (group, grant, root, issuer),
        (root, issuer),
    ):
        with declined("ceremony-order"):
            sit(Ceremony(acts))


def test_another_root_in_the_file(file: Ceremony) -> None:
    """With another root alone the issuer hangs in the air; with both changed it is another file,
    and the name is on the screen.
    """
    with declined("ceremony-order"):
        sit(altered(file, 1, **renamed(file.requests[1])))
    both = altered(altered(file, 1, **renamed(file.requests[1])), 2, **renamed(file.requests[2]))
    assert both.digest != file.digest
    assert "Evil    Root" in render(sit(both).reviews[1])


def test_another_key_in_the_file(laid: House, file: Ceremony) -> None:
    """A key without people in the place of the root's, with the evidence of its own birth."""
    laid.app.keyring.create("open", "p256", policy="open")
    row = laid.app.keyring.get("open")
    root = file.requests[1]
    assert root.key is not None
    part = KeyPart("root", row.public, root.key.policy, row.creation_attest, row.creation_signature)
    own = laid.app.keyring.get("root").spki
    content = root.content.replace(own, row.spki)
    with declined("key-evidence"):
        sit(Ceremony((file.founding, replace(root, key=part, content=content))))
    with declined("ceremony-order"):
        sit(altered(file, 1, key=part))


def test_another_persons_card_in_the_file(file: Ceremony) -> None:
    """Mallory's key under carol's name, in all places."""

    def with_mallory(rule: Thresholds) -> Thresholds:
        spki = card("mallory").spki
        return tuple(
            replace(one, members=tuple(
                replace(m, spki=spki) if m.name == "carol" else m for m in one.members
            ))
            for one in rule
        )  # fmt: skip

    group = replace(file.founding.group, custodians=with_mallory(file.founding.group.custodians))
    asked = file.founding.asked_roster
    roster = replace(asked, group=group.id, officers=with_mallory(asked.officers))
    founding = replace(file.founding, group=group, content=roster.encoded)
    acts = [replace(one, group=group, roster=roster) for one in file.requests[1:]]
    with declined("card-differs"):
        sit(Ceremony((founding, *acts)))
    with declined("card-differs"):
        sit(Ceremony((founding, *acts)), "alice")  # who founds nothing, and sees it all the same


def test_acts_under_a_roster_that_is_not_founded(file: Ceremony) -> None:
    """The founding shows three officers; what follows counts under two."""
    asked = file.founding.asked_roster
    (one,) = asked.officers
    fewer = replace(asked, officers=(replace(one, members=one.members[:2]),))
    acts = [replace(one, roster=fewer) for one in file.requests[1:]]
    with declined("ceremony-act"):
        sit(Ceremony((file.founding, *acts)))


def test_nothing_is_remembered_of_a_sitting_that_was_refused(file: Ceremony) -> None:
    machine = Machine.of("bob")
    before = machine.copy().memory
    data = replace(file.requests[3], id=99, kind="data", content=b"x", claims=Claims())
    for acts in ((*file.requests, data), file.requests):  # refused, and looked at only
        try:
            review_ceremony(Ceremony(acts), machine.memory, machine.identity, "bob", moments.now())
        except RefusedError as error:
            assert error.code == "ceremony-act"
    assert machine.memory == before


def test_officers_approvals_before_anything_is_founded(laid: House, file: Ceremony) -> None:
    """Two officers have approved the root, and no quorum of custodians the group: root makes the
    group's indices by itself, and the chip signs nothing.
    """
    given = [sit(file, name).sign(identity(name)) for name in ("alice", "bob")]
    request = file.requests[1]
    votes = tuple(a for one in given for a in one.approvals if a.request == request.id)
    assert len(votes) == 2
    (approved,) = votes_of(replace(request, approvals=votes))
    row = laid.app.keyring.get("root")
    assert request.roster is not None
    digest = hashlib.sha256(request.content).digest()
    group = request.group
    with laid.app.device.transaction() as chip:
        root = Root(chip, Loot(request, request.roster, row, digest, approved))
        with refused(0x18B, "PolicyNV"):  # there is no such index
            root.try_sign()
        for index in (counter_nv(group), roster_nv(group)):
            nv.define(chip, index)
        with refused(0x14A, "PolicyNV"):
            root.try_sign()
        for index in (counter_nv(group), roster_nv(group)):
            nv.undefine(chip, index.nv_index)


def test_the_host_executes_out_of_turn(laid: House, file: Ceremony) -> None:
    """Complete approvals of the root wait for the founding, also by `request import`."""
    machines = [sit(file, name).sign(identity(name)) for name in ("alice", "bob")]
    for one in machines:
        ceremonies(laid).take(one.data)
    with pytest.raises(WaitingError) as waits:
        ceremonies(laid).go_on()
    assert waits.value.request == file.founding.id
    assert laid.app.desk.get(file.requests[1].id).state == "waiting"
    with pytest.raises(RefusedError) as other:  # the same approvals for the next ceremony
        ceremonies(laid).take(replace(machines[0], ceremony=bytes(32)).data)
    assert other.value.code == "other-ceremony"
    moved = replace(machines[0].approvals[0], request=file.requests[2].id)
    with rejected("other-bytes"):
        laid.app.desk.keep_approval(moved)
