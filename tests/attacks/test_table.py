"""docs/attacks.md names every test of this folder, and the codes that it asserts."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "attacks.md"
ROW = re.compile(
    r"\| .+ \| .+ \| (?P<codes>.+) \| `tests/attacks/(?P<file>\w+\.py):(?P<name>\w+)` \|"
)


def rows() -> list[re.Match[str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [found for line in lines if (found := ROW.fullmatch(line))]


@cache
def sources() -> dict[tuple[str, str], str]:
    """The source of every test, its decorators included, by file and name."""
    found = {}
    for path in HERE.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                source = ast.get_source_segment(text, node) or ""
                found[path.name, node.name] = source
    return {key: source for key, source in found.items() if key[0] != Path(__file__).name}


def test_every_attack_stands_in_the_table() -> None:
    named = [(row["file"], row["name"]) for row in rows()]
    assert len(named) == len(set(named)) > 100
    assert set(named) == set(sources())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_the_codes_are_those_of_the_test(row: re.Match[str]) -> None:
    source = sources()[row["file"], row["name"]].lower()
    codes = re.findall(
        r"0x[0-9a-f]+|[a-z]+(?:-[a-z]+)+|\bstate\b|\bparse\b|\bexpired\b", row["codes"]
    )
    assert not row["codes"].startswith("0x") or codes
    for code in codes:
        assert code in source or code.replace("0x0", "0x") in source, code
