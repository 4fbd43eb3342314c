"""The doors, against doubles: a pseudo-terminal for the device file, a socket for swtpm."""

from __future__ import annotations

import os
import socket
import struct
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tpmhsm.errors import DeviceError
from tpmhsm.tpm.door import DeviceFileDoor, PytssDoor, SocketDoor

GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
RESPONSE = bytes.fromhex("80010000001400000000") + b"\x00\x08" + b"random!!"

Answer = Callable[[bytes], bytes | None]


class DeviceDouble:
    """A character device that gives `answer(command)`; None is silence."""

    def __init__(self, answer: Answer) -> None:
        self.commands: list[bytes] = []
        self._answer = answer
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = Path(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                command = os.read(self._master, 4096)
            except OSError:
                return
            if command == b"end":
                return
            self.commands.append(command)
            response = self._answer(command)
            if response is not None:
                os.write(self._master, response)

    def close(self) -> None:
        os.write(self._slave, b"end")
        self._thread.join(5)
        os.close(self._slave)
        os.close(self._master)


class SocketDouble:
    """An swtpm that serves one client with `answer(command)`, and then hangs up."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        previous = os.getcwd()
        os.chdir(path.parent)  # the path may be longer than a socket's name
        self._listener.bind(path.name)
        os.chdir(previous)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with client, suppress(OSError):
            while command := client.recv(4096):
                response = self._answer(command)
                if response is None:
                    return
                client.sendall(response)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def device_double(request):
    doubles = []

    def make(answer: Answer) -> DeviceDouble:
        doubles.append(DeviceDouble(answer))
        return doubles[-1]

    yield make
    for double in doubles:
        double.close()


@pytest.fixture
def socket_double(tmp_path):
    doubles = []

    def make(answer: Answer, path: Path | None = None) -> SocketDouble:
        doubles.append(SocketDouble(path or tmp_path / "s", answer))
        return doubles[-1]

    yield make
    for double in doubles:
        double.close()


def test_device_file_writes_once_and_reads_once(device_double):
    double = device_double(lambda command: RESPONSE)
    door = DeviceFileDoor(double.path)
    try:
        assert door.send(GET_RANDOM) == RESPONSE
        assert door.send(GET_RANDOM) == RESPONSE
    finally:
        door.close()
        door.close()
    assert double.commands == [GET_RANDOM, GET_RANDOM]
    with pytest.raises(DeviceError, match="closed"):
        door.send(GET_RANDOM)


def test_device_file_that_is_silent_is_given_up_for_good(device_double):
    door = DeviceFileDoor(device_double(lambda command: None).path, timeout=0.1)
    with pytest.raises(DeviceError, match="vanished midway: it does not answer"):
        door.send(GET_RANDOM)
    assert door.broken
    with pytest.raises(DeviceError, match="closed"):
        door.send(GET_RANDOM)


@pytest.mark.parametrize("answer", [b"short", RESPONSE + b"more", RESPONSE[:-1]])
def test_device_file_that_answers_nonsense(device_double, answer):
    door = DeviceFileDoor(device_double(lambda command: answer).path)
    with pytest.raises(DeviceError, match="no TPM response"):
        door.send(GET_RANDOM)


def test_device_file_that_is_missing_or_no_device(tmp_path):
    with pytest.raises(DeviceError, match=r"no TPM at .*tpmrm7: no such file") as e:
        DeviceFileDoor(tmp_path / "tpmrm7")
    assert e.value.code == "device-missing"
    with pytest.raises(DeviceError, match="is a directory"):
        DeviceFileDoor(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="ordinary file"):
        DeviceFileDoor(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_device_file_without_permission(tmp_path):
    (tmp_path / "tpmrm0").touch(0o000)
    with pytest.raises(DeviceError, match="permission denied") as e:
        DeviceFileDoor(tmp_path / "tpmrm0")
    assert "tss" in e.value.hint


@pytest.mark.parametrize("command", [b"", b"123456789", bytes(4097)])
def test_commands_of_impossible_size_never_leave(device_double, command):
    double = device_double(lambda command: RESPONSE)
    door = DeviceFileDoor(double.path)
    with pytest.raises(DeviceError, match=f"a command of {len(command)} bytes"):
        door.send(command)
    assert door.send(GET_RANDOM) == RESPONSE
    door.close()
    assert double.commands == [GET_RANDOM]


def test_socket_answers(socket_double):
    door = SocketDoor(socket_double(lambda command: RESPONSE).path)
    assert door.send(GET_RANDOM) == RESPONSE
    door.close()


def test_socket_in_a_deep_folder(socket_double, tmp_path):
    deep = tmp_path / ("a" * 90) / ("b" * 90)
    deep.mkdir(parents=True)
    door = SocketDoor(socket_double(lambda command: RESPONSE, deep / "s").path)
    assert door.send(GET_RANDOM) == RESPONSE
    door.close()


def test_socket_that_hangs_up_midway(socket_double):
    door = SocketDoor(socket_double(lambda command: None).path)
    with pytest.raises(DeviceError, match="vanished midway: it closed the connection") as e:
        door.send(GET_RANDOM)
    assert e.value.code == "device-vanished"
    assert door.broken


@pytest.mark.parametrize(
    "answer", [RESPONSE + b"!", b"HTTP/1.1 400 Bad Request\r\n\r\n", struct.pack(">HII", 1, 5, 0)]
)
def test_socket_that_is_no_tpm(socket_double, answer):
    door = SocketDoor(socket_double(lambda command: answer).path)
    with pytest.raises(DeviceError, match=r"not a TPM 2\.0 socket"):
        door.send(GET_RANDOM)


def test_socket_that_is_silent(socket_double):
    door = SocketDoor(socket_double(lambda command: b"\x80").path, timeout=0.1)
    with pytest.raises(DeviceError, match="does not answer"):
        door.send(GET_RANDOM)


def test_an_interrupted_command_closes_the_door(socket_double, monkeypatch):
    """Else its answer would be taken for the answer to the next command."""
    door = SocketDoor(socket_double(lambda command: RESPONSE).path)

    def interrupt() -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        door.send(GET_RANDOM)
    assert door.broken
    with pytest.raises(DeviceError, match="closed"):
        door.send(GET_RANDOM)


def test_socket_that_nobody_serves(tmp_path):
    with pytest.raises(DeviceError, match="no such file"):
        SocketDoor(tmp_path / "none")
    with pytest.raises(DeviceError, match="connection refused"):
        SocketDoor(("127.0.0.1", 1))


def test_a_tcti_that_does_not_exist():
    with pytest.raises(DeviceError, match="nonsense") as e:
        PytssDoor("nonsense:x=1")
    assert e.value.hint
