# SPDX-License-Identifier: Apache-2.0
"""What a host's interface sees: captures, and what they tell of the headers of whoever sent the packets."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from controller.core.segment import Segment
from controller.wire.segment import decode_segment
from topo import BatonNet, wait_for

DEADLINE = 60
IP = 14
"""Where the IP header begins in an untagged frame."""


class Seen(NamedTuple):
    """A captured segment: when (seconds, wall clock), whether it may not be fragmented, its raw options."""

    at: float
    segment: Segment
    dont_fragment: bool
    options: bytes

    @property
    def kinds(self) -> tuple[int, ...]:
        """Return the kinds of the options in their order, padding included."""
        kinds, at = [], 0
        while at < len(self.options):
            kinds.append(self.options[at])
            at += 1 if self.options[at] < 2 else self.options[at + 1]
        return tuple(kinds)


@contextlib.contextmanager
def captured(net: BatonNet, node: str, path: Path, words: str) -> Iterator[None]:
    """Capture what passes a host's interface meanwhile (``words`` are a pcap filter)."""
    interface = net[node].intfNames()[0]
    command = ["tcpdump", "-U", "--immediate-mode", "-i", interface, "-s", "0", "-B", "16384", "-w", str(path), words]
    program = net.popen(node, command, stderr=subprocess.PIPE, text=True)
    wait_for("the capture", lambda: path.exists() and path.stat().st_size >= 24, DEADLINE)
    try:
        yield
    finally:
        program.terminate()
        _, told = program.communicate(timeout=DEADLINE)
    assert "\n0 packets dropped by kernel" in told, told


def frames(path: Path) -> Iterator[tuple[float, bytes]]:
    """Yield times and frames of a capture (the classic format, native byte order)."""
    data, at = path.read_bytes(), 24
    while at + 16 <= len(data):
        seconds, micros, size, _ = (int.from_bytes(data[at + n : at + n + 4], sys.byteorder) for n in (0, 4, 8, 12))
        if at + 16 + size > len(data):
            return
        yield seconds + micros / 1e6, data[at + 16 : at + 16 + size]
        at += 16 + size


def segments(path: Path) -> list[Seen]:
    """Return the TCP segments of a capture of untagged IPv4 packets."""
    seen = []
    for at, frame in frames(path):
        tcp = IP + (frame[IP] & 15) * 4
        options = frame[tcp + 20 : tcp + (frame[tcp + 12] >> 4) * 4]
        seen.append(Seen(at, decode_segment(frame), bool(frame[IP + 6] & 0x40), options))
    return seen
