"""The double, held to programs that know the real card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tokens.piv_card import PivCard
from tests.tokens.readers import Readers

READER = "Yubico YubiKey OTP+FIDO+CCID 00 00"


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ykman(*arguments: str, cwd: Path | None = None) -> str:
    return run(sys.executable, "-m", "ykman._cli", "--reader", READER, *arguments, cwd=cwd)


def test_ykman_reads_it(readers: Readers) -> None:
    readers.insert(PivCard(serial=4711, firmware=(5, 4, 3)))
    shown = ykman("piv", "info")
    assert "PIV version:              5.4.3" in shown
    assert "PIN tries remaining:      3/3" in shown
    assert "WARNING: Using default PIN!" in shown
    assert "Management key algorithm: TDES" in shown
    assert "Serial number: 4711" in ykman("info")
