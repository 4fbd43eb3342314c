"""A person at a terminal: a command on a pseudo-terminal, its words read, keys pressed."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


class Terminal:
    """A running command. `output`: what it has written so far, as text."""

    def __init__(self, command: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
        self.output = ""
        self._pid, self._descriptor = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(cwd)
                os.execvpe(command[0], list(command), {"TERM": "dumb", **env})
            finally:
                os._exit(97)
        self._code: int | None = None

    def expect(self, *texts: str, timeout: float = 240) -> str:
        """Read until one of `texts` was written; what was written since the last time, up to it."""
        deadline = time.monotonic() + timeout
        while not (found := [text for text in texts if text in self.output]):
            left = deadline - time.monotonic()
            assert left > 0, f"{texts} was not written:\n{self.output}"
            if not self._read(left):
                raise AssertionError(f"it ended without {texts}:\n{self.output}")
        first = min(found, key=self.output.index)
        before, _, self.output = self.output.partition(first)
        return before + first

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def end(self, timeout: float = 240) -> tuple[int, str]:
        """Read to the end; the exit code and the rest of the output."""
        deadline = time.monotonic() + timeout
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"it does not end:\n{self.output}"
        status = os.waitpid(self._pid, 0)[1]
        self._code = os.waitstatus_to_exitcode(status)
        return self._code, self.output.replace("\r\n", "\n")

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the other side is closed
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)
