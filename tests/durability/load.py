"""A process that issues as fast as it can, by an open key and by a quorum's, until it is killed."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tpmhsm.cli.app import App
from tpmhsm.errors import TpmHsmError

IN_FLIGHT = 8


@dataclass
class Load:
    """The process: what it has promised so far, a line for each. Made by `loaded`."""

    pid: int
    said: int
    stop: int
    promises: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        """Let it work on, for so long after its first promise."""
        select.select([self.said], [], [], 60)
        select.select([], [], [], seconds)

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        self._gather()

    def end(self) -> None:
        """Have it stop in good order."""
        os.close(self.stop)
        self.stop = -1
        assert self._gather() == 0

    def _gather(self) -> int:
        with os.fdopen(self.said, "rb") as pipe:
            # a line that a kill cut off was never read by anybody: no promise
            self.promises = pipe.read().decode().split("\n")[:-1]
        return os.waitpid(self.pid, 0)[1]


@contextmanager
def loaded(
    home: Path, csrs: Sequence[bytes], approvals: Sequence[bytes], workers: int
) -> Iterator[Load]:
    """Start it: it issues these CSRs again and again, and takes in these approvals one by one.

    `workers` is how many processes prepare for it.
    """
    said, say = os.pipe()
    stop, stopper = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(said)
            os.close(stopper)
            _work(home, csrs, approvals, workers, say, stop)
            code = 0
        except BaseException as error:  # noqa: BLE001 - the parent must not run on in the child
            print(repr(error), file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(say)
    os.close(stop)
    load = Load(child, said, stopper)
    try:
        yield load
    finally:
        if load.stop >= 0:
            os.close(load.stop)


def _work(
    home: Path,
    csrs: Sequence[bytes],
    approvals: Sequence[bytes],
    workers: int,
    say: int,
    stop: int,
) -> None:
    app = App(home=home)
    app.store, app.desk  # noqa: B018 - opened before there are threads

    def promise(words: str) -> None:
        os.write(say, f"{words}\n".encode())

    def take() -> None:
        for data in approvals:
            try:
                row = app.desk.take(data)
            except TpmHsmError:  # the chip vanished
                continue
            if row.state == "executed":
                promise(f"request {row.id}")

    people = threading.Thread(target=take)
    people.start()
    flying: deque[object] = deque()
    number = 0
    with app.authorities.issuer(workers) as issuer:
        while not select.select([stop], [], [], 0)[0]:
            while len(flying) < IN_FLIGHT:
                csr = csrs[number % len(csrs)]
                flying.append(issuer.sign("open-ca", csr, profile="tls-server"))
                number += 1
            try:
                promise(f"certificate {flying.popleft().result().sha256}")  # type: ignore[attr-defined]
            except TpmHsmError:  # the chip vanished
                continue
    people.join()
    app.close()
