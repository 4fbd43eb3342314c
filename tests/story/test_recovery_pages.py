"""Each page of docs/recovery.md is followed by a test that breaks the thing first."""

from __future__ import annotations

from pathlib import Path

from tests.story.recovery import sections, steps

ABOUT = {"What a backup is"}
SAID = ("**You notice**", "**It means**", "**At risk**", "**Do", "**It is over**")


def test_each_page_is_followed() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_recovery_*.py"))
    pages = {name: text for name, text in sections().items() if name not in ABOUT}
    assert len(pages) >= 10
    for name, text in pages.items():
        assert list(steps(name)), f"{name}: no commands"
        assert f'follow("{name}"' in tests, f"{name}: no test follows it"
        missing = [word for word in SAID if word not in text]
        assert not missing, f"{name}: {missing}"
