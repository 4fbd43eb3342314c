"""What a command that needs neither home nor chip must not load: it is to answer in 150 ms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.shell import Shell

HEAVY = ("sqlalchemy", "alembic", "asn1crypto", "publicsuffixlist", "rich", "psycopg",
         "tpm2_pytss")  # fmt: skip
SCRIPT = """
import sys
from tpmhsm.cli.main import run
code = run(sys.argv[2:])
loaded = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
print(*loaded, file=sys.stderr)
sys.exit(code)
"""


def loaded(*words: str, directory: Path, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """The heavy modules that a command loads."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(heavy), "-q", *words],
        cwd=directory,
        env={"TPMHSM_HOME": str(directory / "no-home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.split()


@pytest.fixture(scope="module")
def files(plain_template: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = plain_template
    path = tmp_path_factory.mktemp("files")
    machine("cert", "export", "open-ca", "--out", path / "ca.pem")
    (path / "web.csr").write_bytes((machine.path / "web.csr").read_bytes())
    machine.close()
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("key", "create", "--help"),
        ("version",),
        ("policy", "check", "all(quorum(a), pcr(sha256:0,7))"),
        ("policy", "explain", "open"),
        ("cert", "show", "ca.pem"),
        ("csr", "show", "web.csr"),
        ("csr", "verify", "web.csr"),
        ("show", "ca.pem"),
        ("show", "web.csr"),
    ],
    ids=" ".join,
)
def test_loads_nothing_heavy(words: tuple[str, ...], files: Path) -> None:
    assert loaded(*words, directory=files) == []
    assert not (files / "no-home").exists()


@pytest.mark.parametrize("words", [("--help",), ("policy", "check", "open")], ids=" ".join)
def test_help_and_policies_do_not_even_load_cryptography(
    words: tuple[str, ...], files: Path
) -> None:
    assert loaded(*words, directory=files, heavy=("cryptography", "cryptography.x509")) == []


def test_the_measure_works(files: Path) -> None:
    assert loaded("trust", "add", "--help", directory=files, heavy=("click",)) == ["click"]
