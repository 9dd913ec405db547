# SPDX-License-Identifier: Apache-2.0
"""A client that does one step at a time, and a server that answers as it is asked to: run inside hosts.

    python hand_peer.py client
    python hand_peer.py serve ADDRESS PORT NAME [lazy] [greets] [defers]

The client reads a JSON object a line: `{"do": "connect", "to": [ADDRESS, PORT], "from": PORT}`, `{"do": "send",
"text": ...}`, `{"do": "read", "until": ...}`, `{"do": "close"}`, `{"do": "vanish"}` (the socket goes without a word);
it answers each with an object.

The server answers the line `X` with `NAME X`. A lazy one stays silent to a line that begins with `never`, and only
begins to answer one that begins with `partly`. One that greets speaks first; one that defers is not told of a
connection before its first data (TCP_DEFER_ACCEPT). It closes at the line `bye`.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

TCP_REPAIR = 19
PATIENCE = 40.0


def serve(address: str, port: int, name: str, *ways: str) -> None:
    """Serve for ever."""
    with socket.create_server((address, port), backlog=64) as listener:
        if "defers" in ways:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        print("ready", flush=True)
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=answer, args=(stream, name, ways), daemon=True).start()


def answer(stream: socket.socket, name: str, ways: tuple[str, ...]) -> None:
    """Answer line by line."""
    try:
        with stream, stream.makefile("rb") as lines:
            if "greets" in ways:
                stream.sendall(b"220 here I am\r\n")
            for line in lines:
                if line == b"bye\n":
                    return
                if "lazy" in ways and line.startswith(b"never"):
                    continue
                if "lazy" in ways and line.startswith(b"partly"):
                    stream.sendall(name.encode() + b" begins;")
                else:
                    stream.sendall(name.encode() + b" " + line)
    except OSError:
        pass  # reset: it has moved


def connect(to: tuple[str, int], port: int) -> socket.socket:
    """Connect from a port of choice."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.settimeout(PATIENCE)
    stream.bind(("", port))
    stream.connect(to)
    return stream


def read(stream: socket.socket, until: bytes) -> bytes:
    """Return what comes, up to and with some bytes, or up to the end."""
    told = b""
    while not told.endswith(until):
        piece = stream.recv(1)
        if not piece:
            break
        told += piece
    return told


def step(stream: socket.socket | None, what: dict[str, Any]) -> tuple[socket.socket | None, dict[str, Any]]:
    """Do one thing."""
    if what["do"] == "connect":
        stream = connect(tuple(what["to"]), what.get("from", 0))
        return stream, {"port": stream.getsockname()[1]}
    assert stream is not None
    if what["do"] == "send":
        stream.sendall(what["text"].encode())
    elif what["do"] == "read":
        return stream, {"text": read(stream, what["until"].encode()).decode()}
    else:
        if what["do"] == "vanish":
            stream.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        stream.close()
        return None, {}
    return stream, {}


def client() -> None:
    """Do what stdin says."""
    stream: socket.socket | None = None
    for line in sys.stdin:
        try:
            stream, told = step(stream, json.loads(line))
        except OSError as error:
            told = {"error": str(error)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client()
    else:
        serve(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
