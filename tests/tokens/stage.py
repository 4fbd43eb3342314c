"""Runs inside a mount and a network namespace of its own: pcscd with two virtual readers.

    unshare -m -n python -m tests.tokens.stage DIR

DIR/run becomes /run/pcscd, so that clients outside reach the daemon at DIR/run/pcscd.comm
($PCSCLITE_CSOCK_NAME). A card connects to DIR/N.card and is in reader N; what it says is carried to
the driver's port. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

PORTS = (19759, 19760)
NAME = "Yubico YubiKey OTP+FIDO+CCID"
DRIVER = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
READER = """FRIENDLYNAME "{name}"
DEVICENAME /dev/null:0x{port:04X}
LIBPATH {driver}
CHANNELID 0x{port:04X}
"""


def bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(door, 0x8914, request)  # SIOCSIFFLAGS


def mount(folder: Path) -> None:
    run, readers = folder / "run", folder / "readers"
    run.mkdir()
    readers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    Path("/run/pcscd").mkdir()
    subprocess.run(["mount", "--bind", str(run), "/run/pcscd"], check=True)
    # The second reader of this driver is on the next port: one entry makes both.
    text = READER.format(name=NAME, port=PORTS[0], driver=DRIVER)
    (readers / "cards").write_text(text)


def carry(source: socket.socket, sink: socket.socket) -> None:
    # The driver writes a length, then a message, and waits 40 ms for the first to be acknowledged.
    hurry = source.family == socket.AF_INET
    try:
        while data := source.recv(65536):
            if hurry:
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def relay(door: socket.socket, port: int) -> None:
    while True:
        card, _ = door.accept()
        reader = socket.create_connection(("127.0.0.1", port))
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        for pair in ((card, reader), (reader, card)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


def open_doors(folder: Path) -> None:
    for number, port in enumerate(PORTS):
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(folder / f"{number}.card"))
        door.listen()
        threading.Thread(target=relay, args=(door, port), daemon=True).start()


def wait_for_readers() -> None:
    deadline = time.monotonic() + 10
    for port in PORTS:
        while True:
            with socket.socket() as probe:
                # in use: the driver listens
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", port))
                except OSError:
                    break
            if time.monotonic() > deadline:
                raise SystemExit(f"no reader at port {port}")
            time.sleep(0.02)


def main() -> None:
    folder = Path(sys.argv[1])
    bring_up_loopback()
    mount(folder)
    log = (folder / "log").open("wb")
    command = ["pcscd", "--foreground", "-c", str(folder / "readers")]
    usage = subprocess.run(["pcscd", "--help"], capture_output=True, text=True, check=False)
    if "--disable-polkit" in usage.stdout:  # nobody else is in here
        command.append("--disable-polkit")
    daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    wait_for_readers()
    open_doors(folder)
    print("ready", flush=True)
    sys.stdin.read()
    daemon.terminate()
    daemon.wait(10)


if __name__ == "__main__":
    os.chdir("/")
    main()
