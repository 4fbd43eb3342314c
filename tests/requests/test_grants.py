"""Budgets at the desk: asked for, granted by officers alone, used, granted again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.attacks.house import House

from tpmhsm.approval.display import render
from tpmhsm.approval.memory import Entries, Granted, GrantedTotal
from tpmhsm.approval.request import Claims
from tpmhsm.errors import ChipRefusedError, RefusedError
from tpmhsm.policy.budgets import Counted, parse_grant
from tpmhsm.requests.drafts import register
from tpmhsm.requests.memory import StoredMemory

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
        "nothing that this home knows of",
        "UNATTENDED",
        "this key may sign 1,000 more without anybody",
        "counts in this session alone",
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


def test_power_fails_between_the_chip_and_the_record(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chip has written, nobody recorded it: executing again finds it done."""
    from tpmhsm.requests import grants

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    key(house)
    for units, total in ((4, 4), (3, 7)):  # a first grant, and a later one
        asked = house.app.desk.grants.propose("issuing", units)
        with monkeypatch.context() as power, pytest.raises(KeyboardInterrupt):
            power.setattr(grants, "finish", fails)
            house.settle(asked.request)
        assert house.app.desk.get(asked.request).state == "waiting"
        sign(house)
        before = counted(house)
        assert before is not None
        assert before.total == total
        assert house.app.desk.execute(asked.request).state == "executed"
        assert counted(house) == before


def test_a_later_grant_overtook_this_one(house: House) -> None:
    """Approvals of a smaller total are of no use any more: the request is cancelled."""
    key(house)
    grant(house, 1)
    asked = house.app.desk.grants.propose("issuing", 2)
    kept = [house.approve(asked.request, name) for name in ("alice", "bob")]
    more = replace(parse_grant(house.app.desk.request(asked.request).content), total=9)
    again = house.app.desk.drafts.of_grant(
        "budget", house.app.keyring.get("issuing"), "officers", more.encoded, Claims()
    )
    with house.app.store.transaction() as tx:
        other = register(tx, again)
    house.settle(other, ("carol", "alice"))
    house.app.desk.take(kept[0].data)
    with pytest.raises(RefusedError) as caught:
        house.app.desk.take(kept[1].data)
    assert caught.value.code == "budget-passed"
    assert house.app.desk.get(asked.request).state == "cancelled"
    assert counted(house) == Counted(0, 9)


def test_a_home_remembers_on_which_index_a_key_counts(house: House) -> None:
    index, name, nonce = b"\x01" * 34, b"\x02" * 34, b"\x03" * 16
    seen = GrantedTotal(index, name, 0)
    with house.app.store.transaction() as tx:
        memory = StoredMemory(tx)
        for entries, known in (
            (Entries(counted=(seen,)), Granted(0, frozenset(), frozenset({name}))),
            (
                Entries(granted=GrantedTotal(index, name, 5, nonce), counted=(seen,)),
                Granted(5, frozenset({nonce}), frozenset({name})),
            ),
            (
                Entries(granted=GrantedTotal(index, name, 7), counted=(seen,)),
                Granted(7, frozenset({nonce}), frozenset({name})),
            ),
        ):
            memory.keep(entries)
            assert memory.granted(index) == known
