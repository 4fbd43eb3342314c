"""`tpmhsm minutes`: those of a real ceremony, against its database, its chip and its evidence."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.ceremonies import DNS, Meeting
from tests.support.shell import Shell

from tpmhsm.approval.minutes import Minutes, parse_minutes
from tpmhsm.approval.minutes_pdf import can_write_pdf

NAMES = ("alice", "bob", "carol")
NOTE = "The projector failed; <b>the words</b> were read from paper.\u202e"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    """A ceremony that is over, 2 of 3 with a budget for the issuer."""
    meeting = Meeting(tmp_path_factory.mktemp("m"), "alice", "bob", "carol")
    asked = meeting.ask("--officers", f"2:{meeting.cards()}", *DNS, "--budget", "5")
    for name in ("bob", "carol"):
        meeting.approve(name, asked["ceremony"])
    meeting.ask("--place", "Room 101", "--witness", "Wendy", "--note", NOTE, code=0)
    yield meeting
    meeting.host.attempt("device", "stop")
    meeting.host.close()


@pytest.fixture
def host(held: Meeting) -> Shell:
    return held.host


@pytest.fixture
def minutes(host: Shell) -> Minutes:
    return parse_minutes((host.path / "officers.minutes").read_bytes())


@pytest.fixture
def auditor(held: Meeting, tmp_path: Path) -> Iterator[Shell]:
    """Somebody with the files and an empty home."""
    shell = Shell(tmp_path)
    for path in held.host.path.glob("officers.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    yield shell
    shell.close()


def test_they_say_what_the_database_has(host: Shell, minutes: Minutes) -> None:
    keys = {one["label"]: one["name"] for one in host.json("key", "list")["items"]}
    assert {key.label: key.name.hex() for key in minutes.keys} == keys
    known = {one["sha256"] for one in host.json("cert", "list")["items"]}
    verified = host.json("minutes", "verify", "officers.minutes")
    assert {one["sha256"] for one in verified["certificates"]} <= known
    assert len(verified["certificates"]) == 2
    group = host.json("group", "show", "officers")
    assert group["id"] == minutes.group.id.hex() == verified["group_id"]
    assert group["epoch"] == minutes.roster.epoch
    assert " ".join(minutes.words) == verified["fingerprint"]
    requests = {one["id"]: one for one in host.json("request", "list")["items"]}
    for act in verified["acts"]:
        row = requests[act["request"]]
        assert (row["state"], row["digest"], row["kind"]) == (
            "executed", act["digest"], act["kind"],
        )  # fmt: skip
        assert act["approved_by"] == ["bob", "carol"] and act["needed"] == 2
    assert verified["witnesses"] == ["Wendy"] and verified["approvers"] == ["bob", "carol"]


def test_they_say_what_the_chip_has(host: Shell, minutes: Minutes, auditor: Shell) -> None:
    """The chip certifies these keys, this roster and this budget in the evidence."""
    judged = auditor.json("attest", "verify", "officers.evidence", code=0)
    assert {one["name"] for one in judged["keys"]} == {key.name.hex() for key in minutes.keys}
    people = next(one for one in judged["people"] if one["group"] == "officers")
    assert people["fingerprint"] == " ".join(minutes.words)
    assert people["epoch"] == minutes.roster.epoch
    assert minutes.evidence is not None
    assert minutes.evidence.sha256.hex() == judged["evidence"]
    told = {one.question: one.answer for one in minutes.evidence.verdicts}
    assert told == {one["question"]: one["answer"] for one in judged["verdicts"]}
    grant = next(act.request for act in minutes.acts if act.request.kind == "budget")
    budget = host.json("key", "show", "issuing")["budgets"][0]
    assert b'"total":5' in grant.content and budget["granted"] == 5
    root = next(key for key in minutes.keys if key.label == "root")
    assert host.json("key", "show", "root")["name"] == root.name.hex()


def test_verified_from_an_empty_home(auditor: Shell) -> None:
    document = auditor.json("minutes", "verify", "officers.minutes")
    assert document["page"] == "document" and not document["evidence_checked"]
    done = auditor("minutes", "verify", "officers.minutes.html", "--evidence", "officers.evidence")
    assert done.out.startswith("every signature holds\n")
    assert "as this version of the program writes them" in done.out
    assert "(this file)" in done.out and "not signed by any key" in done.out
    of_page = auditor.json("minutes", "verify", "officers.minutes.html")
    assert of_page == document | {"page": "as-written"}
    assert not (auditor.path / "home").exists()


def test_who_approved_nothing_is_not_said_to_be_present(auditor: Shell) -> None:
    page = (auditor.path / "officers.minutes.html").read_text()
    assert "People present" not in page and "We were present" not in page
    rows = {name: row for row in re.findall(r"<tr.*?</tr>", page, re.S) for name in NAMES
            if f">{name}<" in row and "approved " in row}  # fmt: skip
    assert "approved nothing here" in rows["alice"]
    assert "approved 4 of 4 acts" in rows["bob"] and "approved 4 of 4 acts" in rows["carol"]


def test_show_knows_them(auditor: Shell) -> None:
    for file in ("officers.minutes", "officers.minutes.html"):
        shown = auditor.json("show", file)
        assert shown["type"] == "minutes" and shown["verified"] is True, file
        assert "every one holds" in auditor("show", file).out
    told = auditor.attempt("approve", "officers.minutes", "--as", "alice", "-i", "k")
    assert told.code == 2


def test_a_changed_page_is_noticed(auditor: Shell) -> None:
    page = auditor.path / "officers.minutes.html"
    text = page.read_text()
    page.write_text(text.replace("Room 101", "Room 102", 1))
    told = auditor("minutes", "verify", "officers.minutes.html", code=1)
    assert "its words are others" in told.out + told.err and "minutes print" in told.out + told.err
    page.write_text(text.replace("2026-", "2025-", 1) + "<p>more</p>")
    assert (
        auditor.json("minutes", "verify", "officers.minutes.html", code=1)["error"]["code"]
        == "page-changed"
    )
    again = auditor("minutes", "print", "officers.minutes.html", "--html", "mine.html")
    assert again.code == 0 and (auditor.path / "mine.html").read_text() == text


def test_a_page_of_another_version_is_not_called_changed(auditor: Shell) -> None:
    """Nor believed: the reader writes a page of his own from the document."""
    path = auditor.path / "officers.minutes"
    document = re.sub(rb'"program":"tpmhsm [^"]*"', b'"program":"tpmhsm 99"', path.read_bytes())
    html = (auditor.path / "officers.minutes.html").read_text()
    encoded = b64encode(document).decode()
    other = re.sub(r'(id="tpmhsm-minutes">).*(?=</script>)', rf"\1{encoded}", html, flags=re.S)
    (auditor.path / "other.html").write_text(other)
    found = auditor.json("minutes", "verify", "other.html")
    assert found["page"] == "not-compared"
    assert "NOT compared" in auditor("minutes", "verify", "other.html").out


def test_a_changed_document_is_refused(auditor: Shell) -> None:
    data = (auditor.path / "officers.minutes").read_bytes()
    for number, found in enumerate(re.finditer(rb'"signature":"([A-Za-z0-9+/]{60,}=*)"', data)):
        octets = bytearray(b64decode(found[1]))
        octets[-1] ^= 1
        forged = data[: found.start(1)] + b64encode(octets) + data[found.end(1) :]
        (auditor.path / "forged").write_bytes(forged)
        told = auditor.attempt("minutes", "verify", "forged")
        assert told.code == 1, (number, told.out + told.err)
        assert "Traceback" not in told.out + told.err
    assert number > 10
    assert auditor.attempt("show", "forged").code in (0, 1)


def test_other_evidence_and_no_minutes(auditor: Shell, host: Shell) -> None:
    told = auditor("minutes", "verify", "officers.evidence", code=2)
    assert "minutes" in told.out + told.err
    host("attest", "collect", "--out", str(auditor.path / "later.evidence"))
    error = auditor.json(
        "minutes", "verify", "officers.minutes", "--evidence", "later.evidence", code=1
    )["error"]
    assert error["code"] == "other-evidence"
    (auditor.path / "empty.html").write_text("<!doctype html><p>words")
    assert "0 files of minutes" in auditor("minutes", "verify", "empty.html", code=2).err
    (auditor.path / "empty.pdf").write_bytes(b"%PDF-1.7\n%%EOF\n")
    assert "0 documents" in auditor("minutes", "verify", "empty.pdf", code=2).err


def test_nothing_is_overwritten(auditor: Shell) -> None:
    assert auditor.json("minutes", "print", "officers.minutes", code=2)["error"]["hint"]
    told = auditor(
        "minutes", "print", "officers.minutes", "--html", "officers.minutes.html", code=2
    )
    assert "officers.minutes.html" in told.out + told.err
    auditor("minutes", "print", "officers.minutes", "--html", "officers.minutes.html", "--force")


def test_paper(auditor: Shell) -> None:
    """The PDF carries its document; one in which a word was changed is noticed."""
    if not can_write_pdf():
        pytest.skip("no fpdf2")
    auditor("minutes", "print", "officers.minutes.html", "--pdf", "mine.pdf")
    mine = (auditor.path / "mine.pdf").read_bytes()
    assert (auditor.path / "officers.minutes.pdf").read_bytes() == mine
    assert auditor.json("minutes", "verify", "mine.pdf")["page"] == "as-written"
    assert auditor.json("show", "mine.pdf")["verified"] is True
    (auditor.path / "mine.pdf").write_bytes(mine.replace(b"/Title", b"/TITLE"))
    assert auditor.json("minutes", "verify", "mine.pdf", code=1)["error"]["code"] == "page-changed"
    other = mine.replace(b"; fpdf2 ", b"; fpdf9 ")
    (auditor.path / "mine.pdf").write_bytes(other)
    assert auditor.json("minutes", "verify", "mine.pdf")["page"] == "not-compared"
