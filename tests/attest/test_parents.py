"""The storage key that takes copies: made, certified, asked for by a custodian's home."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.attacks.conftest import built, house, still  # noqa: F401
from tests.attacks.house import House
from tests.attest.second import Custodian, Second, second_machine

from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.second_chips import must_know_parent
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.policy.copying import CopyDocument


@pytest.fixture(scope="module")
def second(still: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:  # noqa: F811
    with second_machine(still, tmp_path_factory.mktemp("second") / "home") as made:
        yield made


@pytest.fixture
def carol(still: House, second: Second) -> Custodian:  # noqa: F811
    return Custodian.of(still.machines["bob"], second.card)


def copy_to(second: Second, parent: bytes) -> CopyDocument:
    ek = second.host.ek_digest
    return CopyDocument(second.group.id, b"\0\x0b" + bytes(32), parent, ek, second.host.ak_name)


def refused(code: str, hint: str = "") -> pytest.RaisesExc[ApprovalRefusedError]:
    return pytest.RaisesExc(
        ApprovalRefusedError, check=lambda e: e.code == code and hint in (e.hint or "")
    )


def test_a_chip_that_answers_is_remembered(carol: Custodian, second: Second) -> None:
    kept = carol.ask(second.card)
    answer = second.answer(kept)
    assert parse_answer(answer.data) == answer  # nothing is lost on the way
    entries = carol.check(answer, kept)
    (known,) = carol.memory.second_chips(second.group.id)
    assert known == entries.second
    assert answer.parent is not None and known.parent_name == answer.parent.name
    assert known.counter == second.roster.epoch
    copy = copy_to(second, answer.parent.public)
    assert must_know_parent(copy, carol.memory) == known
    assert carol.memory.live_since(second.group.id) is None  # of the group's own chip alone
