"""Words of a malicious host on an approver's screen: they do nothing there, hide nothing, and push
no warning out of sight. Written as root may write a request; no chip is asked.
"""

from __future__ import annotations

import ipaddress
import json
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import groupby

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.approval.doubles import NOW, World, card, identity, leaf_tbs, root_tbs
from tests.approval.looking import founded, look
from tests.attacks.root import declined

from tpmhsm.approval.approve import make_approval, make_denial
from tpmhsm.approval.batch import batch_of, unseen
from tpmhsm.approval.batch import render as render_batch
from tpmhsm.approval.display import pages, render
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Claims, Request, parse_request
from tpmhsm.approval.review import Review
from tpmhsm.approval.screen import width_of, wrap
from tpmhsm.approval.statements import sign_statement
from tpmhsm.approval.tokens import TokenInfo
from tpmhsm.approval.votes import DENIAL_FORMAT
from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.policy.documents import canonical

WORDS = {
    "clear the screen": "\x1b[2J\x1b[H",
    "a title": "\x1b]0;owned\x07",
    "a hyperlink (OSC 8)": "\x1b]8;;http://evil.example\x1b\\www.bank.example\x1b]8;;\x1b\\",
    "the clipboard (OSC 52)": "\x1b]52;c;ZXZpbA==\x07",
    "C1 controls": "\x9b2J\x9d0;owned\x9c",
    "backspaces": "evil\b\b\b\bgood",
    "a carriage return": "evil.example\rgood.example",
    "line ends": "x\nSHA-256   00000000\u2028y\u2029z\x0b\x0c",
    "NUL and DEL": "good\0evil\x7f",
    "right to left override": "\u202egro.elpmaxe\u202c",
    "isolates": "\u2066a\u2067b\u2069",
    "zero width": "pay\u200bpal\u200d\u200c\ufeff\u2060",
    "tags": "x\U000e0041\U000e0042",
    "variation selectors": "a\ufe0fb\U000e0100",
    "blanks": "a\u00a0b\u3000c\u3164d\u2800e",
    "accents by the hundred": "a" + "\u0301" * 300,
    "strokes": "\u0336".join("bank") + "\u20d2",
    "enclosing": "\u20dd".join("bank"),
    "private use": "\ue000\U000f0000",
    "a bell": "\x07" * 40,
}
LOOKS = {
    "Cyrillic": "раураl",
    "all Cyrillic": "сосо",
    "not composed": "cafe\u0301",
    "wide letters": "ｂａｎｋ",
    "a ligature": "ﬁrst",
    "a dot that is none": "www․bank",
    "mathematical": "𝐛ank",
    "Hebrew": "אבגד",
    "Arabic": "مصر",
}


def safe(shown: str) -> None:
    """Nothing on the screen moves a cursor, is invisible, reorders, or covers other lines."""
    for line in shown.split("\n"):
        assert line.isprintable() and width_of(line) <= 80, ascii(line)
        marks = (unicodedata.category(c) == "Mn" for c in line)
        assert all(len(list(run)) <= 3 for is_mark, run in groupby(marks) if is_mark), ascii(line)
        assert not any(unicodedata.category(c) == "Me" for c in line)
        assert not any(unicodedata.combining(c) == 1 for c in line)


def warned(found: Review) -> dict[str, str]:
    return {flag.head: flag.text for flag in (*found.flags, *found.content.flags)}


def der_name(common_name: str) -> bytes:
    attribute = der.encode(
        der.SEQUENCE, der.encode_oid("2.5.4.3"), der.encode(0x0C, common_name.encode())
    )
    return der.encode(der.SEQUENCE, der.encode(der.SET, attribute))


def integer(value: int) -> bytes:
    return der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def tbs(
    subject: str = "www",
    extensions: tuple[bytes, ...] = (),
    serial: int = 0x1234567890ABCDEF1234567890ABCDEF,
    dates: tuple[bytes, bytes] = (b"261123120000Z", b"270221120000Z"),
) -> bytes:
    """A TBSCertificate for somebody's key, in DER made by hand: no library objects to it."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return der.encode(
        der.SEQUENCE,
        der.encode(0xA0, integer(2)),
        integer(serial),
        der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2")),
        der_name("Example Root"),
        der.encode(der.SEQUENCE, *(der.encode(der.UTC_TIME, date) for date in dates)),
        der_name(subject),
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.encode(0xA3, der.encode(der.SEQUENCE, *extensions)) if extensions else b"",
    )


def sans(*names: bytes) -> bytes:
    return der.encode_extension("2.5.29.17", der.encode(der.SEQUENCE, *names))


def dns(name: str) -> bytes:
    return der.encode(0x82, name.encode())


# ── what does something on a terminal ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", WORDS)
def test_words_that_do_something_on_a_terminal(world: World, memory: InMemory, what: str) -> None:
    """In CN, alternative names, every claim of the host, a denial, what a token says of itself."""
    text = WORDS[what]
    inside = der.encode(0xA4, der_name(text))  # a directoryName, which takes any character
    odd = {"reason": text, "by": text, "profile": text, "texts": {text: text, "subject": text}}
    denial = make_denial(world.certificate(), identity("bob"), "bob", f"no {text}")
    request = world.certificate(
        tbs(text, (sans(inside, dns("a.example")),)), claims=Claims(**odd), denials=()
    )
    found = look(request, memory)
    safe(render(found))
    assert "LOOK-ALIKE" in warned(found) or "NAME" in warned(found)
    safe(render(look(replace(world.certificate(), denials=(denial,)), memory)))
    token = TokenInfo(text, text, text, text, (text,))
    safe("\n".join(wrap(f"{token.words} {token.unproven}", 80)))
    document = json.loads(request.data)
    names = ((document["key"], "label"), (document["group"], "name"), (document["device"], "label"))
    for part, name in names:  # names of keys, groups and devices are held to more
        kept, part[name] = part[name], f"x{text}"
        with pytest.raises(ParseError):
            parse_request(canonical(document))
        part[name] = kept


@pytest.mark.parametrize("what", LOOKS)
def test_names_that_look_like_others(world: World, memory: InMemory, what: str) -> None:
    """Letters of other scripts and forms, other orders of the same text: shown, and warned of."""
    text = LOOKS[what]
    found = look(world.certificate(tbs(text)), memory)
    assert text[:40] in warned(found)["LOOK-ALIKE"]
    claimed = look(world.certificate(tbs("bank.example")), memory)
    assert "LOOK-ALIKE" not in warned(claimed)


# ── what would push the truth out of sight ───────────────────────────────────────────────────────

HARMLESS = [f"host{i}.example.com" for i in range(9_000)]
HARMLESS += [f"xn--mnchen{i}-3ya.example" for i in range(500)]
HARMLESS += [f"*.intern{i}.sites.example.com" for i in range(499)]
DANGEROUS = {
    "*.com": "WILDCARD",
    "a\x1b[2Jb.example": "LOOK-ALIKE",
    "xn--exmple-4nf.com": "LOOK-ALIKE",
}


@pytest.mark.parametrize("name", DANGEROUS, ids=ascii)
def test_one_name_among_ten_thousand(world: World, memory: InMemory, name: str) -> None:
    """The one that matters is warned of by name on the first page, and listed before the others;
    the question comes after the last page; all of it in two seconds.
    """
    names = [*HARMLESS[:7000], name, *HARMLESS[7000:]]
    assert len(names) == 10_000
    request = world.certificate(tbs(extensions=(sans(*map(dns, names)),)))
    data = request.data
    began = time.process_time()
    found = look(parse_request(data), memory)
    shown = pages(found)
    assert time.process_time() - began < 2
    first = shown[0].text
    escaped = name.replace("\x1b", r"\u{1b}")
    assert f"! {DANGEROUS[name]}" in first and f"dns:{escaped}" in first
    assert "! 10,000 NAMES" in first
    everything = "\n".join(page.text for page in shown)
    safe(everything)
    assert everything.count(f"dns:{escaped}") >= 2
    assert all(f"dns:{one}" in everything for one in HARMLESS[::97])
    assert all("SHA-256" not in page.text for page in shown[:-1])
    assert request.digest.hex()[:8] in shown[-1].text


def other_denials(request: Request) -> list[object]:
    honest = json.loads(make_denial(request, identity("bob"), "bob", "no").data)
    spki = json.loads(card("mallory").data)["spki"]
    body = {k: v for k, v in honest.items() if k != "signature"}
    stranger = sign_statement(
        identity("mallory"), DENIAL_FORMAT, {**body, "approver": "m", "spki": spki}
    )
    return [json.loads(stranger)] * 1200


def other_approvals(world: World, request: Request) -> list[object]:
    bobs = make_approval(look(request, founded(world, "bob"), "bob"), identity("bob"))
    return [{**bobs.document(), "signatures": []}] * 800


FLOODS: dict[str, Callable[[World, Request], dict[str, object]]] = {
    "strangers' denials": lambda _, r: {"denials": other_denials(r)},
    "approvals that do not hold": lambda w, r: {"approvals": other_approvals(w, r)},
    "cards": lambda w, r: {"cards": [json.loads(card("mallory").data)] * 1200},
    "a subject": lambda w, r: claim(texts={"subject": "x" * 700_000}),
    "a date": lambda w, r: claim(texts={"not_after": "y\n" * 100_000}),
    "a reason": lambda w, r: claim(reason="All is well. " * 50_000),
    "claims": lambda w, r: claim(texts={f"c{i}": "y" * 9 for i in range(30_000)}),
    "who asks": lambda w, r: claim(by="z\u0301" * 200_000),
}


def claim(**words: object) -> dict[str, object]:
    empty = {"reason": "", "by": "", "profile": "", "profile_days": 0, "csr": "", "issuer": ""}
    return {"claims": {**empty, "texts": {}, **words}}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_of_words(world: World, memory: InMemory, what: str) -> None:
    """A megabyte of claims, denials or approvals: the warnings about the bytes stay in sight."""
    request = world.certificate()
    document = {**json.loads(request.data), **FLOODS[what](world, request)}
    began = time.process_time()
    found = look(parse_request(canonical(document)), memory)
    shown = pages(found)
    assert time.process_time() - began < 5
    assert "CA:TRUE" in shown[0].text and "CN=Example Root" in shown[0].text
    assert len(shown) <= 4, len(shown)
    safe("\n".join(page.text for page in shown))


NAMES = {
    "a name of 700,000 letters": lambda: tbs("a" * 700_000, (sans(dns("*.com")),)),
    "accents": lambda: tbs("e" + "\u0301" * 300_000, (sans(dns("*.com")),)),
    "an alternative name": lambda: tbs("www", (sans(dns("b" * 700_000), dns("*.com")),)),
    "overrides": lambda: tbs("\u202e" * 100_000, (sans(dns("*.com")),)),
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_of_a_megabyte(world: World, memory: InMemory, what: str) -> None:
    """Shown in full, after the warnings."""
    request = world.certificate(NAMES[what]())
    began = time.process_time()
    shown = pages(look(request, memory))
    assert time.process_time() - began < 12
    assert "! LONG" in shown[0].text and "! WILDCARD     dns:*.com" in shown[0].text
    assert len(shown) > 100


def test_more_than_a_denial_says(world: World) -> None:
    """A reason of a megabyte is no denial: neither host nor approver reads it."""
    denial = json.loads(make_denial(world.certificate(), identity("bob"), "bob", "no").data)
    body = {k: v for k, v in denial.items() if k != "signature"}
    long = sign_statement(identity("bob"), DENIAL_FORMAT, {**body, "reason": "x" * 100_000})
    document = {**json.loads(world.certificate().data), "denials": [json.loads(long)]}
    with pytest.raises(ParseError, match="more than 1000 characters") as caught:
        parse_request(canonical(document))
    assert caught.value.code == "parse"


# ── names of odd kinds ───────────────────────────────────────────────────────────────────────────


def test_alternative_names_of_odd_kinds(world: World, memory: InMemory) -> None:
    """Shown as what they are, or refused when they cannot be shown (content-refused)."""
    upn = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05admin")
    unknown = x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x04evil")
    fine = [
        *(upn, unknown, x509.RegisteredID(x509.ObjectIdentifier("1.2.840.9"))),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.UniformResourceIdentifier("https://evil.example/%1b]8;;"),
    ]
    shown = render(look(world.certificate(leaf_tbs(world.key, fine)), memory))
    for text in ("upn:admin", "1.2.3.4", "04046576696c", "1.2.840.9", "ip:10.0.0.1", "%1b]8;;"):
        assert text in shown.replace("\n          ", ""), text
    odd = {
        "x400Address": b"\xa3\x02\x30\x00",
        "ediPartyName": b"\xa5\x06\xa1\x04\x0c\x02hi",
        "an address of three octets": b"\x87\x03abc",
        "no kind": b"\x89\x03abc",
        "Latin-1": b"\x82\x05a\xe9bcd",
        "a length that is not minimal": b"\x82\x81\x03abc",
        "a length beyond the end": b"\x82\x7fabc",
    }
    for what, name in odd.items():
        with declined("content-refused"):
            look(world.certificate(tbs(extensions=(sans(name),))), memory), what
    assert warned(look(world.certificate(tbs(extensions=(sans(),))), memory))["ODD"]


# ── people ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["аlice", "aIice", "al1ce", "alicе", "а\u0301lice", "bob-"])
def test_a_newcomer_whose_name_looks_like_anothers(world: World, name: str) -> None:
    """Whoever reads two names as one counts one person less. Said with both names."""
    memory = founded(world)
    memory.cards.append(card(name))
    flags = [
        flag.text
        for flag in look(world.change("alice", "bob", name), memory).content.flags
        if flag.head == "LOOK-ALIKE"
    ]
    like = "bob" if name.startswith("bob") else "alice"
    assert any(like in text and name in text and "look alike" in text for text in flags), flags
    plain = founded(world)
    plain.cards.append(card("dave"))
    other = look(world.change("alice", "bob", "dave"), plain)
    assert "LOOK-ALIKE" not in warned(other) and "dave" in warned(other)["NEW OFFICER"]


def changed_to(world: World, content: bytes) -> Request:
    """Any bytes as the next roster, with the chip's word for them."""
    state = world.chip.state(world.group, world.roster, content, 1)
    return world.request("roster", content, state=state)


def test_one_person_hidden_behind_two(world: World) -> None:
    """The same name twice, one key under two names: no roster."""
    request = world.change("alice", "bob", "carol")
    assert look(request, founded(world)).acts
    asked = json.loads(request.content)
    members = asked["officers"][0]["members"]
    for changed in (
        [members[0], members[0], members[2]],
        [members[0], {**members[0], "name": "zoe"}, members[2]],
        [members[0], {**members[1], "name": "alice"}, members[2]],
        [members[0], members[1], {**members[2], "name": "carol\u200b"}],
    ):
        asked["officers"][0]["members"] = changed
        with pytest.raises(ParseError) as caught:
            look(changed_to(world, canonical(asked)), founded(world))
        assert caught.value.code == "parse"


# ── times and numbers ────────────────────────────────────────────────────────────────────────────


def test_times_that_are_not_now(world: World, memory: InMemory) -> None:
    """A request from the future, one that never ends, a certificate of the past: said."""
    far = world.certificate(created=NOW + timedelta(days=30_000), expires=NOW.replace(year=2999))
    assert {"CLOCK", "EXPIRY"} <= warned(look(far, memory)).keys()
    past = world.certificate(tbs(dates=(b"160101000000Z", b"170101000000Z")))
    assert {"BACKDATED", "EXPIRED"} <= warned(look(past, memory)).keys()
    backwards = world.certificate(tbs(dates=(b"280101000000Z", b"270101000000Z")))
    assert "NEVER VALID" in warned(look(backwards, memory))
    honest = warned(look(world.certificate(), memory))
    assert not {"CLOCK", "EXPIRY", "BACKDATED", "EXPIRED", "NEVER VALID"} & honest.keys()


def test_serials_that_are_none(world: World, memory: InMemory) -> None:
    """Zero, one, negative, of a thousand octets: said. One that was used before is not noticed:
    an approver's home keeps names and keys, no serials. It stands on the screen in full.
    """
    for serial in (0, 1, -5):
        assert "SERIAL" in warned(look(world.certificate(tbs(serial=serial)), memory)), serial
    assert "octets" in warned(look(world.certificate(tbs(serial=1 << 8000)), memory))["ODD"]
    kept = founded(world)
    for subject in ("first", "second"):
        found = look(world.certificate(tbs(subject)), kept)
        kept.keep(found.entries)
        assert "12345678 90abcdef 12345678 90abcdef" in render(found)
        assert "SERIAL" not in warned(found)


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


def test_a_dangerous_one_in_a_batch(world: World, memory: InMemory) -> None:
    """Eleven servers and a CA that looks like one: the warnings name it, the digits are of all,
    and what shows up between looking and signing (changed-since) is not approved.
    """
    harmless = [leaf_tbs(world.key, [x509.DNSName(f"w{i}.example")]) for i in range(11)]
    contents = [*harmless[:7], root_tbs(world.key), *harmless[7:]]
    requests = [world.certificate(c, id=100 + i) for i, c in enumerate(contents)]
    reviews = [look(request, memory) for request in requests]
    batch = batch_of(reviews)
    shown = render_batch(batch)
    safe(shown)
    (line,) = [one for one in shown.split("\n") if "! CA:TRUE" in one]
    assert "[107]" in line
    flat = shown.replace("\n", "").replace(" ", "")
    assert all(request.digest.hex() in flat for request in requests)
    assert batch_of(reviews[:-1]).code != batch.code != batch_of(reviews[::-1]).code
    swapped = look(world.certificate(tbs(extensions=(sans(dns("*.com")),)), id=100), memory)
    assert any("*.com" in words for words in unseen(reviews[0], swapped))


# ── a structure inside another ───────────────────────────────────────────────────────────────────


def test_a_structure_inside_another(world: World, memory: InMemory) -> None:
    """A TBSCertificate with more behind it, or in BER: structure-as-data. Inside an OCTET STRING or
    behind other octets no verifier takes the signature for one over it: shown as bytes, in full.
    """
    inner = root_tbs(world.key)
    indefinite = b"\x30\x80" + der.read_whole(inner).content + b"\0\0"
    long_length = b"\x30\x84" + len(der.read_whole(inner).content).to_bytes(4, "big")
    for data in (
        inner,
        inner + b"\0" * 100,
        inner + inner,
        indefinite,
        long_length + der.read_whole(inner).content,
        inner[:-1],
    ):
        with declined("structure-as-data"):
            look(world.request("data", data), memory)
    for data in (b"\x04" + der.encode(der.OCTET_STRING, inner)[1:], b"%PDF-1.7\n" + inner):
        found = look(world.request("data", data), memory)
        assert "NOT TEXT" in warned(found)
        assert sha256(data).digest() == found.request.digest
        assert inner.hex()[:40] in render(found).replace("\n", "").replace(" ", "") or "0000" in (
            render(found)
        )
