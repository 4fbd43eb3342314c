"""What the desk and the memory keep to, whoever is faster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import card
from tests.support.shell import RULE, Shell

from tpmhsm.cli import approve as approving
from tpmhsm.errors import UsageError
from tpmhsm.policy.people import describe_rule, members_of, needed
from tpmhsm.requests.drafts import rule

CARDS = {name: card(name) for name in ("alice", "bob", "carol")}


def test_rules_are_read() -> None:
    read = rule(CARDS, " 2 : alice, bob ,carol,", contribution=False)
    assert describe_rule(read) == "2 of 3 (alice, bob, carol)"
    assert all(member.contribution == b"" for member in members_of(read))
    (governing,) = rule(CARDS, "1:alice", contribution=True)
    assert len(governing.members[0].contribution) == 32


def test_joined_rules_are_read() -> None:
    read = rule(CARDS, "1:alice, bob + 1:carol", contribution=False)
    assert describe_rule(read) == "1 of 2 (alice, bob) and 1 of 1 (carol)"
    with pytest.raises(UsageError, match="bob stands on two ladders") as error:
        rule(CARDS, "2:alice,bob+1:bob,carol", contribution=False)
    assert error.value.code == "two-ladders"
    twin = {**CARDS, "rob+1": replace(CARDS["bob"], name="rob+1")}  # a plus within a name
    with pytest.raises(UsageError, match="have the same key"):
        rule(twin, "1:bob,alice+1:rob+1", contribution=False)
    assert needed(rule(twin, "1:rob+1,alice+1:carol", contribution=False)) == 2


@given(st.text(st.sampled_from("0123456789:,. -+eE²٣alicebob\n"), max_size=30))
def test_any_other_text_is_refused_in_words(text: str) -> None:
    try:
        read = rule(CARDS, text, contribution=False)
    except UsageError as error:
        assert error.message
        return
    assert 1 <= needed(read) <= len(members_of(read)) <= 3


def test_two_rosters_for_one_epoch_at_once(governed: Shell) -> None:
    """While alice looks at one change, she approves another: the first is refused then."""
    one = governed.ask("group", "change", "officers", "--officers", "2:alice,dave,carol")
    two = governed.ask("group", "change", "officers", "--officers", "2:alice,bob,dave")
    digests = {n: governed.json("request", "show", str(n))["digest"] for n in (one, two)}
    confirm = approving.confirm

    def meanwhile(*arguments: Any) -> None:
        confirm(*arguments)
        with mock.patch.object(approving, "confirm", confirm):
            governed.approve(str(two), "alice", digests[two])

    with mock.patch.object(approving, "confirm", meanwhile):
        refused = governed.approve(str(one), "alice", digests[one], code=1).err
    assert "epoch" in refused
    assert governed.json("request", "show", str(one))["approvals"] == []
    assert len(governed.json("request", "show", str(two))["approvals"]) == 1


def test_what_is_asked_twice_is_one_request(governed: Shell) -> None:
    for words in (
        ("group", "change", "officers", "--officers", RULE),
        ("group", "create", "more", "--officers", RULE),
        ("csr", "create", "root", "--subject", "CN=x"),
        ("ca", "create", "sub", "--key", "web", "--issuer", "root-ca", "--subject", "CN=x"),
    ):
        assert governed.ask(*words) == governed.ask(*words)


@pytest.mark.parametrize("state", ["cancelled", "denied"])
def test_what_ended_is_asked_anew(governed: Shell, state: str) -> None:
    words = ("csr", "create", "root", "--subject", "CN=x")
    number = str(governed.ask(*words))
    if state == "cancelled":
        governed("request", "cancel", number)
    else:
        governed("deny", number, "--as", "bob", "-i", "bob.key", "--passphrase-file",
                 "passphrase", "--reason", "no")  # fmt: skip
    assert governed.ask(*words) == int(number) + 1
