"""Carry TPM commands from stdin to a socket and the answers back (for the TCTI `cmd`)."""

import os
import select
import socket
import sys

server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
while True:
    ready, _, _ = select.select([0, server], [], [])
    if 0 in ready:
        if not (data := os.read(0, 4096)):
            break
        server.sendall(data)
    if server in ready:
        os.write(1, server.recv(4096))
