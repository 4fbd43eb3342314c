"""Root rewrites the database and takes the product's own commands for its ends.

The product believes its database. Approvers' tools and the chip do not.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.approval.doubles import identity
from tests.attacks.house import House
from tests.attacks.root import check, declined, refused, rejected
from tests.attacks.test_indices import mallory_alone, pretend

from tpmhsm.approval.approve import make_approval, make_denial
from tpmhsm.approval.request import parse_request
from tpmhsm.approval.verify import verify_approval
from tpmhsm.errors import ExistsError, UsageError, VerificationError, WaitingError
from tpmhsm.policy.documents import canonical
from tpmhsm.tpm import software


def test_fewer_approvals_in_the_database(house: House) -> None:
    """One approval is enough, says the row; two, says the roster, which is what counts, and the
    chip has the last word (test_one_approval_of_two).
    """
    asked = house.propose("papers", "CN=Fresh", "fresh")
    house.rewrite("update requests set needed = 1 where id = ?", asked)
    row = house.settle(asked, ("alice",))
    assert (row.state, house.app.desk.missing(row)) == ("waiting", 1)
    with pytest.raises(WaitingError):
        house.app.desk.execute(asked)
    assert house.settle(asked, ("bob",)).state == "executed"


def test_a_roster_of_roots_own_in_the_database(house: House) -> None:
    """Mallory is the only officer, and approves: the chip knows another roster."""
    mine = mallory_alone(house)
    house.rewrite(
        "update rosters set document = ?, digest = ? where state = 'in-force'",
        mine.encoded,
        mine.hash.hex(),
    )
    request = house.draft("certificate", house.loot.request.content)
    assert request.roster == mine
    with declined("not-a-member"):
        house.machines["alice"].look(request.data)
    ours = pretend(house, mine, "mallory")
    row, digest = house.loot.key, house.loot.digest
    with refused(0x084, "PolicyAuthorizeNV"):
        house.app.keyring.sign_digest(row, digest, ours.votes)
    with house.root() as root:
        root.honest()


def test_a_key_called_open_in_the_database(house: House) -> None:
    """The product then asks nobody. The chip does: the key has a policy and takes no password."""
    house.rewrite("update keys set policy = 'open' where label = 'papers'")
    row = house.app.keyring.get("papers")
    assert house.app.keyring.people(row) is None
    with refused(0x12F, "Sign"):
        house.app.desk.sign_file("papers", b"hello\n", name="x")
    with house.root() as root:
        root.honest()


def test_another_key_under_the_label(house: House) -> None:
    """Approvals for the true key do not serve the key that root put in its place."""
    asked = house.propose("papers", "CN=Fresh", "fresh")
    house.rewrite(
        "update keys set public = o.public, private = o.private, name = o.name || '00'"
        " from (select * from keys where label = 'open') o where keys.label = 'papers'"
    )
    assert house.app.keyring.get("papers").public == house.open_key.public
    with refused(0x5DB, "PolicySigned"):
        house.settle(asked)
    with house.root() as root:
        root.honest()


def test_a_request_changed_after_it_was_approved(house: House) -> None:
    """Other bytes under the same number: the approvals that were given do not hold."""
    asked = house.propose("papers", "CN=Fresh", "fresh")
    data = house.app.desk.export(asked)
    given = house.machines["alice"].approve(data)
    other = replace(parse_request(data), content=house.loot.request.content)
    house.rewrite("update requests set document = ? where id = ?", other.data, asked)
    with rejected("other-bytes"):
        house.app.desk.take(given.data)
    lying = replace(given, digest=other.digest)
    with rejected("other-act"):
        house.app.desk.take(lying.data)
    verify_approval(parse_request(data), given)


def test_an_approval_twice(house: House) -> None:
    """The same file, another signature by the same person, or the same under another's name."""
    asked = house.propose("papers", "CN=Fresh", "fresh")
    data = house.app.desk.export(asked)
    alice = house.machines["alice"]
    first, second = alice.approve(data), alice.approve(data)
    assert first.signatures != second.signatures
    assert house.app.desk.take(first.data).state == "waiting"
    assert house.app.desk.take(first.data).state == "waiting"
    with pytest.raises(ExistsError):
        house.app.desk.take(second.data)
    with pytest.raises(VerificationError, match="alice's"):
        house.app.desk.take(replace(second, approver="bob").data)
    assert house.app.desk.get(asked).state == "waiting"
    house.rewrite(
        "insert into approvals (request_id, approver, kind, document, at)"
        " select request_id, 'bob', kind, ?, at from approvals where request_id = ?",
        second.data,
        asked,
    )
    with pytest.raises((UsageError, VerificationError)):
        house.app.desk.execute(asked)
    house.rewrite("delete from approvals where approver = 'bob' and request_id = ?", asked)
    assert house.settle(asked, ("bob",)).state == "executed"


def test_approvals_that_nobody_gave(still: House) -> None:
    """A request that says that bob approved already, so that alice thinks she only follows."""
    request = replace(still.loot.request, approvals=still.loot.request.approvals[1:])
    alice = still.machines["alice"]
    assert alice.look(request.data).approved == ("bob",)
    (bobs,) = request.approvals
    (signed,) = bobs.signatures
    forged = [
        replace(bobs, spki=still.loot.roster.officers[0].members[2].spki),
        replace(bobs, signatures=(replace(signed, signature=still.loot.votes[0]),)),
        replace(bobs, signatures=()),
    ]
    for one in forged:
        found = alice.look(replace(request, approvals=(one,)).data)
        assert found.approved == () and "NOT COUNTED" in {flag.head for flag in found.flags}


def test_a_review_by_hand(still: House) -> None:
    """An approval needs the review that ran the checks; nothing else makes one."""
    found = still.machines["alice"].look(still.loot.request.data)
    with pytest.raises(UsageError):
        make_approval(replace(found, seal=None), identity("alice"))
    with declined("not-a-member"):
        make_approval(found, identity("bob"))
    assert make_approval(found, identity("alice")).signatures


def test_an_approval_used_again(house: House) -> None:
    """The chip signs the same bytes as often as root likes, also after it was started again: the
    same certificate, whose serial and dates are inside. It signs nothing else.
    """
    with house.root() as root:
        one = root.honest()
    assert software.stop(software.directory_of(house.app.home))
    with house.root() as root:
        two = root.honest()
        with refused(0x99D, "Sign"):
            root.try_sign(digest=bytes(32))
    assert one != two  # ECDSA
    check(house.loot.key, house.loot.digest, two)


def test_a_denial_is_no_veto_of_the_chip(house: House) -> None:
    """Denials are signed words for an honest host: root, who has enough approvals, signs."""
    asked = house.propose("papers", "CN=Fresh", "fresh")
    loot = house.steal(asked)
    denial = make_denial(loot.request, identity("carol"), "carol", "not this one")
    assert house.app.desk.take(denial.data).state == "denied"
    with house.root() as root:
        root.honest(loot)


def test_documents_in_another_spelling(house: House) -> None:
    """A document's hash is of its canonical bytes, and no other bytes are read."""
    data = house.app.desk.export(house.propose("papers", "CN=Fresh", "fresh"))
    document = json.loads(data)
    alice = house.machines["alice"]
    assert alice.look(canonical(document)).acts
    document["group"]["note"] = "harmless"
    with pytest.raises(UsageError):
        alice.look(canonical(document))
    with pytest.raises(UsageError):
        alice.look(data.replace(b'"id":', b'"id":7,"id":', 1))
