# SPDX-License-Identifier: Apache-2.0
"""A box to put into a test network, between two interfaces: delay, loss, and a NAT that can rebind.

For machines whose kernel has neither netem nor netfilter; run inside a namespace::

    python -m controller.eccp.transport.box INSIDE OUTSIDE --ms 10 --loss 0.01 --nat

It bridges whole Ethernet frames, large offloaded ones included (PACKET_VNET_HDR).  The NAT translates the UDP ports
of what comes from inside; on SIGUSR1 it forgets them, and every sender appears under a new port.  On SIGUSR2 the
delay becomes that of ``--later-ms``.
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
VNET_SIZE, NEEDS_CSUM = 10, 1
QUEUE_FRAMES = 20_000


class PortNat:
    """Translates UDP source ports outwards and destination ports inwards; IPv4 over Ethernet only."""

    def __init__(self, seed: int = 1) -> None:
        self._outer: dict[int, int] = {}
        self._inner: dict[int, int] = {}
        self._random = random.Random(seed)

    def rebind(self) -> None:
        """Forget every translation: what still comes to the old ports is lost."""
        self._outer.clear()
        self._inner.clear()

    def translate(self, frame: bytes, *, outwards: bool) -> bytes | None:
        """The frame (virtio_net_hdr before it) with its port translated, or None if nobody inside is meant."""
        ip = VNET_SIZE + 14
        if len(frame) < ip + 28 or frame[ip - 2 : ip] != b"\x08\x00" or frame[ip + 9] != socket.IPPROTO_UDP:
            return frame
        at = ip + (frame[ip] & 15) * 4 + (0 if outwards else 2)
        port = int.from_bytes(frame[at : at + 2], "big")
        if outwards:
            if port not in self._outer:
                self._outer[port] = self._random.randrange(20000, 60000)
                self._inner[self._outer[port]] = port
            other = self._outer[port]
        elif port in self._inner:
            other = self._inner[port]
        else:
            return None
        edited = bytearray(frame)
        edited[at : at + 2] = other.to_bytes(2, "big")
        checksum = ip + (frame[ip] & 15) * 4 + 6
        if not frame[0] & NEEDS_CSUM:  # else it is the pseudo-header's sum, in which ports do not appear
            edited[checksum : checksum + 2] = b"\0\0"  # UDP over IPv4 may go without
        return bytes(edited)


class DelayBox:
    """Passes frames between two interfaces, each ``delay`` seconds late; drops a share ``loss`` of them."""

    def __init__(
        self, inside: str, outside: str, delay: float, loss: float = 0.0, nat: PortNat | None = None, seed: int = 1
    ) -> None:
        self._sockets = (_packet_socket(inside), _packet_socket(outside))
        self._nat = nat
        self._delay = delay
        self._loss = loss
        self._random = random.Random(seed)
        self._queue: deque[tuple[float, socket.socket, bytes]] = deque()

    def set_delay(self, delay: float) -> None:
        """From now on; what waits already keeps its place."""
        self._delay = delay

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
            if self._nat is not None:
                translated = self._nat.translate(frame, outwards=ingress is self._sockets[0])
                if translated is None:
                    continue
                frame = translated
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


def main() -> None:
    """Run the box."""
    parser = argparse.ArgumentParser(description="delay, loss and NAT between two interfaces")
    parser.add_argument("inside")
    parser.add_argument("outside")
    parser.add_argument("--ms", type=float, default=0.0, help="one-way delay")
    parser.add_argument("--later-ms", type=float, help="one-way delay after SIGUSR2")
    parser.add_argument("--loss", type=float, default=0.0, help="share of frames lost, 0 to 1")
    parser.add_argument("--nat", action="store_true", help="translate UDP ports; SIGUSR1 rebinds")
    arguments = parser.parse_args()
    nat = PortNat() if arguments.nat else None
    if nat is not None:
        signal.signal(signal.SIGUSR1, lambda *_: nat.rebind())
    box = DelayBox(arguments.inside, arguments.outside, arguments.ms / 1000, arguments.loss, nat)
    if arguments.later_ms is not None:
        signal.signal(signal.SIGUSR2, lambda *_: box.set_delay(arguments.later_ms / 1000))
    box.run()


if __name__ == "__main__":
    main()
