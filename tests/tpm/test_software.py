"""The embedded software TPM and its keeper: births, deaths and accidents."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.tpm import housekeeping, keeper, nv, software
from tpmhsm.tpm.device import open_device
from tpmhsm.tpm.door import Door
from tpmhsm.tpm.lock import is_dirty
from tpmhsm.tpm.sessions import Password
from tpmhsm.wire.commands import DictionaryAttackLockReset, NV_DefineSpace, NV_Read
from tpmhsm.wire.constants import ALG, RH, NvAttributes
from tpmhsm.wire.structures import NvPublic

from .conftest import end, left_behind

SHUTDOWN_CLEAR = bytes.fromhex("80010000000c000001450000")
GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
START_POLICY_SESSION = bytes.fromhex(
    "80010000003b0000017640000007400000070020" + "5a" * 32 + "0000010010000b"
)
LEAVE_A_MESS = """
import sys, time
from pathlib import Path
from tpmhsm.tpm import software
directory = Path(sys.argv[1])
with software.lock_of(directory).held() as hold:
    hold.mark()
    door = software.connect(directory)
    for _ in range(2):
        door.send(bytes.fromhex(sys.argv[2]))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def directory(software_home: Path) -> Path:
    return software.directory_of(software_home)


@contextmanager
def door_to(directory: Path) -> Iterator[Door]:
    with software.lock_of(directory).held(10):
        door = software.connect(directory)
        try:
            yield door
        finally:
            door.close()


def answers(directory: Path) -> bool:
    with door_to(directory) as door:
        return door.send(GET_RANDOM)[6:10] == b"\0\0\0\0"


def eventually(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"  # somebody has not collected it yet, and in a container nobody may


def test_manufacture_makes_a_chip_once_with_a_ca_of_its_own(tmp_path):
    directory = software.directory_of(tmp_path / "a home, with = signs")
    try:
        assert not software.is_manufactured(directory)
        assert software.manufacture(directory)
        assert not software.manufacture(directory)
        assert software.is_manufactured(directory)
        certificate = (directory / "chip" / "localca" / "issuercert.pem").read_text()
        assert "BEGIN CERTIFICATE" in certificate
        assert directory.stat().st_mode & 0o777 == 0o700
        assert answers(directory)
    finally:
        end(directory)


def test_manufacture_after_one_that_was_killed(tmp_path):
    directory = software.directory_of(tmp_path)
    (directory / "chip.new" / "state").mkdir(parents=True)
    (directory / "chip.new" / "state" / "tpm2-00.permall").write_bytes(b"half")
    assert not software.is_manufactured(directory)
    assert software.manufacture(directory)
    assert software.is_manufactured(directory)


def test_manufacture_without_swtpm_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="swtpm_setup is not installed") as e:
        software.manufacture(tmp_path / "tpm")
    assert e.value.hint == "apt install swtpm swtpm-tools"


def test_manufacture_that_fails_says_why(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("swtpm", "swtpm_localca", "swtpm_setup"):
        (tools / name).write_text("#!/bin/sh\necho the moon is full >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(DeviceError, match="swtpm_setup failed: the moon is full"):
        software.manufacture(tmp_path / "tpm")
    assert not software.is_manufactured(tmp_path / "tpm")


def test_a_home_without_a_chip(tmp_path):
    with pytest.raises(DeviceError, match="there is no software TPM") as e:
        software.start(tmp_path / "tpm")
    assert "tpmhsm init" in e.value.hint
    assert not software.stop(tmp_path / "tpm")
    assert software.state(tmp_path / "tpm") == software.State(False, None, None)


def test_start_and_stop(directory):
    assert not software.running(directory)
    software.start(directory)
    software.start(directory)
    state = software.state(directory)
    assert state.keeper
    assert state.swtpm
    assert lives(state.keeper)
    assert answers(directory)
    assert software.stop(directory)
    assert not software.running(directory)
    assert not lives(state.keeper)
    assert not lives(state.swtpm)
    assert not (directory / "swtpm.sock").exists()
    assert not software.stop(directory)


def test_a_damaged_chip_is_an_error_in_words(directory):
    (directory / "chip" / "state" / "tpm2-00.permall").write_bytes(b"garbage")
    with pytest.raises(DeviceError, match="the software TPM does not start"):
        software.start(directory)
    assert not software.running(directory)


def test_platform_hierarchy_is_off(directory):
    """HierarchyControl with the platform's authorization answers TPM_RC_HIERARCHY for handle 1."""
    body = bytes.fromhex("4000000c 00000009 40000009 0000 00 0000 40000001 01")
    with door_to(directory) as door:
        answer = door.send(struct.pack(">HII", 0x8002, 10 + len(body), 0x121) + body)
    assert answer[6:10].hex() == "00000185"


def test_kill_9_of_swtpm_keeper_or_both(directory):
    for victims in (("swtpm",), ("keeper",), ("swtpm", "keeper"), ("keeper", "swtpm")):
        software.start(directory)
        state = software.state(directory)
        pids = [getattr(state, name) for name in victims]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not any(map(lives, pids)), 2)  # noqa: B023
        assert answers(directory)
        after = software.state(directory)
        assert after.swtpm != state.swtpm
        assert eventually(lambda: not lives(state.keeper) and not lives(state.swtpm), 3)  # noqa: B023


def test_starting_at_once_from_many_processes_starts_one(directory):
    script = "import sys; from pathlib import Path; from tpmhsm.tpm import software\n"
    script += "software.start(Path(sys.argv[1])); print(software.state(Path(sys.argv[1])).keeper)"
    command = [sys.executable, "-c", script, str(directory)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    keepers = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert keepers == {str(software.state(directory).keeper)}


def test_a_second_keeper_leaves_the_work_to_the_first(directory):
    """As when a client that starts one is killed, and the next client starts another."""
    command = [sys.executable, "-P", "-m", "tpmhsm.tpm.keeper", str(directory)]
    keepers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [keeper.communicate(timeout=10) for keeper in keepers] == [(None, b"")] * 3
    assert [keeper.returncode for keeper in keepers] == [0, 0, 0]
    assert answers(directory)


def test_a_killed_client_leaves_nothing_for_long(directory):
    script = [sys.executable, "-c", LEAVE_A_MESS, str(directory), START_POLICY_SESSION.hex()]
    client = subprocess.Popen(script, stdout=subprocess.PIPE)
    assert client.stdout
    with client.stdout:
        assert client.stdout.readline() == b"ready\n"
        client.kill()
        client.wait()
    assert is_dirty(directory / "lock")
    assert eventually(lambda: not is_dirty(directory / "lock"), 2)
    assert left_behind(directory) == []


def test_two_sessions_are_a_mess_at_all(directory):
    """The test above would prove nothing if its client made nothing."""
    with door_to(directory) as door:
        answer = door.send(START_POLICY_SESSION)
        assert answer[6:10] == b"\0\0\0\0"
    assert len(left_behind(directory)) == 1
    with software.lock_of(directory).held(1):
        assert software.clean_up(directory) == 1


def test_home_removed_ends_keeper_and_swtpm(directory):
    software.start(directory)
    state = software.state(directory)
    shutil.rmtree(directory.parent)
    assert eventually(lambda: not lives(state.keeper) and not lives(state.swtpm), 4)


def test_home_moved_works_at_its_new_place(directory):
    software.start(directory)
    state = software.state(directory)
    elsewhere = directory.parent.with_name("elsewhere")
    directory.parent.rename(elsewhere)
    moved = software.directory_of(elsewhere)
    try:
        assert eventually(lambda: not lives(state.keeper) and not lives(state.swtpm), 4)
        assert answers(moved)
    finally:
        end(moved)


def test_a_caller_s_pipe_ends_with_the_caller(directory):
    """`tpmhsm … | cat` must not wait for the keeper."""
    script = "import sys; from pathlib import Path; from tpmhsm.tpm import software\n"
    script += "software.start(Path(sys.argv[1])); print('done')"
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
        check=True,
    )
    assert result.stdout == b"done\n"
    assert time.monotonic() - started < 10
    assert software.running(directory)


def test_stop_waits_for_the_transaction_at_hand(directory):
    with door_to(directory) as door:
        stopper = threading.Thread(target=software.stop, args=(directory,))
        stopper.start()
        time.sleep(0.2)
        assert door.send(GET_RANDOM)[6:10] == b"\0\0\0\0"
    stopper.join(10)
    assert not software.running(directory)


def test_sigterm_ends_the_keeper_in_good_order(directory):
    software.start(directory)
    state = software.state(directory)
    os.kill(state.keeper, signal.SIGTERM)
    assert eventually(lambda: not lives(state.keeper) and not lives(state.swtpm), 3)
    assert answers(directory)


def test_idle_keeper_ends(directory, monkeypatch):
    """The limit itself, with a clock that a test may set; ten minutes are the product's."""
    assert keeper.IDLE_LIMIT == 600
    monkeypatch.chdir(directory)
    (directory / "lock").touch()
    now = [1000.0]
    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])
    one = keeper._Keeper(directory, keeper._claim_directory())
    try:
        assert not one._is_idle()
        now[0] += 599
        assert not one._is_idle()
        os.utime(directory / "lock", ns=(5, 5))
        now[0] += 599
        assert not one._is_idle()
        now[0] += 601
        assert one._is_idle()
        (directory / "live").mkdir()
        note = directory / "live" / "a.window"
        note.touch()
        for ahead, idle in ((60, False), (-1, True), (27 * 3600, True)):
            until = time.time() + ahead
            os.utime(note, (until, until))
            assert one._is_idle() is idle
        keeper._forget_waiting()
        assert not note.exists()
    finally:
        os.close(one._claim)
        os.close(one._log)


def test_a_keeper_stays_while_wrong_pins_are_counted(software_home, directory, monkeypatch):
    """They come back while the chip runs, and only then."""
    one = keeper._Keeper.__new__(keeper._Keeper)
    one._last_use = (0, 0.0)
    device = open_device("software", software_home)
    public = NvPublic(
        nv.FIRST_INDEX, ALG.SHA256, NvAttributes.AUTHREAD | NvAttributes.AUTHWRITE, b"", 8
    )
    with device.transaction() as chip:
        chip.send(NV_DefineSpace(RH.OWNER, b"right", public))
    monkeypatch.chdir(directory)
    with software.lock_of(directory).held(10):
        assert not one._is_needed()
        assert one._last_use == (0, 0.0)
    with device.transaction() as chip, pytest.raises(ChipRefusedError, match=r"98e"):
        chip.send(NV_Read(public.nv_index, public.nv_index, 8, 0), Password(b"wrong"))
    with software.lock_of(directory).held(10):
        assert one._is_needed()
        assert one._last_use[1] > 0
    with device.transaction() as chip:
        chip.send(DictionaryAttackLockReset(RH.LOCKOUT))
        nv.undefine(chip, public.nv_index)
    with software.lock_of(directory).held(10):
        assert not one._is_needed()


def test_swtpm_s_log_does_not_grow_for_ever(directory):
    software.start(directory)
    log = directory / "swtpm.log"
    with log.open("ab") as file:
        file.write(b"x" * (keeper.LOG_LIMIT + 1))
    assert eventually(lambda: log.stat().st_size < keeper.LOG_LIMIT, 3)


def test_the_keeper_is_small_and_sleeps(directory):
    software.start(directory)
    pid = software.state(directory).keeper
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 25_000  # kB

    def ticks() -> int:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])

    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 2  # hundredths of a second


def test_a_stop_is_one_command() -> None:
    """TPM2_Shutdown(CLEAR): what was left in the chip does not outlive it anyhow."""
    sent: list[bytes] = []

    class Recorder(Door):
        def send(self, command: bytes) -> bytes:
            sent.append(command)
            return bytes.fromhex("80010000000a00000000")

        def close(self) -> None: ...

    housekeeping.shut_down(Recorder())
    assert sent == [SHUTDOWN_CLEAR]
