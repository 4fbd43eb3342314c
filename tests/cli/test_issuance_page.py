"""docs/issuance.md names five files to begin with; together they stay short enough to be read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_five_files_under_700_lines() -> None:
    page = (ROOT / "docs" / "issuance.md").read_text(encoding="utf-8")
    listed = page.partition("Read these five first")[2].partition("\n## ")[0]
    files = re.findall(r"^\* `(src/[\w/]+\.py)`", listed, re.MULTILINE)
    assert len(files) == 5
    lengths = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in files}
    assert sum(lengths.values()) < 700, lengths


def test_every_step_says_what_is_on_disk() -> None:
    page = (ROOT / "docs" / "issuance.md").read_text(encoding="utf-8")
    steps = re.split(r"^\d+\. ", page, flags=re.MULTILINE)[1:]
    assert len(steps) >= 10
    for step in steps:
        assert "*On disk:" in " ".join(step.split()), step
