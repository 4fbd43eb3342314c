"""Substituted people: the first use of a group, and afterwards.

Root puts cards of its own under the names of others, on the host and in requests. The approvers'
machines hold the true cards, got from the people.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.approval.doubles import Chip, card, identity
from tests.attacks.house import PEOPLE, RULE, House, Machine
from tests.attacks.root import declined

from tpmhsm.approval.acts import acts_of, sign_ahash
from tpmhsm.approval.cards import create_card, create_device_card, parse_card
from tpmhsm.approval.request import parse_request
from tpmhsm.approval.review import review
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.keys.host import load_host
from tpmhsm.policy.documents import canonical
from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.people import Threshold

GOVERNED = "2:alice,bob,carol"


def founding(house: House, name: str = "second") -> bytes:
    """The file of a request to found a group, from whatever the host holds."""
    return house.ask(house.app.desk.propose_group(name, RULE, GOVERNED))


# ── first use ────────────────────────────────────────────────────────────────────────────────────


def test_cards_that_came_with_the_request(house: House) -> None:
    """They prove nothing: a machine that holds no cards from the people refuses, and says whose."""
    data = founding(house)
    assert {c.name for c in parse_request(data).cards} >= {"alice", "bob", "carol"}
    alone = Machine.of("alice", others=())
    with pytest.raises(ApprovalRefusedError) as caught:
        alone.look(data)
    assert caught.value.code == "cards-missing"
    assert caught.value.details["missing"] == ["bob", "carol"]
    assert house.machines["alice"].look(data).first_use


def test_a_substituted_card_at_first_use(house: House) -> None:
    """Mallory's key under bob's name, all over the host."""
    honest = founding(house, "honest")
    house.substitute("bob", "mallory")
    data = founding(house)
    assert b"bob" in data
    for name in ("alice", "carol"):
        with declined("card-differs"):
            house.machines[name].look(data)
    mallory = Machine("bob", Machine.of("bob").memory, identity("mallory"))
    with declined("card-differs"):  # not even mallory's own tool, with the true cards
        mallory.look(data)
    assert house.machines["alice"].look(honest).acts


def test_the_right_key_with_another_contribution(house: House) -> None:
    """Contributions that root chose would let root choose the group's id."""
    house.substitute("bob", "bob")
    data = founding(house)
    with declined("card-differs"):
        house.machines["alice"].look(data)
    again = house.machines["alice"].copy()
    row = next(c for c in parse_request(data).cards if c.name == "bob")
    again.memory.cards = [row if c.name == "bob" else c for c in again.memory.cards]
    assert again.look(data).acts


def test_a_founder_whom_nobody_knows(house: House) -> None:
    """Every contribution in the group's id is that of a member's card."""
    request = parse_request(founding(house))
    founders = tuple(sorted({*request.group.founders, bytes(range(32))}))
    group = replace(request.group, founders=founders)
    roster = replace(request.asked_roster, group=group.id)
    forged = replace(request, group=group, content=roster.encoded)
    with declined("founders-differ"):
        house.machines["alice"].look(forged.data)
    assert house.machines["alice"].look(request.data).acts


def test_two_groups_have_two_fingerprints(house: House) -> None:
    """What people compare aloud differs with the id, the rules, the indices and the chip."""
    request = parse_request(founding(house))
    alice = house.machines["alice"]
    words = alice.look(request.data).group.fingerprint
    assert len(words) == 8
    others = [{"nonce": bytes(32)}, {"counter_index": 0x01801234}, {"roster_index": 0x01801234}]
    others += [{"name": "second_"}]
    for change in others:
        group = replace(request.group, **change)
        roster = replace(request.asked_roster, group=group.id)
        forged = replace(request, group=group, content=roster.encoded)
        assert alice.look(forged.data).group.fingerprint != words


# ── one key, two people ──────────────────────────────────────────────────────────────────────────


def test_one_key_on_two_cards(house: House) -> None:
    """Alice's key under bob's name too: she would count twice, and the chip could not tell if the
    two had different Names (test_one_key_under_two_names_counts_twice_for_the_chip).
    """
    twin = parse_card(create_card("bob", identity("alice")))
    with pytest.raises(UsageError, match="same key"):
        Threshold(2, (card("alice").member(contribution=False), twin.member(contribution=False)))
    request = parse_request(founding(house))
    document = json.loads(request.data)
    members = document["group"]["custodians"][0]["members"]
    assert [m["name"] for m in members] == ["alice", "bob", "carol"]
    members[1] = {**members[0], "name": "bob"}
    with pytest.raises(ParseError, match="same key"):
        parse_request(canonical(document))
    house.rewrite("delete from approvers where name = 'bob'")
    with pytest.raises(sqlite3.IntegrityError):
        house.rewrite(
            "insert into approvers select 99, 'bob', card, spki, key_name, kind, added"
            " from approvers where name = 'alice'"
        )


def test_an_officer_with_a_custodians_key(house: House) -> None:
    """One name is one key in both lists: else alice governs, and approves as dave too."""
    request = parse_request(founding(house))
    officers = request.asked_roster.officers[0].members
    dave = replace(officers[0], name="dave")
    roster = replace(request.asked_roster, officers=(Threshold(2, (dave, *officers[1:])),))
    forged = replace(request, content=roster.encoded)
    with pytest.raises(ParseError, match="one name is one key"):
        house.machines["alice"].look(forged.data)
    assert house.machines["alice"].look(request.data).acts


def test_custodians_of_whom_two_quorums_share_nobody(house: House) -> None:
    """2 of 4: two disjoint pairs could each put a roster in force for one epoch."""
    with pytest.raises(UsageError, match="more than half"):
        house.app.desk.propose_group("loose", RULE, "2:alice,bob,carol,dave")
    document = json.loads(founding(house))
    document["group"]["custodians"][0]["m"] = 1
    with pytest.raises(ParseError, match="more than half"):
        parse_request(canonical(document))


# ── after pinning ────────────────────────────────────────────────────────────────────────────────


def test_a_pinned_group_under_another_id(house: House) -> None:
    """Root makes a second group of the same name, with mallory in it: it is first use again."""
    request = house.loot.request
    alice = house.machines["alice"]
    assert not alice.look(request.data).first_use
    people = [card(n).member(contribution=True) for n in ("alice", "carol")]
    mallory = parse_card(create_card("bob", identity("mallory"))).member(contribution=True)
    custodians = (Threshold(2, (*people, mallory)),)
    founders = tuple(sorted(m.contribution for m in custodians[0].members))
    group: GroupDocument = replace(request.group, custodians=custodians, founders=founders)
    officers = (Threshold(2, tuple(replace(m, contribution=b"") for m in custodians[0].members)),)
    roster = replace(request.roster, group=group.id, officers=officers)
    forged = replace(request, group=group, roster=roster, state=None, approvals=())
    with declined("card-differs"):
        alice.look(forged.data)
    assert alice.look(request.data).acts


def test_a_pinned_group_with_another_officer(still: House) -> None:
    """Mallory in bob's place in the roster of an epoch that alice knows."""
    request = still.loot.request
    assert request.roster is not None
    (rule,) = request.roster.officers
    mallory = parse_card(create_card("dave", identity("mallory"))).member(contribution=False)
    officers = (Threshold(2, (rule.members[0], mallory, rule.members[2])),)
    forged = replace(request, roster=replace(request.roster, officers=officers), approvals=())
    alice = still.machines["alice"]
    for state in (None, request.state):
        with declined("two-rosters"):
            alice.look(replace(forged, state=state).data)
    forgetful = alice.copy()
    forgetful.memory.rosters.clear()
    with declined("state"):  # the chip certifies another roster
        forgetful.look(forged.data)
    assert alice.look(request.data).acts


def test_a_new_officer_who_is_somebody_else(house: House) -> None:
    """A change that puts mallory's key in force under dave's name."""
    honest = house.ask(house.app.desk.propose_roster("officers", "2:alice,dave,carol"))
    alone = house.machines["alice"].copy()
    alone.memory.cards = [c for c in alone.memory.cards if c.name != "dave"]
    with declined("cards-missing"):
        alone.look(honest)
    house.substitute("dave", "mallory")
    data = house.ask(house.app.desk.propose_roster("officers", "2:alice,dave,carol"))
    assert data != honest
    for name in ("alice", "carol"):
        with declined("card-differs"):
            house.machines[name].look(data)
    assert house.machines["alice"].look(honest).acts


# ── who, where, when ─────────────────────────────────────────────────────────────────────────────


def test_a_stranger_and_an_impostor(still: House) -> None:
    """Whoever is not in the rule has no part; a name does not make a member."""
    data = still.loot.request.data
    memory = Machine.of("alice", PEOPLE).memory
    for name in ("mallory", "bob", ""):
        with declined("not-a-member"):
            Machine(name, memory, identity("mallory")).look(data)
    with declined("not-a-member"):
        Machine("bob", memory, identity("alice")).look(data)
    (act,) = acts_of(still.loot.request)
    with declined("not-a-member"):
        sign_ahash(identity("mallory"), act)
    assert still.machines["alice"].look(data).acts


def test_an_expired_request(still: House) -> None:
    """Nobody is asked to sign what has lain about for longer than it was meant to."""
    request = still.loot.request
    alice = still.machines["alice"]
    for now, fine in ((request.expires, False), (request.expires - timedelta(seconds=1), True)):
        if fine:
            assert review(request, alice.memory, alice.identity, "alice", now).acts
            continue
        with declined("expired"):
            review(request, alice.memory, alice.identity, "alice", now)


def test_another_chip_than_the_one_whose_card_was_given(house: House) -> None:
    """With a device's card from outside, a first use on another chip is refused, whatever its
    label; without one people are told to compare the words.
    """
    data = founding(house)
    host = load_host(house.app.store)
    keys = (host.ek_certificates, host.ek_public, host.ak_public)
    label = parse_request(data).device.label
    alice = house.machines["alice"].copy()
    assert "DEVICE" in {flag.head for flag in alice.look(data).flags}
    for name in (label, "prod"):
        alice.memory.devices = [replace(Chip().card, label=name)]
        with declined("other-device"):
            alice.look(data)
        alice.memory.devices.append(create_device_card(name, host.kind, *keys))
        assert "DEVICE" not in {flag.head for flag in alice.look(data).flags}
