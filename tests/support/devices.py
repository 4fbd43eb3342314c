"""A /dev of our own, in a mount namespace: device files of a chip without a chip."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_NEEDED = ("null", "zero", "random", "urandom")


def with_devices(folder: Path, command: Sequence[str], *make: str) -> list[str]:
    """The command where /dev has these files alone: `make` are shell commands that make them.

    Skips where no mount namespace can be had (without root, in some containers).
    """
    old = folder / "dev"
    old.mkdir(exist_ok=True)
    lines = [
        "set -e",
        f"mount --bind /dev {shlex.quote(str(old))}",
        "mount -t tmpfs -o mode=755 tpmhsm-test /dev",
        *(f"touch /dev/{n}; mount --bind {shlex.quote(f'{old}/{n}')} /dev/{n}" for n in _NEEDED),
        *make,
    ]
    whole = ["unshare", "--mount", "--propagation=private", "sh", "-c"]
    trial = [*whole, "\n".join(lines)]
    if os.geteuid() or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("only root can make device files in a mount namespace")
    return [*whole, "\n".join([*lines, f"exec {shlex.join(command)}"])]
