# SPDX-License-Identifier: Apache-2.0
"""A line protocol, a full listener, and one that speaks first: run inside hosts.

python line_peer.py serve ADDRESS PORT NAME      answers every line with NAME and the line, after a moment
python line_peer.py full ADDRESS PORT            listens with an accept queue that is full
python line_peer.py greet ADDRESS PORT           speaks first
python line_peer.py ask ADDRESS PORT             asks until stdin ends; every answer has to be to its question
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time

THOUGHT = 0.004
"""Seconds that a server takes to answer."""
PAUSE = 0.02
"""Seconds between an answer and the next question: a client that never rests has no quiet moments."""


def answer(stream: socket.socket, name: str) -> None:
    """Answer line by line."""
    with stream, stream.makefile("rb") as lines:
        for line in lines:
            time.sleep(THOUGHT)
            stream.sendall(name.encode() + b" " + line)


def listen(what: str, address: str, port: int, name: str) -> None:
    """Serve for ever."""
    with socket.create_server((address, port), backlog=0 if what == "full" else 64) as listener:
        filling = [socket.create_connection((address, port)) for _ in range(1 if what == "full" else 0)]
        print("ready", len(filling), flush=True)
        while what != "full":
            stream, _ = listener.accept()
            if what == "greet":
                stream.sendall(b"220 here I am\r\n")
            threading.Thread(target=answer, args=(stream, name), daemon=True).start()
        threading.Event().wait()


def ask(address: str, port: int) -> None:
    """Ask one question after the other, and tell who has answered how often, in turns."""
    turns: list[list[object]] = []
    with socket.create_connection((address, port), timeout=20) as stream, stream.makefile("rb") as lines:
        print(json.dumps({"port": stream.getsockname()[1]}), flush=True)
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            number += 1
            stream.sendall(f"question {number}\n".encode())
            name, _, text = lines.readline().decode().partition(" ")
            if text != f"question {number}\n":
                raise SystemExit(f"to question {number} came {name!r} {text!r}")
            if not turns or turns[-1][0] != name:
                turns.append([name, 0])
            turns[-1][1] += 1  # type: ignore[operator]
            time.sleep(PAUSE)
    print(json.dumps({"turns": turns}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(sys.argv[2], int(sys.argv[3]))
    else:
        listen(sys.argv[1], sys.argv[2], int(sys.argv[3]), (*sys.argv, "")[4])
