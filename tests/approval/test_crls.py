"""CRLs on an approver's screen: what comes onto the list and what goes, from this home's memory."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.approval.doubles import (
    CA_USAGE,
    NOW,
    World,
    builder,
    identity,
    name_of,
    root_tbs,
)
from tests.approval.looking import approve, founded, heads, look, refused

from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.display import render
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import MAX_CRL_REQUEST, MAX_REQUEST, Claims, Request, parse_request
from tpmhsm.approval.verify import verify_approval
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.crl import CrlHead, assemble_tbs
from tpmhsm.pki.crl_entries import Entry, encode_entry
from tpmhsm.pki.signatures import signature_algorithm

REVOKED = NOW - timedelta(hours=2)


def entry(serial: int, reason: str = "", revoked: datetime = REVOKED) -> Entry:
    return Entry(serial, revoked, reason)


def tbs(world: World, *entries: Entry | bytes, number: int = 1, **changes: object) -> bytes:
    name = x509.Name(list(name_of("Example Root"))).public_bytes()
    head = CrlHead(
        issuer=name,
        algorithm=signature_algorithm(world.key.public_key(), "sha256"),
        ski=b"k" * 20,
        number=number,
        this_update=NOW,
        next_update=NOW + timedelta(days=7, seconds=-1),
    )
    raws = [one if isinstance(one, bytes) else encode_entry(one) for one in entries]
    return assemble_tbs(replace(head, **changes), raws)  # type: ignore[arg-type]


def asked(world: World, *entries: Entry | bytes, number: int = 1, **changes: object) -> Request:
    return world.request("crl", tbs(world, *entries, number=number, **changes))


def rows(world: World, request: Request, memory: InMemory) -> dict[str, str]:
    return {row.label: row.text for row in look(request, memory).content.rows}


def listings(request: Request, memory: InMemory) -> dict[str, tuple[str, ...]]:
    return {one.title: one.items for one in look(request, memory).content.listings}


# ── what is shown ────────────────────────────────────────────────────────────


def test_the_first_crl_shows_every_entry(world: World) -> None:
    memory = founded(world)
    request = asked(world, entry(0xAB12, "keyCompromise"), entry(7))
    shown = rows(world, request, memory)
    assert shown["Number"] == "1"
    assert shown["Lists"] == "2 certificates"
    assert shown["Changes"] == "2 added"
    assert shown["Reasons"] == "keyCompromise 1, unspecified 1"
    assert shown["Valid"] == "2026-11-23 12:00 → 2026-11-30 11:59 (7 days)"
    (items,) = listings(request, memory).values()
    assert items == (
        "ab12  2026-11-23T10:00:00Z  keyCompromise",
        "07  2026-11-23T10:00:00Z  unspecified",
    )
    text = render(look(request, memory))
    assert "certificate revocation list (CRL)" in text
    assert "CN=Example Root" in text


def test_later_ones_show_what_changed_since_the_last_that_was_approved_here(world: World) -> None:
    memory = founded(world)
    first = (entry(1), entry(2, "certificateHold"), entry(3, "superseded"), entry(4))
    approve(asked(world, *first), memory, "alice")
    request = asked(world, entry(1), entry(3, "keyCompromise"), entry(5), number=2)
    shown = rows(world, request, memory)
    assert shown["Changes"] == "1 added, 1 changed, 1 released, 1 dropped since number 1"
    assert [title.split(" ", 2)[2] for title in listings(request, memory)] == [
        "added",
        "changed, as they are now",
        "released from hold",
        "dropped",
    ]
    flags = heads(world, request, memory)
    assert "1 revoked certificate is off the list" in flags["DROPPED"]
    assert "RELEASED" in flags
    again = asked(world, entry(1), number=3)
    approve(request, memory, "alice")
    assert "2 revoked certificates are" in heads(world, again, memory)["DROPPED"]


def test_the_same_list_with_a_new_number_shows_no_change(world: World) -> None:
    memory = founded(world)
    approve(asked(world, entry(1)), memory, "alice")
    request = asked(world, entry(1), number=2)
    assert rows(world, request, memory)["Changes"] == "none since number 1"
    assert not listings(request, memory)
    assert not heads(world, request, memory)


def test_long_lists_are_counted_and_that_is_said(world: World) -> None:
    memory = founded(world)
    request = asked(world, *(entry(n + 1) for n in range(1200)))
    assert heads(world, request, memory)["NOT SHOWN"] == "200 more added: counted, not listed"
    (items,) = listings(request, memory).values()
    assert len(items) == 1000


# ── what to look at twice ────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [1, 4, 5])
def test_a_number_that_does_not_grow_is_flagged(world: World, number: int) -> None:
    memory = founded(world)
    approve(asked(world, number=5), memory, "alice")
    request = asked(world, entry(1), number=number)
    assert heads(world, request, memory)["NUMBER"].startswith(f"{number} is not greater than 5")
    approve(request, memory, "alice")  # flagged, not refused; and the memory does not go back
    crl = next(iter(memory.crls.values()))
    assert crl.number == 5


def test_the_very_same_crl_is_no_roll_back(world: World) -> None:
    memory = founded(world)
    request = asked(world, entry(1), number=5)
    approve(request, memory, "alice")
    assert not heads(world, request, memory)


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"next_update": NOW + timedelta(days=367)}, "368 DAYS"),
        ({"next_update": NOW + timedelta(days=10)}, "11 DAYS"),
        ({"next_update": NOW + timedelta(minutes=1)}, "EXPIRED"),
        ({"this_update": NOW + timedelta(days=2)}, "FUTURE"),
        ({"this_update": NOW - timedelta(days=8), "next_update": NOW + timedelta(days=1)},
         "BACKDATED"),
        ({"ski": b"other"}, "KEY ID"),
        ({"issuer": name_of("Somebody").public_bytes()}, "ISSUER"),
    ],
)  # fmt: skip
def test_dates_and_issuer(world: World, changes: dict[str, object], head: str) -> None:
    memory = founded(world)
    approve(world.certificate(root_tbs(world.key)), memory, "alice")
    ski = x509.SubjectKeyIdentifier(b"k" * 20)
    issuer = (
        builder(world.key.public_key(), "Example Root", "Example Root")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(ski, critical=False)
        .sign(world.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    sound = replace(asked(world), claims=Claims(issuer=issuer))
    assert not heads(world, sound, memory)
    flags = heads(world, replace(asked(world, **changes), claims=Claims(issuer=issuer)), memory)
    assert head in flags


def test_words_of_the_host_that_the_bytes_belie(world: World) -> None:
    texts = {"number": "2", "entries": "0", "digest": "00" * 32}
    request = replace(asked(world, entry(1)), claims=Claims(texts=texts))
    checked = look(request, founded(world))
    said = [f.text for f in (*checked.flags, *checked.content.flags) if f.head == "CLAIM"]
    assert len(said) == 3


def test_a_revocation_in_the_future_is_flagged(world: World) -> None:
    request = asked(world, entry(1, revoked=NOW + timedelta(days=1)))
    assert "FUTURE" in heads(world, request, founded(world))


# ── what is refused ──────────────────────────────────────────────────────────


def odd_entries() -> dict[str, bytes]:
    serial, date = der.encode_integer(5), der.encode(der.UTC_TIME, b"261123100000Z")

    def with_extension(oid: str, value: bytes, *mark: bytes) -> bytes:
        item = der.encode(
            der.SEQUENCE, der.encode_oid(oid), *mark, der.encode(der.OCTET_STRING, value)
        )
        return der.encode(der.SEQUENCE, serial, date, der.encode(der.SEQUENCE, item))

    late = der.encode(der.GENERALIZED_TIME, b"20261123100000Z")
    return {
        "certificateIssuer": with_extension("2.5.29.29", b"\x30\x00"),
        "unspecified written out": with_extension("2.5.29.21", b"\x0a\x01\x00"),
        "an unknown reason": with_extension("2.5.29.21", b"\x0a\x01\x63"),
        "a critical reason": with_extension("2.5.29.21", b"\x0a\x01\x01", b"\x01\x01\xff"),
        "no reason at all": with_extension("2.5.29.21", b"\x05\x00"),
        "the wrong kind of time": der.encode(der.SEQUENCE, serial, late),
        "a negative serial": der.encode(der.SEQUENCE, der.encode_integer(-5), date),
        "a padded serial": der.encode(der.SEQUENCE, b"\x02\x02\x00\x05", date),
        "no date": der.encode(der.SEQUENCE, serial),
        "no sequence": b"\x31\x00",
    }


@pytest.mark.parametrize("name", odd_entries())
def test_entries_that_say_more_than_is_shown_are_refused(world: World, name: str) -> None:
    refused(asked(world, odd_entries()[name]), founded(world), "content-refused")


def test_one_serial_twice_is_refused(world: World) -> None:
    memory = founded(world)
    refused(asked(world, entry(1), entry(1)), memory, "content-refused")
    twice = asked(world, entry(1), entry(1, "superseded"))
    refused(twice, memory, "content-refused")
    approve(asked(world, entry(1)), memory, "alice")
    refused(replace(twice), memory, "content-refused")


def test_other_fields_than_a_full_crl_has_are_refused(world: World) -> None:
    memory = founded(world)
    whole = tbs(world, entry(1))
    outer = der.read_whole(whole)
    parts = der.children(outer.content)
    listed = der.children(der.read_whole(parts[-1].content).content)
    delta = bytes.fromhex("300d0603551d1b0101ff0403020101")
    odd = {
        "delta": der.encode(0xA0, der.encode(der.SEQUENCE, *(i.raw for i in listed), delta)),
        "unnumbered": der.encode(0xA0, der.encode(der.SEQUENCE, listed[0].raw)),
        "none": b"",
    }
    for extensions in odd.values():
        content = der.encode(der.SEQUENCE, *(p.raw for p in parts[:-1]), extensions)
        refused(world.request("crl", content), memory, "content-refused")
    for content in (whole[:-1], whole + b"\0", b"hello", root_tbs(world.key)):
        refused(world.request("crl", content), memory, "content-refused")
    refused(world.request("certificate", whole), memory, "content-refused")
    refused(world.request("data", whole), memory, "structure-as-data")


def test_a_crl_by_another_algorithm_is_refused(world: World) -> None:
    other = signature_algorithm(world.key.public_key(), "sha384")
    refused(asked(world, algorithm=other), founded(world), "content-refused")


# ── approvals ────────────────────────────────────────────────────────────────


def test_an_approval_is_for_these_bytes_alone(world: World) -> None:
    memory = founded(world)
    request = asked(world, entry(1))
    checked = look(request, memory)
    approval = make_approval(checked, identity("alice"))
    verify_approval(request, approval)
    others = (
        asked(world),
        asked(world, entry(2)),
        asked(world, entry(1), number=2),
        asked(world, entry(1), next_update=NOW + timedelta(days=8)),
    )
    for other in others:
        with pytest.raises(VerificationError):
            verify_approval(other, approval)


# ── size ─────────────────────────────────────────────────────────────────────


def test_a_crl_may_be_long_and_nothing_else(world: World) -> None:
    many = [encode_entry(entry(n + (1 << 120))) for n in range(30_000)]
    request = asked(world, *many)
    data = request.data
    assert len(data) > MAX_REQUEST
    assert parse_request(data).digest == request.digest
    assert sha256(request.content).digest() == request.digest
    document = json.loads(data)
    with pytest.raises(ParseError, match="larger than"):
        parse_request(json.dumps({**document, "kind": "data"}, separators=(",", ":")).encode())
    document["claims"]["reason"] = "x" * (MAX_REQUEST + 1)
    with pytest.raises(ParseError, match="larger than"):
        parse_request(json.dumps(document, separators=(",", ":")).encode())
    with pytest.raises(ParseError, match="larger than"):
        parse_request(b'{"content":"' + b"A" * MAX_CRL_REQUEST + b'"}')


def test_a_crl_that_is_too_long_for_people_is_refused_when_it_is_drawn_up(world: World) -> None:
    content = tbs(world, b"\x30\x82" + (60_000).to_bytes(2, "big") + bytes(60_000))
    long = replace(asked(world), content=content * (MAX_CRL_REQUEST // len(content)))
    assert len(b64encode(long.content)) > MAX_CRL_REQUEST
    with pytest.raises(UsageError, match="at most") as error:
        _ = long.data
    assert "without people" in error.value.hint


def test_many_entries_are_shown_in_seconds(world: World) -> None:
    """A million took 33 s, twice: before the question and before the signature."""
    many = 100_000
    raws = [
        encode_entry(Entry((1 << 120) + n, REVOKED - timedelta(seconds=37 * n), "superseded"))
        for n in range(many)
    ]
    memory, request = founded(world), asked(world, *raws)
    begun = time.process_time()
    assert rows(world, request, memory)["Changes"] == "100,000 added"
    first = time.process_time() - begun
    assert first < 6  # under one on a quiet machine
    begun = time.process_time()
    look(request, memory)
    assert time.process_time() - begun < max(1.0, first)
