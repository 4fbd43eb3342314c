"""Power failures: a command in a process of its own that is killed at one of its steps.

A step is a command that changes the chip, or a commit of the database; the process is killed just
before or just after it. The chip and its keeper live on, as a hardware TPM keeps its NV memory.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.shell import Shell

from tpmhsm.cli import files
from tpmhsm.store import Store
from tpmhsm.tpm.chip import Chip

CHANGES = {
    "NV_DefineSpace",
    "NV_UndefineSpace",
    "NV_Increment",
    "NV_Write",
    "EvictControl",
    "Create",
    "Sign",
    "CertifyCreation",
}

Step = Callable[[str], None]


@contextmanager
def watched(step: Step) -> Iterator[None]:
    """Call `step` with a name before and after everything that lasts."""
    send, transaction, write = Chip.send, Store.transaction, files._write_whole

    def watched_send(chip: Chip, command: Any, *auths: Any) -> Any:
        name = type(command).__name__
        if name not in CHANGES:
            return send(chip, command, *auths)
        step(f"before {name}")
        answer = send(chip, command, *auths)
        step(f"after {name}")
        return answer

    @contextmanager
    def watched_transaction(store: Store) -> Iterator[Any]:
        with transaction(store) as tx:
            yield tx
            step("before commit")
        step("after commit")

    def watched_write(path: Path, *rest: Any) -> None:
        step(f"before file {path.name}")
        write(path, *rest)
        step(f"after file {path.name}")

    with (
        mock.patch.object(Chip, "send", watched_send),
        mock.patch.object(Store, "transaction", watched_transaction),
        mock.patch.object(files, "_write_whole", watched_write),
    ):
        yield


def steps_of(machine: Shell, *words: str) -> list[str]:
    """The steps of a command, which runs to its end."""
    seen: list[str] = []
    with watched(seen.append):
        machine.attempt(*words)
    return seen


def killed_at(machine: Shell, number: int, *words: str) -> bool:
    """Run a command in a process that is killed at its step `number`; whether it came so far."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = _run_until(machine, number, words)
        except BaseException as error:  # noqa: BLE001 - the parent must not run on in the child
            print(repr(error), file=sys.__stderr__)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) != 99
    return False


def _run_until(machine: Shell, number: int, words: tuple[str, ...]) -> int:
    count = 0

    def step(_: str) -> None:
        nonlocal count
        count += 1
        if count > number:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(step):
        return machine.attempt(*words).code
