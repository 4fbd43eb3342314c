"""`pip install .` where there is neither a compiler nor the TPM Software Stack."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILERS = re.compile(
    r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|c[89]9|clang.*|tcc|ld|as)(-[\d.]+)?|tpm2.*|.*pkg-?config.*"
)
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder for an environment `venv`, and `bin` with the machine's programs, some left out."""
    place = tmp_path_factory.mktemp("b")
    programs = place / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(folder).iterdir():
            link = programs / program.name
            if not COMPILERS.fullmatch(program.name) and not link.is_symlink():
                link.symlink_to(program)
    assert not shutil.which("gcc", path=str(programs))
    yield place
    tpmhsm(place, "device", "stop")


def environment(place):
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("TPMHSM_", "PYTHON", "VIRTUAL"))
    }
    return {
        **kept,
        "PATH": f"{place / 'venv/bin'}:{place / 'bin'}",
        "TPMHSM_HOME": str(place / "home"),
        "NO_COLOR": "1",
    }


def run(place, *command):
    return subprocess.run(
        [str(word) for word in command],
        cwd=place,
        env=environment(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def tpmhsm(place, *arguments, code=0):
    done = run(place, place / "venv/bin/tpmhsm", *arguments)
    assert done.returncode == code, (
        f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def install(place):
    """The project as a stranger installs it, in the versions of the lock."""
    interpreter = getattr(sys, "_base_executable", sys.executable)
    assert run(place, interpreter, "-m", "venv", place / "venv").returncode == 0
    pins = re.findall(r"^\S+==\S+", (ROOT / "requirements/base.txt").read_text(), re.MULTILINE)
    (place / "pins.txt").write_text("\n".join(pins) + "\n")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    done = run(place, "pip", "install", "-q", "-c", place / "pins.txt", source)
    assert done.returncode == 0, done.stdout + done.stderr


def test_init_approve_and_verify(bare):
    install(bare)
    assert (
        "No module named" in run(bare, bare / "venv/bin/python", "-c", "import tpm2_pytss").stderr
    )
    tpmhsm(bare, "init")
    found_a_group(bare)
    certify(bare)


def found_a_group(place):
    (place / "passphrase").write_text(PASSPHRASE + "\n")
    people = ("alice", "bob", "carol")
    for name in people:
        tpmhsm(place, "approver", "create", name, *as_person(place, name)[2:])
    cards = [f"{name}.card" for name in people]
    tpmhsm(place, "trust", "add", *cards)
    tpmhsm(place, "approver", "add", *cards)
    tpmhsm(place, "group", "create", "officers", "--officers", "2:alice,bob,carol", code=3)
    digest = json.loads(tpmhsm(place, "--json", "request", "show", "1"))["digest"]
    for name in people[:2]:
        tpmhsm(place, "approve", "1", *as_person(place, name), "--expect", digest)
    assert json.loads(tpmhsm(place, "--json", "request", "show", "1"))["state"] == "executed"


def as_person(place, name):
    return ("--as", name, "-i", f"{name}.key", "--passphrase-file", place / "passphrase")


def certify(place):
    """An open authority, which signs at once, and a server's certificate by it."""
    tpmhsm(place, "key", "create", "root")
    subject = ("--subject", "CN=Root,O=Example")
    tpmhsm(place, "ca", "create", "root-ca", "--key", "root", *subject, "--profile", "root")
    tpmhsm(place, "key", "create", "web")
    names = ("--subject", "CN=www.example.com", "--san", "dns:www.example.com")
    tpmhsm(place, "csr", "create", "web", *names, "--out", "web.csr")
    leaf = ("--profile", "tls-server", "--out", "leaf.pem")
    tpmhsm(place, "ca", "sign", "root-ca", "web.csr", *leaf)
    tpmhsm(place, "cert", "export", "root-ca", "--out", "root.pem")
    verify = ("cert", "verify", "leaf.pem", "--trust", "root.pem", "--purpose", "server")
    tpmhsm(place, *verify, "--host", "www.example.com")
    tpmhsm(place, *verify, "--host", "www.example.org", code=1)
