"""What custodians see of a roster besides its people: uses, keys that may be opened, PCRs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import NOW, World, identity, threshold
from tests.approval.doubles import ecc_public as public_area

from tpmhsm.approval.display import pages, render
from tpmhsm.approval.memory import Certified, InMemory, PinnedKey
from tpmhsm.approval.request import Claims, Request, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.attest.statements import MADE_HERE, QUORUM_KEY_ATTRIBUTES
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.tree import key_policy
from tpmhsm.wire.names import name_of_public

STATE = {"sha256": {0: b"\x11" * 32, 7: b"\x22" * 32}}
LATER = {"sha256": {0: b"\x11" * 32, 7: b"\x33" * 32}}


class Town(World):
    """A group with a key "issuing", and a change of the roster."""

    def __init__(self) -> None:
        super().__init__()
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        self.public = public_area(key, QUORUM_KEY_ATTRIBUTES, key_policy(self.group))
        self.name = name_of_public(self.public)

    def asking(self, before: dict[str, object], after: dict[str, object]) -> Request:
        rule = (threshold(2, *self.people),)
        self.roster = RosterDocument(self.group.id, 1, rule, **before)  # type: ignore[arg-type]
        asked = RosterDocument(self.group.id, 2, rule, **after)  # type: ignore[arg-type]
        state = self.chip.state(self.group, self.roster, asked.encoded, 1)
        texts = {f"key {self.name.hex()}": f"{self.public.hex()} issuing"}
        return self.request("roster", asked.encoded, state=state, claims=Claims(texts=texts))


def look(town: Town, request: Request, memory: InMemory | None = None) -> Review:
    memory = memory or town.memory("alice")
    return review(parse_request(request.data), memory, identity("alice"), "alice", NOW)


def heads(found: Review) -> dict[str, str]:
    return {flag.head: flag.text for flag in found.content.flags}


def words(found: Review) -> str:
    return " ".join(render(found).split())


@pytest.fixture
def town() -> Town:
    return Town()


def test_a_key_that_is_to_be_opened(town: Town) -> None:
    found = look(town, town.asking({}, {"windows": (town.name,)}))
    assert set(heads(found)) == {"OPENS", "UNKNOWN KEY"}
    assert heads(found)["OPENS"].startswith("issuing (P-256 ")
    assert "allows to open key" in words(found)
    assert 'new roster of "officers"' in words(found)
    assert town.name.hex() in "".join("\n".join(p.text for p in pages(found)).split())


def test_a_key_that_this_home_knows(town: Town) -> None:
    """By the name that it was pinned under, whatever the host calls it now."""
    memory = town.memory("alice")
    memory.keys[town.name] = PinnedKey(town.name, "leaf", town.group.id, town.public)
    found = look(town, town.asking({}, {"windows": (town.name,)}), memory)
    assert set(heads(found)) == {"OPENS"}
    assert "allows to open leaf" in words(found) and "issuing" not in words(found)


def test_an_imported_key_is_said_to_be_one(town: Town) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    town.public = public_area(key, QUORUM_KEY_ATTRIBUTES & ~MADE_HERE, key_policy(town.group))
    town.name = name_of_public(town.public)
    found = look(town, town.asking({}, {"windows": (town.name,)}))
    assert set(heads(found)) == {"OPENS", "IMPORTED", "UNKNOWN KEY"}


def test_an_authoritys_key_is_said_to_be_one(town: Town) -> None:
    from hashlib import sha256

    from tpmhsm.attest.statements import signing_key

    memory = town.memory("alice")
    spki = sha256(signing_key(town.public).spki).digest()
    memory.known.append(Certified(spki, "CN=Root", ca=True))
    found = look(town, town.asking({}, {"windows": (town.name,)}), memory)
    assert "whoever signs with it is the CA" in heads(found)["AUTHORITY"]


@pytest.mark.parametrize("text", ["", "zz issuing", "00 issuing", "issuing"])
def test_a_public_area_that_is_not_the_names(town: Town, text: str) -> None:
    """The Name is what is approved: another key's public area says nothing about it."""
    request = town.asking({}, {"windows": (town.name,)})
    other = public_area(town.key.public_key(), QUORUM_KEY_ATTRIBUTES, key_policy(town.group))
    for said in (text, f"{other.hex()} issuing"):
        texts = {f"key {town.name.hex()}": said}
        found = look(town, replace(request, claims=Claims(texts=texts)))
        assert "P-256" not in heads(found)["OPENS"] and "UNKNOWN KEY" in heads(found)


def test_a_key_that_is_to_be_closed(town: Town) -> None:
    found = look(town, town.asking({"windows": (town.name,)}, {}))
    assert not heads(found) and "no longer allows to open key" in words(found)


def test_a_key_that_stays_open_is_shown(town: Town) -> None:
    found = look(town, town.asking({"windows": (town.name,)}, {"windows": (town.name,)}))
    assert set(heads(found)) == {"NO CHANGE"} and "May open issuing" in words(found)


CHANGES = {
    "demands PCRs 0, 7 (sha256) as they are now": ({}, {"measured": STATE}, {"STATE"}),
    "demands PCRs 0, 7 (sha256) no longer": ({"measured": STATE}, {}, {"ANY STATE"}),
    "approves new values of PCRs 7 (sha256)": ({"measured": STATE}, {"measured": LATER}, {"STATE"}),
    "as they are now, no longer PCRs 0, 7 (sha256)": (
        {"measured": STATE},
        {"measured": {"sha256": {7: b"\x22" * 32}}},
        {"STATE", "LESS"},
    ),
    "demands PCRs 0 (sha256) as they are now": (
        {},
        {"measured": {"sha256": {0: bytes(32)}}},
        {"STATE", "EMPTY"},
    ),
    "no longer asked for budgets, decryptions": ({}, {"uses": ("sign",)}, {"UNITS"}),
    "officers may be asked for decryptions": (
        {"uses": ("sign", "budget")},
        {"uses": ("sign", "budget", "decrypt")},
        set(),
    ),
}


@pytest.mark.parametrize("said", CHANGES)
def test_changes_in_words(town: Town, said: str) -> None:
    before, after, flags = CHANGES[said]
    found = look(town, town.asking(before, after))
    assert said in words(found)
    assert set(heads(found)) == flags


def test_every_value_is_shown(town: Town) -> None:
    found = look(town, town.asking({}, {"measured": STATE}))
    text = "".join("\n".join(p.text for p in pages(found)).split())
    assert "sha256:0" + "11" * 32 in text and "sha256:7" + "22" * 32 in text


def test_a_founding_that_already_allows_something(town: Town) -> None:
    rule = (threshold(2, *town.people),)
    first = RosterDocument(town.group.id, 1, rule, ("sign",), (town.name,), STATE)
    found = look(town, town.request("group", first.encoded))
    assert {"OPENS", "UNKNOWN KEY", "STATE"} <= set(heads(found))
    assert "Asked for signatures" in words(found) and "Demands PCRs 0, 7" in words(found)


def test_the_short_facts_tell_two_rosters_apart(town: Town) -> None:
    from tpmhsm.approval.content import short_facts

    variants = [{}, {"windows": (town.name,)}, {"measured": STATE}, {"measured": LATER},
                {"uses": ("sign",)}]  # fmt: skip
    facts = [tuple(short_facts(town.asking({}, after)).items()) for after in variants]
    assert len(set(facts)) == len(facts)
