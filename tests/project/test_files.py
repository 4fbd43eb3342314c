"""What every file of the project keeps to."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 600
ENTRY = re.compile(r"[a-z0-9-]+==\S+( ; [^\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\\n|\Z))+")
SKIPPED = {".git", ".venv", "build", "dist", "__pycache__"}


def files() -> Iterator[Path]:
    for top in sorted(ROOT.iterdir()):
        if top.name in SKIPPED or top.name.endswith("_cache") or top.name == ".hypothesis":
            continue
        found = [top] if top.is_file() else sorted(top.rglob("*"))
        yield from (f for f in found if f.is_file() and not SKIPPED & set(f.parts))


def test_source_files_are_short() -> None:
    sources = [f for f in files() if f.suffix in {".py", ".sh"} or f.name in {"dev", "run"}]
    assert len(sources) > 50
    lengths = {f: f.read_text(encoding="utf-8").count("\n") for f in sources}
    assert not {str(f): n for f, n in lengths.items() if n > LONGEST}


def locks() -> list[Path]:
    return sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", locks(), ids=lambda lock: lock.name)
def test_locks_hold_versions_and_hashes_alone(lock: Path) -> None:
    """No address: whoever installs decides where from, and the hashes decide what is accepted."""
    text = lock.read_text(encoding="utf-8")
    assert not re.findall(r"://|^-|@ ", text, re.MULTILINE)
    entries = re.split(r"\n(?=\S)", re.sub(r"^(#.*)?\n", "", text, flags=re.MULTILINE).strip())
    for entry in entries:
        assert ENTRY.fullmatch(entry), entry[:80]


def test_smaller_locks_agree_with_the_largest() -> None:
    pins = {
        lock.name: set(re.findall(r"^\S+==\S+", lock.read_text(), re.MULTILINE)) for lock in locks()
    }
    assert pins["base.txt"] < pins["dev.txt"]
    assert pins["build.txt"] < pins["dev.txt"]


def test_no_path_of_one_machine() -> None:
    """Nothing that is committed names a folder of the machine it was written on."""
    private = re.compile(r"(?<![\w.])/(?:work|Users)/")
    for file in files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if file != Path(__file__):
            assert not private.search(text), f"{file.relative_to(ROOT)}: {private.search(text)}"
