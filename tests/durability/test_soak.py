"""70,000 signatures in one process while another uses the chip (the context gap is 65,535)."""

from __future__ import annotations

import os
import signal
import threading
import time
from hashlib import sha256
from statistics import median

import pytest
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.keys.turns import TURN, Turns

SHORT, LONG = 700, 70_000
IN_HAND = 100


def neighbour(machine: Shell) -> int:
    """A process that signs too, one signature a transaction, until it is ended; its pid."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        going = True

        def stop(*_: object) -> None:
            nonlocal going
            going = False

        signal.signal(signal.SIGTERM, stop)
        app = App(home=machine.home)
        row = app.keyring.get("open-root")
        count = 0
        while going:
            app.keyring.sign_digest(row, sha256(b"%d" % count).digest())
            count += 1
        code = 0 if count else 2
    finally:
        os._exit(code)


def leaks(app: App) -> list[int]:
    with app.device.transaction() as chip:
        return chip.leaks()


def sign(turns: Turns, app: App, count: int, errors: list[BaseException]) -> int:
    """Have `count` digests signed by two keys in turns of a hundred; how many were."""
    rows = [app.keyring.get(label) for label in ("web", "open-root")]
    done = 0

    def then(signature: bytes | None, error: BaseException | None) -> None:
        nonlocal done
        if error is not None:
            errors.append(error)
        done += 1

    asked = 0
    while asked < count:
        while asked < min(count, done + IN_HAND):
            row = rows[asked // IN_HAND % 2]
            turns.put(row, sha256(b"%d" % asked).digest(), then)
            asked += 1
        time.sleep(0.002)
    turns.close()
    return done


def _soak(machine: Shell, count: int) -> None:
    app = App(home=machine.home)
    errors: list[BaseException] = []
    began = time.monotonic()
    other = neighbour(machine)
    try:
        with app.keyring.turns() as turns:
            assert sign(turns, app, count, errors) == count
    finally:
        os.kill(other, signal.SIGTERM)
        ended = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    seconds = time.monotonic() - began
    assert errors == []
    assert ended == 0, "the other process failed, or never had its turn"
    assert leaks(app) == []
    # room for sessions is what a context gap takes away
    row = app.keyring.get("web")
    assert app.keyring.sign_digest(row, bytes(32))
    app.close()
    print(f"{count} signatures beside another process in {seconds:.0f} s: {count / seconds:.0f}/s")


def test_signatures_beside_another_process(plain: Shell) -> None:
    _soak(plain, SHORT)


@pytest.mark.long
def test_seventy_thousand_signatures_beside_another_process(plain: Shell) -> None:
    _soak(plain, LONG)


def test_a_turn_goes_on_while_nobody_else_waits(plain: Shell) -> None:
    app = App(home=plain.home)
    row = app.keyring.get("web")
    ready = threading.Semaphore(0)
    with app.keyring.turns() as turns:
        end = time.monotonic() + 5 * TURN
        signed = 0
        while time.monotonic() < end:
            turns.put(row, bytes(32), lambda *_: ready.release())
            assert ready.acquire(timeout=30)
            signed += 1
    app.close()
    assert turns.commands <= signed + 8  # parent, key, key flushed, now and then once more


def test_nobody_waits_long_beside_many_signatures(plain: Shell) -> None:
    """The median, for machines sometimes stop for a second: TURN, and the other's own work."""
    app, waits = App(home=plain.home), list[float]()
    row = app.keyring.get("web")
    beside = App(home=plain.home)  # a lock of its own, as another process has
    going = True
    with app.keyring.turns() as turns:

        def again(*_: object) -> None:
            if going:
                turns.put(row, bytes(32), again)

        for _ in range(IN_HAND):
            again()
        for _ in range(7):
            began = time.monotonic()
            with beside.device.transaction():
                waits.append(time.monotonic() - began)
            time.sleep(0.02)
        going = False
    app.close()
    beside.close()
    assert median(waits) < 4 * TURN


def test_many_that_wait_keep_nobody_from_the_chip(plain: Shell) -> None:
    app = App(home=plain.home)
    row = app.keyring.get("web")
    done: list[bytes | None] = []
    mine = 0
    with app.keyring.turns() as turns:
        for number in range(1000):
            turns.put(row, sha256(b"%d" % number).digest(), lambda one, _: done.append(one))
        while len(done) < 1000:
            app.keyring.sign_digest(row, bytes(32))
            mine += 1
    app.close()
    assert all(done)
    assert mine >= 2
