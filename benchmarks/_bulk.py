# SPDX-License-Identifier: Apache-2.0
"""Bulk transfers on demand, run inside hosts: one TCP connection carries many timed bursts, either way.

    python _bulk.py serve ADDRESS PORT
    python _bulk.py drive NAME=ADDRESS:PORT[:GREETING[:COUNT]] ...

The driver opens a connection to each place, or COUNT of them, and obeys lines on stdin: `NAME D|U BYTES` (download or
upload, the bytes shared out among its connections), answering each with the seconds that it took.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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


class Group:
    """The connections to one place, which transfer at once."""

    def __init__(self, address: str, port: int, greeting: str, count: int) -> None:
        """Connect and greet."""
        self._streams = [socket.create_connection((address, port), timeout=60) for _ in range(count)]
        self._buffers = [bytearray(CHUNK) for _ in range(count)]
        for stream in self._streams:
            stream.sendall(f"please {greeting}\n".encode())
            read_line(stream)
        self._workers = ThreadPoolExecutor(count)

    def burst(self, way: str, count: int) -> float:
        """Transfer and return the seconds from the first byte asked for to the last one had."""
        if len(self._streams) == 1:
            return burst(self._streams[0], way, count, self._buffers[0])
        share = count // len(self._streams)
        began = time.monotonic()
        parts = [
            self._workers.submit(burst, stream, way, share, buffer)
            for stream, buffer in zip(self._streams, self._buffers, strict=True)
        ]
        for part in parts:
            part.result()
        return time.monotonic() - began


def drive(places: list[str]) -> None:
    """Connect, greet, then obey."""
    groups: dict[str, Group] = {}
    for place in places:
        name, _, where = place.partition("=")
        address, port, greeting, count, *_ = [*where.split(":"), *["hello", "1"][where.count(":") - 1 :]]
        groups[name] = Group(address, int(port), greeting, int(count))
    print("ready", flush=True)
    for line in sys.stdin:
        name, way, size = line.split()
        print(groups[name].burst(way, int(size)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        drive(sys.argv[2:])
