"""Live sessions: policy sessions that wait in the chip while people sign their nonceTPM.

    nonce = live.begin(chip, until)          # 16 bytes; approvals are given over them
    …minutes pass, files travel…
    session = live.resume(chip, nonce)       # once; it then runs the steps, with the approvals

A policy session that authorises nothing keeps its nonceTPM, so that several approvals over the same
nonce count in it. Between the two calls it is no loaded session but a saved context (TCG TPM 2.0
Library Part 1 §30, Part 3 §28.2): the chip can load it once more, and only until its next reset.
The context is a file on the device's shelf, named by the nonce; its time of change is when the
session is of no use any more. It is no secret: nobody can use the session without approvals.

Linux's resource manager forgets a session that its user saved, and flushes it no more when the
user's descriptor closes (drivers/char/tpm/tpm2-space.c); so contexts work there, too. UNTESTED ON
HARDWARE so far. Access brokers that keep contexts for themselves may refuse.

A saved session holds up the chip's context counter: after so many other saves (65,535 usually) the
chip saves no more (TPM_RC_CONTEXT_GAP), and Linux's resource manager saves sessions at every
command. So whoever has the chip loads and saves those that wait, once a minute (`keep_up`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError, ParseError, RefusedError
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import ContextLoad, ContextSave
from tpmhsm.wire.structures import Context

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip

SUFFIX = ".session"

RENEW_AFTER = 60.0
"""Seconds after which a saved session is loaded and saved again."""


def begin(chip: Chip, until: float) -> bytes:
    """Start a policy session that waits; returns its nonceTPM. `until`: of no use after this moment
    (seconds since 1970).

    Two commands. DeviceError when there is nowhere to keep it.
    """
    session = start_policy(chip)
    _save(chip, session.handle, session.nonce_tpm, until)
    return session.nonce_tpm


def resume(chip: Chip, nonce: bytes) -> PolicySession:
    """Load a session that waits; whoever does uses it or flushes it. One command.

    RefusedError (`live-session-gone`) when the chip has it no longer: after a reset, a restart of
    the software TPM, or somebody's flush.
    """
    path = _path(chip, nonce)
    try:
        context = decode(Context, path.read_bytes())
        handle = chip.send(ContextLoad(context)).loaded_handle
    except (OSError, ParseError, ChipRefusedError) as error:
        path.unlink(missing_ok=True)
        raise RefusedError(
            "the chip's session that was waiting for these approvals is gone: the chip was "
            "started anew, or somebody flushed it",
            code="live-session-gone",
            hint="ask once more: approvals over a live nonce count in that session alone",
        ) from error
    path.unlink(missing_ok=True)
    return PolicySession(handle, nonce, b"", encrypts=False, bound_name=b"")


def drop(chip: Chip, nonce: bytes) -> None:
    """Flush a session that waits, if it still does."""
    with suppress(RefusedError):
        chip.flush(resume(chip, nonce).handle)


def keep_up(chip: Chip) -> None:
    """Drop what is of no use any more, and load and save every session that waits and was not saved
    for a minute, so that the chip's context counter goes on: two commands each, none when nothing
    waits.
    """
    for path in _waiting(chip):
        with suppress(OSError, RefusedError):
            found, nonce, now = path.stat(), bytes.fromhex(path.stem), time.time()
            if found.st_mtime < now:
                drop(chip, nonce)
            elif found.st_ctime + RENEW_AFTER < now:
                _save(chip, resume(chip, nonce).handle, nonce, found.st_mtime)


def keep_awake(chip: Chip, name: str, until: float) -> None:
    """Note on the shelf that the chip is needed until a moment: a software TPM is not stopped then
    because nobody uses it.
    """
    _write(_shelf(chip) / name, b"", until)


def is_awake(shelf: Path | None, name: str) -> bool:
    """Whether the note is there: a software TPM that was started since has none."""
    return shelf is not None and (shelf / name).exists()


def let_sleep(shelf: Path, name: str) -> None:
    """Take the note back."""
    (shelf / name).unlink(missing_ok=True)


def _save(chip: Chip, handle: int, nonce: bytes, until: float) -> None:
    path = _path(chip, nonce)
    context = chip.send(ContextSave(handle)).context
    _write(path, encode(context), until)
    chip.forget(handle)


def _write(path: Path, data: bytes, until: float) -> None:
    """Not on the disk for certain: after a loss of power the chip has forgotten the session."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new.write_bytes(data)
        os.utime(new, (until, until))
        new.rename(path)
    except OSError as error:
        raise DeviceError(
            f"cannot keep a session of the chip at {path}: {error.strerror or error}"
        ) from error


def _waiting(chip: Chip) -> list[Path]:
    return sorted(chip.shelf.glob(f"*{SUFFIX}")) if chip.shelf is not None else []


def _path(chip: Chip, nonce: bytes) -> Path:
    return _shelf(chip) / f"{nonce.hex()}{SUFFIX}"


def _shelf(chip: Chip) -> Path:
    if chip.shelf is None:
        raise DeviceError("this chip has no home in which a session could wait", code="no-home")
    return chip.shelf
