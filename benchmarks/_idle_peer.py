# SPDX-License-Identifier: Apache-2.0
"""Many connections that are silent: run inside hosts.

    python _idle_peer.py serve ADDRESS PORT
    python _idle_peer.py drive ADDRESS PORT COUNT
    python _idle_peer.py spray ADDRESS COUNT

The server answers each byte with one. The driver opens COUNT connections, says their ports, and at the end of its stdin
says a byte on each and tells how many were answered. Spraying sends a datagram to each of COUNT ports, once for every
line of stdin.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time

BURST, PAUSE = 32, 0.002
"""Datagrams sent at once, and seconds between: no more than the switch takes."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every byte."""
    try:
        while data := await reader.read(1):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(address: str, port: int) -> None:
    """Serve for ever."""
    server = await asyncio.start_server(answer, address, port, backlog=4_096)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


def drive(address: str, port: int, count: int) -> None:
    """Open the connections, wait, and see which of them still work."""
    streams = []
    for _ in range(count):
        stream = socket.create_connection((address, port), timeout=20)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        streams.append(stream)
    print(json.dumps([stream.getsockname()[1] for stream in streams]), flush=True)
    sys.stdin.read()
    answered = 0
    for stream in streams:
        stream.sendall(b"x")
        answered += stream.recv(1) == b"x"
    print(json.dumps({"answered": answered}), flush=True)


def spray(address: str, count: int) -> None:
    """Send to ports from 20,000 on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in sys.stdin:
            for number in range(count):
                out.sendto(b"x", (address, 20_000 + number))
                if number % BURST == 0:
                    time.sleep(PAUSE)
            print("sent", flush=True)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1] == "spray":
        spray(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
    else:
        drive(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
