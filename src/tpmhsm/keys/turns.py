"""Turns at the chip: many signatures in one transaction, and the chip given back in between.

To begin a transaction costs about as much as a few signatures: the lock, the connection, the key
to be loaded. So whoever has many to make keeps the chip while more of them come; but when others
wait for it, they have their turn after a tenth of a second at the latest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.keys.host import load_host
from tpmhsm.keys.loading import load_row

if TYPE_CHECKING:
    from tpmhsm.keys.choice import Choice
    from tpmhsm.policy.plan import Plan
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.objects import Loaded

TURN = 0.1
"""Seconds between two looks whether others wait; an idle turn ends after as many."""

LINGER = 0.003
"""Seconds that others wait while no signature is to be made."""

_SOME = 4
"""So many signatures are told at once while more are to be made: to wake who is told costs as much
as to make one."""

Then = Callable[[bytes | None, BaseException | None], None]
"""Told the signature, or the error, in the chip's thread: it must not raise, nor take long."""


@dataclass(frozen=True)
class Job:
    """One signature: by which key, over which digest; `plan` and `pin` for one with a policy."""

    row: KeyRow
    digest: bytes
    then: Then
    plan: Plan | None = None
    pin: bytes = field(default=b"", repr=False)


class Turns:
    """A thread that has one chip sign. Close it (or use `with`) when done.

    `commands` counts what was sent to the chip.
    """

    def __init__(
        self,
        store: Store,
        device: Device,
        choose: Callable[[KeyRow], Choice],
        refused: Callable[[KeyRow, Plan | None, Exception], None] = lambda *_: None,
    ) -> None:
        self.commands = 0
        self._choose = choose
        self._refused = refused
        self._chosen: dict[str, Choice] = {}
        self._device = device
        self._parent = load_host(store).parent_name
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="chip", daemon=True)
        self._thread.start()

    def put(self, row: KeyRow, digest: bytes, then: Then, plan: Plan | None = None) -> None:
        """Have a digest by the key's own hash signed: DER ECDSA or PKCS#1 v1.5.

        `plan` with people's approvals. Without one it is chosen at a key's first signature how it
        is used, and a PIN is asked for then.

        The signature is not verified here: that is for `then`'s side, while the chip goes on.
        Errors as of `Keyring.sign_digest`. Raises DeviceError after `close`.
        """
        if self._closed:
            raise DeviceError("these turns at the chip are over", code="closed")
        if plan is not None:
            self._queue.put(Job(row, digest, then, plan))
            return
        choice = self._chosen.get(row.name)
        if choice is None:
            choice = self._chosen[row.name] = self._choose(row)
        planned = choice.plan(row, digest)
        if planned is not None and planned.in_window:
            then = self._watched(row, planned, then)
        self._queue.put(Job(row, digest, then, planned, choice.pin))

    def _watched(self, row: KeyRow, plan: Plan, then: Then) -> Then:
        """When a window ends, the next signature looks for another way."""

        def told(signature: bytes | None, error: BaseException | None) -> None:
            if isinstance(error, ChipRefusedError):
                self._chosen.pop(row.name, None)
                self._refused(row, plan, error)
            then(signature, error)

        return told

    def close(self) -> None:
        """Sign what still waits, then end. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        job = self._queue.get()
        while job is not None:
            job = self._turn(job)

    def _turn(self, job: Job) -> Job | None:
        """One transaction, beginning with `job`; returns what the next one begins with."""
        waits: Job | None = job
        over = False
        try:
            with self._device.transaction() as chip:
                hand, look = _Hand(chip, self._parent), time.monotonic() + TURN
                try:
                    while waits is not None:
                        job, waits = waits, None  # from here on the hand tells what becomes of it
                        if not hand.sign(job):
                            break
                        if time.monotonic() >= look:
                            if self._device.is_waited_for():
                                break
                            look = time.monotonic() + TURN
                        if self._queue.empty():
                            hand.tell()
                        waits = self._next()
                        over = waits is None
                except Empty:
                    pass
                finally:
                    hand.tell()
                    self.commands += chip.commands
        except Exception as error:  # noqa: BLE001 - told to whoever waits, never lost
            if waits is not None:
                waits.then(None, error)
        return None if over else self._queue.get()

    def _next(self) -> Job | None:
        """The next job, None at the end; Empty when none comes, or others want the chip."""
        end = time.monotonic() + TURN
        while True:
            try:
                return self._queue.get(timeout=LINGER)
            except Empty:
                if time.monotonic() >= end or self._device.is_waited_for():
                    raise


class _Hand:
    """What is loaded in a turn: one key at a time, for the chip has room for three objects."""

    def __init__(self, chip: Chip, parent_name: bytes) -> None:
        self._chip = chip
        self._parent_name = parent_name
        self._parent: Loaded | None = None
        self._key: tuple[str, Loaded] | None = None
        self._done: list[tuple[Then, bytes | None, Exception | None]] = []

    def sign(self, job: Job) -> bool:
        """Sign, and tell if it is time; returns whether to go on with what is loaded: a chip that
        was reset refuses each signature until the key is loaded anew.
        """
        signature, failure = None, None
        try:
            signature = self._signature(job)
        except Exception as error:  # noqa: BLE001 - told to whoever waits, never lost
            failure = error
        self._done.append((job.then, signature, failure))
        if len(self._done) >= _SOME:
            self.tell()
        return failure is None

    def tell(self) -> None:
        """Tell those whose signatures were tried since the last time."""
        done, self._done = self._done, []
        for then, signature, failure in done:
            then(signature, failure)

    def _signature(self, job: Job) -> bytes:
        from tpmhsm.tpm import objects, policies
        from tpmhsm.tpm.pins import Pin

        key = self._loaded(job.row)
        if job.plan is None:
            return objects.sign_digest(self._chip, key, job.digest)
        command = objects.sign_command(key, job.digest)
        pin = Pin.to(self._parent, job.pin) if job.pin and self._parent else None
        answer = policies.execute(self._chip, job.plan, command, pin)
        return objects.plain_signature(answer.signature)

    def _loaded(self, row: KeyRow) -> Loaded:
        from tpmhsm.tpm import objects

        if self._key is not None and self._key[0] == row.name:
            return self._key[1]
        if self._key is not None:
            self._chip.flush(self._key[1].handle)
            self._key = None
        if self._parent is None:
            self._parent = objects.storage_parent(self._chip, self._parent_name)
        key = load_row(self._chip, self._parent, row)
        self._key = (row.name, key)
        return key


__all__ = ["LINGER", "TURN", "Job", "Turns"]
