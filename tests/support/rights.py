"""Commands without root's power over files, so that a mode is a mode for root, too."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest

_WITHOUT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


def without_power(command: Sequence[str]) -> list[str]:
    """The command as it is for an ordinary user; for root without CAP_DAC_OVERRIDE, who is then
    refused what modes and owners refuse. Skips where capabilities cannot be given up.
    """
    if os.geteuid() != 0:
        return list(command)
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed, and root may open everything")
    if subprocess.run([*_WITHOUT, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this root cannot give up capabilities")
    return [*_WITHOUT, *command]
