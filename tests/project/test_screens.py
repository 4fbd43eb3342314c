"""The screens in the documents are what a person sees at a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.project import screens

from tpmhsm.approval.screen import width_of

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


@pytest.fixture(scope="module")
def captured() -> Iterator[dict[str, list[str]]]:
    # Unix sockets have short names: pytest's own folders may be too deep.
    place = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    yield dict(screens.play(place))
    shutil.rmtree(place, ignore_errors=True)


def test_documents_show_what_is_seen(captured: dict[str, list[str]]) -> None:
    """`./dev screens` writes them anew."""
    found = list(screens.of_documents())
    assert {name for _, name, _ in found} >= {"intermediate", "batch", "roster", "budget"}
    for document, name, text in found:
        if name == "wrong-pin":
            continue  # with a card: tests/tokens/test_screens.py
        seen = "\n".join(captured[name])
        assert screens.masked(text) == screens.masked(seen), f"{document.name}: {name}\n{seen}"


def test_every_page_fits_and_ends_with_its_question(captured: dict[str, list[str]]) -> None:
    pages = [page for name, found in captured.items() if name != "wide" for page in found]
    assert sum(name.startswith("status-") for name in captured) == 5
    for page in pages:
        lines = page.split("\n")
        assert len(lines) <= 24 and max(map(width_of, lines)) <= 80, page
        assert "\x1b" not in page  # NO_COLOR is set
    for name, found in captured.items():
        if name not in ("wide", "denied", "ceremony") and not name.startswith("status-"):
            *before, last = found
            assert last.startswith(("APPROVE", "── ")) and "\nType " in last
            assert all("; to come: " in page for page in before), before


def test_a_wide_terminal_shows_the_same_with_colours(captured: dict[str, list[str]]) -> None:
    (narrow,), (wide,) = captured["intermediate"], captured["wide"]
    assert "\x1b[" in wide
    plain = COLOUR.sub("", wide)
    assert max(map(width_of, plain.split("\n"))) <= 100
    assert "".join(plain.split()).replace("─", "") == "".join(narrow.split()).replace("─", "")


def test_what_differs_each_time_is_masked_and_nothing_else() -> None:
    one = "Key       P-256 8fdb1677 7b6013ca  x\nValid  2026-11-23 (7 days)\nType 3f36 to sign:"
    two = "Key       P-256 ad855ae4 758bce04  x\nValid  2027-01-02 (7 days)\nType 0000 to sign:"
    assert screens.masked(one) == screens.masked(two)
    assert screens.masked(one) != screens.masked(two.replace("7 days", "8 days"))
