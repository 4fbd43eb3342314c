"""A TLS server in a thread: serves a chain, may want client certificates, says what it heard."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.house import Chain

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"


@dataclass
class Listener:
    """`port` on 127.0.0.1; `heard` has the client's name for each connection, or why not."""

    port: int
    heard: list[str] = field(default_factory=list)


@contextmanager
def listening(chain: Chain, trusted: Path | None = None) -> Iterator[Listener]:
    """Serve `chain` until the block ends; with `trusted`, to clients below that root alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert chain.key
    context.load_cert_chain(chain.chain, chain.key)
    if trusted:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        listener = Listener(server.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, context, listener))
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown(socket.SHUT_RDWR)  # ends the waiting for the next
            thread.join(30)
            assert not thread.is_alive()


def _serve(server: socket.socket, context: ssl.SSLContext, listener: Listener) -> None:
    while True:
        try:
            plain = server.accept()[0]
        except OSError:
            return
        plain.settimeout(20)
        try:
            with context.wrap_socket(plain, server_side=True) as tls:
                if tls.recv(4096):
                    tls.sendall(ANSWER)
                    listener.heard.append(_name(tls))
                else:
                    listener.heard.append("left without a word")
                tls.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    tls.unwrap()  # says that this is the end, waits for no answer
        except OSError as error:  # ssl.SSLError is one
            listener.heard.append(f"refused: {error}")


def _name(tls: ssl.SSLSocket) -> str:
    found = tls.getpeercert() or {}
    return ", ".join(value for rdn in found.get("subject", ()) for _, value in rdn)
