# SPDX-License-Identifier: Apache-2.0
"""Bulk transfers on demand, run inside hosts: one TCP connection carries many timed bursts, either way.

    python _bulk.py serve ADDRESS PORT
    python _bulk.py drive NAME=ADDRESS:PORT[:GREETING] ...

The driver opens a connection to each place and obeys lines on stdin: `NAME D|U BYTES` (download or upload), answering
each with the seconds that it took; `NAME P` is answered with the connection's local port.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

CHUNK = 1 << 20
BLOCK = bytes(CHUNK)


def read_line(stream: socket.socket) -> str:
    """Return a line of the connection without its end; empty at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


def send(stream: socket.socket, count: int) -> None:
    """Send that many bytes."""
    view = memoryview(BLOCK)
    while count:
        count -= stream.send(view[: min(count, CHUNK)])


def receive(stream: socket.socket, count: int, buffer: bytearray) -> None:
    """Receive that many bytes; raises ConnectionError if they do not come."""
    view = memoryview(buffer)
    while count:
        got = stream.recv_into(view[: min(count, CHUNK)])
        if not got:
            raise ConnectionError("the other end closed the connection")
        count -= got


def converse(stream: socket.socket) -> None:
    """Serve one connection until it ends."""
    buffer = bytearray(CHUNK)
    with stream:
        while line := read_line(stream):
            what, _, count = line.rpartition(" ")
            if what.endswith("D"):
                send(stream, int(count))
            elif what.endswith("U"):
                receive(stream, int(count), buffer)
                stream.sendall(b"ok\n")
            else:
                stream.sendall(b"hello\n")


def serve(address: str, port: int) -> None:
    """Serve for ever."""
    with socket.create_server((address, port), backlog=256) as listener:
        print("ready", flush=True)
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=converse, args=(stream,), daemon=True).start()


def burst(stream: socket.socket, way: str, count: int, buffer: bytearray) -> float:
    """Transfer and return the seconds from the first byte asked for to the last one had."""
    began = time.monotonic()
    stream.sendall(f"{way} {count}\n".encode())
    if way == "D":
        receive(stream, count, buffer)
    else:
        send(stream, count)
        if read_line(stream) != "ok":
            raise ConnectionError("the upload was not confirmed")
    return time.monotonic() - began


def drive(places: list[str]) -> None:
    """Connect, greet, then obey."""
    streams: dict[str, socket.socket] = {}
    buffer = bytearray(CHUNK)
    for place in places:
        name, _, where = place.partition("=")
        address, port, greeting = (*where.split(":"), "hello")[:3]
        stream = streams[name] = socket.create_connection((address, int(port)), timeout=60)
        stream.sendall(f"please {greeting}\n".encode())
        read_line(stream)
    print("ready", flush=True)
    for line in sys.stdin:
        name, what, *count = line.split()
        if what == "P":
            print(streams[name].getsockname()[1], flush=True)
        else:
            print(burst(streams[name], what, int(count[0]), buffer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        drive(sys.argv[2:])
