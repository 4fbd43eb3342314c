"""Two real card readers for one test worker, with doubles of cards to put in."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tokens.piv_card import Inserted, PivCard
from tests.tokens.stage import DRIVER

SETTLE = 1.0
"""Seconds after a removal until the driver takes another card."""


class Readers:
    """Where cards go in and out. `environment`: what clients of the daemon are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PCSCLITE_CSOCK_NAME": str(folder / "run" / "pcscd.comm")}
        self._inside: dict[int, Inserted] = {}
        self._pulled: dict[int, float] = {}

    def insert(self, card: PivCard, reader: int = 0) -> PivCard:
        """Put a card in; it returns when the daemon has seen it.

        In the place of a card that an earlier test left, since readers take their time: the daemon
        sees a card without any state and cannot tell.
        """
        left = self._inside.get(reader)
        if left is not None and left.alive:
            left.exchange(card)
            return card
        self.pull(reader)
        wait = self._pulled.get(reader, 0.0) + SETTLE - time.monotonic()
        if wait > 0:
            time.sleep(wait)

        def connect() -> socket.socket:
            door = socket.socket(socket.AF_UNIX)
            door.connect(str(self.folder / f"{reader}.card"))
            return door

        self._inside[reader] = Inserted(card, connect)
        self._wait(reader, present=True)
        return card

    def pull(self, reader: int = 0) -> None:
        """Take a card out."""
        inserted = self._inside.pop(reader, None)
        if inserted is not None:
            inserted.pull()
            self._wait(reader, present=False)
            self._pulled[reader] = time.monotonic()

    def empty(self) -> None:
        """Take all cards out."""
        for reader in list(self._inside):
            self.pull(reader)

    def leave(self) -> None:
        """After a test: the second reader is empty, in the first is what nobody cares about."""
        self.pull(1)

    def _wait(self, reader: int, *, present: bool) -> None:
        deadline = time.monotonic() + 10
        while self._present(reader) is not present:
            if time.monotonic() > deadline:
                raise AssertionError(f"reader {reader}: the daemon sees no change")
            time.sleep(0.02)

    def _present(self, reader: int) -> bool:
        from smartcard import scard

        result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        assert result == 0, scard.SCardGetErrorMessage(result)
        try:
            _, names = scard.SCardListReaders(context, [])
            name = sorted(names)[reader]
            _, states = scard.SCardGetStatusChange(context, 0, [(name, scard.SCARD_STATE_UNAWARE)])
            return bool(states[0][1] & scard.SCARD_STATE_PRESENT)
        finally:
            scard.SCardReleaseContext(context)


def missing() -> str:
    """What a machine lacks to have these readers."""
    for command in ("pcscd", "unshare"):
        if shutil.which(command) is None:
            return f"{command} is not installed"
    return "" if Path(DRIVER).exists() else "vsmartcard-vpcd is not installed"


_running: list[Readers] = []


@contextlib.contextmanager
def running() -> Iterator[Readers]:
    """Two readers in namespaces of their own; skips where there can be none.

    One daemon for a process, at one place, however many fixtures ask: the PC/SC library reads
    where its daemon is once.
    """
    if _running:
        yield _running[0]
        return
    if lacks := missing():
        pytest.skip(f"virtual card readers: {lacks}")
    folder = Path(tempfile.gettempdir()) / f"cards-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    rootless = ["--map-root-user"] if os.geteuid() else []
    command = ["unshare", *rootless, "--mount", "--net", sys.executable, "-m", "tests.tokens.stage"]
    stage = subprocess.Popen(
        [*command, str(folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert stage.stdin is not None and stage.stdout is not None and stage.stderr is not None
    try:
        if stage.stdout.readline() != b"ready\n":
            reason = stage.stderr.read().decode().strip()
            pytest.skip(f"virtual card readers: {(reason.splitlines() or ['?'])[-1]}")
        readers = Readers(folder)
        _running.append(readers)
        yield readers
        readers.empty()
    finally:
        _running.clear()
        stage.stdin.close()
        stage.wait(15)
        stage.stdout.close()
        stage.stderr.close()
        shutil.rmtree(folder, ignore_errors=True)
