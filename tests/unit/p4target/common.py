# SPDX-License-Identifier: Apache-2.0
"""Programs of the embedded target's tests, and a switch without ports around one."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import Any

from p4src.target import hashes, program
from p4src.target.replication import Replication
from p4src.target.switch import Switch
from p4src.target.tables import Entry, Match
from p4src.target.translate import Pipeline, translate

PROGRAMS = Path(__file__).resolve().parent / "programs"
BUILD = Path(__file__).resolve().parents[3] / "p4src" / "build"
FEATURES = PROGRAMS / "features.json"
SOURCE = 0x0A000001


@functools.cache
def text(path: Path) -> str:
    return path.read_text()


def document(path: Path = FEATURES) -> Any:
    """A compiled program as JSON, to be changed by a test."""
    return json.loads(text(path))


def pipeline(changed: Any = None) -> Pipeline:
    """The program `features` translated, or a changed document of it."""
    return translate(program.load(text(FEATURES) if changed is None else json.dumps(changed)))


class Bench:
    """A switch whose ports 1 to 3 and CPU port 255 are lists."""

    def __init__(self, made: Pipeline) -> None:
        self.pipeline = made
        self.replication = Replication()
        self.out: dict[int, list[bytes]] = {1: [], 2: [], 3: [], 255: []}
        self.digests: list[tuple[int, tuple[int, ...]]] = []
        outputs = {port: frames.append for port, frames in self.out.items()}
        self.switch = Switch(
            made, self.replication, outputs, lambda number, values: self.digests.append((number, values))
        )

    def insert(self, table: str, match: Match, action: str, *parameters: int, priority: int = 0) -> None:
        found = self.pipeline.tables[table]
        found.insert(Entry(match, priority, (found.actions.index(action), True, *parameters)))

    def send(self, port: int, frame: bytes) -> dict[int, list[bytes]]:
        """A frame in; what came out, by port, when nothing waits any more."""
        for frames in self.out.values():
            frames.clear()
        self.switch.receive(port, frame)
        while self.switch.waiting:
            self.switch.again()
        return {port: list(frames) for port, frames in self.out.items() if frames}


def ipv4(destination: int, *, tos: int = 0, length: int = 40, wrong: int = 0, ttl: int = 64) -> bytes:
    """An Ethernet frame with an IPv4 header; `wrong` is added to its checksum."""
    header = struct.pack(">BBHHHBBHII", 0x45, tos, length, 1, 0x4000, ttl, 17, 0, SOURCE, destination)
    summed = (hashes.csum16(header) + wrong) & 0xFFFF
    return b"\x02" * 6 + b"\x04" * 6 + b"\x08\0" + header[:10] + struct.pack(">H", summed) + header[12:] + b"payload!"
