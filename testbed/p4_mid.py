# SPDX-License-Identifier: Apache-2.0
"""The man in the middle of a fabric link: `python -m testbed.p4_mid IF0 IF1` carries frames between two interfaces.

What it does to sync packets is told by lines of JSON on stdin: `{"loss", "duplication", "reordering", "forging"}` are
probabilities, 0 at the start; `{"replay": true}` sends again all sync packets that it has seen; every line is answered
by one with its counters. Ends with its stdin.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33
BUFFER = 32 << 20
SYNC = b"\x88\xb5"
LATE = 4
"""Frames that may be held back at a time; the oldest of more goes on."""
BURST, PAUSE = 4, 0.002
MAC, BODY = 54, 62
"""Where a sync packet's MAC and its state begin."""


@dataclass
class Plot:
    """What is done to sync packets: probabilities."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    forging: float = 0.0


@dataclass
class Deeds:
    """How many sync packets came, and what became of them."""

    seen: int = 0
    dropped: int = 0
    doubled: int = 0
    delayed: int = 0
    forged: int = 0
    replayed: int = 0


def forge(frame: bytes, chance: random.Random) -> bytes:
    """A sync packet that says something else than the one it was made of: counts, place, session, or who vouches."""
    changed = bytearray(frame)
    place = chance.choice([range(BODY, len(frame)), range(MAC, BODY), range(14, MAC), range(BODY, len(frame))])
    changed[chance.choice(place)] ^= chance.randrange(1, 256)
    return bytes(changed)


class Middle:
    """Both ends, and what is in hand."""

    def __init__(self, interfaces: list[str], seed: int = 1) -> None:
        self.plot, self.deeds = Plot(), Deeds()
        self._chance = random.Random(seed)
        self._ends = [self._open(name) for name in interfaces]
        self._late: list[tuple[socket.socket, bytes]] = []
        self._kept: list[tuple[socket.socket, bytes]] = []

    @staticmethod
    def _open(interface: str) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        raw.bind((interface, ETH_P_ALL))
        raw.setblocking(False)
        return raw

    def run(self) -> None:
        """Carry frames until stdin ends."""
        print("ready", flush=True)
        other = dict(zip(self._ends, reversed(self._ends), strict=True))
        while True:
            ready, _, _ = select.select([*self._ends, sys.stdin], [], [], 0.002 if self._late else None)
            for end in self._ends:
                while end in ready:
                    try:
                        self._carry(end.recv(65_536), other[end])
                    except BlockingIOError:
                        break
            while self._late and (not ready or len(self._late) > LATE):
                self._send(*self._late.pop(self._chance.randrange(len(self._late))))
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self._obey(json.loads(line))

    def _carry(self, frame: bytes, to: socket.socket) -> None:
        if frame[12:14] != SYNC:
            self._send(to, frame)
            return
        self.deeds.seen += 1
        self._kept.append((to, frame))
        if self._chance.random() < self.plot.forging:
            self.deeds.forged += 1
            self._send(to, forge(frame, self._chance))
        if self._chance.random() < self.plot.loss:
            self.deeds.dropped += 1
        elif self._chance.random() < self.plot.reordering:
            self.deeds.delayed += 1
            self._late.append((to, frame))
        else:
            self._send(to, frame)
            if self._chance.random() < self.plot.duplication:
                self.deeds.doubled += 1
                self._late.append((to, frame))

    def _obey(self, order: dict[str, Any]) -> None:
        if order.pop("replay", False):
            for number, (to, frame) in enumerate(self._kept):
                self._send(to, frame)
                if number % BURST == 0:  # no faster than bmv2 captures
                    time.sleep(PAUSE)
            self.deeds.replayed += len(self._kept)
        for name, value in order.items():
            setattr(self.plot, name, float(value))
        print(json.dumps(asdict(self.deeds)), flush=True)

    @staticmethod
    def _send(to: socket.socket, frame: bytes) -> None:
        while True:
            try:
                to.send(frame)
                return
            except BlockingIOError:
                select.select([], [to], [], 1)
            except OSError:  # the interface is gone or down: the frame is lost, as on any cut wire
                return


if __name__ == "__main__":
    Middle(sys.argv[1:3]).run()
