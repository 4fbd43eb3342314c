from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tpmhsm.errors import DeviceError
from tpmhsm.tpm.lock import Lock, holder_of, is_dirty, is_locked

HOLD = """
import sys, time
from pathlib import Path
from tpmhsm.tpm.lock import Lock
with Lock(Path(sys.argv[1])).held() as hold:
    hold.mark()
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = """
import sys, time
from pathlib import Path
from tpmhsm.tpm.lock import Lock
lock, number, rounds = Lock(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
for _ in range(rounds):
    with lock.held():
        number.write_text(str(int(number.read_text()) + 1))
print(time.monotonic())
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_fresh_lock_is_clean_and_says_whose_it_is(tmp_path):
    path = tmp_path / "lock"
    with Lock(path).held() as hold:
        assert not hold.dirty
        hold.mark()
        assert is_dirty(path)
        assert is_locked(path)
        assert holder_of(path) == os.getpid()
        hold.clear()
    assert not is_dirty(path)
    assert not is_locked(path)
    assert holder_of(path) is None


def test_waiting_too_long_names_the_holder(tmp_path, holder):
    started = time.monotonic()
    words = f"process {holder.pid} has held the chip for 0 s"
    lock = Lock(tmp_path / "lock")
    with pytest.raises(DeviceError, match=words) as e, lock.held(timeout=0.2):
        pass
    assert 0.15 < time.monotonic() - started < 2
    assert e.value.code == "device-busy"
    assert e.value.details["holder"] == holder.pid


def test_a_killed_holder_leaves_the_lock_free_and_dirty(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with Lock(tmp_path / "lock").held(timeout=1) as hold:
        assert hold.dirty
        hold.clear()
    with Lock(tmp_path / "lock").held(timeout=1) as hold:
        assert not hold.dirty


def test_another_thread_waits_and_the_same_thread_is_refused(tmp_path):
    lock = Lock(tmp_path / "lock")
    seen = []

    def other():
        with lock.held(timeout=5):
            seen.append("other")

    with lock.held():
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        assert seen == []
        with pytest.raises(DeviceError, match="already in a transaction"), lock.held():
            pass
    thread.join(5)
    assert seen == ["other"]


def test_who_waits_is_seen_by_the_holder_in_the_process_and_beside_it(tmp_path, holder):
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert not lock.is_waited_for()
    thread = threading.Thread(target=lambda: _enter(other, 5))
    thread.start()  # `holder` has it
    _until(lock.is_waited_for)
    holder.kill()
    thread.join(5)
    assert not lock.is_waited_for()
    with lock.held():
        assert not lock.is_waited_for()
        thread = threading.Thread(target=lambda: _enter(lock, 5))
        thread.start()
        _until(lock.is_waited_for)
    thread.join(5)
    assert not lock.is_waited_for()


def _enter(lock, timeout):
    with lock.held(timeout):
        pass


def _until(what):
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_folder_that_is_missing_is_an_error_in_words(tmp_path):
    lock = Lock(tmp_path / "none" / "lock", "the software TPM")
    words = "cannot lock the software TPM: no such file"
    with pytest.raises(DeviceError, match=words), lock.held():
        pass


def test_processes_and_threads_exclude_each_other_and_none_starves(tmp_path):
    """Two processes and two threads add to one number. Nobody's addition is lost."""
    (tmp_path / "number").write_text("0")
    arguments = [sys.executable, "-c", COUNT, str(tmp_path / "lock"), str(tmp_path / "number")]
    processes = [
        subprocess.Popen([*arguments, "300"], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    lock, number = Lock(tmp_path / "lock"), tmp_path / "number"

    def add():
        for _ in range(100):
            with lock.held():
                number.write_text(str(int(number.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    assert number.read_text() == "800"
    assert all(outputs)
