"""A key on a second chip: the way, and what root tries on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks.chips import Pair
from tests.attacks.conftest import checked
from tests.attacks.root import check


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair.build(tmp_path)
    with checked(found.first), checked(found.second):
        yield found


def test_the_way(pair: Pair) -> None:
    """The same approvals sign on both chips."""
    key = pair.key()
    pair.join()
    taken = pair.second.app.desk.copies.restore(pair.backup())
    assert (taken.name, taken.policy) == (key.name, key.policy)
    loot = pair.first.steal_fresh()
    for house, row in ((pair.first, key), (pair.second, taken)):
        votes = loot.votes
        signature = house.app.keyring.sign_digest(row, loot.digest, votes, "officers")
        check(row, loot.digest, signature)
