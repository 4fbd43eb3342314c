"""The table of many requests: nothing is dropped, nothing is too wide, warnings name requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import World
from tests.approval.looking import founded, look

from tpmhsm.approval.batch import Batch, batch_of, pages, render, unseen
from tpmhsm.approval.content import Flag, Listing, Row
from tpmhsm.approval.screen import width_of
from tpmhsm.errors import UsageError

PARTS = (
    "",
    "x",
    "two words",
    "a" * 200,
    "Ω" * 90,
    "\u202egnp",
    "new\nline",
    "a, " * 60,
    "漢字" * 40,
)


@pytest.fixture(scope="module")
def base() -> object:
    world = World()
    return look(world.certificate(), founded(world))


def varied(base, number, rows, flags=(), listings=()):
    content = replace(base.content, rows=rows, flags=flags, listings=listings)
    return replace(base, request=replace(base.request, id=number), content=content)


@given(
    tables=st.lists(
        st.lists(
            st.builds(
                Row,
                st.sampled_from(["Subject", "Key", "A long label"]),
                st.sampled_from(PARTS),
                st.sampled_from(PARTS[:3]),
            ),
            max_size=4,
        ),
        min_size=2,
        max_size=5,
    )
)
def test_any_table_fits_and_shows_all(base, tables):
    batch = batch_of([varied(base, 7 + n, tuple(rows)) for n, rows in enumerate(tables)])
    lines = render(batch).split("\n")
    assert all(width_of(line) <= 80 for line in lines)
    text = "".join("".join(lines).split())
    for rows in tables:
        for row in rows:
            if "\n" not in row.text and "\u202e" not in row.text:
                assert "".join(row.text.split()) in text
    assert "\u202e" not in text
    assert "\n".join(p.text for p in pages(batch)) == render(batch)


def test_warnings_name_their_requests(base):
    everywhere, one = Flag("SAME", "in all"), Flag("OTHER", "in one")
    batch = batch_of([varied(base, 7, (), (everywhere, one)), varied(base, 8, (), (everywhere,))])
    shown = render(batch)
    assert "[all] in all" in shown and "[7] in one" in shown
    assert shown.count("in all") == 1 + shown.count("the same in all")


def test_lists_are_shown_in_full(base):
    items = tuple(f"host{n}.example.com" for n in range(500))
    batch = batch_of([varied(base, 7, (), (), (Listing("names", items),)), varied(base, 8, ())])
    shown = render(batch)
    assert all(item in shown for item in items)
    assert "── 7: names ─" in shown


def test_the_digits_are_of_all_of_them(base):
    one, two = varied(base, 7, ()), varied(base, 8, ())
    code = Batch((one, two)).code
    assert len(code) == 4 and f"Type {code} to sign all 2: " == Batch((one, two)).question
    for changed in ({"content": two.request.content + b"x"}, {"kind": "decrypt"}):
        other = replace(two, request=replace(two.request, **changed))
        assert Batch((one, other)).code != code


def test_only_what_is_alike(base):
    with pytest.raises(UsageError, match="together"):
        batch_of([base])
    with pytest.raises(UsageError, match="together"):
        batch_of([base, base])
    with pytest.raises(UsageError, match="together"):
        batch_of([base, replace(varied(base, 9, ()), key_words="another key")])


def test_two_keys_under_one_label(base):
    """What a key is called is the host's word."""
    other = varied(base, 2, ())
    key = replace(other.request.key, public=other.request.key.public + b"x")
    with pytest.raises(UsageError):
        batch_of([base, replace(other, request=replace(other.request, key=key))])
    assert batch_of([base, other])


def test_what_was_not_on_the_screen(base):
    later = varied(base, 7, base.content.rows, (*base.content.flags, Flag("NEW", "since")))
    assert unseen(base, base) == ()
    assert unseen(base, later) == ("NEW: since",)
