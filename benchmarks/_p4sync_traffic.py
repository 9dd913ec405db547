# SPDX-License-Identifier: Apache-2.0
"""Traffic through a P4 switch, and what became of each packet: `_p4sync_traffic.py IN OUT FLOWS ADDRESS PORT`.

Raw UDP frames of FLOWS flows go in at interface IN and are awaited at OUT. Lines on stdin, one at a time, each answered
by a line: `rate N` sends N packets a
second from now on (0: none), `flood SECONDS` as many as the switch takes (a window of them on their way), `report`
prints a line of JSON: for each packet since the last report the time it was sent (monotonic seconds) and its latency in
seconds, null for one that has not come out; `flood` prints how many came out a second.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import sys
import time
from ipaddress import IPv4Address

WINDOW = 24
"""Packets on their way in a flood: bmv2's capture ring holds some 30."""
GRACE = 0.2
FRAME = 60 + 40
NUMBER = struct.Struct("!I")
SO_RCVBUFFORCE = 33


def frame(flow: int, address: str, port: int) -> bytes:
    """A UDP packet of a flow, without checksums: the switch does not look at them."""
    client = IPv4Address("10.10.0.0") + flow
    payload = bytes(FRAME - 42)
    udp = struct.pack("!HHHH", 1_024 + flow, port, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head + client.packed + IPv4Address(address).packed + udp


class Traffic:
    """Both ends."""

    def __init__(self, inward: str, outward: str, flows: int, address: str, port: int) -> None:
        self._in, self._out = self._open(inward), self._open(outward)
        self._frames = [frame(flow, address, port) for flow in range(flows)]
        self._chance = random.Random(1)
        self._sent: list[float] = []
        self._took: dict[int, float] = {}
        self._first = 0

    @staticmethod
    def _open(interface: str) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        raw.bind((interface, 3))
        raw.setblocking(False)
        return raw

    def send(self) -> None:
        """One packet of a random flow, with its number at the end."""
        number = self._first + len(self._sent)
        chosen = self._chance.choice(self._frames)
        self._sent.append(time.monotonic())
        self._in.send(chosen[:-4] + NUMBER.pack(number))

    def receive(self) -> int:
        """Take what has come out; how many."""
        count = 0
        while True:
            try:
                data = self._out.recv(2_048)
            except BlockingIOError:
                return count
            (number,) = NUMBER.unpack(data[-4:])
            if len(data) == FRAME and 0 <= number - self._first < len(self._sent):
                self._took.setdefault(number, time.monotonic() - self._sent[number - self._first])
                count += 1

    def run(self) -> None:
        """Obey stdin until it ends."""
        print("ready", flush=True)
        rate, due = 0.0, 0.0
        while True:
            left = max(0.0, due - time.monotonic()) if rate else None
            ready, _, _ = select.select([sys.stdin, self._out], [], [], left)
            self.receive()
            if sys.stdin in ready:
                words = sys.stdin.readline().split()
                if not words:
                    return
                if words[0] == "rate":
                    rate, due = float(words[1]), time.monotonic()
                    print("{}", flush=True)
                elif words[0] == "flood":
                    print(json.dumps(self.flood(float(words[1]))), flush=True)
                else:
                    print(json.dumps(self.report()), flush=True)
            if rate and time.monotonic() >= due:
                self.send()
                due = max(due + 1 / rate, time.monotonic() - 0.01)

    def report(self) -> list[tuple[float, float | None]]:
        """What was sent since the last report; a moment is given to what is on its way."""
        deadline = time.monotonic() + GRACE
        while len(self._took) < len(self._sent) and time.monotonic() < deadline:
            select.select([self._out], [], [], 0.01)
            self.receive()
        found = [(sent, self._took.get(self._first + n)) for n, sent in enumerate(self._sent)]
        self._first += len(self._sent)
        self._sent, self._took = [], {}
        return found

    def flood(self, seconds: float) -> float:
        """Packets a second that come out when a window of them is always on its way."""
        began = time.monotonic()
        self.report()
        flying = count = 0
        while time.monotonic() - began < seconds:
            while flying < WINDOW:
                self.send()
                flying += 1
            if not select.select([self._out], [], [], 0.05)[0]:
                flying = 0  # lost
                continue
            came = self.receive()
            count += came
            flying = max(0, flying - came)
        took = time.monotonic() - began
        self.report()
        return count / took


if __name__ == "__main__":
    Traffic(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])).run()
