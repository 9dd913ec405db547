# SPDX-License-Identifier: Apache-2.0
"""Boxes to put into a test network: a delay (and loss) box between two interfaces, and a NAT that can rebind.

For machines whose kernel has neither netem nor netfilter; run inside a namespace::

    python -m controller.eccp.transport.box delay IN OUT --ms 10 [--loss 0.01]
    python -m controller.eccp.transport.box nat --listen 10.0.0.1:4500 --to 192.0.2.1:4500 --outside 192.0.2.9

The delay box bridges whole Ethernet frames, large offloaded ones included (PACKET_VNET_HDR).  The NAT stands in for
the server towards one client and takes another outer port on SIGUSR1.
"""

from __future__ import annotations

import argparse
import random
import select
import signal
import socket
import time
from collections import deque

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
FRAME_SIZE = 1 << 17
QUEUE_FRAMES = 20_000


class DelayBox:
    """Passes frames between two interfaces, each ``delay`` seconds late; drops a share ``loss`` of them."""

    def __init__(self, one: str, other: str, delay: float, loss: float = 0.0, seed: int = 1) -> None:
        self._sockets = (_packet_socket(one), _packet_socket(other))
        self._delay = delay
        self._loss = loss
        self._random = random.Random(seed)
        self._queue: deque[tuple[float, socket.socket, bytes]] = deque()

    def run(self) -> None:
        """For ever."""
        first, second = self._sockets
        out = {first: second, second: first}
        while True:
            wait = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
            ready, _, _ = select.select(self._sockets, [], [], wait)
            for ingress in ready:
                self._take(ingress, out[ingress])
            now = time.monotonic()
            while self._queue and self._queue[0][0] <= now:
                _, egress, frame = self._queue.popleft()
                try:
                    egress.send(frame)
                except OSError:  # interface down or its queue full: lost, as on a wire
                    continue

    def _take(self, ingress: socket.socket, egress: socket.socket) -> None:
        for _ in range(64):
            try:
                frame = ingress.recv(FRAME_SIZE)
            except OSError:
                return
            lost = self._loss and self._random.random() < self._loss
            if not lost and len(self._queue) < QUEUE_FRAMES:
                self._queue.append((time.monotonic() + self._delay, egress, frame))


def _packet_socket(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        raw.setsockopt(socket.SOL_SOCKET, option, 32 << 20)
    raw.bind((interface, ETH_P_ALL))
    return raw


class Nat:
    """Passes one client's datagrams to a server from an outer address; `rebind` takes another outer port."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int], outside: str) -> None:
        self._inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inside.bind(listen)
        self._to = to
        self._outside_host = outside
        self._outside = self._bind()
        self._client: tuple[str, int] | None = None
        self._wanted = False

    def _bind(self) -> socket.socket:
        outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outside.bind((self._outside_host, 0))
        return outside

    def rebind(self) -> None:
        """Forget the outer port; what still comes to it is lost."""
        self._wanted = True

    def run(self) -> None:
        """For ever."""
        while True:
            if self._wanted:
                self._wanted = False
                self._outside.close()
                self._outside = self._bind()
            ready, _, _ = select.select([self._inside, self._outside], [], [], 0.01)
            for one in ready:
                try:
                    data, source = one.recvfrom(1 << 16)
                    if one is self._inside:
                        self._client = source
                        self._outside.sendto(data, self._to)
                    elif self._client is not None:
                        self._inside.sendto(data, self._client)
                except OSError:
                    continue


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Run one box."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    kinds = parser.add_subparsers(dest="kind", required=True)
    delay = kinds.add_parser("delay")
    delay.add_argument("interfaces", nargs=2)
    delay.add_argument("--ms", type=float, default=0.0, help="one-way delay")
    delay.add_argument("--loss", type=float, default=0.0, help="share of frames lost, 0 to 1")
    nat = kinds.add_parser("nat")
    nat.add_argument("--listen", type=_place, required=True)
    nat.add_argument("--to", type=_place, required=True)
    nat.add_argument("--outside", required=True)
    arguments = parser.parse_args()
    if arguments.kind == "delay":
        DelayBox(*arguments.interfaces, arguments.ms / 1000, arguments.loss).run()
    box = Nat(arguments.listen, arguments.to, arguments.outside)
    signal.signal(signal.SIGUSR1, lambda *_: box.rebind())
    box.run()


if __name__ == "__main__":
    main()
