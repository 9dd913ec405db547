# SPDX-License-Identifier: Apache-2.0
"""Many connections that are silent: run inside hosts.

    python _idle_peer.py serve ADDRESS PORT
    python _idle_peer.py drive ADDRESS PORT COUNT

The server answers each byte with one. The driver opens COUNT connections, says their ports, and at the end of its stdin
says a byte on each and tells how many were answered.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys


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


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
    else:
        drive(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
