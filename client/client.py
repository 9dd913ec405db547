#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo's client, run in h3: sends requests on one TCP connection and checks every byte of every answer.

    client.py "please migrate" "who are you now?"     one request after another on the same socket
    client.py --stdin                                 requests typed at the keyboard
    client.py --size 100000 --count 5 "migrate"       requests padded to a size, then four more of that size
    client.py "migrate" "get 1000000 7"               a download of 1,000,000 bytes of pattern 7

An answer must name a server, count that server's answers without a gap and repeat the request (see
servers/line_server.py). Exit code: 0 all answers right, 1 an answer wrong, 2 usage, 3 connection refused, reset, ended
or silent. ``--json`` prints one JSON object instead of text; its times are of the monotonic clock, in seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

CHUNK = 1 << 16
LONGEST_HEAD = 256
NOT_THERE = "is a server listening at {0.address}:{0.port}, and has the controller had its few seconds to start?"
TCP_INFO_TOTAL_RETRANS = 100  # offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)


class WrongAnswerError(Exception):
    """An answer is not what a server of ours would have said to the request."""


@dataclass
class Exchange:
    """One request and its answer; times in seconds of the monotonic clock."""

    request: str
    bytes_sent: int
    sent: float
    server: str = ""
    number: int = 0
    first_byte: float = 0.0
    finished: float = 0.0
    bytes_received: int = 0


@dataclass
class Report:
    """What happened on the one socket."""

    address: str
    port: int
    local_port: int = 0
    connecting: float = 0.0
    connected: float = 0.0
    retransmits: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    error: str = ""
    exit_code: int = 0


def requests(options: argparse.Namespace) -> Iterator[bytes]:
    """Yield the requests that the command line asks for, newline included."""
    if options.stdin:
        for line in sys.stdin:
            if line.strip():
                yield line.rstrip("\n").encode() + b"\n"
        return
    texts: list[str] = options.requests or ["please migrate", "who are you now?", "still there?"]
    texts = texts + [f"request {number}" for number in range(len(texts) + 1, options.count + 1)]
    for text in texts:
        line = text.encode()
        if not line.startswith(b"get "):
            filler = max(0, options.size - 1 - len(line))
            line += b" " * min(filler, 1) + (b"0123456789abcdef" * (filler // 16 + 1))[: max(0, filler - 1)]
        yield line + b"\n"


class Client:
    """One connection; keeps what it has read beyond the answer in hand."""

    def __init__(self, report: Report, timeout: float, source_port: int = 0) -> None:
        self.report = report
        self.pending = bytearray()
        self.expected: dict[str, int] = {}
        report.connecting = time.monotonic()
        self.sock = socket.create_connection((report.address, report.port), timeout, ("", source_port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        report.connected = time.monotonic()
        report.local_port = self.sock.getsockname()[1]

    def ask(self, line: bytes) -> Exchange:
        """Send one request, read and check its answer; WrongAnswerError or OSError when there is no right one."""
        text = line.rstrip(b"\n")
        exchange = Exchange(text[:60].decode("utf-8", "replace"), len(line), time.monotonic())
        self.report.exchanges.append(exchange)
        self.sock.sendall(line)
        self._read_until(1)
        exchange.first_byte = time.monotonic()
        head = self._head()
        name, number, length, digest = head
        exchange.server, exchange.number = name, number
        hashed = hashlib.sha256()
        received = len(" ".join(map(str, head))) + 1
        size, seed = parse_get(text)
        wanted = None if size >= 0 else text
        if wanted is None:
            if self._take(2) != b"-\n":
                raise WrongAnswerError(f"{name} answered a get like a line")
        else:
            size = len(text)
        remaining = size
        while remaining:
            piece = self._take(min(remaining, CHUNK))
            if wanted is not None and piece != wanted[size - remaining :][: len(piece)]:
                raise WrongAnswerError(
                    f"{name} repeated the request wrongly between bytes {size - remaining} and {size}"
                )
            if wanted is None and piece != pattern(len(piece), seed, size - remaining):
                raise WrongAnswerError(f"{name}'s data is wrong after byte {size - remaining} of {size}")
            hashed.update(piece)
            remaining -= len(piece)
        if wanted is not None and self._take(1) != b"\n":
            raise WrongAnswerError(f"{name}'s answer is longer than the request")
        if (length, digest) != (size, hashed.hexdigest()):
            raise WrongAnswerError(f"{name} received something else than what was sent: {length} bytes, not {size}")
        wanted_number = self.expected.get(name, 0) + 1
        if number != wanted_number:
            raise WrongAnswerError(f"{name} counts this as its answer {number}, it should be {wanted_number}")
        self.expected[name] = number
        exchange.finished, exchange.bytes_received = time.monotonic(), received + size + (2 if wanted is None else 1)
        return exchange

    def finish(self) -> None:
        """End our side, see that the server ends its own without another byte, and note the retransmissions."""
        self.sock.shutdown(socket.SHUT_WR)
        rest = bytes(self.pending) + self.sock.recv(CHUNK)
        if rest:
            raise WrongAnswerError(f"{len(rest)} bytes came that nobody asked for")

    def retransmits(self) -> int:
        """Return how many segments our side has sent again on this connection (Linux's TCP_INFO)."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0])

    def _head(self) -> tuple[str, int, int, str]:
        """Take the four words before an answer's body: name, number, length, digest."""
        while self.pending.count(b" ") < 4 and len(self.pending) < LONGEST_HEAD:
            self._read_until(len(self.pending) + 1)
        words = bytes(self.pending[:LONGEST_HEAD]).split(b" ", 4)
        try:
            name, number, length, digest = (
                words[0].decode("ascii"),
                int(words[1]),
                int(words[2]),
                words[3].decode("ascii"),
            )
        except (ValueError, IndexError):
            raise WrongAnswerError(f"this is no answer: {bytes(self.pending[:40])!r}") from None
        del self.pending[: sum(len(word) + 1 for word in words[:4])]
        return name, number, length, digest

    def _take(self, size: int) -> bytes:
        self._read_until(size)
        taken = bytes(self.pending[:size])
        del self.pending[:size]
        return taken

    def _read_until(self, size: int) -> None:
        while len(self.pending) < size:
            data = self.sock.recv(CHUNK)
            if not data:
                raise ConnectionError("the server ended the connection")
            self.pending += data


def pattern(size: int, seed: int, start: int = 0) -> bytes:
    """Return bytes ``start`` to ``start + size`` of the text that servers send for ``get SIZE SEED``.

    Written here again on purpose: what checks the servers shares no code with them.
    """
    block = hashlib.sha256(seed.to_bytes(8, "big")).hexdigest().encode()
    lines = (start // 64, (start + size + 63) // 64)
    return b"".join(b"%015x:" % number + block[16:] for number in range(*lines))[start - lines[0] * 64 :][:size]


def parse_get(line: bytes) -> tuple[int, int]:
    """Return size and seed of a ``get`` request; (-1, 0) for every other line (as the server reads it)."""
    words = line.split()
    if len(words) == 3 and words[0] == b"get" and words[1].isdigit() and words[2].isdigit():
        size, seed = int(words[1]), int(words[2])
        if size <= 1 << 32 and seed < 1 << 64:
            return size, seed
    return -1, 0


def converse(report: Report, lines: Iterable[bytes], options: argparse.Namespace) -> None:
    """Connect, ask everything, finish; whatever goes wrong is noted in the report."""
    client = None
    try:
        client = Client(report, options.timeout, options.source_port)
        say(options, f"connected to {report.address}:{report.port} from port {report.local_port}")
        for number, line in enumerate(lines):
            if number and options.interval:
                time.sleep(options.interval)
            exchange = client.ask(line)
            took = (exchange.first_byte - exchange.sent) * 1000
            say(options, f"{exchange.request!r:32.32} -> {exchange.server} answered after {took:.1f} ms,"
                         f" {exchange.bytes_received} bytes, all right")  # fmt: skip
        client.finish()
    except WrongAnswerError as error:
        report.error, report.exit_code = str(error), 1
    except OSError as error:
        told = f"no answer within {options.timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        report.error, report.exit_code = told if client else f"{told}; {NOT_THERE.format(report)}", 3
    finally:
        if client is not None:
            report.retransmits = client.retransmits()
            client.sock.close()


def say(options: argparse.Namespace, text: str) -> None:
    """Tell a human."""
    if not options.json:
        print(text, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Send requests on one TCP connection and check every byte of every answer."
    )
    parser.add_argument(
        "requests", nargs="*", help='what to ask, in this order (default: "please migrate" and two more)'
    )
    parser.add_argument("--address", default="10.0.0.1", help="server to dial (default: 10.0.0.1)")
    parser.add_argument("--port", type=int, default=11111, help="its port (default: 11111)")
    parser.add_argument("--count", type=int, default=0, help="ask this many times in all")
    parser.add_argument("--size", type=int, default=0, help="pad every request to this many bytes")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between an answer and the next request")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for anything (default: 10)")
    parser.add_argument("--source-port", type=int, default=0, help="our own port (default: any)")
    parser.add_argument("--stdin", action="store_true", help="read the requests from standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end instead of text")
    options = parser.parse_args(arguments)
    for port in (options.port, options.source_port):
        if not 0 <= port <= 65_535:
            parser.error(f"{port} is no port")
    if options.timeout <= 0 or options.interval < 0:
        parser.error("--timeout must be above 0 and --interval not below it")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client from the command line; returns the exit code."""
    options = parse(arguments)
    report = Report(options.address, options.port)
    try:
        converse(report, requests(options), options)
    except KeyboardInterrupt:
        report.error, report.exit_code = "interrupted", 130
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        servers = list(dict.fromkeys(exchange.server for exchange in report.exchanges if exchange.server))
        if report.error:
            print(f"FAILED: {report.error}", file=sys.stderr)
        else:
            counts = f"{len(report.exchanges)} answers from {' then '.join(servers)}"
            print(f"one socket (port {report.local_port}), {counts}, every byte right, {report.retransmits} sent again")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
