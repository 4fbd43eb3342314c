"""What others wrote reaches a terminal as words, and does nothing there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.shell import Shell

from tpmhsm.cli.app import App, facts, table
from tpmhsm.cli.main import report
from tpmhsm.cli.words import lines, one_line
from tpmhsm.errors import RefusedError

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b1m\u202eb\r\nx"
HARMFUL = "\x1b\x07\x9b\u202e\r"


def harmless(text: str) -> bool:
    return not set(HARMFUL) & set(text)


def test_a_line_is_one_line() -> None:
    assert one_line("grüße · 日本 ~") == "grüße · 日本 ~"
    assert harmless(one_line(EVIL)) and "\n" not in one_line(EVIL)
    assert "\\u{1b}" in one_line(EVIL)
    assert harmless(lines(EVIL)) and lines("a\nb") == "a\nb"


def test_facts_and_tables() -> None:
    assert harmless(
        facts([("What", EVIL), (EVIL, "x")]).replace("\x1b[1m", "").replace("\x1b[0m", "")
    )
    shown = table(("A", "B"), [(EVIL, "x"), ("y", EVIL)], empty="")
    head, *rows = shown.split("\n")
    assert len(rows) == 2 and all(harmless(row) for row in rows)
    assert head


def test_notes_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    App().note(EVIL)
    report(RefusedError(EVIL, hint=EVIL, code="x"), as_json=False)
    assert harmless(capsys.readouterr().err)


def test_a_file_name_and_a_reason(governed: Shell) -> None:
    """The name of a file that is to be signed, and the reason of a denial."""
    odd = "x\x1b]0;owned\x07\u202e"
    (governed.path / odd).write_bytes(b"hello")
    governed("key", "create", "signer", "--policy", "quorum(officers)")
    number = governed.ask("key", "sign", "signer", odd)
    governed("deny", str(number), "--as", "bob", "-i", "bob.key", "--passphrase-file",
             "passphrase", "--reason", f"no\x1b[2J{odd}\nApproved 3 of 3")  # fmt: skip
    for words in (("request", "show", str(number)), ("request", "list")):
        said = governed(*words)
        assert harmless(said.out + said.err)
        assert "owned" in said.out
        assert not any(line.lstrip().startswith("Approved 3") for line in said.out.splitlines())


def test_the_kind_of_a_key_is_a_known_word(governed: Shell, place: Path) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed("request", "export", str(number))
    digest = governed.json("request", "show", str(number))["digest"]
    governed.approve(f"{number}.req", "alice", digest)
    file = governed.path / f"{number}-alice.approval"
    document = json.loads(file.read_bytes())
    file.write_text(json.dumps({**document, "key_kind": "file\x1b[2J"}))
    assert "key_kind" in governed("request", "import", file, code=2).err
    file.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")
    governed("request", "import", file)
