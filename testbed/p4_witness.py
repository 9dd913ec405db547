# SPDX-License-Identifier: Apache-2.0
"""Counts what goes into and comes out of a P4 switch, at a wire's end: `python -m testbed.p4_witness IF SERVICE...`.

Frames are counted by flow: those that leave by the interface were `offered` to the switch, those that come in were
`forwarded` by it. What it has counted lies between the two; bmv2 drops frames on a busy machine, before it counts (its
capture ring holds some 30) and after (its queues hold 64), the embedded target does not.

SERVICE is ADDRESS/TRANSPORT/PORT/NUMBER, for example 10.0.0.1/tcp/80/7. For each line on stdin one line of JSON is
written: `{"offered": {key: packets}, "forwarded": {key: packets}, "lost": frames}` (`lost`: frames that the kernel
dropped before they were seen here). Ends with its stdin. The key is that of docs/p4sync-protocol.md: client address,
client port, service.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections import Counter
from ipaddress import IPv4Address

TRANSPORTS = {"tcp": 6, "udp": 17}
ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE = 33
BUFFER = 64 << 20
Services = dict[tuple[bytes, int, bytes], int]
"""Server address, protocol, server port -> number."""


def services(words: list[str]) -> Services:
    """Read the services of the command line. Raises ValueError."""
    found = {}
    for word in words:
        address, transport, port, number = word.split("/")
        found[IPv4Address(address).packed, TRANSPORTS[transport], struct.pack("!H", int(port))] = int(number)
    return found


def key_of(frame: bytes, known: Services) -> int | None:
    """The key of the flow that an Ethernet frame belongs to; None: it is not of a service, or not counted.

    Counted is what the switch's parser counts: the first fragment of TCP or UDP in IPv4 without options.
    """
    if len(frame) < 38 or frame[12:15] != b"\x08\x00\x45" or (frame[20] & 0x1F or frame[21]):
        return None
    protocol, source, destination = frame[23], frame[26:30], frame[30:34]
    from_port, to_port = frame[34:36], frame[36:38]
    number = known.get((destination, protocol, to_port))
    if number is not None:
        return int.from_bytes(source + from_port, "big") << 16 | number
    number = known.get((source, protocol, from_port))
    if number is not None:
        return int.from_bytes(destination + to_port, "big") << 16 | number
    return None


def watch(interface: str, known: Services) -> None:
    """Count until stdin ends."""
    offered: Counter[int] = Counter()
    forwarded: Counter[int] = Counter()
    lost = 0
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    raw.bind((interface, ETH_P_ALL))
    raw.setblocking(False)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([raw, sys.stdin], [], [])
        while True:
            try:
                frame, origin = raw.recvfrom(64)
            except BlockingIOError:
                break
            key = key_of(frame, known)
            if key is not None:
                (offered if origin[2] == socket.PACKET_OUTGOING else forwarded)[key] += 1
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            lost += struct.unpack("II", raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            print(json.dumps({"offered": offered, "forwarded": forwarded, "lost": lost}), flush=True)


if __name__ == "__main__":
    watch(sys.argv[1], services(sys.argv[2:]))
