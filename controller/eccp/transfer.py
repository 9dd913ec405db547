# SPDX-License-Identifier: Apache-2.0
"""A plain HTTP server and client for demonstrations: the bytes follow from a seed, so both ends know the right hash.

    python -m controller.eccp.transfer serve HOST PORT
    python -m controller.eccp.transfer get HOST PORT BYTES [--rate BYTES_PER_S]

The client makes one TCP connection and prints one JSON line: bytes, hash, whether it is right, seconds, and how long
no byte arrived at worst.  Neither knows anything of ECCP.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1 << 16
PACED_STEP = 1 << 12  # bytes at a time when the rate is limited, so that pacing makes no gaps of its own
LEAST_GAP = 0.001  # seconds without a byte that count as a gap


def block(number: int) -> bytes:
    """The ``number``-th 64 KB of the endless file."""
    return hashlib.shake_128(number.to_bytes(8, "big")).digest(BLOCK)


class _Blocks:
    """A few blocks repeated in a pattern: hashing 64 KB anew each time would be slower than the network."""

    def __init__(self) -> None:
        self._blocks = [block(number) for number in range(16)]

    def __getitem__(self, number: int) -> bytes:
        return self._blocks[(number * 7 + number // 16) % 16]


BLOCKS = _Blocks()


def right_hash(size: int) -> str:
    """SHA-256 of the first ``size`` bytes of the file."""
    digest = hashlib.sha256()
    for number in range(-(-size // BLOCK)):
        digest.update(BLOCKS[number][: size - number * BLOCK])
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """GET /BYTES or /BYTES/RATE."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size, _, rate = self.path.strip("/").partition("/")
        total, pace = int(size), float(rate or 0)
        self.send_response(200)
        self.send_header("Content-Length", str(total))
        self.end_headers()
        began, sent = time.monotonic(), 0
        step = PACED_STEP if pace else BLOCK
        while sent < total:
            offset = sent % BLOCK
            piece = BLOCKS[sent // BLOCK][offset : offset + step][: total - sent]
            self.wfile.write(piece)
            sent += len(piece)
            if pace:
                ahead = sent / pace - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def serve(host: str, port: int) -> None:
    """Serve for ever."""
    ThreadingHTTPServer((host, port), _Handler).serve_forever()


def get(host: str, port: int, size: int, rate: float = 0.0) -> dict[str, object]:
    """Download and judge ``size`` bytes over one TCP connection."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    began = time.monotonic()
    connection.request("GET", f"/{size}/{rate:g}" if rate else f"/{size}")
    response = connection.getresponse()
    digest, received, last = hashlib.sha256(), 0, time.monotonic()
    gaps: list[tuple[float, float]] = []
    while data := response.read1(BLOCK):
        now = time.monotonic()
        if now - last > LEAST_GAP:
            gaps.append((now, now - last))
        last = now
        digest.update(data)
        received += len(data)
    seconds = time.monotonic() - began
    return {
        "bytes": received,
        "sha256": digest.hexdigest(),
        "right": received == size and digest.hexdigest() == right_hash(size),
        "seconds": round(seconds, 3),
        "longest_gap_ms": round(max((gap for _, gap in gaps), default=0.0) * 1000, 1),
        "gaps": gaps,
    }


def main() -> None:
    """Run the server or the client."""
    parser = argparse.ArgumentParser(description="a download whose right hash both ends know")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("serve", "get"):
        one = kinds.add_parser(kind)
        one.add_argument("host")
        one.add_argument("port", type=int)
        if kind == "get":
            one.add_argument("bytes", type=int)
            one.add_argument("--rate", type=float, default=0.0, help="bytes/s the server keeps to")
    arguments = parser.parse_args()
    if arguments.kind == "serve":
        serve(arguments.host, arguments.port)
    try:
        print(json.dumps(get(arguments.host, arguments.port, arguments.bytes, arguments.rate)))
    except (OSError, http.client.HTTPException) as error:
        print(json.dumps({"right": False, "error": f"the TCP connection broke: {error}"}))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
