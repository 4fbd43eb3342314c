"""A malicious host changes a request, one part at a time.

Whatever it changes: the tool refuses, or what it shows and signs is the truth about the changed
request, recomputed here from the changed bytes alone.
"""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.approval.doubles import NOW, World, card, identity, leaf_tbs, root_tbs
from tests.approval.looking import approve, founded

from tpmhsm.approval.acts import Act
from tpmhsm.approval.display import render
from tpmhsm.approval.further_acts import Opening
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import MAX_REQUEST, is_request, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.pki.tbs import tbs_facts
from tpmhsm.policy.documents import canonical
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.wire.constants import CC
from tpmhsm.wire.names import cp_hash, name_of_nv, name_of_public

KINDS = ("group", "roster", "certificate", "csr", "data")


@cache
def scene(number: int) -> tuple[World, dict[str, bytes]]:
    """A world, and a request of every kind in it, with an approval and a denial inside."""
    from cryptography import x509
    from tests.approval.doubles import csr_info

    from tpmhsm.approval.approve import make_denial

    world = World()
    state = world.chip.state
    tbs = leaf_tbs(world.key, [x509.DNSName(f"a{number}.example")])
    info = csr_info(world.key)
    requests = {
        "group": world.founding(),
        "roster": world.change("alice", "bob", "dave"),
        "certificate": world.certificate(
            tbs, state=state(world.group, world.roster, tbs, 1), cards=(card("alice"),)
        ),
        "csr": world.request("csr", info, state=state(world.group, world.roster, info, 1)),
        "data": world.request("data", b"hello" + bytes([number])),
    }
    voted = {}
    for kind, request in requests.items():
        memory = world.memory("bob") if kind == "group" else founded(world, "bob")
        memory.cards.append(card("dave"))
        approved = approve(request, memory, "bob")
        denial = make_denial(request, identity("carol"), "carol", "no")
        voted[kind] = replace(approved, denials=(denial,)).data
    return world, voted


@cache
def pinned(number: int) -> InMemory:
    world, requests = scene(number)
    memory = founded(world)
    memory.cards.append(card("dave"))
    checked = open_(requests["certificate"], memory)
    memory.keep(checked.entries)
    return memory


def open_(data: bytes, memory: InMemory) -> Review:
    return review(parse_request(data), memory, identity("alice"), "alice", NOW + timedelta(hours=1))


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def get(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    get(value, path[:-1])[path[-1]] = new
    return value


def check_truth(data: bytes, checked: Review, memory: InMemory) -> None:
    """Everything that would be signed follows from the changed bytes, and is shown."""
    document = json.loads(data)
    content = b64decode(document["content"])
    shown = render(checked)
    flat = shown.replace("\n", "").replace(" ", "")
    assert sha256(content).hexdigest() in flat
    expected = expected_acts(document, content, checked)
    assert [(a.cp_hash, a.policy_ref) for a in checked.acts] == expected
    group_id = checked.request.group.id
    known = memory.pinned_group(group_id)
    assert checked.first_use == (known is None)
    if checked.first_use:
        assert " ".join(checked.group.fingerprint) in shown
    else:
        assert known is not None and canonical(document["group"]) == known.document
    if document["kind"] == "certificate":
        facts = tbs_facts(content)
        assert facts["subject"] in shown and facts["not_after"][:10] in shown
    approved = [a["approver"] for a in document["approvals"]]
    assert set(checked.approved) <= set(approved)


def expected_acts(document: Any, content: bytes, checked: Review) -> list[tuple[bytes, bytes]]:
    """Written a second time, from the specification."""
    group = checked.request.group
    if document["kind"] in ("certificate", "csr", "data"):
        public = b64decode(document["key"]["public"])
        parameters = b"\0\x20" + sha256(content).digest()
        parameters += bytes.fromhex("0018000b8024400000070000")
        return [
            (
                cp_hash(CC.Sign, (name_of_public(public),), parameters),
                policy_ref("sign", group.id, document["roster"]["epoch"]),
            )
        ]
    founding = document["kind"] == "group"
    asked = checked.request.asked_roster
    assert asked.encoded == content
    counters = [
        name_of_nv(counter_nv(group, written=w)) for w in ((False, True) if founding else (True,))
    ]
    index = name_of_nv(roster_nv(group, written=not founding))
    epoch, roster = policy_ref("epoch", group.id), policy_ref("roster", group.id)
    parameters = b"\0\x4a" + roster_content(group, asked) + b"\0\0"
    return [
        *((cp_hash(CC.NV_Increment, (name, name), b""), epoch) for name in counters),
        (cp_hash(CC.NV_Write, (index, index), parameters), roster),
    ]


def attempt(document: Any, memory: InMemory) -> bool:
    """Whether a changed request was refused; if not, what is signed is checked."""
    data = canonical(document)
    try:
        checked = open_(data, memory)
    except TpmHsmError:
        return True
    check_truth(data, checked, memory)
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_use", [False, True])
def test_the_untouched_request_passes(kind: str, first_use: bool) -> None:
    world, requests = scene(0)
    memory = world.memory() if first_use else pinned(0)
    if first_use:
        memory.cards.append(card("dave"))
    assert not attempt(json.loads(requests[kind]), memory)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_replaced_by_another_worlds(kind: str) -> None:
    """Each part taken from a request of the same kind for another group on another chip."""
    mine, theirs = (json.loads(scene(number)[1][kind]) for number in (0, 1))
    passed = []
    for path in paths(mine):
        try:
            other = get(theirs, path)
        except (KeyError, IndexError):
            continue
        if other == get(mine, path):
            continue
        if not attempt(put(mine, path, other), pinned(0)):
            passed.append(path)
    tops = {path[0] for path in passed}
    # approvals and denials of others are only counted, cards only carried; a pinned key needs no
    # birth certificate any more; other content that decodes is other content, and is shown
    assert tops <= {"approvals", "denials", "cards", "key", "content", "device", "state"}, passed
    assert all(
        path in (("key", "attest"), ("key", "signature")) for path in passed if path[0] == "key"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_removed(kind: str) -> None:
    mine = json.loads(scene(0)[1][kind])
    for path in paths(mine):
        changed = copy.deepcopy(mine)
        del get(changed, path[:-1])[path[-1]]
        if not attempt(changed, pinned(0)):
            assert path[0] in ("approvals", "denials", "cards", "state", "claims"), path


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_part_bent(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    mine = json.loads(scene(0)[1][kind])
    path = data.draw(st.sampled_from(list(paths(mine))))
    old = get(mine, path)
    new = data.draw(bent(old))
    attempt(put(mine, path, new), pinned(0))


def bent(old: Any) -> st.SearchStrategy[Any]:
    junk = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
    )
    if isinstance(old, bool) or old is None:
        return junk
    if isinstance(old, int):
        return st.integers(-2, old + 3) | st.integers() | junk
    if isinstance(old, str) and old:
        return flipped(old) | st.just(old[:-1]) | st.just(old + "0") | junk
    return junk


def flipped(old: str) -> st.SearchStrategy[str]:
    """One character changed to another of the same alphabet; base64 one bit inside."""

    def change(place: int, bit: int) -> str:
        try:
            raw = bytearray(b64decode(old, validate=True))
            raw[place % len(raw)] ^= 1 << bit
            return b64encode(raw).decode()
        except (ValueError, ZeroDivisionError):
            at = place % len(old)
            letter = "0" if old[at] != "0" else "1"
            return old[:at] + letter + old[at + 1 :]

    return st.builds(change, st.integers(0, 1 << 16), st.integers(0, 7))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bit_of_the_bytes_to_be_signed(data: st.DataObject) -> None:
    """The content flipped: shown as it is, or refused; never something else."""
    kind = data.draw(st.sampled_from(KINDS))
    mine = json.loads(scene(0)[1][kind])
    raw = bytearray(b64decode(mine["content"]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    mine["content"] = b64encode(raw).decode()
    mine["approvals"] = []
    attempt(mine, pinned(0))


def test_foreign_wishes_have_no_field(world: World) -> None:
    """An empty cpHash, an expiration, a nonce or SHA-1 cannot even be asked for."""
    mine = json.loads(scene(0)[1]["certificate"])
    for field, value in (
        ("cp_hash", ""),
        ("expiration", -600),
        ("nonce", "00" * 16),
        ("hash", "sha1"),
        ("policy_ref", "00" * 32),
    ):
        with pytest.raises(ParseError, match="unknown fields"):
            parse_request(canonical({**mine, field: value}))
        with pytest.raises(ParseError, match="unknown fields"):
            parse_request(canonical({**mine, "key": {**mine["key"], field: value}}))
    names = set(Act.__dataclass_fields__)
    assert not names & {"cp_hash", "expiration", "a_hash", "hash_alg"}
    names = {field.name for field in fields(Opening)}
    assert not names & {"purpose", "bound", "cp_hash", "expiration", "a_hash", "hash_alg"}


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_garbage_is_a_parse_error(data: bytes) -> None:
    assert not is_request(data)
    with pytest.raises(ParseError):
        parse_request(data)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_cut_and_flipped_files_are_clear_errors(data: st.DataObject) -> None:
    raw = bytearray(scene(0)[1][data.draw(st.sampled_from(KINDS))])
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 2))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 2))] ^= data.draw(st.integers(1, 255))
    try:
        checked = open_(bytes(raw), pinned(0))
    except TpmHsmError:
        return
    check_truth(bytes(raw), checked, pinned(0))


def test_sizes_have_a_limit(world: World) -> None:
    with pytest.raises(ParseError, match="larger"):
        parse_request(b" " * (MAX_REQUEST + 1))
    with pytest.raises(UsageError, match="at most"):
        assert world.request("data", b"x" * MAX_REQUEST).data
    fits = world.request("data", b"x" * 700_000)
    assert parse_request(fits.data).content == fits.content


def test_requests_come_back_as_they_were() -> None:
    for data in scene(0)[1].values():
        assert parse_request(data).data == data
        assert is_request(data)


def test_strange_json_is_refused(world: World) -> None:
    data = world.certificate(root_tbs(world.key)).data
    for old, new in (
        (b'"id":7', b'"id":7,"id":8'),
        (b'"id":7', b'"id":7.0'),
        (b'"id":7', b'"id":NaN'),
        (b'"id":7', b'"id":' + b"9" * 5000),
        (b'"reason":"because"', b'"reason":"\\ud800"'),
        (b'"kind":"certificate"', b'"kind":"group"'),
        (b'"kind":"certificate"', b'"kind":"blank"'),
        (b'"created":"2026-11-23T12:00:00Z"', b'"created":"2026-11-23T12:00:00+00:00"'),
        (b'"expires":"2026-12-23', b'"expires":"2025-12-23'),
    ):
        assert old in data
        with pytest.raises(ParseError):
            parse_request(data.replace(old, new))
    with pytest.raises(ParseError):
        parse_request(b'{"a":' * 100_000)
