"""What a person sees: everything, in 80 columns, with nothing hidden."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.approval.doubles import CA_USAGE, NOW, World, builder, csr_der, leaf_tbs, tbs_of
from tests.approval.looking import approve, founded, look

from tpmhsm.approval.display import code_of, pages, question, render
from tpmhsm.approval.paging import Page, Part, paged
from tpmhsm.approval.request import Claims
from tpmhsm.approval.screen import readable, suspicions, width_of, wrap
from tpmhsm.errors import UsageError
from tpmhsm.policy.documents import check_label
from tpmhsm.policy.visible import escape

SECTIONS = (
    "── decoded here, from the bytes you sign ──",
    "── the host claims (unchecked) ──",
    "── your signature ──",
)


def test_an_intermediate_as_in_the_manual(world: World) -> None:
    """The screen of the manual, part by part."""
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    key = ec.generate_private_key(ec.SECP256R1())
    limits = x509.NameConstraints([x509.DNSName("example.com")], None)
    made = (
        builder(key.public_key(), "Example Issuing 2", "Example Root", 1826)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(limits, critical=True)
    )
    claims = Claims(
        reason="replace Issuing 1",
        by="carol",
        profile="intermediate",
        profile_days=1096,
        csr=csr_der(key, "Example Issuing 2", [x509.DNSName("x.example")]),
    )
    request = world.certificate(tbs_of(made, world.key), claims=claims)
    request = approve(request, founded(world, "bob"), "bob")
    checked = look(request, memory)
    shown = render(checked)
    digest = request.digest.hex()
    for text in (
        "APPROVE 7 · intermediate CA certificate ",
        "alice, file test.key",
        *SECTIONS,
        "Subject   CN=Example Issuing 2,O=Example",
        "Issuer    CN=Example Root,O=Example",
        'signing key "root": PINNED',
        "Valid     2026-11-23 → 2031-11-23 (1826 days)",
        "never certified before",
        "Usage     keyCertSign cRLSign, CA:TRUE, pathlen 0",
        "Names     only dns:example.com",
        "! CA:TRUE      can issue names under dns:example.com",
        "! 1,826 DAYS   profile says 1,096",
        "Δ CSR          + CA:TRUE, − dns:x.example",
        "name constraint",
        'Reason    "replace Issuing 1", carol',
        f'Allows    these {len(request.content)} bytes under "root", nothing else, epoch 1 only',
        "Count     1 of 2 (bob, verified); yours completes it",
        f"SHA-256   {digest[:8]} {digest[8:16]}",
    ):
        assert text in shown, f"{text}\n\n{shown}"
    assert shown.index(SECTIONS[0]) < shown.index(SECTIONS[1]) < shown.index(SECTIONS[2])
    assert question(checked) == f"Type {digest[:4]} to sign: " and code_of(checked) == digest[:4]
    assert digest in shown.replace("\n          ", " ").replace(" ", "")


def test_first_use_shows_the_words_to_compare(world: World) -> None:
    checked = look(world.founding(), world.memory())
    assert " ".join(checked.group.fingerprint) in render(checked)
    assert "aloud" in render(checked)
    assert "aloud" not in render(look(world.certificate(), founded(world)))


def test_ten_thousand_names_are_counted_paged_and_all_there(world: World) -> None:
    names = [x509.DNSName(f"host{i}.example.com") for i in range(10_000)]
    checked = look(world.certificate(leaf_tbs(world.key, names)), founded(world))
    found = pages(checked, height=24)
    shown = [page.text for page in found]
    assert all(len(page.split("\n")) <= 24 for page in shown)
    assert found[0].to_come == ("all 10,000 names", "the host's claims", "your signature")
    assert found[-1].to_come == ()
    prompt = found[0].prompt(1, 421, 80)
    assert len(prompt) < 80 and "; to come: 3 parts, then your signature; Enter" in prompt
    assert "10,000 in all" in shown[0] and "! 10,000 NAMES" in shown[0]
    everything = "\n".join(shown)
    assert everything == render(checked)
    for i in (0, 1, 4999, 9999):
        assert re.search(rf"^ *{i + 1}  dns:host{i}\.example\.com$", everything, re.M)
    assert SECTIONS[2][:20] in shown[-1] and "SHA-256" in shown[-1]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=6),
    height=st.integers(4, 40),
)
def test_pages_drop_nothing_and_name_what_comes(sizes, height):
    parts = [
        Part(f"part {n}", tuple(f"{n}.{i}" for i in range(size)), whole)
        for n, (size, whole) in enumerate(sizes)
    ]
    found = paged(parts, height)
    lines = [page.text.split("\n") for page in found]
    assert [line for page in lines for line in page] == [x for p in parts for x in p.lines]
    assert all(len(page) <= height for page in lines)
    for number, page in enumerate(found, 1):
        after = {f"part {line.split('.')[0]}" for later in lines[number:] for line in later}
        assert set(page.to_come) == after
        assert len(page.prompt(number, len(found), 80)) < 80
    for part in parts:
        if part.whole and len(part.lines) <= height:
            assert any(set(part.lines) <= set(page) for page in lines)


def test_a_text_is_shown_to_its_end(world: World) -> None:
    """What stands behind the first screen is signed as well."""
    lines = [f"{i} bottles of beer" for i in range(900)]
    lines[700] = "I owe Mallory a million  "
    lines[800] = "hidden\tby a tab, " + "and long " * 30 + "end"
    checked = look(world.request("data", "\n".join(lines).encode()), founded(world))
    everything = "\n".join(page.text for page in pages(checked))
    for i in (0, 400, 899):
        assert re.search(rf"^ *{i + 1}  {i} bottles of beer$", everything, re.M)
    assert r"701  I owe Mallory a million\u{20}\u{20}" in everything
    assert r"801  hidden\u{9}by a tab" in everything and "long end" in everything
    assert "all 900 lines" in everything and "no line end at its end" in everything
    assert "NOT SHOWN" not in everything


def test_line_ends_are_said(world: World) -> None:
    shown = render(look(world.request("data", b"a\r\nb\r\n"), founded(world)))
    assert "CR LF" in shown and "all 2 lines" in shown and r"\u{d}" not in shown
    mixed = render(look(world.request("data", b"pay 1\rpay 2\r\nb\n"), founded(world)))
    assert r"1  pay 1\u{d}pay 2\u{d}" in mixed
    assert "all 2 lines" in render(look(world.request("data", b"a\n\n"), founded(world)))


def test_other_files_are_shown_in_hex_and_the_rest_is_said(world: World) -> None:
    small = render(look(world.request("data", b"\xff" * 4096), founded(world)))
    assert "all bytes in hex" in small and "NOT SHOWN" not in small
    assert small.count("ffff") == 2048
    large = render(look(world.request("data", b"\xff" * 4097), founded(world)))
    assert "! NOT SHOWN    the last 1 bytes; only SHA-256 identifies them" in large
    assert "the first 4,096 bytes in hex" in large


def test_a_short_request_is_one_page(world: World) -> None:
    checked = look(world.certificate(), founded(world))
    assert pages(checked, height=40) == [Page(render(checked))]


def test_the_host_cannot_scroll_the_truth_away(world: World) -> None:
    claims = Claims(
        reason="line\n" * 5000,
        by="\x1b[2J\x1b[H" * 100,
        texts={f"claim{i}": "x" * 5000 for i in range(40)},
    )
    shown = render(look(world.certificate(claims=claims), founded(world)))
    assert shown.count("\n") < 150
    assert "more characters" in shown
    assert "\x1b" not in shown


def test_the_host_cannot_make_parts_of_the_screen(world: World) -> None:
    texts = {"── your": "signature ───", "! SAFE": "sign at once", "a" * 30: "long", "file": "f"}
    shown = render(look(world.certificate(claims=Claims(texts=texts)), founded(world)))
    assert "Also      ── your: signature" in shown and "Also      ! SAFE: sign" in shown
    assert f"Also      {'a' * 30}: long" in shown and "File      f" in shown


def test_claims_that_agree_are_not_repeated(world: World) -> None:
    request = world.certificate()
    agreed = {"digest": request.digest.hex(), "subject": "CN=Example Root,O=Example"}
    shown = render(look(replace(request, claims=Claims(texts=agreed)), founded(world)))
    assert "Digest" not in shown and shown.count("Subject") == 1 and "CLAIM" not in shown
    other = {**agreed, "subject": "CN=Other"}
    shown = render(look(replace(request, claims=Claims(texts=other)), founded(world)))
    assert "! CLAIM        the host says the subject is CN=Other" in shown


def test_what_a_signature_is_good_for_stands_on_every_screen(world: World) -> None:
    """Which rule it counts towards, and what it cannot be used for."""
    shown = render(look(world.certificate(), founded(world)))
    assert "Policy    quorum(officers): 2 of 3 (alice, bob, carol)" in shown
    assert "Not       for other bytes or keys, in another epoch, to grant, open or decr" in shown
    shown = render(look(world.founding(), world.memory()))
    assert 'Policy    custodians of "officers": 2 of 3 (alice, bob, carol)' in shown
    assert "Not       for another group, chip or roster, to sign" in shown


def test_devices_are_what_the_host_says_unless_a_card_came_from_outside(world: World) -> None:
    device = replace(world.chip.card, kind="hardware", label="fort knox")
    shown = render(look(world.founding(device=device), world.memory()))
    first, claims = shown.split(SECTIONS[1])
    assert "fort knox" not in first and "! UNPROVEN" in first
    assert "fort knox, hardware" in claims
    memory = world.memory()
    memory.devices = [world.chip.card]
    first = render(look(world.founding(device=device), memory)).split(SECTIONS[1])[0]
    assert "host, software TPM" in first and "! SOFTWARE TPM" in first


ODD = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"])
    | st.sampled_from("\u202e\u2066\x1b\n\r\t\u200b\u00ad\u3000漢́"),
    max_size=200,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(reason=ODD, by=ODD, text=ODD)
def test_every_line_fits_and_hides_nothing(reason: str, by: str, text: str) -> None:
    world, memory = _home()
    claims = Claims(reason=reason, by=by, texts={"note": text})
    for line in render(look(world.certificate(_CONTENT[0], claims=claims), memory)).split("\n"):
        assert width_of(line) <= 80, line
        assert not {unicodedata.category(c) for c in line} & {"Cc", "Cf", "Zl", "Zp", "Cs"}


_HOME: list = []
_CONTENT: list[bytes] = []


def _home():  # type: ignore[no-untyped-def]
    if not _HOME:
        world = World()
        _HOME.append((world, founded(world)))
        _CONTENT.append(leaf_tbs(world.key, [x509.DNSName("a.example")]))
    return _HOME[0]


@given(st.text(max_size=300), st.integers(10, 100))
def test_wrapping_loses_only_spaces(text: str, width: int) -> None:
    safe = escape(text)
    lines = wrap(safe, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == safe.replace(" ", "")


@given(st.text())
def test_escaping_leaves_nothing_that_moves_the_cursor(text: str) -> None:
    assert escape(text).isprintable()


def test_one_form_for_hidden_characters() -> None:
    assert readable(r"CN=a\E2\80\AEb") == r"CN=a\u{202e}b"
    assert readable(r"dns:a\u202eb\x00") == r"dns:a\u{202e}b\u{0}"
    assert readable(r"CN=a\\41") == r"CN=a\\41"
    assert readable("CN=a\u202eb\u00a0") == r"CN=a\u{202e}b\u{a0}"


INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u180b\u180f\u200b\u2060\u206f\u2800\u3164"
    "\ufe00\ufe0f\uffa0\U000e0041\U000e0100"
)


@pytest.mark.parametrize("hidden", INVISIBLE, ids=ascii)
def test_what_a_font_shows_as_nothing_is_written_out(hidden: str) -> None:
    """Unicode counts some of these as letters and marks, and Python as printable."""
    assert escape(f"a{hidden}b") == f"a\\u{{{ord(hidden):x}}}b"
    assert suspicions(readable(f"CN=a{hidden}b"))
    with pytest.raises(UsageError):
        check_label(f"a{hidden}b", "the name")
    assert check_label("Ünïcode ⠁", "the name") == "Ünïcode ⠁"


def test_suspicions_are_few() -> None:
    for fine in (
        "CN=Example Root,O=Example",
        "dns:www.example.com",
        "CN=Université de Genève",
        "CN=Ελληνική Δημοκρατία",
        "CN=Московский университет",
        "CN=東京カタカナひらがな",
    ):
        assert suspicions(fine) == [], fine
    assert NOW.tzinfo is not None
