"""Devices and transactions: many at once, killed, interrupted, vanished."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tpmhsm.errors import ChipRefusedError, DeviceError, UsageError
from tpmhsm.tpm import device as device_module
from tpmhsm.tpm import objects, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import Device, open_device
from tpmhsm.tpm.door import SocketDoor
from tpmhsm.tpm.lock import is_dirty
from tpmhsm.tpm.sessions import start_hmac, start_policy
from tpmhsm.wire.commands import ContextSave, CreatePrimary, GetRandom, NV_ReadPublic
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import SensitiveCreate

from .conftest import end, left_behind

HAMMER = """
import sys, time
from pathlib import Path
from tpmhsm.tpm import objects
from tpmhsm.tpm.device import open_device
device = open_device("software", Path(sys.argv[1]))
until, done = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    with device.transaction() as chip:
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        key = objects.load_key(chip, parent, made.public, made.private)
        objects.sign_digest(chip, key, bytes(32))
    done += 1
print(done)
"""
LEAVE_A_MESS = """
import sys, time
from pathlib import Path
from tpmhsm.tpm import objects
from tpmhsm.tpm.device import open_device
from tpmhsm.tpm.sessions import start_hmac, start_policy
from tpmhsm.wire.commands import ContextSave, CreatePrimary
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import SensitiveCreate
with open_device(sys.argv[1], Path(sys.argv[2])).transaction() as chip:
    command = CreatePrimary(RH.OWNER, SensitiveCreate(), objects.STORAGE_PARENT_TEMPLATE, b"", ())
    for _ in range(3):
        chip.send(command)
    chip.send(ContextSave(start_policy(chip).handle))
    start_hmac(chip), start_policy(chip)
    print(len(chip.leaks()), flush=True)
    time.sleep(60)
"""
PRIMARY = CreatePrimary(RH.OWNER, SensitiveCreate(), objects.STORAGE_PARENT_TEMPLATE, b"", ())


def make_a_mess(chip: Chip) -> None:
    for _ in range(3):
        chip.send(PRIMARY)
    chip.send(ContextSave(start_policy(chip).handle))
    start_hmac(chip)
    start_policy(chip)
    assert len(chip.leaks()) == 6


def use(device: Device) -> None:
    with device.transaction(timeout=30) as chip:
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        key = objects.load_key(chip, parent, made.public, made.private)
        objects.sign_digest(chip, key, bytes(32))


@pytest.fixture
def directory(software_home: Path) -> Path:
    return software.directory_of(software_home)


def test_a_transaction_leaves_nothing(device, directory):
    with device.transaction() as chip:
        make_a_mess(chip)
    assert left_behind(directory) == []
    assert not is_dirty(directory / "lock")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_transaction_leaves_nothing(device, directory, error):
    def fail() -> None:
        with device.transaction() as chip:
            make_a_mess(chip)
            raise error

    with pytest.raises(error):
        fail()
    assert not is_dirty(directory / "lock")
    assert left_behind(directory) == []
    use(device)


def test_a_refused_command_leaves_nothing(device, directory):
    with pytest.raises(ChipRefusedError), device.transaction() as chip:
        make_a_mess(chip)
        chip.send(NV_ReadPublic(0x01800000))
    assert left_behind(directory) == []


def test_an_interrupt_in_the_middle_of_a_command_leaves_nothing(device, directory, monkeypatch):
    """Ctrl-C while the chip makes a key: nobody hears what its handle is."""

    def interrupted(self: SocketDoor) -> bytes:
        select.select([self._socket], [], [])  # the chip has done it
        raise KeyboardInterrupt

    def fail() -> None:
        with device.transaction() as chip:
            chip.send(GetRandom(4))
            with monkeypatch.context() as patch:
                patch.setattr(SocketDoor, "_read", interrupted)
                chip.send(PRIMARY)

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not is_dirty(directory / "lock")
    assert left_behind(directory) == []
    use(device)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_eight_threads_and_two_processes(device, software_home, directory, seconds):
    script = [sys.executable, "-c", HAMMER, str(software_home), str(seconds)]
    processes = [subprocess.Popen(script, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    until = time.monotonic() + seconds
    counts: list[int] = []

    def hammer() -> None:
        done = 0
        while time.monotonic() < until:
            use(device)
            done += 1
        counts.append(done)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 40)
    outputs = [int(process.communicate(timeout=40)[0]) for process in processes]
    assert len(counts) == 8
    assert all(count > 0 for count in counts)
    assert all(output > 10 for output in outputs)
    assert left_behind(directory) == []


@pytest.mark.parametrize("wait_for", ["keeper", "client"])
def test_kill_9_of_a_client_in_a_transaction(device, software_home, directory, wait_for):
    script = [sys.executable, "-c", LEAVE_A_MESS, "software", str(software_home)]
    client = subprocess.Popen(script, stdout=subprocess.PIPE)
    assert client.stdout
    with client.stdout:
        assert client.stdout.readline() == b"6\n"
        client.kill()
        client.wait()
    if wait_for == "client":  # the next one does not wait for the keeper to have cleaned up
        with device.transaction() as chip:
            assert chip.leaks() == []
        return
    deadline = time.monotonic() + 2
    while is_dirty(directory / "lock"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left_behind(directory) == []


def test_a_device_that_is_held_too_long(device, software_home, directory):
    script = [sys.executable, "-c", LEAVE_A_MESS, "software", str(software_home)]
    client = subprocess.Popen(script, stdout=subprocess.PIPE)
    assert client.stdout
    with client.stdout:
        client.stdout.readline()
        words = f"process {client.pid} has held the software TPM for 1 s"
        with pytest.raises(DeviceError, match=words), device.transaction(timeout=1):
            pass
        client.kill()
        client.wait()
    use(device)


@pytest.mark.parametrize("victim", ["swtpm", "keeper"])
def test_a_chip_that_vanishes_midway(device, directory, victim):
    """The error says so, the lock is let go, and the next transaction finds a new chip."""

    def fail() -> None:
        with device.transaction() as chip:
            make_a_mess(chip)
            os.kill(getattr(software.state(directory), victim), signal.SIGKILL)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                chip.send(GetRandom(4))

    with pytest.raises(DeviceError, match="vanished midway") as e:
        fail()
    assert e.value.code == "device-vanished"
    use(device)
    assert left_behind(directory) == []


def test_transactions_of_a_thread_do_not_nest(device):
    nested = pytest.raises(DeviceError, match="already in a transaction")
    with device.transaction(), nested, device.transaction():
        pass


def test_a_home_without_a_chip_is_told_about_init(tmp_path):
    with (
        pytest.raises(DeviceError, match="no software TPM") as e,
        open_device("software", tmp_path / "nowhere").transaction(),
    ):
        pass
    assert "tpmhsm init" in e.value.hint
    assert not (tmp_path / "nowhere").exists()


def test_auto_takes_what_the_home_has_then_hardware_then_software(
    software_home, tmp_path, monkeypatch
):
    monkeypatch.setattr(device_module, "DEVICE_FILE", tmp_path / "tpmrm0")
    assert open_device("auto", tmp_path).kind == "software TPM"
    (tmp_path / "tpmrm0").touch()
    hardware = open_device("auto", tmp_path)
    assert hardware.kind == "hardware"
    assert hardware.describe() == f"hardware at {tmp_path}/tpmrm0"
    software_device = open_device("auto", software_home)
    assert software_device.kind == "software TPM"
    assert software_device.describe() == f"software TPM in {software_home}"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("device:/dev/null/tpm", "no TPM at /dev/null/tpm"),
        ("device:/nonexistent", "no TPM at /nonexistent: no such file"),
        ("swtpm:127.0.0.1:1", r"no TPM at 127.0.0.1:1: connection refused"),
        ("swtpm:/nonexistent/socket", "cannot lock the software TPM at /nonexistent/socket"),
        ("moon", "moon"),
        ("software:x", "software"),
    ],
)
def test_devices_that_are_not_there(tmp_path, spec, words):
    with pytest.raises(DeviceError, match=words), open_device(spec, tmp_path).transaction():
        pass


def test_no_name_at_all(tmp_path):
    with pytest.raises(UsageError):
        open_device("", tmp_path)


@pytest.fixture
def foreign_swtpm(manufactured: Path, tmp_path: Path) -> Iterator[list[str]]:
    """An swtpm that somebody else runs, at a unix socket and at none of our homes."""
    state = tmp_path / "foreign"
    state.mkdir()
    for file in (software.directory_of(manufactured) / "chip" / "state").glob("*.permall"):
        (state / file.name).write_bytes(file.read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = [f"type=unixio,path={state}/sock", f"type=tcp,port={port}"]
    processes = []
    common = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"]
    common += ["--flags", "not-need-init,startup-clear"]

    def run(kind: int) -> str:
        process = subprocess.Popen(
            [*common, "--server", places[kind]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        spec = [f"swtpm:{state}/sock", f"swtpm:127.0.0.1:{port}"][kind]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                with open_device(spec, tmp_path).transaction():
                    return spec
            except DeviceError:
                time.sleep(0.02)
        raise AssertionError("swtpm did not start")

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", [0, 1], ids=["unix", "tcp"])
def test_somebody_else_s_swtpm(foreign_swtpm, tmp_path, kind):
    spec = foreign_swtpm(kind)
    device = open_device(spec, tmp_path)
    assert device.kind == "software TPM"
    with device.transaction() as chip:
        make_a_mess(chip)
    script = [sys.executable, "-c", LEAVE_A_MESS, spec, str(tmp_path)]
    client = subprocess.Popen(script, stdout=subprocess.PIPE)
    assert client.stdout
    with client.stdout:
        assert client.stdout.readline() == b"6\n"
        client.kill()
        client.wait()
    with device.transaction() as chip:
        assert chip.leaks() == []


class DeviceFile:
    """A double of /dev/tpmrm0: a pseudo-terminal, behind it a software TPM.

    One write and one read a command. It stands in for hardware; it proves nothing about hardware.
    """

    def __init__(self, behind: SocketDoor) -> None:
        self._behind = behind
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = Path(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (command := os.read(self._master, 4096)) != b"end":
            os.write(self._master, self._behind.send(command))

    def close(self) -> None:
        os.write(self._slave, b"end")
        self._thread.join(5)
        os.close(self._slave)
        os.close(self._master)


def test_a_device_file_works_like_the_rest(device, directory, tmp_path):
    with software.lock_of(directory).held(10):
        behind = software.connect(directory)
        double = DeviceFile(behind)
        hardware = open_device(f"device:{double.path}", tmp_path)
        try:
            assert hardware.kind == "hardware"
            with hardware.transaction() as chip:
                make_a_mess(chip)
            use(hardware)
        finally:
            double.close()
            behind.close()
    assert left_behind(directory) == []


def test_home_removed_in_a_transaction(device, software_home, directory):
    import shutil

    def fail() -> None:
        with device.transaction() as chip:
            chip.send(GetRandom(4))
            shutil.rmtree(software_home)
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                chip.send(GetRandom(4))

    with pytest.raises(DeviceError, match=r"vanished midway|no software TPM"):
        fail()
    end(directory)
    with pytest.raises(DeviceError, match="no software TPM"):
        use(device)


HAMMER_ON = (
    HAMMER.replace(
        "    with device.transaction() as chip:\n",
        "    try:\n     with device.transaction() as chip:\n",
    )
    .replace(
        "    done += 1\n",
        "    except DeviceError:\n     continue\n    done += 1\n",
    )
    .replace("import sys, time\n", "import sys, time\nfrom tpmhsm.errors import DeviceError\n")
)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.long)])
def test_chaos(device, software_home, directory, seconds):
    """Clients, swtpm and keeper are killed at random; what is left works and holds nothing."""
    script = [sys.executable, "-c", HAMMER_ON, str(software_home), "600"]
    chance = random.Random(4)
    clients: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            while len(clients) < 3:
                clients.append(subprocess.Popen(script, stderr=subprocess.PIPE))
            time.sleep(chance.uniform(0.05, 0.5))
            state = software.state(directory)
            victim = chance.choice([clients[0].pid, state.swtpm, state.keeper])
            if victim:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            if victim == clients[0].pid:
                assert clients[0].communicate()[1] == b""
                clients.pop(0)
        assert all(client.poll() is None for client in clients)
    finally:
        for client in clients:
            client.kill()
            print(client.communicate()[1].decode())
    use(device)
    assert left_behind(directory) == []
    assert not is_dirty(directory / "lock")
