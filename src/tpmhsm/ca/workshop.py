"""Work that needs neither chip nor database, done in processes beside this one.

Python runs one thread at a time, and checking a CSR takes as long as a signature of the software
TPM: what is prepared in this process is prepared while the chip waits. A worker is a process of
this program that runs functions by name, one after another, and keeps what they leave behind in
its memory: the tokens of checked certificates never leave the process that checked them.

    python -m tpmhsm.ca.workshop DESCRIPTOR
"""

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol

from tpmhsm.errors import TpmHsmError

Then = Callable[[Any, BaseException | None], None]
"""Told the result or the error, in a thread of the worker's. It must not raise."""

_SOME = 8
"""So many results are sent at once, so that nobody waits for the whole batch he is in."""


class Worker(Protocol):
    """Runs functions of importable modules with arguments that can be pickled."""

    @property
    def load(self) -> int:
        """How much was put and is not done."""
        ...

    def put(self, function: Callable[..., Any], arguments: tuple[Any, ...], then: Then) -> None:
        """Have it run."""
        ...

    def close(self) -> None:
        """Finish nothing more."""
        ...


class Inline:
    """No process: everything is run at once by whoever puts it."""

    @property
    def load(self) -> int:
        """Nothing waits."""
        return 0

    def put(self, function: Callable[..., Any], arguments: tuple[Any, ...], then: Then) -> None:
        """Run it."""
        result, error = _run(function, arguments)
        then(result, error)

    def close(self) -> None:
        """Nothing to be done."""


class Process:
    """A process of this program, with two threads here: one tells it what to do, one listens."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "tpmhsm.ca.workshop", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        self._connection = Connection(ours.detach())
        self._jobs: SimpleQueue[tuple[int, Callable[..., Any], tuple[Any, ...]] | None]
        self._jobs = SimpleQueue()
        self._thens: dict[int, Then] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._dead = False
        self._threads = [
            threading.Thread(target=run, name=f"workshop {run.__name__}", daemon=True)
            for run in (self._tell, self._listen)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> int:
        """How much was put and is not done."""
        return len(self._thens)

    def put(self, function: Callable[..., Any], arguments: tuple[Any, ...], then: Then) -> None:
        """Have it run. `then` gets a TpmHsmError when the process has died."""
        with self._lock:
            if not self._dead:
                self._number += 1
                self._thens[self._number] = then
                self._jobs.put((self._number, function, arguments))
                return
        then(None, _died())

    def close(self) -> None:
        """End the process; what it had not finished gets an error."""
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._process.wait()
        self._connection.close()

    def _tell(self) -> None:
        going = True
        while going:
            job = self._jobs.get()
            batch = []
            while job is not None:
                batch.append(job)
                if self._jobs.empty():
                    break
                job = self._jobs.get()
            going = job is not None
            with suppress(OSError):
                self._connection.send(batch if going else None)

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                for number, result, error in self._connection.recv():
                    then = self._thens.pop(number)
                    then(result, error)
        with self._lock:
            self._dead = True
            left, self._thens = self._thens, {}
        for then in left.values():
            then(None, _died())


def _died() -> TpmHsmError:
    return TpmHsmError("a process that prepares certificates has ended", code="worker-ended")


def _run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except TpmHsmError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - a fault of ours, told to whoever waits for it
        words = f"this is a fault of TPM HSM: {type(error).__name__}: {error}"
        return None, TpmHsmError(words, code="internal")


def main(descriptor: int) -> None:
    """Run what comes in, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    with suppress(EOFError, OSError), Connection(descriptor) as connection:
        while (jobs := connection.recv()) is not None:
            done = []
            for number, function, arguments in jobs:
                done.append((number, *_run(function, arguments)))
                if len(done) == _SOME:
                    _tell(connection, done)
                    done = []
            _tell(connection, done)


def _tell(connection: Connection, done: list[tuple[int, Any, Exception | None]]) -> None:
    try:
        connection.send(done)
    except (TypeError, AttributeError, pickle.PicklingError) as error:  # nothing was sent
        fault = TpmHsmError(f"this is a fault of TPM HSM: {error}", code="internal")
        connection.send([(number, None, fault) for number, _, _ in done])


if __name__ == "__main__":
    main(int(sys.argv[1]))
