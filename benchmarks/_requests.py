# SPDX-License-Identifier: Apache-2.0
"""Many short connections from one host: each sends one request and waits for its answer; times on the monotonic clock.

    python _requests.py ask ADDRESS PORT TEXT COUNT AT_ONCE
    python _requests.py hold ADDRESS PORT COUNT
    python _requests.py serve ADDRESS PORT

Asking prints one JSON line a connection: local port, and when it began, was connected, had sent, and had the answer's
first byte. Holding opens idle connections, says `ready`, and asks on each of them once more for every line of stdin,
printing how many have answered. All are one loop: on few processors, threads here would be part of what is measured.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Callable

PAUSE_SECONDS = 0.01
"""Between connections one after another: a handoff is measured alone, so the last one's farewells shall have passed."""


class Asker:
    """Keeps so many connections going until all are done."""

    def __init__(self, where: tuple[str, int], text: str, count: int) -> None:
        """Begin with nothing under way."""
        self._where = where
        self._request = f"{text}\n".encode()
        self._left = count
        self._selector = selectors.DefaultSelector()
        self._times: dict[socket.socket, dict[str, float]] = {}
        self.done: list[dict[str, float]] = []

    def run(self, at_once: int) -> None:
        """Ask all; raises ConnectionError or TimeoutError where one gets no answer."""
        for _ in range(at_once):
            self._begin()
        while self._times:
            ready = self._selector.select(timeout=30)
            if not ready:
                raise TimeoutError(f"{len(self._times)} requests without an answer")
            for key, _ in ready:
                key.data(key.fileobj)
                if key.fileobj not in self._times and self._left:
                    if at_once == 1:
                        time.sleep(PAUSE_SECONDS)
                    self._begin()

    def _begin(self) -> None:
        if not self._left:
            return
        self._left -= 1
        stream = socket.socket()
        stream.setblocking(False)
        self._times[stream] = {"began": time.monotonic()}
        stream.connect_ex(self._where)
        self._selector.register(stream, selectors.EVENT_WRITE, self._connected)

    def _connected(self, stream: socket.socket) -> None:
        times = self._times[stream]
        times["connected"] = time.monotonic()
        error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise ConnectionError(error, "not connected")
        stream.send(self._request)
        times["sent"] = time.monotonic()
        self._selector.modify(stream, selectors.EVENT_READ, self._answered)

    def _answered(self, stream: socket.socket) -> None:
        if not stream.recv(65_536):
            raise ConnectionError("closed without an answer")
        times = self._times.pop(stream)
        times["answered"] = time.monotonic()
        times["port"] = stream.getsockname()[1]
        self.done.append(times)
        self._selector.unregister(stream)
        stream.close()


def hold(where: tuple[str, int], count: int) -> None:
    """Keep connections open until stdin ends."""
    streams = [socket.create_connection(where, timeout=30) for _ in range(count)]
    print("ready", flush=True)
    for _ in sys.stdin:
        for stream in streams:
            stream.sendall(b"still there?\n")
        print(sum(bool(stream.recv(65_536)) for stream in streams), flush=True)


def serve(where: tuple[str, int]) -> None:
    """Answer the first bytes of each connection, for ever."""
    selector = selectors.DefaultSelector()
    listener = socket.create_server(where, backlog=1024)

    def accept(_: socket.socket) -> None:
        stream, _ = listener.accept()
        selector.register(stream, selectors.EVENT_READ, answer)

    def answer(stream: socket.socket) -> None:
        try:
            if stream.recv(65_536):
                stream.send(b"hello\n")
                return
        except ConnectionError:
            pass  # a connection that has moved away is reset here
        selector.unregister(stream)
        stream.close()

    selector.register(listener, selectors.EVENT_READ, accept)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            act: Callable[[socket.socket], None] = key.data
            act(key.fileobj)  # type: ignore[arg-type]


def main(role: str, address: str, port: str, *rest: str) -> None:
    """Serve, hold, or ask and print."""
    where = (address, int(port))
    if role == "serve":
        serve(where)
        return
    if role == "hold":
        hold(where, int(rest[0]))
        return
    text, count, at_once = rest
    asker = Asker(where, text, int(count))
    asker.run(int(at_once))
    print("\n".join(map(json.dumps, asker.done)))


if __name__ == "__main__":
    main(*sys.argv[1:])
