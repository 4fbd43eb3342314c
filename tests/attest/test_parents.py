"""The storage key that takes copies: made, certified, asked for by a custodian's home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.attacks.conftest import built, house, still  # noqa: F401
from tests.attacks.house import House
from tests.attest.collecting import localca
from tests.attest.second import Custodian, Second, pins_of, second_machine

from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.second_chips import cautions, must_know_parent
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.keys.host import load_host
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


def test_what_kind_of_chip_it_is(carol: Custodian, second: Second) -> None:
    """A chip that no pinned root vouches for, and an emulator, are warned of; hardware is not."""
    for kind, warned in (("", "no maker"), ("emulator", "software TPM"), ("discrete", "")):
        if kind:
            carol.pins = pins_of(*localca(second.home), kind)
        kept = carol.ask(second.card)
        known = carol.check(second.answer(kept), kept).second
        assert known is not None and known.kind == kind
        words = " ".join(flag.text for flag in cautions(known))
        assert warned in words and bool(words) == bool(warned)


def test_the_endorsement_certificate_of_another_chip(
    carol: Custodian,
    second: Second,
    still: House,  # noqa: F811
) -> None:
    other = load_host(still.app.store).ek_certificates
    card = replace(second.card, ek_certificates=other)
    carol.memory.devices.append(card)
    kept = carol.ask(card)
    with refused("ek-certificate"):
        carol.check(replace(second.answer(kept), device=card), kept)
