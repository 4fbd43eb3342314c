"""Root against a key of a static group: its officers' ladder stands in the key's own policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

import pytest
from tests.attacks.conftest import checked
from tests.attacks.house import RULE, House
from tests.attacks.root import Loot, Root, refused

from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.policy.bound import bound_sign
from tpmhsm.policy.group import RosterDocument, parse_group, static_roster
from tpmhsm.policy.steps import CommandCode, Or, Signed
from tpmhsm.requests.statics import propose_static
from tpmhsm.wire.constants import CC

OTHER = sha256(b"a certificate for root").digest()


@pytest.fixture(scope="module")
def fixed(built: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with the static groups "fixed" and "other" of the same people, 2 of 3; "vault" and
    "spare" are keys of the first, "theirs" of the second; approvals for each were stolen.
    """
    with checked(built.copy(tmp_path_factory.mktemp("fixed") / "home")) as house:
        app = house.app
        for name in ("fixed", "other"):
            propose_static(app.store, app.device, app.desk.drafts, name, RULE)
        for label, group in (("vault", "fixed"), ("spare", "fixed"), ("theirs", "other")):
            house.key(label, group=group)
            house.loots[label] = house.steal(house.propose_csr(label, f"CN={label}"))
        yield house


@contextmanager
def at(house: House, label: str = "vault") -> Iterator[Root]:
    with house.root(label) as root:
        yield root
        root.honest()


def signers(loot: Loot) -> list[Signed]:
    return [step for step in loot.plan.steps if isinstance(step, Signed)]


def test_one_approval_of_two(fixed: House) -> None:
    """M-1: 0x1c4 at the PolicyOR; without it, 0x99d at the signature."""
    loot = fixed.loots["vault"]
    steps = loot.plan.steps
    with at(fixed) as root:
        for missing in signers(loot):
            fewer = [step for step in steps if step is not missing]
            with refused(0x1C4, "PolicyOR"):
                root.try_sign(fewer)
            with refused(0x99D, "Sign"):
                root.try_sign([step for step in fewer if not isinstance(step, Or)])
        with refused(0x99D, "Sign"):
            root.try_sign([CommandCode(CC.Sign)])


def test_other_bytes(fixed: House) -> None:
    """0x99d where the approved cpHash is shown, 0x5db where the other bytes' is."""
    loot = fixed.loots["vault"]
    with at(fixed) as root:
        with refused(0x99D, "Sign"):
            root.try_sign(digest=OTHER)
        plan = replace(loot.plan, bound=bound_sign(loot.key.public, OTHER))
        moved = replace(loot)
        moved.__dict__["plan"] = plan
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(digest=OTHER, loot=moved)


def test_another_key_of_the_group(fixed: House) -> None:
    """Its policy is the very same; cpHash has the key's Name (0x99d, 0x5db)."""
    loot, spare = fixed.loots["vault"], fixed.loots["spare"]
    assert loot.plan.policy == spare.plan.policy
    with at(fixed) as root:
        with refused(0x99D, "Sign"):
            root.try_sign(key=spare.key)
        moved = replace(loot)
        moved.__dict__["plan"] = replace(loot.plan, bound=bound_sign(spare.key.public, loot.digest))
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(key=spare.key, loot=moved)


@pytest.mark.parametrize("label", ["theirs", "root"])
def test_approvals_of_another_group_of_the_same_people(fixed: House, label: str) -> None:
    """Static or not: the group's id is in policyRef (0x5db), and the way is another (0x99d)."""
    loot, other = fixed.loots["vault"], fixed.loots[label]
    with at(fixed) as root:
        with refused(0x99D, "Sign"):
            root.try_sign(other.plan.steps, loot=other)
        moved = replace(loot)
        moved.__dict__["plan"] = replace(loot.plan, given=other.plan.given, bound=other.plan.bound)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=moved)


def test_approvals_of_a_static_group_for_a_roster(fixed: House) -> None:
    """The other way round: 0x5db, and 0x99d."""
    loot, ours = fixed.loots["root"], fixed.loots["vault"]
    with at(fixed, "root") as root:
        with refused(0x99D, "Sign"):
            root.try_sign(ours.plan.steps, loot=ours)
        moved = replace(loot)
        moved.__dict__["plan"] = replace(loot.plan, given=ours.plan.given, bound=ours.plan.bound)
        with refused(0x5DB, "PolicySigned"):
            root.try_sign(loot=moved)


def test_a_roster_for_a_static_group(fixed: House) -> None:
    """Root shows other officers, or a later epoch: the tool knows the one roster (parse)."""
    request = fixed.draft("data", b"a file\n", "vault")
    alice = fixed.machines["alice"].copy()
    alice.look(request.data)
    mine = static_roster(request.group)
    officers = tuple(replace(one, m=1) for one in mine.officers)
    for other in (
        RosterDocument(mine.group, 1, officers, mine.uses),
        replace(mine, epoch=2),
        replace(mine, uses=("sign",)),
    ):
        with pytest.raises(ParseError, match="static"):
            alice.look(replace(request, roster=other).data)


def test_a_static_group_in_the_groups_place(fixed: House) -> None:
    """Root says that the key is of a static group of fewer people: it is not (key-evidence); and
    that the group which can change is static: its id is another.
    """
    request = fixed.draft("data", b"a file\n", "vault")
    weaker = tuple(replace(one, m=1) for one in request.group.custodians)
    group = replace(request.group, custodians=weaker)
    shown = replace(request, group=group, roster=static_roster(group))
    with pytest.raises(ApprovalRefusedError) as caught:
        fixed.machines["alice"].copy().look(shown.data)
    assert caught.value.code == "key-evidence"
    changing = fixed.loot.group
    frozen = replace(
        changing,
        counter_index=0,
        roster_index=0,
        founders=tuple(
            sorted({m.contribution for one in changing.custodians for m in one.members})
        ),
    )
    assert frozen.static
    assert frozen.id != changing.id
    shown = replace(
        fixed.draft("data", b"a file\n", "root"), group=frozen, roster=static_roster(frozen)
    )
    with pytest.raises(ApprovalRefusedError) as caught:
        fixed.machines["alice"].copy().look(shown.data)
    assert caught.value.code == "key-evidence"


def test_founders_of_roots_own(fixed: House) -> None:
    """The id of a static group is made of its officers' own contributions: with another one the
    tool finds no card that it trusts (card-differs), with more it is no static group (parse).
    """
    request = fixed.draft("data", b"a file\n", "vault")
    group = request.group
    (rule,) = group.custodians
    first = replace(rule.members[0], contribution=bytes(32))
    custodians = (replace(rule, members=(first, *rule.members[1:])),)
    founders = tuple(sorted({m.contribution for m in custodians[0].members}))
    other = replace(group, custodians=custodians, founders=founders)
    shown = replace(request, group=other, roster=static_roster(other))
    with pytest.raises(ApprovalRefusedError) as caught:
        fixed.machines["alice"].copy().look(shown.data)
    assert caught.value.code == "card-differs"
    with pytest.raises(UsageError, match="no other founders"):
        replace(group, founders=tuple(sorted({*group.founders, bytes(32)})))
    said = group.encoded.replace(b'"founders":[', b'"founders":["' + b"00" * 32 + b'",')
    with pytest.raises(ParseError, match="no other founders"):
        parse_group(said)


def test_the_people_of_a_static_group_are_not_changed(fixed: House) -> None:
    """Root has the database: other officers in it change nothing (static-group, parse)."""
    with pytest.raises(UsageError) as caught:
        fixed.app.desk.propose_roster("fixed", "1:alice")
    assert caught.value.code == "static-group"
    loot = fixed.loots["vault"]
    officers = tuple(replace(one, m=1) for one in loot.roster.officers)
    with pytest.raises(UsageError) as caught:
        _ = replace(loot, roster=replace(loot.roster, officers=officers)).plan
    assert caught.value.code == "static-group"
