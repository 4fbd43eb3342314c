"""Requests that are read several at a time, as those that execute many see them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tpmhsm.requests import ahead
from tpmhsm.requests.ahead import Ahead
from tpmhsm.store import Store
from tpmhsm.store.requests import ApprovalRow, RequestRow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Requests 1 to 40, all approved but 5; 6 is none for a certificate, 7 is cancelled."""
    with Store.create(tmp_path / "home") as made:
        with made.transaction() as tx:
            for number in range(1, 41):
                kind = "crl" if number == 6 else "certificate"
                tx.requests.add(RequestRow(kind, 1, "00", b"{}"))
                tx.serials.reserve("ca", f"{number:02x}", b"tbs", number, {"profile": "client"})
                if number != 5:
                    tx.requests.approve(ApprovalRow(number, "alice", "file", b"%d" % number))
            tx.requests.finish(7, "cancelled")
        yield made


def looks(reader: Ahead, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    look = reader._look

    def noted(first: int, last: int) -> dict[int, ahead.Asked]:
        made.append((first, last))
        return look(first, last)

    monkeypatch.setattr(reader, "_look", noted)
    return made


def test_one_after_another_is_a_page_and_each_is_given_with_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FRESH", 60)
    reader = Ahead(store)
    made = looks(reader, monkeypatch)
    found = {number: reader.get(number) for number in range(8, 41)}
    assert made == [(8, 8), (9, 40)]
    for number, asked in found.items():
        assert asked is not None
        assert (asked.row.id, asked.record.request_id) == (number, number)
        assert asked.approvals == (b"%d" % number,)


@pytest.mark.parametrize("number", [5, 6, 7, 41, 0, -1, 1 << 64])
def test_what_is_not_for_many_at_a_time(store: Store, number: int) -> None:
    reader = Ahead(store)
    assert reader.get(number - 1) is None or number in (5, 41)
    assert reader.get(number) is None


def test_a_page_grows_old_and_each_is_given_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FRESH", 0.05)
    reader = Ahead(store)
    assert reader.get(10)
    assert reader.get(11)
    with store.transaction() as tx:
        tx.requests.finish(11, "cancelled")
        tx.requests.finish(12, "cancelled")
    assert reader.get(11) is None
    time.sleep(0.06)
    assert reader.get(12) is None
    assert reader.get(13)
