# SPDX-License-Identifier: Apache-2.0
"""Both directions of a connection busy, every byte kept: run inside hosts.

    python bulk_peer.py serve ADDRESS PORT NAME DIRECTORY
    python bulk_peer.py drive ADDRESS PORT DIRECTORY

What an end sends is a stream of its own (`stream`), so that every byte tells where it comes from. The server keeps what
each connection received in `DIRECTORY/<client's port>-<time of accept>-NAME`, and how much it sent in the same with
`.sent`; it speaks only when spoken to. The client keeps what it received in `DIRECTORY/received` and ends when its
stdin does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

BLOCK = 4_096
BURST = int(os.environ.get("BULK_BURST", "8"))
"""Blocks written at once."""
PAUSE = float(os.environ.get("BULK_PAUSE", "0.004"))
"""Seconds between two writes: busy, and no more to keep than needed."""


def blocks(name: str) -> Iterator[bytes]:
    """Yield the stream of a name for ever: in each block a number, then the name's own noise."""
    noise = random.Random(name).randbytes(BLOCK - 8)
    for number in itertools.count():
        yield number.to_bytes(8, "big") + noise


def stream(name: str, length: int) -> bytes:
    """Return the beginning of the stream of a name."""
    return b"".join(itertools.islice(blocks(name), -(-length // BLOCK)))[:length]


def talk(connection: socket.socket, name: str, stop: threading.Event, sent: list[int]) -> None:
    """Send the stream until told to stop, or until the connection is reset."""
    source = blocks(name)
    with contextlib.suppress(ConnectionError):
        while not stop.is_set():
            data = memoryview(b"".join(itertools.islice(source, BURST)))
            while data:
                count = connection.send(data)
                sent[0] += count
                data = data[count:]
            time.sleep(PAUSE)


def listen(connection: socket.socket, path: Path, begun: threading.Event | None = None) -> str:
    """Keep what comes until the end; return what went wrong, if anything."""
    with path.open("wb", buffering=0) as file:
        try:
            while data := connection.recv(1 << 16):
                if begun is not None:
                    begun.set()
                file.write(data)
        except ConnectionError as error:
            return str(error)
    return ""


def converse(connection: socket.socket, path: Path) -> None:
    """Serve a connection: its stream is called as its file."""
    stop, begun, sent = threading.Event(), threading.Event(), [0]

    def answer() -> None:
        begun.wait()
        talk(connection, path.name, stop, sent)

    talker = threading.Thread(target=answer)
    talker.start()
    error = listen(connection, path, begun)
    stop.set()
    begun.set()
    talker.join()
    connection.close()
    path.with_name(path.name + ".sent").write_text(json.dumps({"sent": sent[0], "error": error}))


def serve(address: str, port: int, name: str, directory: Path) -> None:
    """Serve for ever."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=64) as listener:
        (directory / f"{name}.ready").touch()
        while True:
            connection, client = listener.accept()
            path = directory / f"{client[1]}-{time.monotonic_ns():020}-{name}"
            path.touch()
            threading.Thread(target=converse, args=(connection, path)).start()


def drive(address: str, port: int, directory: Path) -> None:
    """Talk and listen until stdin ends."""
    stop, sent = threading.Event(), [0]
    connection = socket.create_connection((address, port), timeout=30)
    connection.settimeout(None)
    print(json.dumps({"port": connection.getsockname()[1]}), flush=True)
    talker = threading.Thread(target=talk, args=(connection, "client", stop, sent))
    talker.start()

    def end() -> None:
        sys.stdin.read()
        stop.set()
        talker.join()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=end, daemon=True).start()
    error = listen(connection, directory / "received")
    stop.set()
    talker.join()
    print(json.dumps({"sent": sent[0], "error": error}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    else:
        drive(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
