"""New files are not made through links that somebody else laid."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from tpmhsm.cli import files
from tpmhsm.errors import TpmHsmError, UsageError


@pytest.mark.parametrize("force", [False, True])
def test_a_link_to_nothing(tmp_path: Path, force: bool) -> None:
    link, target = tmp_path / "out", tmp_path / "target"
    link.symlink_to(target)
    with pytest.raises(UsageError, match="link"):
        files.write_output(str(link), b"x", force=force)
    assert not target.exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_link_that_is_laid_meanwhile(tmp_path: Path, force: bool) -> None:
    link, target = tmp_path / "out", tmp_path / "target"

    def late(path: str) -> int | None:
        link.symlink_to(target)
        return None

    with mock.patch.object(files, "check_free"), mock.patch.object(files, "_mode_of", late):
        try:
            files.write_output(str(link), b"x", force=force)
        except TpmHsmError:
            assert not force
    assert not target.exists()
    if force:
        assert not link.is_symlink() and link.read_bytes() == b"x"
