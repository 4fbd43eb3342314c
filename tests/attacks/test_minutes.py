"""Root writes the minutes of a ceremony: what a reader's tool refuses, and what nobody can know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tests.approval.doubles import NOW, World, card, identity
from tests.approval.meetings import approved, minutes_of, root_certificate
from tests.support.shell import Shell

from tpmhsm import __version__
from tpmhsm.approval import approve
from tpmhsm.approval.approve import make_denial
from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.minutes import CertificateMinutes, KeyMinutes, Minutes, Note
from tpmhsm.approval.minutes_check import check_minutes
from tpmhsm.approval.minutes_page import render_minutes
from tpmhsm.approval.minutes_words import NOT_SIGNED


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def minutes(world: World) -> Minutes:
    """What an honest host would have written."""
    return minutes_of(world, program=f"tpmhsm {__version__}")


@pytest.fixture
def reader(tmp_path: Path) -> Shell:
    """An auditor with an empty home."""
    return Shell(tmp_path)


def verify(reader: Shell, minutes: Minutes, code: int = 1) -> dict[str, object]:
    (reader.path / "m").write_bytes(minutes.data)
    found = reader.json("minutes", "verify", "m", code=code)
    answer: dict[str, object] = found["error"] if code else found
    return answer


def test_a_root_of_roots_own_in_the_minutes(reader: Shell, world: World, minutes: Minutes) -> None:
    own = World()  # root's key has the policy, and is in no chip
    key = KeyMinutes("root", own.key_public(world.key_part().public[10:42]), "quorum(officers)")
    der = root_certificate(own.key, "Example Root")
    added = replace(minutes, keys=(*minutes.keys, key))
    assert verify(reader, added)["code"] == "not-the-key"
    more = (*minutes.certificates, CertificateMinutes("root-ca", der))
    assert verify(reader, replace(minutes, certificates=more))["code"] == "not-the-key"
    other = root_certificate(world.key, "Other Root")  # by the real key
    more = (*minutes.certificates, CertificateMinutes("root-ca", other))
    assert verify(reader, replace(minutes, certificates=more))["code"] == "not-approved"
    verify(reader, minutes, code=0)


def test_approvals_from_elsewhere_in_the_minutes(
    reader: Shell, world: World, minutes: Minutes
) -> None:
    founding, act = minutes.acts
    elsewhere = minutes_of(World()).acts[1]
    mixed = replace(minutes, acts=(founding, elsewhere))
    assert verify(reader, mixed)["code"] == "other-group"
    given = elsewhere.request.approvals
    moved = replace(act, request=replace(act.request, approvals=given))
    assert verify(reader, replace(minutes, acts=(founding, moved)))["code"] == "other-group"
    other = minutes_of(world, subject=("Other",)).acts[1].request.approvals
    moved = replace(act, request=replace(act.request, approvals=other))
    assert verify(reader, replace(minutes, acts=(founding, moved)))["code"] == "other-bytes"


def test_too_few_said_to_be_enough(reader: Shell, minutes: Minutes) -> None:
    founding, act = minutes.acts
    for names in ((), ("carol",)):
        few = replace(act, request=approved(act.request, *names))
        assert verify(reader, replace(minutes, acts=(founding, few)))["code"] == "too-few"


def test_a_stranger_in_a_founders_place(reader: Shell, minutes: Minutes) -> None:
    others = minutes.cards[1:]
    mallory = parse_card(create_card("alice", identity("mallory")))
    changed = replace(minutes, cards=(mallory, *others))
    assert verify(reader, changed)["code"] == "wrong-person"
    more = replace(minutes, cards=(*minutes.cards, card("mallory")))
    assert verify(reader, more)["code"] == "wrong-person"


def test_a_page_whose_words_are_not_its_documents(reader: Shell, minutes: Minutes) -> None:
    page = render_minutes(check_minutes(minutes))
    for old, new in (
        ("2 of 3 (alice, bob, carol)", "2 of 3 (alice, bob, mallory)"),
        ("</style>", "section { display: none }</style>"),
        (minutes.words[0], "abandon"),
        ("<body>", "<body><script>document.title = 1</script>"),
    ):
        assert old in page
        (reader.path / "page.html").write_text(page.replace(old, new, 1))
        told = reader.json("minutes", "verify", "page.html", code=1)["error"]
        assert told["code"] == "page-changed"
    (reader.path / "page.html").write_text(page)
    assert reader.json("minutes", "verify", "page.html")["page"] == "as-written"


def test_a_denial_in_anothers_name(reader: Shell, minutes: Minutes) -> None:
    """By a stranger who says that he is bob, and bob's own of another act."""
    founding, act = minutes.acts
    for about, who in ((act, "mallory"), (founding, "bob")):
        with mock.patch.object(approve, "verify_denial"):  # root's own program does not look
            forged = make_denial(about.request, identity(who), "bob", "not today")
        denied = replace(act, request=replace(act.request, denials=(forged,)))
        verify(reader, replace(minutes, acts=(founding, denied)))


def test_a_guarded_key_called_open(reader: Shell, minutes: Minutes) -> None:
    """So that nobody would have to approve what it certified."""
    keys = tuple(replace(one, policy="open") for one in minutes.keys)
    assert verify(reader, replace(minutes, keys=keys))["code"] == "not-the-key"


def test_what_no_key_signed_is_rewritten(reader: Shell, world: World, minutes: Minutes) -> None:
    """Nobody notices; that it is so is said to whoever verifies."""
    founding, act = minutes.acts
    denial = make_denial(act.request, identity("carol"), "carol", "not today")
    denied = replace(act, request=replace(act.request, denials=(denial,)))
    said = replace(minutes, acts=(founding, denied), notes=(Note(NOW, "deviation", "carol left"),))
    assert "carol" in str(verify(reader, said, code=0)) and verify(reader, minutes, code=0)
    rewritten = replace(
        minutes, acts=(founding,), keys=(), certificates=(), place="Elsewhere",
        witnesses=("Nobody",), steps=(), notes=(), evidence=None,
    )  # fmt: skip
    verify(
        reader, replace(minutes, keys=tuple(replace(k, label="x") for k in minutes.keys)), code=0
    )
    found = verify(reader, rewritten, code=0)
    assert found["not_signed"] == list(NOT_SIGNED)
    assert any("left out" in line for line in NOT_SIGNED) and "labels" in NOT_SIGNED[0]
