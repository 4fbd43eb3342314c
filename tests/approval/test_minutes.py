"""Minutes of a ceremony: what holds in them, what is refused, and what people see of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from tests.approval.doubles import NOW, World, card, threshold
from tests.approval.meetings import approved, minutes_of

from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.minutes import (
    LONG,
    ActMinutes,
    CertificateMinutes,
    Minutes,
    Note,
    Step,
    is_minutes,
    parse_minutes,
)
from tpmhsm.approval.minutes_check import check_minutes
from tpmhsm.approval.minutes_page import minutes_in, render_minutes
from tpmhsm.approval.minutes_pdf import Fonts, attached_in, find_fonts, producer, write_pdf
from tpmhsm.approval.minutes_words import words_of
from tpmhsm.attest.verdicts import QUESTIONS
from tpmhsm.errors import ParseError, TpmHsmError, UsageError, VerificationError

HOSTILE = '</td></table><script>alert(1)</script><img src=x onerror="alert(2)">\u202eevil\x1b[2J'


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def minutes(world: World) -> Minutes:
    return minutes_of(world)


def refused(minutes: Minutes) -> VerificationError:
    """Why the signatures do not hold, after the file was written and read."""
    with pytest.raises(VerificationError) as error:
        check_minutes(parse_minutes(minutes.data))
    assert error.value.code != "refused"
    return error.value


def edited(minutes: Minutes, edit: Callable[[Any], object]) -> bytes:
    document = json.loads(minutes.data)
    edit(document)
    return json.dumps(document).encode()


# ── the document ─────────────────────────────────────────────────────────────


def test_they_are_read_as_they_were_written(minutes: Minutes) -> None:
    again = parse_minutes(minutes.data)
    assert again == minutes and again.data == minutes.data and again.digest == minutes.digest
    assert is_minutes(minutes.data) and not is_minutes(b"{}") and not is_minutes(b"\xff")
    checked = check_minutes(again)
    assert [one.approvers for one in checked.acts] == [("alice", "bob")] * 2
    assert [one.needed for one in checked.acts] == [2, 2]
    assert checked.approved == (1,) and checked.approvers == ("alice", "bob")
    assert len(set(again.words)) > 1 and len(again.words) == 8


@pytest.mark.parametrize("part", ["title", "group", "cards", "acts", "steps", "notes", "evidence"])
def test_what_is_missing_or_more_is_refused(minutes: Minutes, part: str) -> None:
    if part != "evidence":
        with pytest.raises(ParseError, match=part):
            parse_minutes(edited(minutes, lambda d: d.pop(part)))
    for wrong in (7, None, "words", [[]], {"x": 1}, [7]):
        if (part, wrong) == ("title", "words"):
            continue
        with pytest.raises(ParseError):
            parse_minutes(edited(minutes, lambda d, wrong=wrong: d.update({part: wrong})))
    with pytest.raises(ParseError, match="unknown fields"):
        parse_minutes(edited(minutes, lambda d: d.update(more=1)))


def test_nothing_of_them_makes_other_errors_than_ours(minutes: Minutes) -> None:
    """Each value of the document in turn is something else."""
    paths: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        paths.append(path)
        for key, inner in (
            value.items()
            if isinstance(value, dict)
            else enumerate(value if isinstance(value, list) else ())
        ):
            walk(inner, (*path, key))

    document = json.loads(minutes.data)
    walk({key: value for key, value in document.items() if key != "acts"}, ())
    walk(document["acts"][1], ("acts", 1))
    for path in paths:
        for other in (None, -1, "\ud800", "é" * 50, [], {}):
            changed = json.loads(minutes.data)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if not path:
                continue
            inner[path[-1]] = other
            try:
                check_minutes(parse_minutes(json.dumps(changed).encode()))
            except TpmHsmError as error:
                assert error.message


@pytest.mark.parametrize(
    "changes",
    [
        {"title": ""},
        {"title": "x" * 50_000},
        {"place": "x" * 50_000},
        {"witnesses": ("x" * 50_000,)},
        {"witnesses": (" ",)},
        {"steps": (Step(NOW, "x" * 50_000),)},
        {"steps": (Step(NOW, "x", "y" * (LONG + 1)),)},
        {"notes": (Note(NOW, "note", "y" * 50_000),)},
        {"notes": (Note(NOW, "rumour", "y"),)},  # type: ignore[arg-type]
        {"ended": NOW - timedelta(seconds=1)},
    ],
)
def test_what_cannot_be_in_minutes(minutes: Minutes, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(minutes, **changes)


def test_another_chip_is_not_the_groups(minutes: Minutes) -> None:
    with pytest.raises(UsageError, match="not the group's"):
        replace(minutes, device=World().chip.card)


# ── signatures ───────────────────────────────────────────────────────────────


def test_an_altered_signature_is_refused(minutes: Minutes) -> None:
    act = minutes.acts[1]
    first, *others = act.request.approvals
    wrong = bytearray(first.signatures[0].signature)
    wrong[-1] ^= 1
    forged = replace(first, signatures=(replace(first.signatures[0], signature=bytes(wrong)),))
    request = replace(act.request, approvals=(forged, *others))
    error = refused(replace(minutes, acts=(minutes.acts[0], replace(act, request=request))))
    assert error.code == "bad-signature" and "alice" in error.message


def test_other_bytes_than_were_approved_are_refused(world: World, minutes: Minutes) -> None:
    act, other = minutes.acts[1], minutes_of(world, subject=("Evil Root",))
    request = replace(act.request, content=other.acts[1].request.content)
    changed = replace(minutes, acts=(minutes.acts[0], replace(act, request=request)))
    assert refused(changed).code == "other-bytes"
    # with the digest in the approval made to fit, the signature is over something else
    lies = tuple(replace(one, digest=request.digest) for one in request.approvals)
    request = replace(request, approvals=lies)
    changed = replace(minutes, acts=(minutes.acts[0], replace(act, request=request)))
    assert refused(changed).code == "other-act"


def test_the_wrong_person_is_refused(minutes: Minutes) -> None:
    act = minutes.acts[1]
    first, second = act.request.approvals
    swapped = (replace(first, approver="carol"), second)
    request = replace(act.request, approvals=swapped)
    changed = replace(minutes, acts=(minutes.acts[0], replace(act, request=request)))
    with pytest.raises(VerificationError, match=r"carol.*alice"):
        check_minutes(changed)


def test_a_card_of_somebody_else_is_refused(minutes: Minutes) -> None:
    from tests.approval.doubles import identity

    alice, *others = minutes.cards
    impostor = parse_card(create_card("alice", identity("mallory")))
    assert refused(replace(minutes, cards=(impostor, *others))).code == "wrong-person"
    assert refused(replace(minutes, cards=(alice, *others, card("mallory")))).code == "wrong-person"
    assert refused(replace(minutes, cards=tuple(others))).code == "wrong-person"
    assert refused(replace(minutes, cards=(alice, alice, *others))).code == "wrong-person"
    renewed = parse_card(create_card("alice", identity("alice")))  # another contribution
    assert refused(replace(minutes, cards=(renewed, *others))).code == "wrong-person"


def test_too_few_approvals_are_refused(world: World, minutes: Minutes) -> None:
    act = minutes.acts[1]
    request = approved(act.request, "alice")
    few = replace(minutes, acts=(minutes.acts[0], replace(act, request=request)))
    error = refused(few)
    assert error.code == "too-few" and "bob" in error.message
    # what was not carried out may lack approvals, and has no certificate
    waits = replace(minutes, acts=(minutes.acts[0], ActMinutes(request, None)), certificates=())
    assert check_minutes(waits).acts[1].approvers == ("alice",)
    # one person twice is one person
    twice = replace(request, approvals=request.approvals * 2)
    again = replace(minutes, acts=(minutes.acts[0], replace(act, request=twice)))
    assert refused(again).code == "too-few"


def test_acts_of_another_group_are_refused(minutes: Minutes) -> None:
    other = minutes_of(World())
    mixed = replace(minutes, acts=(minutes.acts[0], other.acts[1]))
    assert refused(mixed).code == "other-group"
    assert refused(replace(minutes, acts=minutes.acts[1:])).code == "act-missing"


def test_keys_and_certificates_are_those_of_the_acts(world: World, minutes: Minutes) -> None:
    assert refused(replace(minutes, keys=())).code == "not-the-key"
    key = replace(minutes.keys[0], policy="budget(officers)")
    assert check_minutes(replace(minutes, keys=(key,)))  # recomputed: it is quorum(officers)
    free = replace(minutes.keys[0], public=world.key_public(bytes(32)))
    assert refused(replace(minutes, keys=(free,))).code == "not-the-key"
    assert refused(replace(minutes, certificates=())).code == "act-missing"
    other = minutes_of(world, subject=("Other Root",)).certificates
    assert refused(replace(minutes, certificates=(*minutes.certificates, *other))).code == (
        "not-approved"
    )
    stranger = minutes_of(World()).certificates
    more = replace(minutes, certificates=(*minutes.certificates, *stranger))
    assert refused(more).code == "not-the-key"
    broken = minutes.certificates[0].der[:-1] + bytes([minutes.certificates[0].der[-1] ^ 1])
    forged = replace(minutes, certificates=(CertificateMinutes("root-ca", broken),))
    assert refused(forged).code == "not-signed"


def test_a_key_whose_birth_the_chip_did_not_certify_is_refused(minutes: Minutes) -> None:
    act = minutes.acts[1]
    assert act.request.key is not None
    part = replace(act.request.key, signature=World().key_part().signature)
    request = replace(act.request, key=part)
    changed = replace(minutes, acts=(minutes.acts[0], replace(act, request=request)))
    with pytest.raises(VerificationError):
        check_minutes(changed)


# ── the page ─────────────────────────────────────────────────────────────────


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_all_of_it_and_carries_its_document(minutes: Minutes) -> None:
    page = render_minutes(check_minutes(minutes))
    assert minutes_in(page.encode()) == minutes.data
    assert page == render_minutes(check_minutes(parse_minutes(minutes.data)))
    text = Page(page).text
    for part in ("Founding of officers", "Room 101", "alice", "bob", "carol", "Wendy",
                 "2 of 3 (alice, bob, carol)", " · ".join(minutes.words), "Example Root",
                 "quorum(officers)", "The projector failed.", "step 2", "software TPM",
                 *QUESTIONS.values()):  # fmt: skip
        assert part in text, part
    for digest in (minutes.digest, minutes.group.id, minutes.roster.hash, minutes.keys[0].name,
                   minutes.device.ak_name, *(one.digest for one in minutes.cards),
                   *(act.request.digest for act in minutes.acts)):  # fmt: skip
        assert digest.hex() in text.replace(" ", ""), digest.hex()


def hostile(world: World) -> Minutes:
    return minutes_of(
        world,
        subject=(HOSTILE, "long " * 2000),
        title=HOSTILE,
        place=HOSTILE,
        maker=HOSTILE,
        program=HOSTILE,
        witnesses=(HOSTILE, "王小明", "عربي", "é" * 200),
        steps=0,
        notes=(Note(NOW, "deviation", HOSTILE * 40),),
    )


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_what_others_wrote_is_text_and_nothing_else(world: World) -> None:
    checked = check_minutes(hostile(world))
    page = Page(render_minutes(checked))
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [one["type"] for one in scripts] == ["application/octet-stream"]
    assert not {"img", "link", "iframe", "a", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert "\u202e" not in page.text and "\x1b" not in page.text
    assert r"\u{202e}evil" in page.text and "<script>alert(1)" in page.text


# ── paper ────────────────────────────────────────────────────────────────────


def paper(minutes: Minutes, tmp_path: Path, fonts: Fonts | None = None) -> Path:
    path = tmp_path / "minutes.pdf"
    path.write_bytes(write_pdf(check_minutes(minutes), fonts or find_fonts()))
    return path


def judge(*command: str | Path) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"no {command[0]}")
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode()


def embedded() -> Fonts:
    fonts = find_fonts()
    if not fonts.faces:
        pytest.skip("no DejaVu Sans")
    return fonts


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_the_pdf_is_text_on_numbered_pages(minutes: Minutes, tmp_path: Path) -> None:
    path = paper(minutes, tmp_path)
    told = judge("pdfinfo", path)
    assert "A4" in told and "Founding of officers" in told
    pages = int(next(line for line in told.splitlines() if line.startswith("Pages")).split()[1])
    text = judge("pdftotext", "-layout", path, "-")
    for number in range(1, pages + 1):
        assert f"Page {number} of {pages}" in text
    for part in ("Room 101", "Wendy", "Example Root", "The projector failed.", *minutes.words):
        assert part in text, part
    assert minutes.digest.hex() in squeezed(text)
    assert minutes.acts[1].request.digest.hex()[:16] in squeezed(text)
    page = squeezed(Page(render_minutes(check_minutes(minutes))).text)
    for line in ("Who can change them", "What is not proven here", "no key signed them"):
        assert squeezed(line) in page and squeezed(line) in squeezed(text)


def test_two_judges_read_the_pdf(minutes: Minutes, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    path = paper(minutes, tmp_path)
    judge("qpdf", "--check", path)
    reader = pypdf.PdfReader(BytesIO(path.read_bytes()))
    assert "Founding of officers" in reader.pages[0].extract_text()
    assert reader.attachments["minutes.json"] == [minutes.data]
    for page in reader.pages:
        assert "/AA" not in page and not page.get("/Annots")
    assert "/OpenAction" not in reader.trailer["/Root"] or reader.open_destination is not None
    assert "/JavaScript" not in str(reader.trailer["/Root"].get("/Names"))


def test_the_same_minutes_give_the_same_pdf(minutes: Minutes, tmp_path: Path) -> None:
    first = paper(minutes, tmp_path).read_bytes()
    again = write_pdf(check_minutes(parse_minutes(minutes.data)), find_fonts())
    assert first == again and attached_in(first) == minutes.data
    assert producer(find_fonts()).encode() in first
    other = write_pdf(check_minutes(replace(minutes, place="Room 102")), find_fonts())
    assert other != first


def test_all_fonts_are_embedded(minutes: Minutes, tmp_path: Path) -> None:
    lines = judge("pdffonts", paper(minutes, tmp_path, embedded())).splitlines()[2:]
    assert lines and all(line.split()[-5:-2] == ["yes", "yes", "yes"] for line in lines)


def test_names_in_other_letters(world: World, tmp_path: Path) -> None:
    names = ("Zoë Ångström", "Ωmega Σ", "Ольга", "王小明")
    found = minutes_of(world, witnesses=names)
    text = judge("pdftotext", paper(found, tmp_path, embedded()), "-")
    assert all(name in text for name in names[:3])
    assert r"\u{738b}\u{5c0f}\u{660e}" in squeezed(text) and "in no font of the machine" in text
    plain = judge("pdftotext", paper(found, tmp_path, Fonts()), "-")
    assert names[0] in plain and r"\u{3a9}mega" in plain and "in no font" in plain
    western = judge("pdftotext", paper(minutes_of(world), tmp_path, Fonts()), "-")
    assert "in no font" not in western and "yes" in western


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_hostile_words_on_paper(world: World, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    found = hostile(world)
    path = paper(found, tmp_path)
    judge("qpdf", "--check", path)
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    assert "\u202e" not in text and "\x1b" not in text
    assert "{202e}" in squeezed(text)
    assert attached_in(path.read_bytes()) == found.data


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_eleven_of_twenty_on_paper(tmp_path: Path) -> None:
    """Every name, row and line to sign on is there, and nothing runs over the edge of a page."""
    pypdf = pytest.importorskip("pypdf")
    names = [f"person-{n:02}-whose-name-is-of-nearly-sixty-four-characters-or" for n in range(18)]
    big = World(threshold(11, *names, "alice", "bob"))
    found = minutes_of(big, subject=("Root", "unit " * 200), officers=names[:11], steps=120)
    path = paper(found, tmp_path)
    edges: list[float] = []

    def visit(text: str, _cm: Any, tm: Any, _font: Any, size: float) -> None:
        if text.strip():
            edges.extend((tm[4], tm[5]))

    reader = pypdf.PdfReader(path)
    text = ""
    for page in reader.pages:
        text += page.extract_text(visitor_text=visit)
        assert all(0 <= edge < 842 for edge in edges)
    assert all(squeezed(text).count(name) >= 3 for name in names)
    assert all(f"step {n}" in text for n in range(120))
    assert text.count("How it went") > 3  # the heads stand again on each page


def test_a_font_that_is_none(minutes: Minutes, tmp_path: Path) -> None:
    wrong = tmp_path / "font.ttf"
    for data in (b"no font at all" * 40, b"", b"\0\1\0\0" + bytes(200), b"ttcf" + b"\xff" * 90):
        wrong.write_bytes(data)
        with pytest.raises(UsageError, match="font"):
            write_pdf(check_minutes(minutes), Fonts((), (wrong,)))
    with pytest.raises(UsageError, match="cannot read the font"):
        find_fonts([tmp_path / "absent.ttf"])


def test_a_pdf_without_its_document(minutes: Minutes, tmp_path: Path) -> None:
    data = paper(minutes, tmp_path).read_bytes()
    for wrong in (b"%PDF-1.7\n", data.replace(b'{"acts":', b'{"acta":'), data + data):
        with pytest.raises(ParseError, match="not one"):
            attached_in(wrong)


def test_without_the_library(minutes: Minutes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(UsageError, match="fpdf2") as error:
        write_pdf(check_minutes(minutes), find_fonts())
    assert "tpmhsm[pdf]" in error.value.hint and error.value.code == "no-pdf"


@pytest.mark.parametrize(
    ("device_class", "answer", "words", "tone"),
    [
        ("discrete", "proven", "founded on a chip of its own (discrete TPM)", "proven"),
        ("emulator", "not-proven", "founded on an emulator", "proven"),
        ("unproven", "not-proven", "founded on a software TPM", "proven"),
        ("unproven", "refuted", "REFUTES", "refuted"),
    ],
)
def test_the_sentence_says_what_the_chip_is_proven_to_be(
    minutes: Minutes, device_class: Any, answer: Any, words: str, tone: str
) -> None:
    assert minutes.evidence is not None
    verdicts = tuple(replace(one, answer=answer) for one in minutes.evidence.verdicts)
    found = replace(minutes.evidence, device_class=device_class, verdicts=verdicts)
    shown = words_of(check_minutes(replace(minutes, evidence=found)))
    assert words in shown.sentence.text and shown.sentence.style == tone
    absent = words_of(check_minutes(replace(minutes, evidence=None)))
    assert "software TPM" in absent.sentence.text
    assert "No evidence was collected." in str(absent.sections)


def test_what_was_not_done_and_what_deviated_is_said_first(minutes: Minutes) -> None:
    note = Note(NOW, "deviation", "carol came late")
    left = ActMinutes(approved(minutes.acts[1].request, "alice"), None)
    found = replace(minutes, acts=(minutes.acts[0], left), certificates=(), notes=(note,))
    shown = words_of(check_minutes(found))
    assert "1 act not carried out" in shown.sentence.text
    assert "1 deviation" in shown.sentence.text and shown.sentence.style == "not-proven"
    assert "NOT carried out" in str(shown.sections)
