# SPDX-License-Identifier: Apache-2.0
"""A TCP server of lines that says in every answer who answered, so that a client sees which server it talks to.

    request                            answer
    any line (the newline ends it)     "NAME N LENGTH SHA256 LINE\n"
    "get SIZE SEED"                    "NAME N SIZE SHA256 -\n" and then SIZE bytes of `pattern(SIZE, SEED)`
    end of the client's data           the server closes its side too

N counts this server's answers on this connection from 1; LENGTH and SHA256 (hexadecimal) are of the line without its
newline, or of the SIZE bytes. The server never speaks first. With ``--log FILE`` every event is a line of JSON:
``listening``, ``accepted``, ``request``, ``closed`` (with the bytes received and sent, and SHA-256 of all received).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

LONGEST_LINE = 16 << 20
LARGEST_GET = 1 << 32
CHUNK = 1 << 16


def pattern(size: int, seed: int, start: int = 0) -> bytes:
    """Return bytes ``start`` to ``start + size`` of an endless text (digits) that ``seed`` decides."""
    block = hashlib.sha256(seed.to_bytes(8, "big")).hexdigest().encode()  # 64 characters
    lines = (start // 64, (start + size + 63) // 64)
    # Each block of 64 begins with its own number, so that a lost, doubled or swapped piece cannot go unseen.
    text = b"".join(b"%015x:" % number + block[16:] for number in range(*lines))
    return text[start - lines[0] * 64 :][:size]


class Connection:
    """One client: reads lines, answers them, counts and hashes what it received."""

    def __init__(self, server: LineServer, sock: socket.socket, peer: tuple[str, int]) -> None:
        self.server, self.sock, self.peer = server, sock, f"{peer[0]}:{peer[1]}"
        self.answers = self.received = self.sent = 0
        self.hash = hashlib.sha256()

    def serve(self) -> None:
        """Answer until the client has finished or the connection breaks."""
        self.server.report("accepted", peer=self.peer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = "eof"
        try:
            self._answer_lines()
        except OSError as error:
            end = type(error).__name__
        finally:
            self.sock.close()
            self.server.report("closed", peer=self.peer, end=end, answers=self.answers, received=self.received,
                               sent=self.sent, sha256=self.hash.hexdigest())  # fmt: skip

    def _answer_lines(self) -> None:
        pending = bytearray()
        while data := self.sock.recv(CHUNK):
            self.received += len(data)
            self.hash.update(data)
            begin = len(pending)
            pending += data
            while (end := pending.find(b"\n", begin)) >= 0:
                self._answer(bytes(pending[:end]))
                del pending[: end + 1]
                begin = 0
            if len(pending) > LONGEST_LINE:
                raise ConnectionAbortedError
        if pending:
            self.server.report("unfinished", peer=self.peer, bytes=len(pending))

    def _answer(self, line: bytes) -> None:
        self.answers += 1
        size, seed = parse_get(line)
        self.server.report(
            "request", peer=self.peer, number=self.answers, bytes=len(line), text=line[:60].decode("latin-1")
        )
        head = f"{self.server.name} {self.answers} "
        if size < 0:
            self._send(f"{head}{len(line)} {hashlib.sha256(line).hexdigest()} ".encode() + line + b"\n")
            return
        starts = range(0, size, CHUNK)
        digest = hashlib.sha256()
        for start in starts:
            digest.update(pattern(min(CHUNK, size - start), seed, start))
        self._send(f"{head}{size} {digest.hexdigest()} -\n".encode())
        for start in starts:
            self._send(pattern(min(CHUNK, size - start), seed, start))

    def _send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent += len(data)


def parse_get(line: bytes) -> tuple[int, int]:
    """Return size and seed of a ``get`` request; (-1, 0) for every other line."""
    words = line.split()
    if len(words) == 3 and words[0] == b"get" and words[1].isdigit() and words[2].isdigit():
        size, seed = int(words[1]), int(words[2])
        if size <= LARGEST_GET and seed < 1 << 64:
            return size, seed
    return -1, 0


class LineServer:
    """Listens and gives every client a thread of its own."""

    def __init__(self, name: str, log: TextIO | None, quiet: bool) -> None:
        self.name, self.log, self.quiet = name, log, quiet
        self._lock = threading.Lock()

    def report(self, event: str, **facts: Any) -> None:
        """Write an event to the log (JSON) and to the terminal (readable)."""
        with self._lock:
            if self.log is not None:
                print(
                    json.dumps({"event": event, "server": self.name, "time": time.monotonic(), **facts}),
                    file=self.log,
                    flush=True,
                )
            if not self.quiet:
                print(
                    f"{self.name}: {event} "
                    + " ".join(f"{key}={value}" for key, value in facts.items() if key != "sha256"),
                    flush=True,
                )

    def run(self, address: str, port: int) -> None:
        """Serve until interrupted; OSError when the address cannot be listened at."""
        with socket.create_server((address, port), backlog=1024) as listener:
            self.report("listening", address=address, port=listener.getsockname()[1])
            while True:
                sock, peer = listener.accept()
                threading.Thread(target=Connection(self, sock, peer).serve, daemon=True).start()


def main(name: str, address: str, port: int, arguments: Sequence[str] | None = None) -> int:
    """Run a server from the command line, with these defaults; return the exit code."""
    parser = argparse.ArgumentParser(description=f"Line server {name}: every answer says who answered.")
    parser.add_argument("--name", default=name, help=f"who it says it is (default: {name})")
    parser.add_argument("--address", default=address, help=f"address to listen at (default: {address})")
    parser.add_argument("--port", type=int, default=port, help=f"port to listen at (default: {port})")
    parser.add_argument("--log", help="write every event to this file, one JSON object a line")
    parser.add_argument("--quiet", action="store_true", help="nothing on the terminal")
    options = parser.parse_args(arguments)
    if not options.name or options.name.split() != [options.name]:
        parser.error("--name must be one word")
    try:
        log = open(options.log, "a", encoding="utf-8") if options.log else None  # noqa: SIM115 (open while serving)
        LineServer(options.name, log, options.quiet).run(options.address, options.port)
    except (OSError, OverflowError) as error:
        where = f"{options.address}:{options.port}"
        print(
            f"{options.name}: cannot serve at {where}: {error}; is another one running, or is this not its host?",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        pass
    return 0
