"""Budgets at the desk: asked for, granted by officers alone, used, granted again."""

from __future__ import annotations

import pytest
from tests.attacks.house import House

from tpmhsm.approval.display import render
from tpmhsm.errors import ChipRefusedError
from tpmhsm.policy.budgets import Counted

DIGEST = bytes(range(32))


def key(house: House, label: str = "issuing", policy: str = "budget(officers)") -> None:
    house.app.keyring.create(label, "p256", policy=policy)


def grant(house: House, units: int, label: str = "issuing", people=("alice", "bob")) -> int:
    asked = house.app.desk.grants.propose(label, units)
    assert house.settle(asked.request, people).state == "executed"
    return asked.request


def sign(house: House, label: str = "issuing") -> None:
    house.app.keyring.sign_digest(house.app.keyring.get(label), DIGEST)


def counted(house: House, label: str = "issuing") -> Counted | None:
    (budget,) = house.app.keyring.budgets.of([house.app.keyring.get(label)])
    return budget.counted


def test_granted_used_up_and_granted_again(house: House) -> None:
    key(house)
    with pytest.raises(ChipRefusedError) as caught:
        sign(house)
    assert caught.value.hint.startswith("tpmhsm key grant issuing N")
    number = grant(house, 2)
    row = house.app.desk.get(number)
    assert row.result == {"key": "issuing", "granted": 2, "total": 2}
    sign(house)
    sign(house)
    with pytest.raises(ChipRefusedError):
        sign(house)
    grant(house, 3, people=("carol", "bob"))
    assert counted(house) == Counted(2, 5)
    sign(house)
    assert counted(house) == Counted(3, 5)


def test_what_an_approver_sees(house: House) -> None:
    key(house)
    first = house.app.desk.grants.propose("issuing", 1000)
    seen = render(house.machines["alice"].look(house.ask(first)))
    for words in (
        "grant a key 1,000 signatures",
        "nothing: the first grant",
        "UNATTENDED",
        "this key may sign 1,000 more without anybody",
        "in this session of the",
    ):
        assert words in " ".join(seen.split()), seen
    assert house.settle(first.request).state == "executed"
    for _ in range(3):
        sign(house)
    later = house.app.desk.grants.propose("issuing", 500)
    seen = " ".join(render(house.machines["alice"].look(house.ask(later))).split())
    assert "1,000 granted, 3 used, 997 left" in seen
    assert "Grants 500 more signatures" in seen
    assert "may sign 1,497 more without anybody" in seen
