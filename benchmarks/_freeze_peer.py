# SPDX-License-Identifier: Apache-2.0
"""A connection that is busy both ways, with every byte checked as it comes: run inside hosts.

    python _freeze_peer.py serve ADDRESS PORT RATE FILE
    python _freeze_peer.py drive ADDRESS PORT RATE

RATE is in bytes a second each way, 0 for as fast as it goes. A stream is a sequence of 64-bit words: its own number in
the upper 24 bits, a counter from 0 in the lower 40, so a byte that is lost, doubled or another's is seen at once. The
server appends a line of JSON to FILE for every connection that ends; the driver ends when its stdin does, and tells
what it has seen. Times are of the machine's monotonic clock.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy

CLIENT = 1
COUNTER = 40
CHUNK = 32_768
NOTED = 0.000_2
"""Seconds without a byte from which on a gap is noted."""


def words(number: int, offset: int, length: int) -> bytes:
    """Return a part of a stream."""
    first, last = offset // 8, (offset + length + 7) // 8
    base = number << COUNTER
    return numpy.arange(base + first, base + last, dtype=">u8").tobytes()[offset % 8 :][:length]


def talk(stream: socket.socket, number: int, rate: float, stop: threading.Event, sent: list[int]) -> None:
    """Send a stream at a pace until told to stop, or until the connection is reset."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while not stop.is_set():
            stream.sendall(words(number, sent[0], CHUNK))
            sent[0] += CHUNK
            if rate:
                time.sleep(max(0.0, began + sent[0] / rate - time.monotonic()))


class Listener:
    """Takes what comes: checks it, and notes the gaps in time.

    ``parts`` lists [stream's number, offset of its first byte, length] in the order in which they came.
    """

    def __init__(self) -> None:
        self.parts: list[list[int]] = []
        self.gaps: list[tuple[float, float]] = []
        self.first = self.last = 0.0
        self.fault = ""
        self.begun = threading.Event()
        self._left = b""

    def listen(self, stream: socket.socket) -> None:
        """Take everything until the end."""
        buffer = bytearray(1 << 20)
        with contextlib.suppress(ConnectionError):
            while count := stream.recv_into(buffer):
                now = time.monotonic()
                if not self.first:
                    self.first = now
                    self.begun.set()
                elif now - self.last > NOTED:
                    self.gaps.append((self.last, now))
                self.last = now
                self._take(self._left + bytes(memoryview(buffer)[:count]))
        if self._left:
            self.fault = self.fault or f"{len(self._left)} bytes at the end are nobody's"

    def _take(self, data: bytes) -> None:
        """Check that the data goes on where the last part ended, or begins another one."""
        at = 0
        while at < len(data) and not self.fault:
            if self.parts:
                number, start, length = self.parts[-1]
                expected = words(number, start + length, len(data) - at)
                here = memoryview(data)[at:]
                same = len(here) if here == expected else difference(here, expected)
                self.parts[-1][2] += same
                at += same
                if at == len(data):
                    break
            found = self._begin(data, at)
            if found is None:
                break
            at = found
        self._left = data[at:]

    def _begin(self, data: bytes, at: int) -> int | None:
        """Find which stream goes on at ``at``; some of its first bytes may have looked like the last one's."""
        if len(data) - at < 24:
            return None
        if not self.parts:
            for skew in range(8):
                one, two = (int.from_bytes(data[skew + n : skew + n + 8], "big") for n in (0, 8))
                if two == one + 1:
                    self.parts.append([one >> COUNTER, (one & ((1 << COUNTER) - 1)) * 8 - skew, 0])
                    return 0
        for back in range(1 + min(7, at, self.parts[-1][2]) if self.parts else 0):
            word = int.from_bytes(data[at - back : at - back + 8], "big")
            if not word & ((1 << COUNTER) - 1):
                self.parts[-1][2] -= back
                self.parts.append([word >> COUNTER, 0, 0])
                return at - back
        self.fault = f"behind {self.parts[-1:]} came {data[at : at + 24].hex()}"
        return None

    def facts(self) -> dict[str, Any]:
        """Return what was seen."""
        names = ("parts", "gaps", "first", "last", "fault")
        return {name: getattr(self, name) for name in names}


def difference(one: memoryview, two: bytes) -> int:
    """Return where two sequences of the same length begin to differ."""
    unequal = numpy.frombuffer(one, numpy.uint8) != numpy.frombuffer(two, numpy.uint8)
    return int(numpy.argmax(unequal))


def converse(stream: socket.socket, rate: float, file: Path, lock: threading.Lock) -> None:
    """Serve a connection with a stream of its own."""
    number, sent, stop, listener = random.randrange(2, 1 << 24), [0], threading.Event(), Listener()

    def reply() -> None:
        listener.begun.wait()  # a target that speaks first is refused
        talk(stream, number, rate, stop, sent)

    talker = threading.Thread(target=reply)
    talker.start()
    listener.listen(stream)
    stop.set()
    listener.begun.set()
    talker.join()
    stream.close()
    line = json.dumps({"number": number, "sent": sent[0], **listener.facts()})
    with lock, file.open("a") as lines:
        lines.write(line + "\n")


def serve(address: str, port: int, rate: float, file: Path) -> None:
    """Serve for ever."""
    lock = threading.Lock()
    with socket.create_server((address, port), backlog=64) as listener:
        print("ready", flush=True)
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=converse, args=(stream, rate, file, lock)).start()


def drive(address: str, port: int, rate: float) -> None:
    """Talk and listen until stdin ends."""
    stop, sent, listener = threading.Event(), [0], Listener()
    stream = socket.create_connection((address, port), timeout=30)
    stream.settimeout(None)
    print(json.dumps({"port": stream.getsockname()[1]}), flush=True)
    talker = threading.Thread(target=talk, args=(stream, CLIENT, rate, stop, sent))
    talker.start()

    def end() -> None:
        sys.stdin.read()
        stop.set()
        talker.join()
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_WR)

    threading.Thread(target=end, daemon=True).start()
    listener.listen(stream)
    stop.set()
    talker.join()
    print(json.dumps({"sent": sent[0], **listener.facts()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
    else:
        drive(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
