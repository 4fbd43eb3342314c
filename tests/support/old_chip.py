"""A chip that lacks things: a true swtpm behind a filter that knows less than it does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.swtpm import bare_swtpm

from tpmhsm.wire.constants import CAP, CC, NT

_COMMAND_CODE, _RESERVED_BITS = 0x143, 0x2E1
_HEADER = 10


@dataclass
class OldChip:
    """Answers TPM_RC_COMMAND_CODE to `without`, and does not list them; with `pin_pass` False also
    TPM_RC_RESERVED_BITS to a new index of that type, as revision 1.16 does. `refused`: what it was
    asked for all the same; `asked`: all commands.
    """

    socket: Path
    inner: Path
    without: frozenset[int] = frozenset({CC.PolicyAuthorizeNV})
    pin_pass: bool = False
    refused: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def answer(self, command: bytes, ask: socket.socket) -> bytes:
        code = int.from_bytes(command[6:10], "big")
        self.asked.append(code)
        if code in self.without:
            self.refused.append(code)
            return _error(_COMMAND_CODE)
        if code == CC.NV_DefineSpace and not self.pin_pass and _nv_type(command) == NT.PIN_PASS:
            self.refused.append(code)
            return _error(_RESERVED_BITS)
        ask.sendall(command)
        reply = _message(ask)
        asked = command[_HEADER : _HEADER + 4]
        if code == CC.GetCapability and int.from_bytes(asked, "big") == CAP.COMMANDS:
            return self._listed(reply)
        return reply

    def _listed(self, reply: bytes) -> bytes:
        """TPML_CCA without what is missing."""
        more, group, count = struct.unpack_from(">BII", reply, _HEADER)
        items = struct.unpack_from(f">{count}I", reply, _HEADER + 9)
        kept = [item for item in items if item & 0xFFFF not in self.without]
        body = struct.pack(f">BII{len(kept)}I", more, group, len(kept), *kept)
        return reply[:2] + struct.pack(">I", _HEADER + len(body)) + reply[6:_HEADER] + body

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as ask, suppress(OSError):
                ask.connect(str(self.inner))
                while command := _message(client):
                    client.sendall(self.answer(command, ask))


def _nv_type(command: bytes) -> int:
    """The type of an index that TPM2_NV_DefineSpace asks for: TPM2B_AUTH and TPM2B_NV_PUBLIC are
    the parameters after the handle and the authorization area.
    """
    at = _HEADER + 4
    at += 4 + int.from_bytes(command[at : at + 4], "big")
    at += 2 + int.from_bytes(command[at : at + 2], "big")
    attributes = int.from_bytes(command[at + 8 : at + 12], "big")
    return (attributes >> 4) & 0xF


def _message(source: socket.socket) -> bytes:
    """One command or response, by the size in its header; empty at the end."""
    data = b""
    while len(data) < 6 or len(data) < int.from_bytes(data[2:6], "big"):
        more = source.recv(4096)
        if not more:
            return b""
        data += more
    return data


def _error(code: int) -> bytes:
    return struct.pack(">HII", 0x8001, _HEADER, code)


@contextmanager
def old_chip(*without: CC, pin_pass: bool = False) -> Iterator[OldChip]:
    """A chip without TPM2_PolicyAuthorizeNV (or `without`) and PIN_PASS indices."""
    with bare_swtpm() as inner, socket.socket(socket.AF_UNIX) as server:
        path = inner.with_name("old")
        server.bind(str(path))
        server.listen()
        chip = OldChip(path, inner, frozenset(without or (CC.PolicyAuthorizeNV,)), pin_pass)
        thread = threading.Thread(target=chip.serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield chip
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
