"""`attest report`: a page for people that carries its evidence, and does nothing by itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.cli.test_attest import NONCE, exchange, localca, verifier
from tests.support.shell import Shell

from tpmhsm.attest.report import evidence_in, render_report
from tpmhsm.attest.verdicts import (
    QUESTIONS,
    Finding,
    Judgement,
    KeyFacts,
    Link,
    People,
    Proof,
    verdicts_of,
)

__all__ = ["verifier"]

HOSTILE = '</text><script>alert(1)</script><img src=x onerror="alert(2)">\u202eevil'


class Page(HTMLParser):
    """What a browser makes of a page: its elements and its words."""

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


@pytest.fixture
def reported(governed: Shell, verifier: Shell) -> Path:
    """A page about a chip that is pinned as an emulator's, with an answered nonce."""
    exchange(governed, verifier)
    verifier("attest", "roots", "add", *localca(governed), "--as", "emulator")
    verifier("attest", "report", "e", "--response", "r", "--nonce", NONCE, "--out", "page.html")
    return verifier.path / "page.html"


def test_it_answers_and_can_be_judged_anew(verifier: Shell, reported: Path) -> None:
    page = Page(reported.read_text())
    assert page.text.index("Emulator, not hardware") < page.text.index("Nine questions")
    for asked in QUESTIONS.values():
        assert asked in page.text
    for part in ("Not proven", "People", "Keys", "Signatures and gaps", "Check it yourself",
                 "alice", "bob", "carol", "no certification"):  # fmt: skip
        assert part in page.text, part
    judged = ("--response", "r", "--nonce", NONCE)
    of_page = verifier.json("attest", "verify", "page.html", *judged)
    assert of_page == verifier.json("attest", "verify", "e", *judged) | {"at": of_page["at"]}


def test_it_does_nothing_by_itself(reported: Path) -> None:
    """No script, nothing from elsewhere, and a policy that says so to browsers."""
    page = Page(reported.read_text())
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [one["type"] for one in scripts] == ["application/octet-stream"]
    for tag, attributes in page.elements:
        assert not {"src", "href", "action"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    policies = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_words_of_others_stay_words() -> None:
    """What others wrote is text in the page, whatever it looks like and wherever it stands."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    proof = Proof(HOSTILE, HOSTILE, HOSTILE)
    findings = tuple(
        Finding(question, "not-proven", HOSTILE, HOSTILE, (proof,), HOSTILE)
        for question in QUESTIONS
    )
    judged = Judgement(
        sentence=HOSTILE,
        device_class="unproven",
        verdicts=verdicts_of(findings),
        evidence="00" * 32,
        made=at,
        at=at,
        nonce=False,
        links=(
            Link("root", HOSTILE, -1, "proven", HOSTILE, proof),
            Link("ek", HOSTILE * 9, 0, "refuted", HOSTILE * 9),
            Link("key", HOSTILE, 7, "proven", HOSTILE),
        ),
        people=(People(*(HOSTILE,) * 2, 1, *(HOSTILE,) * 2, ((HOSTILE,) * 2,), "proven", HOSTILE),),
        keys=(KeyFacts(*(HOSTILE,) * 5, (HOSTILE,), ((HOSTILE, 1, 2),)),),
        hints=(HOSTILE,),
    )
    text = render_report(judged, HOSTILE.encode())
    page = Page(text)
    assert [a["type"] for t, a in page.elements if t == "script"] == ["application/octet-stream"]
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.text.count("alert(1)") > 20
    assert "\\u{202e}" in page.text and "\u202e" not in text
    assert evidence_in(text.encode()) == HOSTILE.encode()


def test_pages_that_are_not_whole(verifier: Shell, reported: Path) -> None:
    text = reported.read_text()
    found = re.search(r'<script type="application/octet-stream".*?</script>', text, re.DOTALL)
    assert found
    for name, damaged in (
        ("none", text.replace(found[0], "")),
        ("two", text.replace("</body>", found[0] + "</body>")),
        ("cut", text.replace(found[0][100:103], "A")),
        ("other", "<!doctype html><p>hello"),
    ):
        (verifier.path / f"{name}.html").write_text(damaged)
        refused = verifier.json("attest", "verify", f"{name}.html", code=2)
        assert refused["error"]["message"], name
    verifier("attest", "report", "page.html", "--out", "page.html", code=2)  # kept
    verifier("attest", "report", "page.html", "--out", "again.html")  # a page of a page


def test_the_words_of_a_page_prove_nothing(verifier: Shell, reported: Path) -> None:
    """Who changes the words changes no answer: they are not read."""
    changed = reported.read_text().replace("Emulator, not hardware", "Hardware of the best kind")
    (verifier.path / "better.html").write_text(changed)
    judged = verifier.json("attest", "verify", "better.html", "--require", "hardware", code=1)
    assert judged["device_class"] != "discrete" and not judged["hardware"]


def test_a_browser_shows_it(reported: Path, place: Path) -> None:
    """Chromium renders it: a picture that is not blank, and the words in the page's own tree."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={place / 'b'}")
    picture = place / "page.png"
    subprocess.run(
        [browser, *flags, "--window-size=1000,2000", f"--screenshot={picture}", str(reported)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert picture.stat().st_size > 50_000
    shown = subprocess.run(
        [browser, *flags, "--dump-dom", str(reported)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert "Emulator, not hardware" in shown.stdout.decode()
