# SPDX-License-Identifier: Apache-2.0
"""Counts what comes out of a P4 switch, at the other end of a wire: `python -m testbed.p4_witness IF SERVICE...`.

Frames that come in at the interface are counted, by flow: on both sides of a switch that is all that it has forwarded.
What was sent to it is no measure: bmv2's capture ring holds some 30 frames and loses more.

SERVICE is ADDRESS/TRANSPORT/PORT/NUMBER, for example 10.0.0.1/tcp/80/7. For each line on stdin one line of JSON is
written: `{"flows": {key: packets}, "lost": frames}` (`lost`: frames that the kernel dropped before they were counted).
Ends with its stdin. The key is that of docs/p4sync-protocol.md: client address, client port, service.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections import Counter
from ipaddress import IPv4Address
from typing import Any

TRANSPORTS = {"tcp": 6, "udp": 17}
ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
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
    counted: Counter[int] = Counter()
    lost = 0
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    raw.bind((interface, ETH_P_ALL))
    raw.setblocking(False)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([raw, sys.stdin], [], [])
        while True:
            try:
                frame = raw.recv(64)
            except BlockingIOError:
                break
            key = key_of(frame, known)
            if key is not None:
                counted[key] += 1
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            lost += struct.unpack("II", raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            answer: dict[str, Any] = {"flows": {str(key): number for key, number in counted.items()}, "lost": lost}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    watch(sys.argv[1], services(sys.argv[2:]))
