# SPDX-License-Identifier: Apache-2.0
"""UDP traffic of many flows: `p4sync_traffic.py send PORT FLOWS RATE ADDRESS...`, answered by `... echo ADDRESS PORT`.

`send` sends RATE packets a second, each of a random one of FLOWS flows (source ports), to the first address; every line
on stdin moves it on to the next address, and its end ends it. Both print `ready` once they are at work.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time

FIRST_PORT = 20_000
SIZES = (18, 200, 900)


def send(port: int, flows: int, rate: float, addresses: list[str]) -> None:
    """Send until stdin ends; answers are thrown away by the kernel's full buffers."""
    chance = random.Random(1)
    sockets = []
    for number in range(flows):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        one.bind(("", FIRST_PORT + number))
        sockets.append(one)
    print("ready", flush=True)
    due = time.monotonic()
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))
        if ready:
            if not sys.stdin.readline():
                return
            addresses = addresses[1:] or addresses
        if time.monotonic() >= due:
            chance.choice(sockets).sendto(bytes(chance.choice(SIZES)), (addresses[0], port))
            due = max(due + 1 / rate, time.monotonic() - 0.1)


def echo(address: str, port: int) -> None:
    """Answer every packet with a short one."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))
    print("ready", flush=True)
    while True:
        data, client = server.recvfrom(2_048)
        server.sendto(data[:18], client)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
    else:
        echo(sys.argv[2], int(sys.argv[3]))
