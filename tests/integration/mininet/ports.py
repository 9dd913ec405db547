# SPDX-License-Identifier: Apache-2.0
"""Under which ports servers may know a client's connection: its own, and those that stand for it where it is taken."""

from __future__ import annotations

from pathlib import Path

from controller.core.world import FIRST_OTHER_PORT, OTHER_PORTS, PORT_STEP

TRIES = 4
"""Other ports that are looked for: nobody takes more of them here."""


def names_of(port: int) -> list[int]:
    """Return the port, and the first ones that would stand for it."""
    return [port, *(FIRST_OTHER_PORT + (port + number * PORT_STEP) % OTHER_PORTS for number in range(TRIES))]


def files_of(directory: Path, port: int, rest: str = "*") -> list[Path]:
    """Return what servers keep of a connection: files whose names begin with a port of its, in their names' order."""
    found = [path for name in names_of(port) for path in directory.glob(f"{name}-{rest}") if not path.suffix]
    return sorted(found, key=lambda path: path.name.partition("-")[2])
