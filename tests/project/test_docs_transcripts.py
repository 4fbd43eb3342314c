"""The transcripts in the documents are what the program really prints."""

from pathlib import Path

import pytest
from tests.project import transcript

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    document
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if transcript.BLOCK.search(document.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_transcripts_are_what_is_printed(document, tmp_path_factory):
    # Unix sockets have short names: a home under pytest's own folders may be too deep.
    machines = transcript.Machines(tmp_path_factory.mktemp("t"))
    try:
        for step in transcript.steps_of(document.read_text(encoding="utf-8")):
            code, printed = machines.run(step.machine, step.command)
            where = f"{document.name}:{step.line}: {step.command}"
            assert code == step.code, f"{where}\nexit {code}, not {step.code}\n{printed}"
            if not transcript.matches(step.expected, printed):
                expected = "\n".join(step.expected)
                pytest.fail(f"{where}\n── the document ──\n{expected}\n── printed ──\n{printed}")
    finally:
        machines.stop()


def test_readme_has_a_transcript():
    assert ROOT / "README.md" in DOCUMENTS


def test_a_transcript_is_read_with_machines_exits_and_long_commands():
    text = "x\n```console\n$ one \\\n  two\nout\n\nlaptop$ three # exit 3\n…\n```\n"
    one, three = transcript.steps_of(text)
    assert (one.machine, one.command, one.code) == ("host", "one \\\n  two", 0)
    assert (one.line, one.expected) == (3, ["out"])
    assert (three.machine, three.code, three.expected) == ("laptop", 3, ["…"])


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a … c"], "a b c\n", True),
        (["a … c"], "a b d\n", False),
        (["a", "…", "z"], "a\nb\nc\nz\n", True),
        (["a", "…", "z"], "a\nz\n", True),
        (["a", "…"], "b\nz\n", False),
        ([], "", True),
        ([], "noise\n", False),
        (["a"], "a", True),
        (["a.c"], "abc\n", False),
    ],
)
def test_comparison(expected, printed, same):
    assert transcript.matches(expected, printed) is same
