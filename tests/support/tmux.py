"""A real terminal: a command in tmux, keys sent, the screen read as a person sees it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = ("TPMHSM_HOME", "NO_COLOR", "PCSCLITE_CSOCK_NAME")
"""What of the environment a command is given, besides tmux' own."""


class Screen:
    """A terminal of so many columns and lines, in which one command runs."""

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tmux-"))
        given = [word for name in WORDS if name in env for word in ("-e", f"{name}={env[name]}")]
        (self._folder / "conf").write_text("set -g status off\nset -g remain-on-exit on\n")
        columns, lines = map(str, size)
        where = ("-x", columns, "-y", lines, "-c", str(cwd))
        self._tmux("new-session", "-d", *where, *given, *command)

    def _tmux(self, *words: str) -> str:
        where = ("-S", str(self._folder / "socket"), "-f", str(self._folder / "conf"))
        done = subprocess.run(
            ["tmux", "-u", *where, *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"tmux {words}: {done.stderr}"
        return done.stdout

    def text(self, *, colours: bool = False) -> str:
        """What is on the screen now, without blanks at the ends."""
        shown = self._tmux("capture-pane", "-p", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in shown.rstrip().split("\n"))

    def wait_for(self, *words: str, timeout: float = 240) -> str:
        """The screen when one of `words` stands in its last line."""
        deadline = time.monotonic() + timeout
        while True:
            shown = self.text()
            if any(word in shown.rpartition("\n")[2] for word in words):
                return shown
            assert time.monotonic() < deadline, f"no {words} on the screen:\n{shown}"
            time.sleep(0.05)

    def type(self, keys: str, *, enter: bool = True) -> None:
        """Press keys, and Enter after them."""
        if keys:
            self._tmux("send-keys", "-l", keys)
        if enter:
            self._tmux("send-keys", "Enter")

    def wipe(self) -> None:
        """Empty the screen, so that what comes next stands alone on it."""
        self._tmux("send-keys", "-R")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: Any) -> None:
        self._tmux("kill-server")
        shutil.rmtree(self._folder, ignore_errors=True)
