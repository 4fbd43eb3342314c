"""Several processes on one database: turns, locks, sudden death."""

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tpmhsm.errors import StoreError
from tpmhsm.store import Store
from tpmhsm.store.requests import RequestRow

SPAWN = multiprocessing.get_context("spawn")


def write_for(where, seconds, pipe):
    """Append to the log and add requests as fast as they go; tell how many."""
    count = 0
    try:
        with Store.open(where) as store:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                with store.transaction() as tx:
                    made = tx.requests.add(RequestRow("data", 1, "aa"))
                    tx.audit.append("request", {"id": made.id})
                count += 1
                if count % 10 == 0:
                    with store.reading() as tx:
                        assert tx.audit.head().seq >= count
        pipe.send(count)
    except BaseException as error:
        pipe.send(error)
        raise


def run_two(target, *arguments):
    """Two processes at once; what each sent, raised if it is an exception."""
    pipes = [SPAWN.Pipe() for _ in range(2)]
    processes = [SPAWN.Process(target=target, args=(*arguments, pipe[1])) for pipe in pipes]
    for process in processes:
        process.start()
    try:
        sent = []
        for mine, _theirs in pipes:
            assert mine.poll(120), "a process hangs"
            sent.append(mine.recv())
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    for answer in sent:
        if isinstance(answer, BaseException):
            raise answer
    return sent


def test_two_processes_write_at_once(where):
    with Store.create(where) as store:
        counts = run_two(write_for, where, 2)
        assert min(counts) > max(counts) / 4
        with store.reading() as tx:
            rows = tx.requests.all()
            assert tx.audit.verify_chain().seq == len(rows) == sum(counts)
        store.check()


@pytest.mark.long
def test_two_processes_write_for_a_minute(where):
    with Store.create(where) as store:
        counts = run_two(write_for, where, 60)
        with store.reading() as tx:
            assert tx.audit.verify_chain().seq == sum(counts)


def create_it(where, pipe):
    try:
        Store.create(where).close()
        pipe.send("done")
    except BaseException as error:
        pipe.send(error)
        raise


def test_two_processes_create_at_once(where):
    assert run_two(create_it, where) == ["done", "done"]
    with Store.open(where) as store:
        store.check()


WRITER = """
import sys
from tpmhsm.store import Store
from tpmhsm.store.requests import RequestRow
from pathlib import Path
where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
store = Store.open(where)
while True:
    with store.transaction() as tx:
        made = tx.requests.add(RequestRow("data", 1, "aa", document=b"x" * 20000))
        row = tx.audit.append("request", {"id": made.id})
    print(row.seq, flush=True)
"""


def kill_a_writer(where, delay):
    """Start a writer, kill -9 it a while after its first commit; the last it acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(where)], stdout=subprocess.PIPE, text=True
    )
    first = writer.stdout.readline()
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    # the last number may be cut short by the kill: only what follows a newline counts
    return int(rest[-2] if len(rest) > 1 else first)


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.long)])
def test_kill_9_loses_nothing_that_was_committed(where, kills):
    Store.create(where).close()
    for _ in range(kills):
        acknowledged = kill_a_writer(where, random.uniform(0, 0.05))
        with Store.open(where) as store:
            store.check()
            with store.transaction() as tx:
                head = tx.audit.verify_chain()
                assert head.seq >= acknowledged
                assert len(tx.requests.all()) == head.seq


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_kill_9_while_creating(tmp_path, kills):
    code = "import sys; from pathlib import Path; from tpmhsm.store import Store\n"
    code += "import tpmhsm.store.migrate; print('x', flush=True)\n"
    code += "Store.create(Path(sys.argv[1]))"
    for n in range(kills):
        home = tmp_path / str(n)
        process = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE)
        process.stdout.read(1)
        time.sleep(random.uniform(0, 0.04))
        process.kill()
        process.stdout.close()
        process.wait()
        with Store.create(home) as store:
            store.check()


def test_a_locked_database_is_said_within_the_timeout(home):
    holder = sqlite3.connect(home / "tpmhsm.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with Store.open(home, timeout=0.3) as store:
            start = time.monotonic()
            match = "another process holds"
            with pytest.raises(StoreError, match=match) as caught, store.transaction():
                pytest.fail("the turn was not ours")
            assert 0.2 < time.monotonic() - start < 2
            assert caught.value.code == "busy"
            with store.reading() as tx:
                assert tx.settings.all() == {}
            holder.execute("ROLLBACK")
            with store.transaction() as tx:
                tx.settings.set("a", 1)
    finally:
        holder.close()


def test_an_exclusively_locked_database_cannot_be_opened(home):
    holder = sqlite3.connect(home / "tpmhsm.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("INSERT INTO settings VALUES ('a', '1')")
    try:
        for act in (Store.open, Store.create):
            with pytest.raises(StoreError) as caught:
                act(home, timeout=0.2)
            assert caught.value.code == "busy"
    finally:
        holder.close()


def test_postgresql_writers_wait_no_longer_than_the_timeout(postgres):
    url = postgres.url()
    with (
        Store.create(url) as first,
        Store.open(url, timeout=0.3) as second,
        first.transaction() as tx,
    ):
        tx.settings.set("a", 1)
        start = time.monotonic()
        with pytest.raises(StoreError) as caught, second.transaction():
            pytest.fail("the turn was not ours")
        assert 0.2 < time.monotonic() - start < 2
        assert caught.value.code == "busy"


def test_threads_share_a_store(store):
    from concurrent.futures import ThreadPoolExecutor

    def write(n):
        with store.transaction() as tx:
            tx.audit.append("thread", {"n": n})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(80)))
    with store.reading() as tx:
        assert tx.audit.verify_chain().seq == 80


def test_the_server_going_away_is_said_and_survived(postgres):
    url = postgres.url()
    with Store.create(url) as store:
        with pytest.raises(StoreError) as caught, store.transaction() as tx:
            pid = tx._connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.2)
            tx.settings.set("a", 1)
        assert caught.value.code == "lost"
        with store.transaction() as tx:
            assert tx.settings.all() == {}
