"""An approver with a file key where Python has no modules of Unix: they are taken away here.

Linux is the only system on which anything was tried: this proves that the modules are not needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.attest.aiks import AttestationCa
from tests.support.cli import Home, Result
from tests.support.shell import Shell

from tpmhsm.pki.load import to_pem

MISSING = ("fcntl", "termios", "grp", "pwd", "resource", "tty", "pty", "syslog")
WITHOUT = f"""
import sys
for name in {MISSING!r}:
    sys.modules[name] = None
from tpmhsm.__main__ import main
sys.argv[0] = "tpmhsm"
main()
"""


class Bare(Home):
    """A machine whose Python lacks them."""

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-c", WITHOUT, *map(str, arguments)]


@pytest.fixture
def laptop(governed: Shell, place: Path) -> Bare:
    path = place / "laptop"
    path.mkdir()
    machine = Bare(path)
    for name in ("alice", "bob", "carol"):
        shutil.copy(governed.path / f"{name}.card", path)
    for file in ("alice.key", "passphrase"):
        shutil.copy(governed.path / file, path)
    return machine


def test_a_request_is_approved_by_file(governed: Shell, laptop: Bare) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    digest = governed.json("request", "show", str(number))["digest"]
    governed("request", "export", str(number), "--out", laptop.path / "7.req")
    laptop("trust", "add", "alice.card", "bob.card", "carol.card")
    shown = laptop.approve("7.req", "alice", digest)
    assert "CN=x" in shown.err
    assert '"kind": "csr"' in laptop("--json", "request", "show", "7.req").out
    laptop("show", "bob.card")
    approval = next(laptop.path.glob("*.approval"))
    assert governed.json("request", "import", approval)["items"][0]["state"] == "waiting"
    denied = ("deny", "7.req", "--as", "alice", "-i", "alice.key", "--passphrase-file",
              "passphrase", "--reason", "no")  # fmt: skip
    laptop(*denied)


def test_a_key_and_a_card_are_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", str(place / "nothing"))
    machine = Bare(place)
    machine.person("zoe")
    found = machine.json("show", "zoe.card")
    assert "zoe" in str(found)
    yubikey = ("approver", "create", "yan", "-i", "yubikey", "--pin-fd", "0")
    refused: Result = machine(*yubikey, stdin=b"135790\n", code=4)  # none is plugged in
    assert "Traceback" not in refused.err


def test_a_vendor_root_is_pinned(place: Path) -> None:
    machine = Bare(place)
    (place / "root.pem").write_bytes(to_pem(AttestationCa().certificate))
    machine("attest", "roots", "add", "root.pem", "--as", "emulator")
    assert len(machine.json("attest", "roots", "list")["items"]) == 1


def test_no_module_of_a_token_is_imported_for_a_file_key(place: Path) -> None:
    code = (
        "import sys; from tpmhsm.approval import identity, cards, approve, review; "
        "print([m for m in ('pkcs11', 'smartcard', 'yubikit', 'fcntl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
