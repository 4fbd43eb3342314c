"""SoftHSM: PKCS #11 tokens in files, here for one test each."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
)
MODULE = next((path for path in MODULES if Path(path).exists()), "")
PIN, SO_PIN = "648219", "87654321"


@dataclass
class SoftHsm:
    """Tokens in one folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def run(self, *command: str, ok: bool = True) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    def token(self, label: str) -> str:
        """Make a token; its URI."""
        self.run("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN,
                 "--pin", PIN)  # fmt: skip
        self.again()
        return f"pkcs11:token={label}"

    def tool(self, label: str, *words: str, ok: bool = True) -> str:
        """OpenSC's pkcs11-tool, logged in."""
        login = ("pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", PIN)
        found = self.run(*login, *words, ok=ok)
        self.again()
        return found

    def again(self) -> None:
        """The module in this process looks at the folder anew."""
        import pkcs11

        loaded: Any = pkcs11.lib(MODULE)
        loaded.finalize()


def softhsm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    pytest.importorskip("pkcs11")
    if not MODULE:
        pytest.skip("softhsm2 is not installed")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    found = SoftHsm(folder)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found
